//! What a reading of Stripe's objects makes of our mirror of a payment.
//! Deliberately absent: going back from succeeded or canceled. What can still change then is what was given back.

use chrono::{DateTime, Utc};
use mainstay_types::{Currency, Money, PaymentId};

use super::{Payment, PaymentStatus};
use crate::stripe::object::PaymentReading;

/// The mirror after a reading; none when its status or currency is none we know. Equal to `before` when it says nothing
/// new. Pure, so that reconciliation compares with it as well.
pub(crate) fn mirror(
    before: Option<&Payment>,
    reading: &PaymentReading,
    now: DateTime<Utc>,
) -> Option<Payment> {
    let seen = PaymentStatus::from_text(&reading.status)?;
    let currency: Currency = reading.currency.parse().ok()?;
    let ended = before
        .map(|before| before.status)
        .filter(|status| matches!(status, PaymentStatus::Succeeded | PaymentStatus::Canceled));
    let known = |of: fn(&Payment) -> Option<String>| before.and_then(of);
    let read = Payment {
        id: before.map_or_else(PaymentId::generate, |before| before.id),
        stripe_id: reading.stripe_id.clone(),
        stripe_charge_id: reading
            .stripe_charge
            .clone()
            .or_else(|| known(|before| before.stripe_charge_id.clone())),
        stripe_invoice_id: reading
            .stripe_invoice
            .clone()
            .or_else(|| known(|before| before.stripe_invoice_id.clone())),
        invoice_id: before.and_then(|before| before.invoice_id),
        status: ended.unwrap_or(seen),
        amount: Money::new(reading.amount, currency),
        captured_minor: reading.captured,
        refunded_minor: reading.refunded,
        disputed: reading.disputed || before.is_some_and(|before| before.disputed),
        failure_code: reading.failure_code.clone(),
        failure_message: reading.failure_message.clone(),
        charged_at: reading.charged_at,
        sequence: before.map_or(0, |before| before.sequence),
        created_at: before.map_or(now, |before| before.created_at),
    };
    if before == Some(&read) {
        return Some(read);
    }
    Some(Payment {
        sequence: read.sequence + 1,
        ..read
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(status: &str, captured: i64, refunded: i64) -> PaymentReading {
        PaymentReading {
            stripe_id: "pi_1".into(),
            stripe_charge: Some("ch_1".into()),
            customer: None,
            stripe_invoice: Some("in_1".into()),
            status: status.into(),
            currency: "usd".into(),
            amount: 500,
            captured,
            refunded,
            disputed: false,
            failure_code: None,
            failure_message: None,
            charged_at: None,
        }
    }

    #[test]
    fn a_payment_that_succeeded_stays_so_while_it_is_given_back_and_comes_back() {
        let now = DateTime::UNIX_EPOCH;
        let waiting = mirror(None, &reading("requires_action", 0, 0), now).expect("mirrored");
        let taken = mirror(Some(&waiting), &reading("succeeded", 500, 0), now).expect("mirrored");
        assert_eq!((taken.id, taken.sequence), (waiting.id, 2));
        let back = mirror(Some(&taken), &reading("succeeded", 500, 500), now).expect("mirrored");
        assert_eq!((back.refunded_minor, back.sequence), (500, 3));
        // A refund that fails leaves the money with us.
        let failed = mirror(Some(&back), &reading("processing", 500, 0), now).expect("mirrored");
        assert_eq!(
            (failed.refunded_minor, failed.status),
            (0, PaymentStatus::Succeeded)
        );
        let again = mirror(Some(&failed), &reading("succeeded", 500, 0), now);
        assert_eq!(again, Some(failed), "nothing new");
    }

    #[test]
    fn a_reading_without_its_invoice_does_not_lose_it() {
        let now = DateTime::UNIX_EPOCH;
        let before = mirror(None, &reading("succeeded", 500, 0), now);
        let bare = PaymentReading {
            stripe_invoice: None,
            ..reading("succeeded", 500, 0)
        };
        assert_eq!(mirror(before.as_ref(), &bare, now), before);
    }

    #[test]
    fn a_status_of_next_year_is_not_mirrored() {
        let now = DateTime::UNIX_EPOCH;
        assert_eq!(mirror(None, &reading("quantum", 0, 0), now), None);
    }
}
