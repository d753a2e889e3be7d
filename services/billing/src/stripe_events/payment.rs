//! `payment_intent.*`, `charge.failed`, `charge.refunded`: the payment is mirrored as it stands; what was given back
//! comes with its refunds.
//! Deliberately absent: which of the types it was, but for the refunds.

use mainstay_db::TenantTx;

use super::directory::Look;
use super::effects::Effect;
use super::{Follow, Found, Intake, IntakeError, StripeEvent, Written, payer, refund};
use crate::history::By;
use crate::payment::{self, Read, ReadError, Recorded};
use crate::stripe::object::{Ref, RefundState};

pub(super) struct Payments(pub(super) Effect);

#[tonic::async_trait]
impl Follow for Payments {
    type Read = (Read, Vec<(RefundState, i64)>);

    async fn read(
        &self,
        intake: &Intake,
        event: &StripeEvent,
        _: &Look,
    ) -> Result<Found<Self::Read>, IntakeError> {
        let about = &event.about;
        let (intent, charge) = match event.kind.starts_with("payment_intent.") {
            true => (Some(about.id.as_str()), None),
            false => (
                about.payment_intent.as_ref().map(Ref::id),
                Some(about.id.as_str()),
            ),
        };
        let read = match read_payment(intake, intent, charge).await? {
            Ok(read) => read,
            Err(detail) => return Ok(Found::NotYet(detail)),
        };
        let of = read.reading.customer.as_deref();
        let Some(tenant) = payer(intake, &read.reading.stripe_id, of).await? else {
            return Ok(Found::NotYet("nobody of ours is known to have paid it yet"));
        };
        let refunds = match self.0 {
            Effect::MirrorGivenBack => refund::read_all(intake, &read.reading.stripe_id).await?,
            _ => Vec::new(),
        };
        Ok(Found::Read((read, refunds), tenant))
    }

    async fn apply(
        &self,
        _: &Intake,
        tx: &mut TenantTx,
        by: &By,
        (read, refunds): &Self::Read,
    ) -> Result<Written, IntakeError> {
        let tenant = tx.tenant();
        let payment = match payment::record(tx.conn(), tenant, by, read).await? {
            Recorded::Stands(payment) => payment,
            Recorded::Stale => return Ok(Written::Stale),
            Recorded::Unreadable => return Ok(Written::Done(UNREADABLE, Vec::new())),
        };
        for (state, revision) in refunds {
            if !refund::record(tx, by, payment.id, state, *revision).await? {
                return Ok(Written::Stale);
            }
        }
        Ok(Written::Done("mirrored", Vec::new()))
    }
}

pub(super) const UNREADABLE: &str =
    "Stripe's object has a status or currency we do not know; kept, not mirrored";

/// The payment by its intent, or by its charge where that is all there is. Inside: why not, where Stripe has none.
pub(super) async fn read_payment(
    intake: &Intake,
    intent: Option<&str>,
    charge: Option<&str>,
) -> Result<Result<Read, &'static str>, IntakeError> {
    let worker = intake.database.worker();
    let read = match (intent, charge) {
        (Some(intent), _) => payment::read_intent(&worker, &intake.stripe, intent).await,
        (None, Some(charge)) => payment::read_charge(&worker, &intake.stripe, charge).await,
        (None, None) => return Ok(Err("it names no payment")),
    };
    match read {
        Ok(read) => Ok(Ok(read)),
        Err(ReadError::Stripe(failure)) if failure.is_missing() => {
            Ok(Err("Stripe has no such payment"))
        }
        Err(error) => Err(error.into()),
    }
}
