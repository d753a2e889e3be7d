//! Checkout sessions of ours, as far as Stripe finishes them (BIL-33): whoever pays a payment link becomes a client, once
//! a session; a client of ours who pays one is given what it paid for.
//! Deliberately absent: making sessions and links (BIL-55), and one-time payments, which their own events mirror.

pub(crate) mod rules;
pub(crate) mod sql;

use mainstay_types::{AgencyId, ClientId, Currency, Interval, PlanId, SagaId};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// What was ordered, as the metadata of the link or session says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    pub agency: AgencyId,
    /// None for somebody new.
    pub client: Option<ClientId>,
    pub plan: PlanId,
    pub currency: Currency,
    pub interval: Interval,
}

/// How far a session has come here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionState {
    /// Completed; the money is on its way.
    AwaitingPayment,
    /// The money never came.
    PaymentFailed,
    /// Nobody completed it.
    Expired,
}

impl SessionState {
    pub const fn as_str(self) -> &'static str {
        match self {
            SessionState::AwaitingPayment => "awaiting_payment",
            SessionState::PaymentFailed => "payment_failed",
            SessionState::Expired => "expired",
        }
    }
}

/// The saga of a session: made from its id, so that a session can never have two.
pub(crate) fn saga_of(stripe_session: &str) -> SagaId {
    let digest = Sha256::digest(format!("onboard_client/{stripe_session}"));
    let mut bytes = [0_u8; 16];
    bytes.copy_from_slice(&digest[..16]);
    SagaId::from_uuid(Uuid::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_one_saga_and_another_session_another() {
        assert_eq!(saga_of("cs_1"), saga_of("cs_1"));
        assert_ne!(saga_of("cs_1"), saga_of("cs_2"));
    }
}
