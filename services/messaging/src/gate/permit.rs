//! The send permit (MSG-11): a yes of the gate for one attempt of one message, signed and short-lived. Whoever hands a
//! message to a provider needs one and uses it up; its row is the record of the decision.
//! Deliberately absent: a way to make one without an [`Decision::Allowed`], to copy one, or to use one for another message.

use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use mainstay_types::MessageId;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::rules::Evidence;
use super::{Channel, Decision, Purpose, RULE_VERSION};

/// How long a permit holds: a message that is not handed over by then is decided again.
pub const LIFE: TimeDelta = TimeDelta::seconds(60);

/// What a permit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject<'a> {
    /// The message.
    pub message: MessageId,
    /// Which try of it, from 1.
    pub attempt: i32,
    /// How.
    pub channel: Channel,
    /// What for.
    pub purpose: Purpose,
    /// To whom.
    pub address: &'a str,
    /// The subject and text, as they leave.
    pub content_hash: [u8; 32],
}

/// What permits are signed with.
#[derive(Clone)]
pub struct PermitKey(Hmac<Sha256>);

/// A yes. It is used up by sending.
#[derive(Debug)]
#[must_use = "a permit that is not used lets nothing leave"]
pub struct Permit {
    id: Uuid,
    rule_version: i32,
    evidence: Vec<Evidence>,
    decided_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    signature: [u8; 32],
}

/// Why a permit lets nothing leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Void {
    /// It is for something else, or not ours.
    #[error("the permit is not for this message")]
    NotForThis,
    /// Its time is over.
    #[error("the permit has expired")]
    Expired,
}

impl std::fmt::Debug for PermitKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PermitKey")
    }
}

impl PermitKey {
    /// From 32 secret bytes.
    pub fn new(bytes: &[u8; 32]) -> Self {
        // HMAC takes keys of any length.
        PermitKey(Hmac::new_from_slice(bytes).expect("a key of 32 bytes is a key"))
    }

    /// A permit for exactly this, if the gate said yes.
    pub fn grant(
        &self,
        decision: Decision,
        subject: &Subject<'_>,
        at: DateTime<Utc>,
    ) -> Result<Permit, Decision> {
        let evidence = match decision {
            Decision::Allowed { evidence } => evidence,
            refused @ Decision::Refused { .. } => return Err(refused),
        };
        let (id, expires_at) = (Uuid::now_v7(), at + LIFE);
        Ok(Permit {
            id,
            rule_version: RULE_VERSION,
            evidence,
            decided_at: at,
            expires_at,
            signature: self
                .mac(id, RULE_VERSION, expires_at, subject)
                .finalize()
                .into_bytes()
                .into(),
        })
    }

    /// Uses a permit up for exactly this.
    ///
    /// # Errors
    /// [`Void`].
    pub fn redeem(
        &self,
        permit: Permit,
        subject: &Subject<'_>,
        at: DateTime<Utc>,
    ) -> Result<(), Void> {
        let Permit {
            id,
            rule_version,
            expires_at,
            signature,
            ..
        } = permit;
        self.mac(id, rule_version, expires_at, subject)
            .verify_slice(&signature)
            .map_err(|_| Void::NotForThis)?;
        if at >= expires_at {
            return Err(Void::Expired);
        }
        Ok(())
    }

    /// The content's hash as the permit's row keeps it. That of a code is keyed: whoever reads the row could try a million
    /// codes against a plain one.
    pub fn kept_hash(&self, subject: &Subject<'_>) -> [u8; 32] {
        if subject.purpose != Purpose::SecurityCode {
            return subject.content_hash;
        }
        let mut mac = self.0.clone();
        mac.update(b"kept content\0");
        mac.update(subject.message.uuid().as_bytes());
        mac.update(&subject.content_hash);
        mac.finalize().into_bytes().into()
    }

    fn mac(
        &self,
        id: Uuid,
        rule_version: i32,
        expires_at: DateTime<Utc>,
        subject: &Subject<'_>,
    ) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(id.as_bytes());
        mac.update(subject.message.uuid().as_bytes());
        mac.update(&subject.attempt.to_be_bytes());
        mac.update(&rule_version.to_be_bytes());
        mac.update(&expires_at.timestamp_micros().to_be_bytes());
        mac.update(&subject.content_hash);
        // Texts last, each behind its length, so that no two subjects are the same bytes.
        for text in [
            subject.channel.as_str(),
            subject.purpose.as_str(),
            subject.address,
        ] {
            mac.update(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
            mac.update(text.as_bytes());
        }
        mac
    }
}

impl Permit {
    /// Its id.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The version of the rules it was decided by.
    pub fn rule_version(&self) -> i32 {
        self.rule_version
    }

    /// What each rule found.
    pub fn evidence(&self) -> &[Evidence] {
        &self.evidence
    }

    /// When it was decided.
    pub fn decided_at(&self) -> DateTime<Utc> {
        self.decided_at
    }

    /// Until when it holds.
    pub fn expires_at(&self) -> DateTime<Utc> {
        self.expires_at
    }

    /// Its signature.
    pub fn signature(&self) -> &[u8; 32] {
        &self.signature
    }
}

/// The hash of what leaves.
pub fn content_hash(subject: Option<&str>, body: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    let head = subject.unwrap_or_default();
    hash.update(u64::try_from(head.len()).unwrap_or(u64::MAX).to_be_bytes());
    hash.update(head.as_bytes());
    hash.update(body.as_bytes());
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::rules::Reason;
    use crate::gate::{Rule, rules};
    use mainstay_runtime::Clock;

    fn key() -> PermitKey {
        PermitKey::new(&[7; 32])
    }

    fn subject(message: MessageId) -> Subject<'static> {
        Subject {
            message,
            attempt: 1,
            channel: Channel::Sms,
            purpose: Purpose::Marketing,
            address: "+15125550123",
            content_hash: content_hash(None, "Hi"),
        }
    }

    fn yes() -> Decision {
        Decision::Allowed {
            evidence: Vec::new(),
        }
    }

    #[test]
    fn a_no_gives_no_permit() {
        let refusal = rules::Refusal {
            rule: Rule::OptOut,
            reason: Reason::OptedOut,
            retry_at: None,
        };
        let no = Decision::Refused {
            rule: Rule::OptOut,
            reason: Reason::OptedOut,
            retry_at: None,
            all: vec![refusal],
            passed: Vec::new(),
        };
        let of = subject(MessageId::generate());
        assert!(key().grant(no, &of, Clock::system(0).now()).is_err());
    }

    #[test]
    fn the_row_of_a_codes_permit_tells_nobody_the_code() {
        let of = subject(MessageId::generate());
        assert_eq!(key().kept_hash(&of), of.content_hash);
        let code = Subject {
            purpose: Purpose::SecurityCode,
            ..of
        };
        let kept = key().kept_hash(&code);
        assert_ne!(kept, code.content_hash);
        assert_ne!(kept, PermitKey::new(&[8; 32]).kept_hash(&code));
        assert_eq!(kept, key().kept_hash(&code));
    }

    #[test]
    fn a_permit_is_good_for_its_message_alone_and_for_a_minute() {
        let now = Clock::system(0).now();
        let of = subject(MessageId::generate());
        let grant = || key().grant(yes(), &of, now).expect("a yes");
        assert_eq!(key().redeem(grant(), &of, now), Ok(()));
        assert_eq!(key().redeem(grant(), &of, now + LIFE), Err(Void::Expired));
        let others = [
            Subject {
                message: MessageId::generate(),
                ..of
            },
            Subject { attempt: 2, ..of },
            Subject {
                channel: Channel::Voice,
                ..of
            },
            Subject {
                purpose: Purpose::StaffNotice,
                ..of
            },
            Subject {
                address: "+15125550124",
                ..of
            },
            Subject {
                content_hash: content_hash(None, "Ho"),
                ..of
            },
        ];
        for other in others {
            assert_eq!(
                key().redeem(grant(), &other, now),
                Err(Void::NotForThis),
                "{other:?}"
            );
        }
        let foreign = PermitKey::new(&[8; 32]);
        assert_eq!(foreign.redeem(grant(), &of, now), Err(Void::NotForThis));
    }
}
