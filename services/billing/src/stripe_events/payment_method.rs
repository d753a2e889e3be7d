//! `payment_method.*`: what a client pays with, and whether it still can.
//! Deliberately absent: the default. That is the customer's, and comes with `customer.updated`.

use mainstay_db::TenantTx;

use super::directory::{self, Look};
use super::{Follow, Found, Intake, IntakeError, StripeEvent, Written};
use crate::history::By;
use crate::payment_method;
use crate::stripe::object::{MethodState, Ref};

pub(super) struct Methods;

#[tonic::async_trait]
impl Follow for Methods {
    type Read = (MethodState, i64);

    async fn read(
        &self,
        intake: &Intake,
        event: &StripeEvent,
        look: &Look,
    ) -> Result<Found<Self::Read>, IntakeError> {
        let method = match intake.stripe.method_state(&event.about.id).await {
            Ok(method) => method,
            Err(failure) if failure.is_missing() => {
                return Ok(Found::NotYet("Stripe has no such payment method"));
            }
            Err(failure) => return Err(IntakeError::Stripe(failure)),
        };
        let revision = look.object.map_or(0, |known| known.revision);
        let tenant = match (look.tenant(), method.customer.as_ref().map(Ref::id)) {
            (Some(tenant), _) => Some(tenant),
            (None, Some(customer)) => {
                let mut worker = intake.database.worker().connection().await?;
                let owner = directory::owner(worker.conn(), customer).await?;
                owner.map(|owner| owner.tenant)
            }
            // Detached, and nobody of ours ever had it.
            (None, None) => return Ok(Found::NotOurs("no client of ours had it")),
        };
        Ok(match tenant {
            Some(tenant) => Found::Read((method, revision), tenant),
            None => Found::NotYet("no customer of ours is known by this id yet"),
        })
    }

    async fn apply(
        &self,
        _: &Intake,
        tx: &mut TenantTx,
        _: &By,
        (method, revision): &Self::Read,
    ) -> Result<Written, IntakeError> {
        let tenant = tx.tenant();
        if !directory::count(tx.conn(), tenant, &method.id, *revision).await? {
            return Ok(Written::Stale);
        }
        payment_method::mirror(tx.conn(), tenant, method).await?;
        Ok(Written::Done("mirrored", Vec::new()))
    }
}
