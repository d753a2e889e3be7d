//! BIL-10: a client takes its place, pays, and is let in.
//!
//! ```text
//! do    reserve_place → ensure_stripe_customer → ensure_stripe_product → ensure_stripe_price → attach_payment_method
//!       → create_stripe_subscription → CONFIRM PAYMENT (pivot) → activate → put_entitlements
//! undo  mark failed                                              cancel, void      refund        revoke
//! ```
//! Customer, product and price stay when it is undone: they bill nothing, and the next try uses them. So does the
//! payment method: once detached it could never be used again.
//! Deliberately absent: waiting for the payer to authenticate (SCA); such a payment is refused and undone (BIL-25).

mod at_stripe;
mod here;

use mainstay_db::Worker;
use mainstay_types::{Interval, Money, PlanId, SubscriptionId};
use serde::{Deserialize, Serialize};

use super::definition::Definition;
use super::sync_entitlements::PutEntitlements;
use crate::history::By;
use crate::identity::Identity;
use crate::stripe::{Payer, StripeGateway};

/// Its name in the log.
pub const NAME: &str = "start_subscription";

const CUSTOMER: &str = "ensure_stripe_customer";
const PRODUCT: &str = "ensure_stripe_product";
const PRICE: &str = "ensure_stripe_price";
const PAYMENT_METHOD: &str = "attach_payment_method";
const SUBSCRIPTION: &str = "create_stripe_subscription";
const PAYMENT: &str = "confirm_payment";

/// What it is started with. Everything that is sent to Stripe comes from here or from an earlier step, so that every try
/// sends the same under the same key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StartSubscription {
    /// Ours.
    pub subscription: SubscriptionId,
    /// The plan.
    pub plan: PlanId,
    /// Its version, sold from here on.
    pub plan_version: i32,
    /// What Stripe calls the product.
    pub plan_name: String,
    /// What is charged.
    pub price: Money,
    /// How often.
    pub interval: Interval,
    /// Days before the first charge.
    pub trial_days: i32,
    /// What pays, as the caller named it.
    pub payment_method: Option<String>,
    /// Who pays.
    pub payer: Payer,
    /// Who asked.
    pub by: By,
}

impl StartSubscription {
    /// The product at Stripe: one a version of a plan, under an id that a second try finds again.
    fn stripe_product(&self) -> String {
        format!("{}_v{}", self.plan, self.plan_version)
    }

    /// The price at Stripe, likewise.
    fn stripe_lookup_key(&self) -> String {
        format!(
            "{}/v{}/{}/{}",
            self.plan, self.plan_version, self.price.currency, self.interval
        )
    }
}

/// What `create_stripe_subscription` leaves.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Created {
    stripe_subscription: String,
    status: String,
    invoice: Option<String>,
}

/// What `confirm_payment` leaves: the invoice that was paid, none where nothing was due.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Paid {
    invoice: Option<String>,
}

/// The saga.
pub fn definition(stripe: &StripeGateway, identity: &Identity, worker: &Worker) -> Definition {
    let stripe = || stripe.clone();
    Definition {
        name: NAME,
        version: 1,
        steps: vec![
            Box::new(here::ReservePlace),
            Box::new(at_stripe::EnsureCustomer {
                stripe: stripe(),
                worker: worker.clone(),
            }),
            Box::new(at_stripe::EnsureProduct {
                stripe: stripe(),
                worker: worker.clone(),
            }),
            Box::new(at_stripe::EnsurePrice {
                stripe: stripe(),
                worker: worker.clone(),
            }),
            Box::new(at_stripe::AttachPaymentMethod { stripe: stripe() }),
            Box::new(at_stripe::CreateSubscription { stripe: stripe() }),
            Box::new(at_stripe::ConfirmPayment { stripe: stripe() }),
            Box::new(here::Activate {
                stripe: stripe(),
                worker: worker.clone(),
            }),
            Box::new(PutEntitlements {
                identity: identity.clone(),
                worker: worker.clone(),
            }),
        ],
        pivot: 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_types::{AgencyId, Currency};

    #[test]
    fn names_at_stripe_depend_on_what_is_sold_and_not_on_who_buys() {
        let input = |plan: PlanId| StartSubscription {
            subscription: SubscriptionId::generate(),
            plan,
            plan_version: 3,
            plan_name: "Pro".into(),
            price: Money::new(100, Currency::USD),
            interval: Interval::Year,
            trial_days: 0,
            payment_method: None,
            payer: Payer {
                name: None,
                email: None,
                phone: None,
            },
            by: By {
                agency: AgencyId::generate(),
                client: None,
                principal: "key_1".into(),
                request_id: None,
                now: chrono::DateTime::UNIX_EPOCH,
            },
        };
        let plan = PlanId::generate();
        let (one, two) = (input(plan), input(plan));
        assert_eq!(one.stripe_product(), two.stripe_product());
        assert_eq!(one.stripe_lookup_key(), format!("{plan}/v3/usd/year"));
    }
}
