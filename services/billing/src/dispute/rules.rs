//! What a reading of Stripe's dispute makes of our mirror of it.
//! Deliberately absent: reopening. What was closed stays closed; money may still come back then.

use chrono::{DateTime, Utc};
use mainstay_types::{ClientId, Currency, DisputeId, Money, PaymentId};

use super::{Dispute, DisputeStatus};
use crate::stripe::object;

/// What an event by itself proves about the money: that something happened stays true, whenever it is heard of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Funds {
    pub withdrawn: bool,
    pub reinstated: bool,
}

/// The mirror after a reading; none when its status or currency is none we know. Equal to `before` when it says nothing
/// new.
pub(crate) fn mirror(
    before: Option<&Dispute>,
    of: (ClientId, PaymentId),
    reading: &object::DisputeState,
    proven: Funds,
    now: DateTime<Utc>,
) -> Option<Dispute> {
    let seen = DisputeStatus::from_text(&reading.status)?;
    let currency: Currency = reading.currency.parse().ok()?;
    let closed = before.filter(|before| before.status.is_closed());
    let status = closed.map_or(seen, |closed| closed.status);
    let was = |of: fn(&Dispute) -> bool| before.is_some_and(of);
    let read = Dispute {
        id: before.map_or_else(DisputeId::generate, |before| before.id),
        client_id: of.0,
        payment_id: of.1,
        stripe_dispute_id: reading.id.clone(),
        status,
        amount: Money::new(reading.amount, currency),
        reason: reading.reason.clone(),
        evidence_due_at: reading.evidence_due_at(),
        funds_withdrawn: reading.funds_withdrawn()
            || proven.withdrawn
            || was(|before| before.funds_withdrawn),
        funds_reinstated: reading.funds_reinstated()
            || proven.reinstated
            || was(|before| before.funds_reinstated),
        closed_at: closed
            .and_then(|closed| closed.closed_at)
            .or(status.is_closed().then_some(now)),
        sequence: before.map_or(0, |before| before.sequence),
        created_at: before.map_or(now, |before| before.created_at),
    };
    if before == Some(&read) {
        return Some(read);
    }
    Some(Dispute {
        sequence: read.sequence + 1,
        ..read
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(status: &str, moved: &[i64]) -> object::DisputeState {
        let moved: Vec<_> = moved
            .iter()
            .map(|amount| serde_json::json!({ "amount": amount }))
            .collect();
        serde_json::from_value(serde_json::json!({
            "id": "du_1", "status": status, "currency": "usd", "amount": 500, "reason": "fraudulent",
            "evidence_details": {"due_by": 900}, "balance_transactions": moved,
        }))
        .expect("readable")
    }

    #[test]
    fn a_dispute_ends_once_and_money_is_told_by_what_moved_or_by_an_event() {
        let now = DateTime::UNIX_EPOCH;
        let of = (ClientId::generate(), PaymentId::generate());
        let open = mirror(
            None,
            of,
            &reading("needs_response", &[-500]),
            Funds::default(),
            now,
        );
        let open = open.expect("mirrored");
        assert_eq!((open.funds_withdrawn, open.funds_reinstated), (true, false));
        assert_eq!(
            (open.closed_at, open.evidence_due_at.is_some()),
            (None, true)
        );
        let later = DateTime::from_timestamp(50, 0).expect("a time");
        let won = mirror(
            Some(&open),
            of,
            &reading("won", &[]),
            Funds::default(),
            later,
        );
        let won = won.expect("mirrored");
        assert_eq!((won.closed_at, won.funds_withdrawn), (Some(later), true));
        let reinstated = Funds {
            reinstated: true,
            ..Funds::default()
        };
        let back = mirror(
            Some(&won),
            of,
            &reading("needs_response", &[]),
            reinstated,
            now,
        );
        let back = back.expect("mirrored");
        assert_eq!(back.status, DisputeStatus::Won, "nothing reopens it");
        assert!(back.funds_reinstated);
        assert_eq!(back.closed_at, Some(later));
    }
}
