//! `refund.*`: the refund is mirrored, and the payment it gives back, together.
//! Deliberately absent: sums. How much was given back is read from the charge, never added up here.

use mainstay_db::TenantTx;
use mainstay_types::PaymentId;
use serde_json::json;

use super::directory::{self, Look};
use super::effects::Effect;
use super::payment::{UNREADABLE, read_payment};
use super::{Follow, Found, Intake, IntakeError, StripeEvent, Written, payer};
use crate::history::{self, By, Notice};
use crate::payment::{self, Read, Recorded};
use crate::refund::{self as refunds, sql as rows};
use crate::stripe::object::{Ref, RefundState};

pub(super) struct Refunds(pub(super) Effect);

#[tonic::async_trait]
impl Follow for Refunds {
    type Read = (RefundState, i64, Read);

    async fn read(
        &self,
        intake: &Intake,
        event: &StripeEvent,
        look: &Look,
    ) -> Result<Found<Self::Read>, IntakeError> {
        let state = match intake.stripe.refund_state(&event.about.id).await {
            Ok(state) => state,
            Err(failure) if failure.is_missing() => {
                return Ok(Found::NotYet("Stripe has no such refund"));
            }
            Err(failure) => return Err(IntakeError::Stripe(failure)),
        };
        let revision = look.object.map_or(0, |known| known.revision);
        let intent = state.payment_intent.as_ref().map(Ref::id);
        let charge = state.charge.as_ref().map(Ref::id);
        let read = match read_payment(intake, intent, charge).await? {
            Ok(read) => read,
            Err(detail) => return Ok(Found::NotYet(detail)),
        };
        let of = read.reading.customer.as_deref();
        match payer(intake, &read.reading.stripe_id, of).await? {
            Some(tenant) => Ok(Found::Read((state, revision, read), tenant)),
            None => Ok(Found::NotYet("nobody of ours is known to have paid it yet")),
        }
    }

    async fn apply(
        &self,
        _: &Intake,
        tx: &mut TenantTx,
        by: &By,
        (state, revision, read): &Self::Read,
    ) -> Result<Written, IntakeError> {
        let tenant = tx.tenant();
        let payment = match payment::record(tx.conn(), tenant, by, read).await? {
            Recorded::Stands(payment) => payment,
            Recorded::Stale => return Ok(Written::Stale),
            Recorded::Unreadable => return Ok(Written::Done(UNREADABLE, Vec::new())),
        };
        if !record(tx, by, payment.id, state, *revision).await? {
            return Ok(Written::Stale);
        }
        if self.0 != Effect::AlertRefundFailed {
            return Ok(Written::Done("mirrored", Vec::new()));
        }
        tracing::warn!(
            refund = state.id,
            "a refund failed: the money is with us again"
        );
        let told = json!({
            "payment_id": payment.id,
            "stripe_refund_id": state.id,
            "amount_minor": state.amount,
            "currency": state.currency,
            "reason": state.failure_reason,
        });
        history::notice(tx.conn(), tenant, by, Notice::RefundFailed, told).await?;
        Ok(Written::Done(
            "mirrored; it failed, which is told",
            Vec::new(),
        ))
    }
}

/// All refunds of a payment, each with how many readings of it were applied before.
pub(super) async fn read_all(
    intake: &Intake,
    payment: &str,
) -> Result<Vec<(RefundState, i64)>, IntakeError> {
    let of = match payment.starts_with("pi_") {
        true => ("payment_intent", payment),
        false => ("charge", payment),
    };
    // The list is read twice: the first names the refunds, the second is read after their revisions.
    let named = intake.stripe.refunds_of(of).await;
    let named = named.map_err(IntakeError::Stripe)?;
    let mut revisions = Vec::with_capacity(named.len());
    let mut worker = intake.database.worker().connection().await?;
    for state in &named {
        revisions.push((
            state.id.clone(),
            directory::revision(worker.conn(), &state.id).await?,
        ));
    }
    drop(worker);
    let states = intake.stripe.refunds_of(of).await;
    let states = states.map_err(IntakeError::Stripe)?;
    let revision = |id: &str| revisions.iter().find(|(known, _)| known == id);
    Ok(states
        .into_iter()
        .filter_map(|state| {
            let revision = revision(&state.id)?.1;
            Some((state, revision))
        })
        .collect())
}

/// Writes a reading of a refund; false when another one was applied meanwhile.
pub(super) async fn record(
    tx: &mut TenantTx,
    by: &By,
    payment: PaymentId,
    state: &RefundState,
    revision: i64,
) -> Result<bool, IntakeError> {
    let tenant = tx.tenant();
    if !directory::count(tx.conn(), tenant, &state.id, revision).await? {
        return Ok(false);
    }
    let before = rows::find(tx.conn(), tenant, &state.id).await?;
    let after = refunds::mirror(before.as_ref(), payment, state, by.now);
    if let Some(after) = after
        && before.as_ref() != Some(&after)
    {
        rows::apply(tx.conn(), tenant, &after, by.now).await?;
        history::refund_changed(tx.conn(), by, before.as_ref(), &after).await?;
    }
    Ok(true)
}
