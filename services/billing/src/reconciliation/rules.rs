//! What a difference between Stripe and our rows is, and what is safe to do about it. Pure.
//! Deliberately absent: repairing anything whose saga is not at rest, and giving money back. A person does that.

use mainstay_types::Interval;

use super::Kind;
use super::ours::Ours;
use super::theirs::{Terms, Theirs};
use crate::stripe::object::Invoice as StripeInvoice;
use crate::subscription::{Status, Subscription, rules};
use crate::{invoice, invoice::InvoiceStatus};

/// What is to be done about a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Our row follows Stripe's object, through the door that events take.
    Apply,
    /// Stripe's object is canceled: it grants nothing, and the saga that made it was undone.
    Cancel,
    /// The account takes the customer as its own.
    Adopt,
    /// Nothing by itself; this is what a person does.
    Person(&'static str),
}

/// One difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub kind: Kind,
    pub cause: &'static str,
    pub remedy: Remedy,
}

/// What was seen of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Something works on this client; whatever differs may be its work half done.
    InFlight,
    /// Nothing differs.
    Agrees,
    /// These do.
    Differs(Vec<Verdict>),
}

impl Judgement {
    fn one(kind: Kind, cause: &'static str, remedy: Remedy) -> Self {
        Judgement::Differs(vec![Verdict {
            kind,
            cause,
            remedy,
        }])
    }
}

/// The state of a saga of which nothing is left; neither it nor a person goes on from there.
const UNDONE: &str = "compensated";

/// A subscription at Stripe against our row of it.
pub(crate) fn subscription(theirs: &Theirs, ours: &Ours) -> Judgement {
    if ours.in_flight {
        return Judgement::InFlight;
    }
    let Some(row) = &ours.row else {
        return match theirs.live {
            false => Judgement::Agrees,
            true => Judgement::one(
                Kind::SubscriptionUnknown,
                "It bills a customer of this client, and no subscription here knows it: made by hand, or by a program \
                 that is not this one.",
                Remedy::Person(
                    "Find out who made it. Cancel it at Stripe, and refund what it took, unless the client wants it.",
                ),
            ),
        };
    };
    let is_ours = row.stripe_subscription_id.as_deref() == Some(&theirs.id);
    match (theirs.live, row.status.is_live(), is_ours) {
        (false, true, true) | (true, true, true) => known(theirs, row),
        (false, _, _) => Judgement::Agrees,
        (true, true, false) => Judgement::one(
            Kind::SubscriptionDuplicated,
            "It carries the id of a subscription here that lives as another one at Stripe.",
            Remedy::Person(
                "Cancel it at Stripe and refund what it took; the other one is the client's.",
            ),
        ),
        (true, false, _) if row.status == Status::Failed => orphan(theirs, row, ours),
        (true, false, _) => Judgement::one(
            Kind::SubscriptionEndedHere,
            "It has ended here and still bills at Stripe.",
            Remedy::Person("Cancel it at Stripe and refund what it took since it ended here."),
        ),
    }
}

/// Live at Stripe, failed here.
fn orphan(theirs: &Theirs, row: &Subscription, ours: &Ours) -> Judgement {
    // Metadata can be edited by hand at Stripe: only what names both the row and its saga was made by that saga.
    let made_by_its_saga =
        theirs.named.saga == Some(row.saga_id) && theirs.named.subscription == Some(row.id);
    let undone = ours.saga.as_deref().is_none_or(|state| state == UNDONE);
    match made_by_its_saga && undone {
        true => Judgement::one(
            Kind::SubscriptionOrphaned,
            "The saga that made it was undone without knowing of it: Stripe had answered its making with an error.",
            Remedy::Cancel,
        ),
        false => Judgement::one(
            Kind::SubscriptionOrphaned,
            "The subscription it names failed here, but it cannot be told that its saga made it and was undone.",
            Remedy::Person(
                "Read the saga and the subscription at Stripe; cancel it there and refund what it took, if it is not wanted.",
            ),
        ),
    }
}

/// Our row, live, and its object at Stripe.
fn known(theirs: &Theirs, row: &Subscription) -> Judgement {
    let mut found = Vec::new();
    // A grace that begins now is no difference by itself; the status beside it is.
    if rules::read(row, &theirs.reading, row.updated_at) != *row {
        let cause = match theirs.live {
            true => {
                "Stripe changed it, and no event has told so yet: it was lost, or is still on its way."
            }
            false => {
                "It has ended at Stripe, and no event has told so yet: it was lost, or is still on its way."
            }
        };
        found.push(Verdict {
            kind: Kind::SubscriptionDiffers,
            cause,
            remedy: Remedy::Apply,
        });
    }
    if let Some(terms) = theirs.terms.as_ref().filter(|_| theirs.live)
        && !charges(terms, row)
    {
        found.push(Verdict {
            kind: Kind::SubscriptionPriceDiffers,
            cause: "Stripe charges something else than was sold here: changed by hand at Stripe, most likely.",
            remedy: Remedy::Person(
                "Decide which is right. Set price and quantity back at Stripe, or sell the client the plan it is charged for.",
            ),
        });
    }
    match found.is_empty() {
        true => Judgement::Agrees,
        false => Judgement::Differs(found),
    }
}

/// Whether Stripe charges what was sold.
fn charges(terms: &Terms, row: &Subscription) -> bool {
    let every: Option<Interval> = terms.interval.parse().ok();
    terms.items == 1
        && terms.quantity == 1
        && terms.amount_minor == Some(row.price.amount_minor)
        && terms.currency == row.price.currency.as_str()
        && every == Some(row.interval)
}

/// A row of ours that lives, and that Stripe says it does not have.
pub(crate) fn gone(stripe_id: &str, ours: &Ours) -> Judgement {
    let lives = ours.row.as_ref().is_some_and(|row| {
        row.status.is_live() && row.stripe_subscription_id.as_deref() == Some(stripe_id)
    });
    match (ours.in_flight, lives) {
        (true, _) => Judgement::InFlight,
        (false, false) => Judgement::Agrees,
        // Stripe forgets no subscription. Ending ours on its word would end all of them under a wrong key.
        (false, true) => Judgement::one(
            Kind::SubscriptionGone,
            "Stripe does not know it under the key we use: the key is of another account or mode, or the row was copied \
             from elsewhere.",
            Remedy::Person("Check STRIPE_SECRET_KEY first. Nothing was changed here."),
        ),
    }
}

/// A customer at Stripe that names a client of ours, against the client's account.
pub(crate) fn customer(id: &str, ours: &Ours) -> Judgement {
    match (ours.in_flight, ours.customer.as_deref()) {
        (_, Some(known)) if known == id => Judgement::Agrees,
        (true, _) => Judgement::InFlight,
        (false, None) if ours.has_account => Judgement::one(
            Kind::CustomerUnknown,
            "A saga made it and was undone before it knew of it.",
            Remedy::Adopt,
        ),
        (false, None) => Judgement::one(
            Kind::CustomerUnknown,
            "It names a client that has no account here.",
            Remedy::Person("It bills nothing by itself. Delete it at Stripe if nobody uses it."),
        ),
        (false, Some(_)) => Judgement::one(
            Kind::CustomerUnknown,
            "The client's account has another customer.",
            Remedy::Person(
                "It bills nothing by itself. Delete it at Stripe if it has neither subscriptions nor invoices.",
            ),
        ),
    }
}

/// An account whose customer is not at Stripe any more.
pub(crate) fn customer_gone(id: &str, ours: &Ours) -> Judgement {
    match (ours.in_flight, ours.customer.as_deref() == Some(id)) {
        (true, _) => Judgement::InFlight,
        (false, false) => Judgement::Agrees,
        (false, true) => Judgement::one(
            Kind::CustomerGone,
            "It was deleted at Stripe, or the key we use is of another account or mode.",
            Remedy::Person(
                "Check STRIPE_SECRET_KEY first. A customer deleted by mistake cannot be brought back: nothing can be sold \
                 to this client until its account is given another one.",
            ),
        ),
    }
}

/// A paid invoice at Stripe against our mirror of it. `kept` is what was not given back, where that had to be asked.
pub(crate) fn invoice(
    theirs: &StripeInvoice,
    mirror: Option<&invoice::Invoice>,
    ours: &Ours,
    kept: i64,
) -> Judgement {
    if grants_nothing(theirs, ours) {
        return match (ours.in_flight, kept > 0) {
            (true, _) => Judgement::InFlight,
            (false, false) => Judgement::Agrees,
            (false, true) => Judgement::one(
                Kind::PaymentKept,
                "It was paid for a subscription that failed or is not known here, and was not given back.",
                Remedy::Person(
                    "Refund it at Stripe, unless the client was given what it paid for in another way.",
                ),
            ),
        };
    }
    match mirror.filter(|mirror| mirror.status == InvoiceStatus::Paid) {
        Some(mirror) if mirror.amount_paid.amount_minor == theirs.amount_paid => Judgement::Agrees,
        Some(_) => Judgement::one(
            Kind::InvoiceAmountDiffers,
            "Both sides say it is paid, with different amounts.",
            Remedy::Person(
                "Compare the payments at Stripe with the client's invoice here. Stripe's amount is the money that moved.",
            ),
        ),
        None if ours.in_flight => Judgement::InFlight,
        None => Judgement::one(
            Kind::InvoiceMissing,
            "No event has told that it was paid: it was lost, or is still on its way.",
            Remedy::Apply,
        ),
    }
}

/// Whether what the invoice bills failed here or is not known: then nothing was given for the money.
pub(crate) fn grants_nothing(theirs: &StripeInvoice, ours: &Ours) -> bool {
    match &ours.row {
        Some(row) => row.status == Status::Failed,
        None => theirs.subscription().is_some(),
    }
}
