//! `customer.created|updated|deleted`: who a client is stays identity's; how it stands with Stripe is taken over.
//! Deliberately absent: taking over a name, address or telephone that somebody changed at Stripe. That is told.

use mainstay_db::TenantTx;
use serde_json::{Value, json};

use super::directory::{self, Look};
use super::effects::Effect;
use super::{Follow, Found, Intake, IntakeError, StripeEvent, Written};
use crate::history::{self, By, Notice};
use crate::stripe::{METADATA_CLIENT, object::CustomerState};
use crate::subscription::sql as rows;

pub(super) struct Customers(pub(super) Effect);

/// What an event about a customer reads, and the former values of what only identity may change.
pub(super) struct Reading {
    customer: CustomerState,
    revision: i64,
    edited: Vec<&'static str>,
}

#[tonic::async_trait]
impl Follow for Customers {
    type Read = Reading;

    async fn read(
        &self,
        intake: &Intake,
        event: &StripeEvent,
        look: &Look,
    ) -> Result<Found<Reading>, IntakeError> {
        let customer = match intake.stripe.customer_state(&event.about.id).await {
            Ok(customer) => customer,
            Err(failure) if failure.is_missing() => {
                return Ok(Found::NotYet("Stripe has no such customer"));
            }
            Err(failure) => return Err(IntakeError::Stripe(failure)),
        };
        let Some(owner) = look.object else {
            // A saga notes its customer when Stripe has answered it; the event may be faster.
            let ours = customer.metadata.contains_key(METADATA_CLIENT);
            return Ok(match ours && !customer.deleted {
                true => Found::NotYet("its saga has not noted this customer yet"),
                false => Found::NotOurs("no client of ours is this customer"),
            });
        };
        let reading = Reading {
            revision: owner.revision,
            edited: edited(&event.previous),
            customer,
        };
        Ok(Found::Read(reading, owner.tenant))
    }

    async fn apply(
        &self,
        _: &Intake,
        tx: &mut TenantTx,
        by: &By,
        read: &Reading,
    ) -> Result<Written, IntakeError> {
        let (tenant, customer) = (tx.tenant(), &read.customer);
        if !directory::count(tx.conn(), tenant, &customer.id, read.revision).await? {
            return Ok(Written::Stale);
        }
        let told = json!({ "stripe_customer_id": customer.id });
        if customer.deleted {
            let stood = rows::forget_customer(tx.conn(), tenant, &customer.id).await?;
            if stood {
                history::notice(tx.conn(), tenant, by, Notice::CustomerDeleted, told).await?;
            }
            return Ok(Written::Done(
                "the next sale makes a new customer",
                Vec::new(),
            ));
        }
        let delinquent = customer.delinquent.unwrap_or_default();
        let method = customer.default_payment_method();
        rows::note_standing(tx.conn(), tenant, &customer.id, delinquent, method).await?;
        if self.0 == Effect::SyncCustomer && !read.edited.is_empty() {
            let told = json!({
                "stripe_customer_id": customer.id,
                "edited": read.edited,
                "at_stripe": { "name": customer.name, "email": customer.email, "phone": customer.phone },
            });
            history::notice(tx.conn(), tenant, by, Notice::CustomerEdited, told).await?;
        }
        Ok(Written::Done("its standing is taken over", Vec::new()))
    }
}

/// Which of identity's fields the event says were changed at Stripe. Billing itself never changes them there.
fn edited(previous: &Value) -> Vec<&'static str> {
    let fields = ["name", "email", "phone"];
    let changed = |field: &&str| previous.get(field).is_some();
    fields.into_iter().filter(changed).collect()
}
