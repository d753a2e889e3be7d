//! `invoice.paid`: the invoice is mirrored, and what it bills is paid through the end of its period.
//! Deliberately absent: activating a subscription. A first payment is its saga's to confirm.

use super::sql::{self, Owner};
use super::{Handled, Intake, IntakeError, Outcome, StripeEvent, subscription};
use crate::history::{self, By};
use crate::invoice::{rules as mirror, sql as invoices};
use crate::subscription::{rules, sql as rows};

pub(super) async fn handle(
    intake: &Intake,
    event: &StripeEvent,
    owner: Option<Owner>,
) -> Result<Handled, IntakeError> {
    let Some(Owner { tenant, .. }) = owner else {
        let detail = "no customer of ours is known by this id yet";
        return Ok(Handled::new(Outcome::Retry, detail, None));
    };
    let reading = match intake.stripe.invoice(&event.about.id).await {
        Ok(invoice) => invoice,
        Err(failure) if failure.is_missing() => {
            let detail = "Stripe has no such invoice";
            return Ok(Handled::new(Outcome::Retry, detail, Some(tenant)));
        }
        Err(failure) => return Err(IntakeError::Stripe(failure)),
    };
    let billed = match reading.subscription() {
        None => None,
        Some(stripe_id) => {
            let mut tx = intake.database.worker().tx().await?;
            let billed = sql::find_owner(tx.conn(), stripe_id).await?;
            match billed
                .filter(|billed| billed.tenant == tenant)
                .and_then(|billed| billed.subscription)
            {
                Some(id) => Some(id),
                None => {
                    let detail = "the subscription it bills is not known here yet";
                    return Ok(Handled::new(Outcome::Retry, detail, Some(tenant)));
                }
            }
        }
    };

    let now = intake.clock.now();
    let mut tx = intake.database.worker().tenant(tenant).await?;
    if !sql::note(tx.conn(), event, "applied").await? {
        return Ok(Handled::new(
            Outcome::Duplicate,
            "seen before",
            Some(tenant),
        ));
    }
    rows::lock_account(tx.conn(), tenant).await?;
    let before = invoices::find(tx.conn(), tenant, &reading.id).await?;
    let Some(after) = mirror::read(before.as_ref(), &reading, billed, now) else {
        tx.commit().await?;
        let detail = "Stripe's invoice has a status or currency we do not know";
        return Ok(Handled::new(Outcome::Applied, detail, Some(tenant)));
    };
    if before.as_ref() != Some(&after) {
        invoices::apply(tx.conn(), tenant, &after, now).await?;
        let by = By::stripe(tenant, &event.id, now);
        history::invoice_changed(tx.conn(), &by, before.as_ref(), &after).await?;
    }
    let mut started = None;
    if let Some(id) = billed.filter(|_| reading.is_paid())
        && let Some(before) = rows::get(tx.conn(), tenant, id).await?
        && before.status.is_live()
    {
        let paid = rules::paid(&before, after.period_end_at);
        started = subscription::change(intake, &mut tx, event, &before, paid).await?;
    }
    tx.commit().await?;
    let detail = match &started {
        Some(_) => "mirrored; paid through its period, identity is being told",
        None => "mirrored",
    };
    if let Some(started) = started {
        intake.engine.launch(started);
    }
    Ok(Handled::new(Outcome::Applied, detail, Some(tenant)))
}
