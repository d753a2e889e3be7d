//! What a subscription's status means, and what a reading of Stripe's object makes of ours.
//! Deliberately absent: time of events. State comes from the object as it stands; what has ended does not come back.

use chrono::{DateTime, Utc};

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

    /// Whether the client may use what the plan grants. While a renewal is being retried it may.
    pub const fn grants(self) -> bool {
        match self {
            Status::Trialing | Status::Active | Status::PastDue => true,
            Status::Incomplete
            | Status::Unpaid
            | Status::Paused
            | Status::Canceled
            | Status::IncompleteExpired
            | Status::Failed => false,
        }
    }
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
pub(crate) fn read(before: &Subscription, reading: &Reading) -> Subscription {
    if !before.status.is_live() {
        return before.clone();
    }
    let seen = status_of(&reading.status).unwrap_or(before.status);
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
        canceled_at: if ended {
            reading.canceled_at.or(before.canceled_at)
        } else {
            before.canceled_at
        },
        ..before.clone()
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
    match status_of(&reading.status)? {
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
            entitlement_version: 1,
            sequence: 1,
            provider_revision: 0,
            created_at: at(0),
            updated_at: at(0),
        }
    }

    fn reading(status: &str) -> Reading {
        Reading {
            status: status.into(),
            period_start: Some(at(100)),
            period_end: Some(at(200)),
            trial_end: None,
            canceled_at: Some(at(150)),
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
            let after = read(&subscription(Status::Active), &reading(stripe));
            assert_eq!(after.status, expected, "{stripe}");
            assert_eq!(after.current_period_end_at, Some(at(200)));
            assert_eq!(after.canceled_at.is_some(), expected == Status::Canceled);
        }
    }

    #[test]
    fn what_has_ended_does_not_come_back() {
        for ended in [Status::Canceled, Status::IncompleteExpired, Status::Failed] {
            let before = subscription(ended);
            assert_eq!(read(&before, &reading("active")), before);
        }
    }

    #[test]
    fn while_it_is_incomplete_its_saga_alone_decides() {
        let before = subscription(Status::Incomplete);
        for stripe in ["active", "trialing", "canceled", "incomplete_expired"] {
            let after = read(&before, &reading(stripe));
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
    fn whoever_is_granted_something_is_live() {
        for status in Status::ALL {
            assert!(!status.grants() || status.is_live(), "{status:?}");
            assert_eq!(Status::from_text(status.as_str()), status);
        }
    }
}
