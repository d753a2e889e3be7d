//! What a reading of Stripe's invoice makes of our mirror of it.
//! Deliberately absent: going back. Draft, open, uncollectible, then void or paid, and there it stays.

use chrono::{DateTime, Utc};
use mainstay_types::{Currency, InvoiceId, Money, SubscriptionId};

use super::{Invoice, InvoiceStatus};
use crate::stripe::object;

/// The mirror after a reading; `None` when the reading has no status or currency that we know, so that there is nothing to
/// mirror. Equal to `before` when the reading says nothing new or is older.
pub(crate) fn read(
    before: Option<&Invoice>,
    reading: &object::Invoice,
    subscription: Option<SubscriptionId>,
    now: DateTime<Utc>,
) -> Option<Invoice> {
    let status = reading
        .status
        .as_deref()
        .and_then(InvoiceStatus::from_text)?;
    let currency: Currency = reading.currency.parse().ok()?;
    if let Some(before) = before
        && (status < before.status
            || matches!(before.status, InvoiceStatus::Void | InvoiceStatus::Paid))
    {
        return Some(before.clone());
    }
    let period = reading.period();
    let read = Invoice {
        id: before.map_or_else(InvoiceId::generate, |before| before.id),
        subscription_id: subscription,
        stripe_invoice_id: reading.id.clone(),
        status,
        amount_due: Money::new(reading.amount_due, currency),
        amount_paid: Money::new(reading.amount_paid, currency),
        period_start_at: period.map(|(start, _)| start),
        period_end_at: period.map(|(_, end)| end),
        paid_at: match status {
            InvoiceStatus::Paid => reading.paid_at(),
            _ => None,
        },
        sequence: before.map_or(0, |before| before.sequence),
        created_at: before.map_or(now, |before| before.created_at),
    };
    if before == Some(&read) {
        return Some(read);
    }
    Some(Invoice {
        sequence: read.sequence + 1,
        ..read
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(status: &str) -> object::Invoice {
        serde_json::from_value(serde_json::json!({
            "id": "in_1", "status": status, "currency": "usd", "amount_due": 500, "amount_paid": 500,
            "status_transitions": {"paid_at": 90},
            "lines": {"data": [{"period": {"start": 100, "end": 200}}]},
        }))
        .expect("readable")
    }

    #[test]
    fn an_invoice_goes_forward_and_never_back() {
        let now = DateTime::UNIX_EPOCH;
        let open = read(None, &reading("open"), None, now).expect("mirrored");
        assert_eq!(
            (open.status, open.sequence, open.paid_at),
            (InvoiceStatus::Open, 1, None)
        );
        let paid = read(Some(&open), &reading("paid"), None, now).expect("mirrored");
        assert_eq!(
            (paid.status, paid.sequence, paid.id),
            (InvoiceStatus::Paid, 2, open.id)
        );
        assert!(paid.paid_at.is_some());
        for late in ["draft", "open", "void", "paid"] {
            assert_eq!(
                read(Some(&paid), &reading(late), None, now),
                Some(paid.clone()),
                "{late}"
            );
        }
    }

    #[test]
    fn a_status_of_next_year_is_not_mirrored() {
        assert_eq!(
            read(None, &reading("quantum"), None, DateTime::UNIX_EPOCH),
            None
        );
    }
}
