//! What a subscription's status means, and what a reading of Stripe's object makes of ours.
//! Deliberately absent: time of events. State comes from the object as it stands; what has ended does not come back.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Status, Subscription};
use crate::stripe::object::Reading;

impl Status {
    /// Occupies the one place a client has. The partial unique index says the same.
    pub const fn is_live(self) -> bool {
        match self {
            Status::Incomplete
            | Status::Trialing
            | Status::Active
            | Status::PastDue
            | Status::Unpaid
            | Status::Paused => true,
            Status::Canceled | Status::IncompleteExpired | Status::Failed => false,
        }
    }
}

/// How long a subscription that is past due grants what was sold all the same: within it Stripe tries the payment again.
pub(crate) const GRACE: TimeDelta = TimeDelta::days(7);

/// What a client is to those who serve it, by its subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientStanding {
    /// Nothing was sold yet.
    Prospect,
    /// Served.
    Served,
    /// Served although a payment is missing, for a while.
    InGrace,
    /// Not served until it is paid or resumed; everything is kept.
    Withheld,
    /// It has ended.
    Ended,
}

/// What a status means (BIL-17).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// What the client is to those who serve it.
    pub client: ClientStanding,
    /// Whether it may use what the plan grants.
    pub grants: bool,
}

/// The one table from a subscription's status to what its client may use. Changes that Stripe reports and changes that we
/// make end in the same steps, which read it here.
pub(crate) fn standing(subscription: &Subscription, now: DateTime<Utc>) -> Standing {
    use ClientStanding::{Ended, InGrace, Prospect, Served, Withheld};
    let (client, grants) = match subscription.status {
        Status::Incomplete => (Prospect, false),
        Status::Trialing => (Served, true),
        Status::Active => (Served, true),
        Status::PastDue if subscription.grace_ends_at.is_none_or(|end| now < end) => {
            (InGrace, true)
        }
        Status::PastDue => (Withheld, false),
        Status::Unpaid => (Withheld, false),
        Status::Paused => (Withheld, false),
        Status::Canceled => (Ended, false),
        Status::IncompleteExpired => (Ended, false),
        Status::Failed => (Prospect, false),
    };
    Standing { client, grants }
}

/// What of a subscription identity must know; when it changes, identity is told.
pub(crate) fn entitling(subscription: &Subscription) -> (Status, i32, Option<DateTime<Utc>>) {
    (
        subscription.status,
        subscription.plan_version,
        subscription.paid_through_at,
    )
}

/// Our word for Stripe's status; none for one we do not know, which then changes nothing.
pub(crate) fn status_of(stripe: &str) -> Option<Status> {
    match stripe {
        "incomplete" => Some(Status::Incomplete),
        "trialing" => Some(Status::Trialing),
        "active" => Some(Status::Active),
        "past_due" => Some(Status::PastDue),
        "unpaid" => Some(Status::Unpaid),
        "paused" => Some(Status::Paused),
        "canceled" => Some(Status::Canceled),
        "incomplete_expired" => Some(Status::IncompleteExpired),
        _ => None,
    }
}

/// The subscription after a reading of Stripe's object.
///
/// ```text
/// incomplete ──(its saga)──▶ active / trialing ⇄ past_due ⇄ unpaid, paused
///     │ (its saga)               │
///     ▼                          ▼
///   failed                    canceled, incomplete_expired      ← terminal: no reading leads out
///
/// While it is incomplete its saga alone decides: it reads Stripe's object itself before it goes on.
/// ```
pub(crate) fn read(before: &Subscription, reading: &Reading, now: DateTime<Utc>) -> Subscription {
    if !before.status.is_live() {
        return before.clone();
    }
    let seen = seen(reading).unwrap_or(before.status);
    let status = match before.status {
        Status::Incomplete => Status::Incomplete,
        _ if seen == Status::Incomplete => before.status,
        _ => seen,
    };
    let ended = !status.is_live();
    Subscription {
        status,
        current_period_start_at: reading.period_start.or(before.current_period_start_at),
        current_period_end_at: reading.period_end.or(before.current_period_end_at),
        trial_end_at: reading.trial_end.or(before.trial_end_at),
        canceled_at: if ended || reading.cancel_at_period_end {
            reading.canceled_at.or(before.canceled_at)
        } else {
            None
        },
        cancel_at_period_end: reading.cancel_at_period_end && !ended,
        resumes_at: reading.resumes_at.filter(|_| status == Status::Paused),
        // From the first failure on; a second one does not lengthen it.
        grace_ends_at: (status == Status::PastDue)
            .then(|| before.grace_ends_at.unwrap_or(now + GRACE)),
        ..before.clone()
    }
}

/// Our word for what Stripe shows. Collection that is paused is a pause, whatever the status beside it says.
fn seen(reading: &Reading) -> Option<Status> {
    match status_of(&reading.status)? {
        status if reading.paused && status.is_live() && status != Status::Incomplete => {
            Some(Status::Paused)
        }
        status => Some(status),
    }
}

/// The subscription after a payment: paid through the end of the period, never less than before.
pub(crate) fn paid(before: &Subscription, period_end: Option<DateTime<Utc>>) -> Subscription {
    Subscription {
        paid_through_at: before.paid_through_at.max(period_end),
        ..before.clone()
    }
}

/// Whether Stripe's object, as read after payment, makes the subscription active.
pub(crate) fn activation(reading: &Reading) -> Option<Status> {
    match seen(reading)? {
        status @ (Status::Active | Status::Trialing) => Some(status),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_types::{Currency, Interval, Money, PlanId, SagaId, SubscriptionId};

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).expect("a time")
    }

    fn subscription(status: Status) -> Subscription {
        Subscription {
            id: SubscriptionId::generate(),
            plan_id: PlanId::generate(),
            plan_version: 1,
            price: Money::new(99_700, Currency::USD),
            interval: Interval::Month,
            status,
            failure_reason: None,
            saga_id: SagaId::generate(),
            stripe_subscription_id: Some("sub_1".into()),
            current_period_start_at: None,
            current_period_end_at: None,
            trial_end_at: None,
            paid_through_at: None,
            canceled_at: None,
            cancel_at_period_end: false,
            resumes_at: None,
            grace_ends_at: None,
            trial_days: 0,
            payer_action: None,
            cancel_requested_at: None,
            change_saga_id: None,
            entitlement_version: 1,
            sequence: 1,
            provider_revision: 0,
            created_at: at(0),
            updated_at: at(0),
            discount: None,
        }
    }

    fn reading(status: &str) -> Reading {
        Reading {
            status: status.into(),
            period_start: Some(at(100)),
            period_end: Some(at(200)),
            trial_end: None,
            canceled_at: Some(at(150)),
            cancel_at_period_end: false,
            paused: false,
            resumes_at: None,
        }
    }

    #[test]
    fn a_reading_moves_a_running_subscription() {
        for (stripe, expected) in [
            ("active", Status::Active),
            ("past_due", Status::PastDue),
            ("unpaid", Status::Unpaid),
            ("paused", Status::Paused),
            ("canceled", Status::Canceled),
            ("a_word_of_next_year", Status::Active),
            ("incomplete", Status::Active),
        ] {
            let after = read(&subscription(Status::Active), &reading(stripe), at(1_000));
            assert_eq!(after.status, expected, "{stripe}");
            assert_eq!(after.current_period_end_at, Some(at(200)));
            assert_eq!(after.canceled_at.is_some(), expected == Status::Canceled);
        }
    }

    #[test]
    fn what_has_ended_does_not_come_back() {
        for ended in [Status::Canceled, Status::IncompleteExpired, Status::Failed] {
            let before = subscription(ended);
            assert_eq!(read(&before, &reading("active"), at(1_000)), before);
        }
    }

    #[test]
    fn while_it_is_incomplete_its_saga_alone_decides() {
        let before = subscription(Status::Incomplete);
        for stripe in ["active", "trialing", "canceled", "incomplete_expired"] {
            let after = read(&before, &reading(stripe), at(1_000));
            assert_eq!(after.status, Status::Incomplete, "{stripe}");
            assert_eq!(after.current_period_end_at, Some(at(200)));
        }
    }

    #[test]
    fn a_payment_never_shortens_what_was_paid_through() {
        let before = paid(&subscription(Status::Active), Some(at(500)));
        assert_eq!(before.paid_through_at, Some(at(500)));
        assert_eq!(paid(&before, Some(at(300))).paid_through_at, Some(at(500)));
        assert_eq!(paid(&before, None).paid_through_at, Some(at(500)));
    }

    #[test]
    fn a_pause_is_a_pause_whatever_the_status_beside_it() {
        let paused = Reading {
            paused: true,
            resumes_at: Some(at(900)),
            ..reading("active")
        };
        let after = read(&subscription(Status::Active), &paused, at(1_000));
        assert_eq!(
            (after.status, after.resumes_at),
            (Status::Paused, Some(at(900)))
        );
        let resumed = read(&after, &reading("active"), at(1_000));
        assert_eq!((resumed.status, resumed.resumes_at), (Status::Active, None));
        let ended = Reading {
            status: "canceled".into(),
            ..paused
        };
        let after = read(&subscription(Status::Active), &ended, at(1_000));
        assert_eq!(after.status, Status::Canceled);
    }

    #[test]
    fn grace_counts_from_the_first_failure_and_then_nothing_is_granted() {
        let first = read(
            &subscription(Status::Active),
            &reading("past_due"),
            at(1_000),
        );
        let end = at(1_000) + GRACE;
        assert_eq!(first.grace_ends_at, Some(end));
        let second = read(&first, &reading("past_due"), at(5_000));
        assert_eq!(second.grace_ends_at, Some(end));
        assert!(standing(&second, at(5_000)).grants);
        assert_eq!(standing(&second, end).client, ClientStanding::Withheld);
        assert!(!standing(&second, end).grants);
        let paid = read(&second, &reading("active"), at(6_000));
        assert_eq!(paid.grace_ends_at, None);
    }

    #[test]
    fn ending_with_the_period_is_shown_and_can_be_taken_back() {
        let ending = Reading {
            cancel_at_period_end: true,
            ..reading("active")
        };
        let after = read(&subscription(Status::Active), &ending, at(1_000));
        assert!(after.cancel_at_period_end && after.canceled_at.is_some());
        let back = read(&after, &reading("active"), at(1_000));
        assert!(!back.cancel_at_period_end && back.canceled_at.is_none());
    }

    #[test]
    fn whoever_is_granted_something_is_live() {
        for status in Status::ALL {
            let standing = standing(&subscription(status), at(0));
            assert!(!standing.grants || status.is_live(), "{status:?}");
            assert_eq!(
                standing.grants,
                matches!(
                    standing.client,
                    ClientStanding::Served | ClientStanding::InGrace
                )
            );
            assert_eq!(Status::from_text(status.as_str()), status);
        }
    }
}
