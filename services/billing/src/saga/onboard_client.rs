//! BIL-33: somebody has paid a payment link at Stripe, and is let in.
//!
//! ```text
//! do    hold_purchase (pivot) → note_customer → claim_place → adopt_stripe_subscription → activate
//!       → put_entitlements → apply_limits → tell
//! undo  cancel, give back        mark failed · revoke · take back what identity was told
//! ```
//! The money was taken before the saga began, so nearly everything is tried until it is done. Refused for good is a client
//! that has a subscription already, or is not active: then the purchase is ended at Stripe and given back, and told.
//! Deliberately absent: making the client. A saga belongs to one; identity gave it to whoever started this.

mod at_stripe;
mod here;

use mainstay_db::Worker;
use mainstay_types::{Currency, Interval, Money, PlanId, SubscriptionId};
use serde::{Deserialize, Serialize};

use super::definition::Definition;
use super::standing::{ApplyLimits, PutEntitlements};
use crate::history::By;
use crate::identity::Identity;
use crate::messaging::Messaging;
use crate::stripe::StripeGateway;

/// Its name in the log.
pub const NAME: &str = "onboard_client";

const PURCHASE: &str = "hold_purchase";

/// What it is started with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OnboardClient {
    /// Ours, made when it is started.
    pub subscription: SubscriptionId,
    /// The plan that was bought; its latest version is what was sold.
    pub plan: PlanId,
    /// One of its prices.
    pub currency: Currency,
    /// One of its prices.
    pub interval: Interval,
    /// `cs_…`.
    pub stripe_session: String,
    /// `cus_…`.
    pub stripe_customer: String,
    /// `sub_…`.
    pub stripe_subscription: String,
    /// Whether the session was for somebody new.
    pub is_new: bool,
    /// Stripe, by its event.
    pub by: By,
}

/// What was bought, in our terms.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Sold {
    pub plan: PlanId,
    pub plan_version: i32,
    pub price: Money,
    pub interval: Interval,
}

/// The saga.
pub fn definition(
    stripe: &StripeGateway,
    identity: &Identity,
    messaging: &Messaging,
    worker: &Worker,
) -> Definition {
    Definition {
        name: NAME,
        version: 1,
        steps: vec![
            Box::new(at_stripe::HoldPurchase {
                stripe: stripe.clone(),
            }),
            Box::new(here::NoteCustomer),
            Box::new(here::ClaimPlace),
            Box::new(at_stripe::AdoptSubscription {
                stripe: stripe.clone(),
            }),
            Box::new(here::Activate {
                stripe: stripe.clone(),
                worker: worker.clone(),
            }),
            Box::new(PutEntitlements::of_a_sale(identity, worker)),
            Box::new(ApplyLimits::of_a_sale(messaging, worker)),
            Box::new(here::Tell),
        ],
        pivot: 0,
        followed_by: Some(super::sync_entitlements::NAME),
    }
}
