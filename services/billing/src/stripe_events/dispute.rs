//! `charge.dispute.*`: the dispute is mirrored, and the payment it is about.
//! Deliberately absent: answering it, and what the agency does to the client meanwhile (BIL-53).

use mainstay_db::TenantTx;

use super::directory::{self, Look};
use super::effects::Effect;
use super::payment::{UNREADABLE, read_payment};
use super::{Follow, Found, Intake, IntakeError, StripeEvent, Written, payer};
use crate::dispute::{rules, rules::Funds, sql as rows};
use crate::history::{self, By};
use crate::payment::{self, Read, Recorded};
use crate::stripe::object::{DisputeState, Ref};

pub(super) struct Disputes(pub(super) Effect);

#[tonic::async_trait]
impl Follow for Disputes {
    type Read = (DisputeState, i64, Read);

    async fn read(
        &self,
        intake: &Intake,
        event: &StripeEvent,
        look: &Look,
    ) -> Result<Found<Self::Read>, IntakeError> {
        let dispute = match intake.stripe.dispute_state(&event.about.id).await {
            Ok(dispute) => dispute,
            Err(failure) if failure.is_missing() => {
                return Ok(Found::NotYet("Stripe has no such dispute"));
            }
            Err(failure) => return Err(IntakeError::Stripe(failure)),
        };
        let revision = look.object.map_or(0, |known| known.revision);
        let intent = dispute.payment_intent.as_ref().map(Ref::id);
        let charge = dispute.charge.as_ref().map(Ref::id);
        let read = match read_payment(intake, intent, charge).await? {
            Ok(read) => read,
            Err(detail) => return Ok(Found::NotYet(detail)),
        };
        let of = read.reading.customer.as_deref();
        match payer(intake, &read.reading.stripe_id, of).await? {
            Some(tenant) => Ok(Found::Read((dispute, revision, read), tenant)),
            None => Ok(Found::NotYet("nobody of ours is known to have paid it yet")),
        }
    }

    async fn apply(
        &self,
        _: &Intake,
        tx: &mut TenantTx,
        by: &By,
        (dispute, revision, read): &Self::Read,
    ) -> Result<Written, IntakeError> {
        let tenant = tx.tenant();
        let payment = match payment::record(tx.conn(), tenant, by, read).await? {
            Recorded::Stands(payment) => payment,
            Recorded::Stale => return Ok(Written::Stale),
            Recorded::Unreadable => return Ok(Written::Done(UNREADABLE, Vec::new())),
        };
        if !directory::count(tx.conn(), tenant, &dispute.id, *revision).await? {
            return Ok(Written::Stale);
        }
        let before = rows::find(tx.conn(), tenant, &dispute.id).await?;
        let proven = Funds {
            withdrawn: self.0 == Effect::NoteFundsWithdrawn,
            reinstated: self.0 == Effect::NoteFundsReinstated,
        };
        let of = (tenant.client, payment.id);
        let Some(after) = rules::mirror(before.as_ref(), of, dispute, proven, by.now) else {
            return Ok(Written::Done(UNREADABLE, Vec::new()));
        };
        if before.as_ref() != Some(&after) {
            rows::apply(tx.conn(), tenant, &after, by.now).await?;
            history::dispute_changed(tx.conn(), by, before.as_ref(), &after).await?;
        }
        if self.0 == Effect::AlertDispute {
            tracing::warn!(
                dispute = dispute.id,
                client = %tenant.client,
                evidence_due_at = after.evidence_due_at.map(tracing::field::display),
                "a payment is disputed"
            );
        }
        Ok(Written::Done("mirrored", Vec::new()))
    }
}
