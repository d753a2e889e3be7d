//! TypeIDs: a prefix that names the noun, `_`, and 26 Crockford characters of a UUIDv7.
//! In the database an id is a plain `uuid`; the prefix exists only outside it.
//! Deliberately absent: any way to make an id from text without checking its prefix.

use std::{fmt, marker::PhantomData, str::FromStr};

use uuid::Uuid;

/// A noun that has ids.
pub trait Kind: 'static + Send + Sync {
    /// What stands before the underscore: `cli`.
    const PREFIX: &'static str;
    /// The noun as protos name it in the `resource` option: `client`.
    const RESOURCE: &'static str;
}

/// The id of one kind of thing.
pub struct Id<K> {
    uuid: Uuid,
    kind: PhantomData<fn() -> K>,
}

/// Why a text is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// It is an id of something else.
    #[error("is the id of another kind of object: expected `{expected}_…`, got `{given}_…`")]
    WrongPrefix {
        /// The prefix that belongs here.
        expected: &'static str,
        /// The prefix given.
        given: String,
    },
    /// It is no TypeID.
    #[error(
        "is not an id: expected `{expected}_` and 26 characters of 0-9 a-z without i, l, o and u"
    )]
    Malformed {
        /// The prefix that belongs here.
        expected: &'static str,
    },
}

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const SUFFIX_LEN: usize = 26;

fn encode_suffix(uuid: Uuid) -> [u8; SUFFIX_LEN] {
    let mut rest = uuid.as_u128();
    let mut out = [b'0'; SUFFIX_LEN];
    for slot in out.iter_mut().rev() {
        *slot = ALPHABET[(rest & 31) as usize];
        rest >>= 5;
    }
    out
}

fn decode_suffix(text: &str) -> Option<Uuid> {
    // 26 characters hold 130 bits: the first may use only its low three.
    if text.len() != SUFFIX_LEN || text.as_bytes()[0] > b'7' {
        return None;
    }
    let mut value: u128 = 0;
    for byte in text.bytes() {
        let digit = ALPHABET.iter().position(|known| *known == byte)?;
        value = value << 5 | digit as u128;
    }
    Some(Uuid::from_u128(value))
}

fn parse_with_prefix(expected: &'static str, text: &str) -> Result<Uuid, IdError> {
    let Some((given, suffix)) = text.rsplit_once('_') else {
        return Err(IdError::Malformed { expected });
    };
    let uuid = decode_suffix(suffix).ok_or(IdError::Malformed { expected })?;
    if given == expected {
        Ok(uuid)
    } else if !given.is_empty()
        && given.len() <= 20
        && given.bytes().all(|b| b.is_ascii_lowercase())
    {
        Err(IdError::WrongPrefix {
            expected,
            given: given.to_owned(),
        })
    } else {
        Err(IdError::Malformed { expected })
    }
}

impl<K: Kind> Id<K> {
    /// A new id, ordered by the time it was made.
    pub fn generate() -> Self {
        Self::from_uuid(Uuid::now_v7())
    }

    /// The id stored as `uuid`.
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self {
            uuid,
            kind: PhantomData,
        }
    }

    /// How the database stores it.
    pub const fn uuid(self) -> Uuid {
        self.uuid
    }

    /// Reads `cli_…`; the error says what was expected.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        parse_with_prefix(K::PREFIX, text).map(Self::from_uuid)
    }
}

impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Id<K> {}
impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.uuid == other.uuid
    }
}
impl<K> Eq for Id<K> {}
impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.uuid.cmp(&other.uuid)
    }
}
impl<K> std::hash::Hash for Id<K> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.uuid.hash(state);
    }
}
impl<K: Kind> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = encode_suffix(self.uuid);
        // The alphabet is ASCII, so the bytes are text.
        write!(f, "{}_{}", K::PREFIX, String::from_utf8_lossy(&suffix))
    }
}
impl<K: Kind> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl<K: Kind> FromStr for Id<K> {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::parse(text)
    }
}
impl<K> From<Id<K>> for Uuid {
    fn from(id: Id<K>) -> Uuid {
        id.uuid
    }
}
impl<K> From<Uuid> for Id<K> {
    fn from(uuid: Uuid) -> Self {
        Self {
            uuid,
            kind: PhantomData,
        }
    }
}
impl<K: Kind> serde::Serialize for Id<K> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de, K: Kind> serde::Deserialize<'de> for Id<K> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "sqlx")]
mod stored {
    use super::{Id, Uuid};
    use sqlx::{Decode, Encode, Postgres, Type, encode::IsNull, error::BoxDynError, postgres};

    impl<K> Type<Postgres> for Id<K> {
        fn type_info() -> postgres::PgTypeInfo {
            <Uuid as Type<Postgres>>::type_info()
        }
    }
    impl<K> postgres::PgHasArrayType for Id<K> {
        fn array_type_info() -> postgres::PgTypeInfo {
            <Uuid as postgres::PgHasArrayType>::array_type_info()
        }
    }
    impl<'q, K> Encode<'q, Postgres> for Id<K> {
        fn encode_by_ref(
            &self,
            buffer: &mut postgres::PgArgumentBuffer,
        ) -> Result<IsNull, BoxDynError> {
            <Uuid as Encode<'q, Postgres>>::encode_by_ref(&self.uuid, buffer)
        }
    }
    impl<'r, K> Decode<'r, Postgres> for Id<K> {
        fn decode(value: postgres::PgValueRef<'r>) -> Result<Self, BoxDynError> {
            <Uuid as Decode<'r, Postgres>>::decode(value).map(Self::from)
        }
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $marker:ident $alias:ident $prefix:literal $resource:literal;)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug)]
            pub enum $marker {}
            impl Kind for $marker {
                const PREFIX: &'static str = $prefix;
                const RESOURCE: &'static str = $resource;
            }
            $(#[$doc])*
            pub type $alias = Id<$marker>;
        )*
        /// Every resource with its prefix, in the order above.
        pub const RESOURCES: &[(&str, &str)] = &[$(($resource, $prefix)),*];
    };
}

kinds! {
    /// An agency: the outer wall.
    AgencyKind AgencyId "agy" "agency";
    /// A client of an agency: the tenant.
    ClientKind ClientId "cli" "client";
    /// A human being.
    PersonKind PersonId "per" "person";
    /// A person's membership in an agency.
    MemberKind MemberId "mem" "member";
    /// A role.
    RoleKind RoleId "role" "role";
    /// Somebody signed in somewhere.
    SessionKind SessionId "ses" "session";
    /// A code to sign in with, asked for.
    ChallengeKind ChallengeId "chal" "sign_in_challenge";
    /// An API key (not its secret).
    ApiKeyKind ApiKeyId "key" "api_key";
    /// A plan, in all its versions.
    PlanKind PlanId "plan" "plan";
    /// A subscription of ours; Stripe's own is `sub_…`.
    SubscriptionKind SubscriptionId "msub" "subscription";
    /// An invoice of ours; Stripe's own is `in_…`.
    InvoiceKind InvoiceId "minv" "invoice";
    /// A coupon; people know it by its code.
    CouponKind CouponId "cpn" "coupon";
    /// A payment of ours; Stripe's own are `pi_…` and `ch_…`.
    PaymentKind PaymentId "mpay" "payment";
    /// A refund of ours; Stripe's own is `re_…`.
    RefundKind RefundId "mref" "refund";
    /// A dispute of ours; Stripe's own is `du_…` or `dp_…`.
    DisputeKind DisputeId "mdsp" "dispute";
    /// A run of a saga.
    SagaKind SagaId "saga" "saga";
    /// A run of reconciliation.
    ReconciliationKind ReconciliationId "rec" "reconciliation";
    /// A difference between Stripe and our rows.
    DiscrepancyKind DiscrepancyId "dis" "discrepancy";
    /// A conversation with a lead on a channel.
    ConversationKind ConversationId "conv" "conversation";
    /// A note about a conversation.
    NoteKind NoteId "note" "note";
    /// A text that is sent again and again.
    CannedReplyKind CannedReplyId "canr" "canned_reply";
    /// A message, theirs or ours.
    MessageKind MessageId "msg" "message";
    /// One try of handing a message to a provider.
    AttemptKind AttemptId "att" "attempt";
    /// A call of a lead's.
    CallKind CallId "call" "call";
    /// A lead of a client.
    LeadKind LeadId "lead" "lead";
    /// An automation of a client.
    AutomationKind AutomationId "auto" "automation";
    /// What an automation does for one lead at one occasion.
    AutomationRunKind AutomationRunId "arun" "automation_run";
    /// An appointment of a lead.
    AppointmentKind AppointmentId "appt" "appointment";
    /// A call for a person.
    EscalationKind EscalationId "esc" "escalation";
    /// Something that somebody should look at.
    AlertKind AlertId "alt" "alert";
    /// Who hears of which alerts.
    AlertRouteKind AlertRouteId "arte" "alert_route";
    /// A webhook as it was received.
    WebhookEventKind WebhookEventId "whe" "webhook_event";
    /// A replay of many webhooks.
    WebhookReplayKind WebhookReplayId "whr" "webhook_replay";
    /// An account of an agency at a provider.
    ProviderAccountKind ProviderAccountId "pac" "provider_account";
    /// A number or mail address that messages leave from.
    SenderKind SenderId "snd" "sender";
    /// A place that a website's form is sent to.
    FormEndpointKind FormEndpointId "frm" "form_endpoint";
    /// What a website's form brought.
    FormSubmissionKind FormSubmissionId "fsub" "form_submission";
    /// A domain event of ours; Stripe's own is `evt_…`.
    EventKind EventId "mevt" "event";
    /// A job.
    JobKind JobId "job" "job";
    /// An audit record.
    AuditEventKind AuditEventId "aud" "audit_event";
    /// A request, as `x-request-id` shows it.
    RequestKind RequestId "req" "request";
}

/// The prefix of a resource's ids.
pub fn prefix_of(resource: &str) -> Option<&'static str> {
    RESOURCES
        .iter()
        .find(|(known, _)| *known == resource)
        .map(|(_, prefix)| *prefix)
}

/// Checks a text against the kind of id that `resource` has, for code that knows the kind only at run time.
///
/// # Panics
/// When `resource` is none of [`RESOURCES`]: the build check of the protos refuses such a name.
pub fn check_type_id(resource: &str, text: &str) -> Result<Uuid, IdError> {
    let prefix = prefix_of(resource).expect("the build check knows every resource of the protos");
    parse_with_prefix(prefix, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_id_reads_back_as_it_was_written(value: u128) {
            let id = ClientId::from_uuid(Uuid::from_u128(value));
            prop_assert_eq!(ClientId::parse(&id.to_string()), Ok(id));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,60}") {
            let _ = ClientId::parse(&text);
        }
    }

    #[test]
    fn the_id_of_another_noun_is_refused_by_name() {
        let plan = PlanId::generate().to_string();
        let error = ClientId::parse(&plan).expect_err("a plan is no client");
        assert_eq!(
            error,
            IdError::WrongPrefix {
                expected: "cli",
                given: "plan".into()
            }
        );
    }

    #[test]
    fn upper_case_and_overflow_are_malformed() {
        for text in [
            "cli_01JZZZZZZZZZZZZZZZZZZZZZZZ",
            "cli_8zzzzzzzzzzzzzzzzzzzzzzzzz",
            "cli_",
            "cli",
            "",
        ] {
            assert_eq!(
                ClientId::parse(text),
                Err(IdError::Malformed { expected: "cli" }),
                "{text}"
            );
        }
    }

    #[test]
    fn prefixes_are_unique_and_none_is_a_stripe_prefix() {
        let stripe = [
            "sub", "in", "evt", "cus", "ch", "pi", "price", "prod", "re", "pm", "il", "ii",
        ];
        for (index, (_, prefix)) in RESOURCES.iter().enumerate() {
            assert!(!stripe.contains(prefix), "{prefix} is Stripe's");
            assert!(
                RESOURCES[..index].iter().all(|(_, other)| other != prefix),
                "{prefix} twice"
            );
        }
    }
}
