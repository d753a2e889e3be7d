//! The one table of event types: which family each belongs to and what it does here (BIL-31). `docs/stripe_events.md` is
//! printed from it.
//! Deliberately absent: a catch-all. A type that is not in the table is kept and counted, and nothing else.

/// What an event does here. All but a few mean "look again": the object as it stands is what counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// `customer.created`.
    RecognizeCustomer,
    /// `customer.updated`.
    SyncCustomer,
    /// `customer.deleted`.
    ForgetCustomer,
    /// A subscription changed.
    FollowSubscription,
    /// `customer.subscription.trial_will_end`.
    AnnounceTrialEnd,
    /// `customer.subscription.pending_update_expired`.
    AnnounceLapsedChange,
    /// An invoice changed.
    MirrorInvoice,
    /// `invoice.paid`.
    SettleInvoice,
    /// `invoice.payment_failed`.
    ChasePayment,
    /// `invoice.payment_action_required`.
    AskForAuthentication,
    /// `invoice.finalization_failed`.
    AlertFinalization,
    /// `invoice.upcoming`.
    AnnounceInvoice,
    /// `invoice.marked_uncollectible`.
    GiveUpInvoice,
    /// A checkout session ended, one way or another.
    FollowCheckout,
    /// `checkout.session.async_payment_failed`.
    FailCheckout,
    /// A payment changed.
    MirrorPayment,
    /// `charge.refunded`.
    MirrorGivenBack,
    /// A refund changed.
    MirrorRefund,
    /// `refund.failed`.
    AlertRefundFailed,
    /// A dispute changed.
    MirrorDispute,
    /// `charge.dispute.created`.
    AlertDispute,
    /// `charge.dispute.funds_withdrawn`.
    NoteFundsWithdrawn,
    /// `charge.dispute.funds_reinstated`.
    NoteFundsReinstated,
    /// A payment method changed.
    MirrorPaymentMethod,
    /// It belongs to a capability that nothing here depends on.
    Keep,
}

/// Which handler an effect belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Customer,
    Subscription,
    Invoice,
    Checkout,
    Payment,
    Refund,
    Dispute,
    PaymentMethod,
    None,
}

impl Effect {
    /// All of them.
    pub const ALL: [Effect; 25] = [
        Effect::RecognizeCustomer,
        Effect::SyncCustomer,
        Effect::ForgetCustomer,
        Effect::FollowSubscription,
        Effect::AnnounceTrialEnd,
        Effect::AnnounceLapsedChange,
        Effect::MirrorInvoice,
        Effect::SettleInvoice,
        Effect::ChasePayment,
        Effect::AskForAuthentication,
        Effect::AlertFinalization,
        Effect::AnnounceInvoice,
        Effect::GiveUpInvoice,
        Effect::FollowCheckout,
        Effect::FailCheckout,
        Effect::MirrorPayment,
        Effect::MirrorGivenBack,
        Effect::MirrorRefund,
        Effect::AlertRefundFailed,
        Effect::MirrorDispute,
        Effect::AlertDispute,
        Effect::NoteFundsWithdrawn,
        Effect::NoteFundsReinstated,
        Effect::MirrorPaymentMethod,
        Effect::Keep,
    ];

    pub(super) const fn family(self) -> Family {
        match self {
            Effect::RecognizeCustomer | Effect::SyncCustomer | Effect::ForgetCustomer => {
                Family::Customer
            }
            Effect::FollowSubscription
            | Effect::AnnounceTrialEnd
            | Effect::AnnounceLapsedChange => Family::Subscription,
            Effect::MirrorInvoice
            | Effect::SettleInvoice
            | Effect::ChasePayment
            | Effect::AskForAuthentication
            | Effect::AlertFinalization
            | Effect::AnnounceInvoice
            | Effect::GiveUpInvoice => Family::Invoice,
            Effect::FollowCheckout | Effect::FailCheckout => Family::Checkout,
            Effect::MirrorPayment | Effect::MirrorGivenBack => Family::Payment,
            Effect::MirrorRefund | Effect::AlertRefundFailed => Family::Refund,
            Effect::MirrorDispute
            | Effect::AlertDispute
            | Effect::NoteFundsWithdrawn
            | Effect::NoteFundsReinstated => Family::Dispute,
            Effect::MirrorPaymentMethod => Family::PaymentMethod,
            Effect::Keep => Family::None,
        }
    }

    /// What it does, for people.
    pub const fn says(self) -> &'static str {
        match self {
            Effect::RecognizeCustomer => {
                "A customer that names a client of ours waits until its saga has noted it; any other is not ours."
            }
            Effect::SyncCustomer => {
                "Delinquency and default payment method are Stripe's and are taken over. Name, email and telephone are \
                 identity's: a difference is told (`billing.customer.edited_at_stripe`), not taken over."
            }
            Effect::ForgetCustomer => {
                "The next sale makes a new customer; late events about the old one still find their client. Told \
                 (`billing.customer.deleted_at_stripe`)."
            }
            Effect::FollowSubscription => {
                "The subscription follows Stripe's object; what has ended does not come back. Identity is told what changes \
                 for the client."
            }
            Effect::AnnounceTrialEnd => {
                "As above, and messaging is told (`billing.subscription.trial_will_end`)."
            }
            Effect::AnnounceLapsedChange => {
                "As above, and messaging is told that the change was not paid \
                 (`billing.subscription.pending_update_expired`)."
            }
            Effect::MirrorInvoice => "The invoice is mirrored.",
            Effect::SettleInvoice => {
                "The invoice and its payments are mirrored; the subscription it bills is paid through the end of its period."
            }
            Effect::ChasePayment => {
                "The invoice is mirrored, its subscription read again (past due keeps its entitlements while Stripe \
                 retries), and messaging told what the payer must do (`billing.invoice.payment_failed`)."
            }
            Effect::AskForAuthentication => {
                "As above; the payer is asked to authenticate (`billing.invoice.payment_action_required`)."
            }
            Effect::AlertFinalization => {
                "The invoice is mirrored; an error is logged and the agency told with Stripe's reason \
                 (`billing.invoice.finalization_failed`)."
            }
            Effect::AnnounceInvoice => {
                "Messaging is told what is coming (`billing.invoice.upcoming`)."
            }
            Effect::GiveUpInvoice => {
                "The invoice is mirrored, and told (`billing.invoice.uncollectible`)."
            }
            Effect::FollowCheckout => {
                "The session is read again. Paid: the saga `onboard_client` makes or attaches the client, once a session. \
                 Not paid yet: noted, and it waits. Expired: noted."
            }
            Effect::FailCheckout => "As above; a session whose payment failed is noted so.",
            Effect::MirrorPayment => {
                "The payment is mirrored with its last charge and its invoice."
            }
            Effect::MirrorGivenBack => "The payment is mirrored, and all refunds of it.",
            Effect::MirrorRefund => "The refund is mirrored, and its payment.",
            Effect::AlertRefundFailed => {
                "As above; the money is with us again, which is told (`billing.refund.failed`)."
            }
            Effect::MirrorDispute => "The dispute is mirrored, and its payment.",
            Effect::AlertDispute => {
                "As above; a warning is logged and messaging told with the deadline (`billing.dispute.opened`)."
            }
            Effect::NoteFundsWithdrawn => {
                "As for a dispute; that Stripe took the money back is noted and stays."
            }
            Effect::NoteFundsReinstated => {
                "As for a dispute; that Stripe returned the money is noted and stays."
            }
            Effect::MirrorPaymentMethod => {
                "The payment method is mirrored: what tells it apart, and whether it is attached."
            }
            Effect::Keep => "Kept and counted; nothing here depends on it.",
        }
    }
}

/// Every type that BIL-31 names, with what it does.
pub const TYPES: &[(&str, Effect)] = &[
    ("customer.created", Effect::RecognizeCustomer),
    ("customer.updated", Effect::SyncCustomer),
    ("customer.deleted", Effect::ForgetCustomer),
    ("customer.subscription.created", Effect::FollowSubscription),
    ("customer.subscription.updated", Effect::FollowSubscription),
    ("customer.subscription.deleted", Effect::FollowSubscription),
    ("customer.subscription.paused", Effect::FollowSubscription),
    ("customer.subscription.resumed", Effect::FollowSubscription),
    (
        "customer.subscription.trial_will_end",
        Effect::AnnounceTrialEnd,
    ),
    (
        "customer.subscription.pending_update_applied",
        Effect::FollowSubscription,
    ),
    (
        "customer.subscription.pending_update_expired",
        Effect::AnnounceLapsedChange,
    ),
    ("invoice.created", Effect::MirrorInvoice),
    ("invoice.finalized", Effect::MirrorInvoice),
    ("invoice.finalization_failed", Effect::AlertFinalization),
    ("invoice.paid", Effect::SettleInvoice),
    ("invoice.payment_failed", Effect::ChasePayment),
    (
        "invoice.payment_action_required",
        Effect::AskForAuthentication,
    ),
    ("invoice.upcoming", Effect::AnnounceInvoice),
    ("invoice.voided", Effect::MirrorInvoice),
    ("invoice.marked_uncollectible", Effect::GiveUpInvoice),
    ("invoice.updated", Effect::MirrorInvoice),
    ("checkout.session.completed", Effect::FollowCheckout),
    ("checkout.session.expired", Effect::FollowCheckout),
    (
        "checkout.session.async_payment_succeeded",
        Effect::FollowCheckout,
    ),
    (
        "checkout.session.async_payment_failed",
        Effect::FailCheckout,
    ),
    ("payment_intent.processing", Effect::MirrorPayment),
    ("payment_intent.succeeded", Effect::MirrorPayment),
    ("payment_intent.payment_failed", Effect::MirrorPayment),
    ("payment_intent.requires_action", Effect::MirrorPayment),
    ("payment_intent.canceled", Effect::MirrorPayment),
    ("payment_method.attached", Effect::MirrorPaymentMethod),
    ("payment_method.detached", Effect::MirrorPaymentMethod),
    ("payment_method.updated", Effect::MirrorPaymentMethod),
    (
        "payment_method.automatically_updated",
        Effect::MirrorPaymentMethod,
    ),
    ("setup_intent.succeeded", Effect::Keep),
    ("setup_intent.setup_failed", Effect::Keep),
    ("charge.refunded", Effect::MirrorGivenBack),
    ("charge.failed", Effect::MirrorPayment),
    ("charge.dispute.created", Effect::AlertDispute),
    ("charge.dispute.updated", Effect::MirrorDispute),
    ("charge.dispute.closed", Effect::MirrorDispute),
    ("charge.dispute.funds_withdrawn", Effect::NoteFundsWithdrawn),
    (
        "charge.dispute.funds_reinstated",
        Effect::NoteFundsReinstated,
    ),
    ("refund.created", Effect::MirrorRefund),
    ("refund.updated", Effect::MirrorRefund),
    ("refund.failed", Effect::AlertRefundFailed),
    ("credit_note.created", Effect::Keep),
    ("credit_note.voided", Effect::Keep),
    ("account.updated", Effect::Keep),
    ("payout.paid", Effect::Keep),
    ("payout.failed", Effect::Keep),
];

/// What a type does; none for one that is not in the table.
pub fn of(kind: &str) -> Option<Effect> {
    let found = TYPES.iter().find(|(known, _)| *known == kind);
    found.map(|(_, effect)| *effect)
}

/// The table as `docs/stripe_events.md` has it.
pub fn document() -> String {
    let mut text = String::from(
        "# What Stripe's events do\n\n\
         Printed from the table in `services/billing/src/stripe_events/effects.rs`; a test compares them. An event says only\n\
         *that* something changed: what changed is read from the object as it stands, so late, doubled and shuffled events\n\
         end in the same state. An event about an object that is not known yet is delivered again. A type that is not here\n\
         is kept and counted.\n\n| type | effect |\n|---|---|\n",
    );
    for (kind, effect) in TYPES {
        text.push_str(&format!("| `{kind}` | {} |\n", effect.says()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of BIL-31.
    const SPECIFIED: &str = "customer.created|updated|deleted customer.subscription.created|updated|deleted|paused|resumed|trial_will_end|pending_update_applied|pending_update_expired \
        invoice.created|finalized|finalization_failed|paid|payment_failed|payment_action_required|upcoming|voided|marked_uncollectible|updated \
        checkout.session.completed|expired|async_payment_succeeded|async_payment_failed \
        payment_intent.processing|succeeded|payment_failed|requires_action|canceled payment_method.attached|detached|updated|automatically_updated \
        setup_intent.succeeded|setup_failed \
        charge.refunded|failed|dispute.created|dispute.updated|dispute.closed|dispute.funds_withdrawn|dispute.funds_reinstated \
        refund.created|updated|failed credit_note.created|voided account.updated payout.paid|failed";

    fn specified() -> Vec<String> {
        let families = ["customer.subscription", "checkout.session"];
        let mut all = Vec::new();
        for group in SPECIFIED.split_whitespace() {
            let long = families
                .into_iter()
                .find(|family| group.starts_with(family));
            let noun = long.unwrap_or_else(|| group.split('.').next().expect("a noun"));
            let verbs = &group[noun.len() + 1..];
            all.extend(verbs.split('|').map(|verb| format!("{noun}.{verb}")));
        }
        all
    }

    #[test]
    fn every_type_that_was_specified_has_its_effect_and_no_other_is_there() {
        let mut specified = specified();
        let mut handled: Vec<String> = TYPES.iter().map(|(kind, _)| (*kind).to_owned()).collect();
        specified.sort();
        handled.sort();
        assert_eq!(handled, specified);
        assert_eq!(of("quantum.entangled"), None);
    }

    #[test]
    fn every_effect_is_some_types_effect() {
        for effect in Effect::ALL {
            assert!(TYPES.iter().any(|(_, of)| *of == effect), "{effect:?}");
        }
    }

    #[test]
    fn the_document_is_what_the_table_says() {
        let reviewed = include_str!("../../../../docs/stripe_events.md");
        assert!(
            reviewed == document(),
            "docs/stripe_events.md is not what the table says. Write this to it:\n{}",
            document()
        );
    }
}
