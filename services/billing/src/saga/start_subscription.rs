//! BIL-10: a client takes its place, pays, and is let in.
//!
//! ```text
//! do    reserve_place → hold_coupon → ensure_stripe_customer → ensure_stripe_product → ensure_stripe_price
//! undo  mark failed     release
//!
//! do    → ensure_stripe_coupon → attach_payment_method → grant_trial     → create_stripe_subscription
//! undo                                                   give it back      cancel, void
//!
//! do    → confirm_payment → AWAIT PAYMENT (pivot) → activate → put_entitlements → apply_limits
//! undo    refund                                    revoke     take back
//! ```
//! Customer, product, price and coupon stay when it is undone: they bill nothing, and the next try uses them. So does the
//! payment method: once detached it could never be used again.
//! Deliberately absent: a clock on a payer who must authenticate. Stripe ends such a subscription after 23 hours, and
//! that is what the saga reads.

mod at_stripe;
mod coupon;
mod here;
mod payment;

use mainstay_db::Worker;
use mainstay_types::{Interval, Money, PlanId, SubscriptionId};
use serde::{Deserialize, Serialize};

use super::definition::Definition;
use super::standing::{ApplyLimits, PutEntitlements};
use super::sync_entitlements;
use crate::coupon::redemption::Held;
use crate::history::By;
use crate::identity::Identity;
use crate::messaging::Messaging;
use crate::stripe::{Payer, StripeGateway};
use crate::subscription::PayerAction;

/// Its name in the log.
pub const NAME: &str = "start_subscription";

const CUSTOMER: &str = "ensure_stripe_customer";
const PRODUCT: &str = "ensure_stripe_product";
const PRICE: &str = "ensure_stripe_price";
const COUPON: &str = "ensure_stripe_coupon";
const PAYMENT_METHOD: &str = "attach_payment_method";
const TRIAL: &str = "grant_trial";
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
    /// Days before the first charge, unless the card has had a trial before.
    pub trial_days: i32,
    /// What pays, as the caller named it.
    pub payment_method: Option<String>,
    /// The coupon that is held for it.
    #[serde(default)]
    pub coupon: Option<Held>,
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

/// What `attach_payment_method` leaves.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Attached {
    id: String,
    /// The same for the same card, whoever brings it.
    fingerprint: Option<String>,
}

/// What `confirm_payment` leaves: the invoice, none where nothing was due; and what its payer has to do first.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Confirmed {
    invoice: Option<String>,
    waits_for: Option<PayerAction>,
}

impl Confirmed {
    fn paid(invoice: String) -> Self {
        Self {
            invoice: Some(invoice),
            waits_for: None,
        }
    }
}

/// The saga.
pub fn definition(
    stripe: &StripeGateway,
    identity: &Identity,
    messaging: &Messaging,
    worker: &Worker,
) -> Definition {
    let stripe = || stripe.clone();
    let worker = || worker.clone();
    Definition {
        name: NAME,
        version: 2,
        steps: vec![
            Box::new(here::ReservePlace),
            Box::new(coupon::HoldCoupon),
            Box::new(at_stripe::EnsureCustomer {
                stripe: stripe(),
                worker: worker(),
            }),
            Box::new(at_stripe::EnsureProduct {
                stripe: stripe(),
                worker: worker(),
            }),
            Box::new(at_stripe::EnsurePrice {
                stripe: stripe(),
                worker: worker(),
            }),
            Box::new(coupon::EnsureStripeCoupon { stripe: stripe() }),
            Box::new(at_stripe::AttachPaymentMethod { stripe: stripe() }),
            Box::new(here::GrantTrial),
            Box::new(at_stripe::CreateSubscription { stripe: stripe() }),
            Box::new(payment::ConfirmPayment { stripe: stripe() }),
            Box::new(payment::AwaitPayment {
                stripe: stripe(),
                worker: worker(),
            }),
            Box::new(here::Activate {
                stripe: stripe(),
                worker: worker(),
            }),
            Box::new(PutEntitlements::of_a_sale(identity, &worker())),
            Box::new(ApplyLimits::of_a_sale(messaging, &worker())),
        ],
        pivot: 10,
        followed_by: Some(sync_entitlements::NAME),
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
            coupon: None,
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
