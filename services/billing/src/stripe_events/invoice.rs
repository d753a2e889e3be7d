//! `invoice.*`: the invoice is mirrored; what it bills is paid through the end of its period once it is paid; and when it
//! cannot be collected, its subscription is read again and somebody is told what to do.
//! Deliberately absent: activating a subscription. A first payment is its saga's to confirm.

use mainstay_db::TenantTx;
use mainstay_types::{SubscriptionId, Tenant};
use serde::Deserialize;
use serde_json::{Value, json};

use super::directory::{self, Look};
use super::effects::Effect;
use super::payment::UNREADABLE;
use super::{
    Follow, Found, Handled, Intake, IntakeError, Outcome, StripeEvent, Written, sql, subscription,
};
use crate::history::{self, By, Notice};
use crate::invoice::{Invoice, rules as mirror, sql as invoices};
use crate::payment::{self, Read, Recorded, sql::taken_for};
use crate::stripe::object::{self, Ref, UpcomingInvoice};
use crate::subscription::{rules, sql as rows};

pub(super) struct Invoices(pub(super) Effect);

/// Everything that one event about an invoice reads.
pub(super) struct Reading {
    invoice: object::Invoice,
    revision: i64,
    billed: Option<SubscriptionId>,
    payments: Vec<Read>,
    subscription: Option<subscription::Read>,
}

#[tonic::async_trait]
impl Follow for Invoices {
    type Read = Reading;

    async fn read(
        &self,
        intake: &Intake,
        event: &StripeEvent,
        look: &Look,
    ) -> Result<Found<Reading>, IntakeError> {
        let revision = look.object.map_or(0, |known| known.revision);
        let invoice = match intake.stripe.invoice(&event.about.id).await {
            Ok(invoice) => invoice,
            Err(failure) if failure.is_missing() => {
                return Ok(Found::NotYet("Stripe has no such invoice"));
            }
            Err(failure) => return Err(IntakeError::Stripe(failure)),
        };
        let of = invoice.customer.as_ref().map(Ref::id);
        let Some(tenant) = self.tenant(intake, look, of).await? else {
            return Ok(Found::NotYet("no customer of ours is known by this id yet"));
        };
        let billed = match invoice.subscription() {
            None => None,
            Some(stripe_id) => {
                let mut worker = intake.database.worker().connection().await?;
                let billed = directory::owner(worker.conn(), stripe_id).await?;
                let billed = billed.filter(|billed| billed.tenant == tenant);
                match billed.and_then(|billed| billed.subscription) {
                    Some(id) => Some((id, stripe_id.to_owned())),
                    None => {
                        let detail = "the subscription it bills is not known here yet";
                        return Ok(Found::NotYet(detail));
                    }
                }
            }
        };
        let payments = match self.0 {
            Effect::SettleInvoice => unknown_payments(intake, tenant, &invoice).await?,
            _ => Vec::new(),
        };
        let subscription = match (self.0, &billed) {
            (Effect::ChasePayment | Effect::AskForAuthentication, Some((id, stripe_id))) => {
                subscription::read(intake, tenant, *id, stripe_id).await?
            }
            _ => None,
        };
        let reading = Reading {
            invoice,
            revision,
            billed: billed.map(|(id, _)| id),
            payments,
            subscription,
        };
        Ok(Found::Read(reading, tenant))
    }

    async fn apply(
        &self,
        intake: &Intake,
        tx: &mut TenantTx,
        by: &By,
        read: &Reading,
    ) -> Result<Written, IntakeError> {
        let (tenant, invoice) = (tx.tenant(), &read.invoice);
        if !directory::count(tx.conn(), tenant, &invoice.id, read.revision).await? {
            return Ok(Written::Stale);
        }
        let before = invoices::find(tx.conn(), tenant, &invoice.id).await?;
        let Some(after) = mirror::read(before.as_ref(), invoice, read.billed, by.now) else {
            return Ok(Written::Done(UNREADABLE, Vec::new()));
        };
        if before.as_ref() != Some(&after) {
            invoices::apply(tx.conn(), tenant, &after, by.now).await?;
            history::invoice_changed(tx.conn(), by, before.as_ref(), &after).await?;
        }
        for payment in &read.payments {
            if payment::record(tx.conn(), tenant, by, payment).await? == Recorded::Stale {
                return Ok(Written::Stale);
            }
        }
        let mut started = Vec::new();
        if let Some(read) = &read.subscription {
            match subscription::apply(intake, tx, by, read).await? {
                None => return Ok(Written::Stale),
                Some(more) => started.extend(more),
            }
        }
        if let Some(id) = read.billed.filter(|_| invoice.is_paid())
            && let Some(before) = rows::get(tx.conn(), tenant, id).await?
            && before.status.is_live()
        {
            subscription::signal(intake, tx, &before).await?;
            let paid = rules::paid(&before, after.period_end_at);
            started.extend(subscription::change(intake, tx, by, &before, paid).await?);
        }
        if let Some(what) = self.notice(invoice) {
            history::notice(tx.conn(), tenant, by, what, told(&after, invoice)).await?;
        }
        let detail = match started.is_empty() {
            true => "mirrored",
            false => "mirrored; the client's standing changed, the others are being told",
        };
        Ok(Written::Done(detail, started))
    }
}

impl Invoices {
    async fn tenant(
        &self,
        intake: &Intake,
        look: &Look,
        customer: Option<&str>,
    ) -> Result<Option<Tenant>, IntakeError> {
        match (look.tenant(), customer) {
            (Some(tenant), _) => Ok(Some(tenant)),
            (None, Some(customer)) => {
                let mut worker = intake.database.worker().connection().await?;
                let owner = directory::owner(worker.conn(), customer).await?;
                Ok(owner.map(|owner| owner.tenant))
            }
            (None, None) => Ok(None),
        }
    }

    /// Who must be told what. An invoice that was paid meanwhile needs nobody any more, whatever a late event says.
    fn notice(&self, invoice: &object::Invoice) -> Option<Notice> {
        let notice = match self.0 {
            Effect::ChasePayment => Notice::PaymentFailed,
            Effect::AskForAuthentication => Notice::PaymentActionRequired,
            Effect::GiveUpInvoice => Notice::InvoiceUncollectible,
            Effect::AlertFinalization => {
                tracing::error!(invoice = invoice.id, "Stripe could not finalize an invoice");
                Notice::FinalizationFailed
            }
            _ => return None,
        };
        let over = matches!(invoice.status.as_deref(), Some("paid" | "void"));
        (!over).then_some(notice)
    }
}

/// What the payer needs to act on an invoice, or the agency to mend it.
fn told(mirrored: &Invoice, invoice: &object::Invoice) -> Value {
    let alert = &invoice.alert;
    let error = alert.last_finalization_error.as_ref();
    json!({
        "invoice_id": mirrored.id,
        "subscription_id": mirrored.subscription_id,
        "stripe_invoice_id": mirrored.stripe_invoice_id,
        "amount_due": mirrored.amount_due,
        "attempt_count": alert.attempt_count,
        "next_attempt_at": alert.next_attempt_at(),
        "pay_at": alert.hosted_invoice_url,
        "reason": error.and_then(|error| error.message.clone().or_else(|| error.code.clone())),
    })
}

/// The invoice's payments, where the mirror does not hold all that was paid yet.
async fn unknown_payments(
    intake: &Intake,
    tenant: Tenant,
    invoice: &object::Invoice,
) -> Result<Vec<Read>, IntakeError> {
    let worker = intake.database.worker();
    let mut tx = worker.tenant(tenant).await?;
    let taken = taken_for(tx.conn(), tenant, &invoice.id).await?;
    drop(tx);
    if taken >= invoice.amount_paid {
        return Ok(Vec::new());
    }
    Ok(payment::read_invoice(&worker, &intake.stripe, &invoice.id).await?)
}

/// `invoice.upcoming`: there is no object to read again, so what the event says is passed on, once.
pub(super) async fn announce(
    intake: &Intake,
    event: &StripeEvent,
    tenant: Option<Tenant>,
) -> Result<Handled, IntakeError> {
    let Some(tenant) = tenant else {
        let detail = "no customer of ours is known by this id yet";
        return Ok(Handled::retry(detail, None));
    };
    let upcoming = UpcomingInvoice::deserialize(&event.snapshot).unwrap_or_default();
    let mut tx = intake.database.worker().tenant(tenant).await?;
    rows::lock_account(tx.conn(), tenant).await?;
    if !sql::note(tx.conn(), event, "applied").await? {
        let seen = Handled::new(Outcome::Duplicate, "seen before", Some(tenant));
        return Ok(seen);
    }
    let by = By::stripe(tenant, &event.id, intake.clock.now());
    let told = json!({
        "amount_due_minor": upcoming.amount_due,
        "currency": upcoming.currency,
        "collected_at": upcoming.collected_at(),
    });
    history::notice(tx.conn(), tenant, &by, Notice::InvoiceUpcoming, told).await?;
    tx.commit().await?;
    Ok(Handled::new(Outcome::Applied, "told", Some(tenant)))
}
