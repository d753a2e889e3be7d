//! One paid invoice at Stripe against our mirror of it, and against what its money was for.
//! Deliberately absent: refunds. What was kept for nothing is told to a person, who decides.

use mainstay_types::SubscriptionId;
use serde_json::{Value, json};

use super::discrepancy::Difference;
use super::ours::{Ours, Owner, Owners};
use super::record::{action, look_at};
use super::rules::{self, Judgement, Remedy};
use super::theirs::{self, Named};
use super::walk::Walk;
use super::{Kind, WalkError};
use crate::invoice::{self, Invoice};
use crate::stripe::object::{Invoice as StripeInvoice, InvoicePayment, Ref};
use crate::stripe_events::{self, StripeEvent};

const PATH: &str = "/invoices";

impl Walk<'_> {
    /// A page of paid invoices.
    pub(super) async fn paid_invoices(&mut self, page: &[StripeInvoice]) -> Result<(), WalkError> {
        let objects = page
            .iter()
            .flat_map(|invoice| {
                let customer = invoice.customer.as_ref().map(Ref::id);
                customer.into_iter().chain(invoice.subscription())
            })
            .collect();
        let mut worker = self.with.worker.connection().await?;
        let owners = Owners::load(worker.conn(), objects, Vec::new()).await?;
        drop(worker);
        for invoice in page {
            let customer = invoice.customer.as_ref().map(Ref::id);
            let owner = owners.of(customer.unwrap_or_default(), None, Named::default());
            // A stranger's is counted as its customer.
            let Some(owner) = owner else {
                continue;
            };
            let billed = invoice
                .subscription()
                .and_then(|id| owners.of(id, None, Named::default()))
                .filter(|billed| billed.tenant == owner.tenant)
                .and_then(|billed| billed.subscription);
            self.paid_invoice(invoice, owner, billed).await?;
        }
        Ok(())
    }

    /// An invoice that is open from before, whatever its age.
    pub(super) async fn recheck_invoice(&mut self, id: &str) -> Result<(), WalkError> {
        let stripe = self.with.stripe().await;
        let Some(object) = stripe.find_object(PATH, id).await? else {
            return self.settle(id, &[]).await;
        };
        let invoice: StripeInvoice = theirs::read(&object)?;
        match invoice.is_paid() {
            true => self.paid_invoices(&[invoice]).await,
            false => self.settle(id, &[]).await,
        }
    }

    async fn paid_invoice(
        &mut self,
        theirs: &StripeInvoice,
        owner: Owner,
        billed: Option<SubscriptionId>,
    ) -> Result<(), WalkError> {
        let tenant = owner.tenant;
        if !self.covers(tenant) {
            return Ok(());
        }
        self.tally.objects += 1;
        let (ours, mirror) = self.invoice_here(owner, billed, &theirs.id).await?;
        let kept = match rules::grants_nothing(theirs, &ours) && theirs.amount_paid > 0 {
            true => self.kept(theirs).await?,
            false => 0,
        };
        let verdicts = match rules::invoice(theirs, mirror.as_ref(), &ours, kept) {
            Judgement::InFlight => {
                self.tally.in_flight += 1;
                return Ok(());
            }
            Judgement::Agrees => return self.settle(&theirs.id, &[]).await,
            Judgement::Differs(verdicts) => verdicts,
        };
        let still: Vec<Kind> = verdicts.iter().map(|verdict| verdict.kind).collect();
        self.settle(&theirs.id, &still).await?;
        for verdict in &verdicts {
            let found = Difference {
                kind: verdict.kind,
                subject: &theirs.id,
                stripe_id: Some(&theirs.id),
                tenant: Some(tenant),
                subscription: billed,
                before: &told_here(mirror.as_ref()),
                after: &told_there(theirs, kept),
                cause: verdict.cause,
                action: action(verdict),
                attempted: false,
            };
            match verdict.remedy {
                Remedy::Apply if !self.run.dry_run => {
                    self.mirror(theirs, owner, billed, &found).await?;
                }
                _ => self.record(&found).await?,
            }
        }
        Ok(())
    }

    async fn invoice_here(
        &self,
        owner: Owner,
        billed: Option<SubscriptionId>,
        stripe_id: &str,
    ) -> Result<(Ours, Option<Invoice>), WalkError> {
        let tenant = owner.tenant;
        let mut tx = self.with.worker.tenant(tenant).await?;
        let ours = super::ours::load(tx.conn(), tenant, billed).await?;
        let mirror = invoice::sql::find(tx.conn(), tenant, stripe_id).await?;
        Ok((ours, mirror))
    }

    /// What was paid on it and not given back.
    async fn kept(&self, theirs: &StripeInvoice) -> Result<i64, WalkError> {
        let payments = self.with.stripe().await.payments_of(&theirs.id).await?;
        let mut kept = theirs.amount_paid;
        for intent in payments.iter().filter_map(InvoicePayment::payment_intent) {
            kept -= self.with.stripe().await.refunded(intent).await?;
        }
        Ok(kept)
    }

    /// The lost event has its effect, through the door it would have come by.
    async fn mirror(
        &self,
        theirs: &StripeInvoice,
        owner: Owner,
        billed: Option<SubscriptionId>,
        found: &Difference<'_>,
    ) -> Result<(), WalkError> {
        let repair = Difference {
            attempted: true,
            ..found.clone()
        };
        let mut tx = self.with.worker.tenant(owner.tenant).await?;
        let begun = self.begin_repair(&mut tx, &repair).await?;
        tx.commit().await?;
        let id = format!("{}/{}", self.run.id, theirs.id);
        let body = look_at(&theirs.id, theirs.customer.as_ref().map(Ref::id));
        let event = StripeEvent::read(id, "invoice.paid".to_owned(), &body)
            .map_err(WalkError::Unreadable)?;
        stripe_events::handle(&self.with.intake, &event).await?;
        let (ours, mirror) = self.invoice_here(owner, billed, &theirs.id).await?;
        match rules::invoice(theirs, mirror.as_ref(), &ours, 0) {
            Judgement::Differs(_) => {
                tracing::warn!(discrepancy = %begun, subject = found.subject, "a repair had no effect yet");
                Ok(())
            }
            Judgement::Agrees | Judgement::InFlight => {
                self.end_repair(begun, &told_here(mirror.as_ref())).await
            }
        }
    }
}

fn told_here(mirror: Option<&Invoice>) -> Value {
    match mirror {
        None => json!({ "status": "missing" }),
        Some(mirror) => json!({
            "invoice_id": mirror.id,
            "status": mirror.status.as_str(),
            "amount_paid_minor": mirror.amount_paid.amount_minor,
            "currency": mirror.amount_paid.currency.as_str(),
            "paid_at": mirror.paid_at,
        }),
    }
}

fn told_there(theirs: &StripeInvoice, kept: i64) -> Value {
    json!({
        "stripe_invoice_id": theirs.id,
        "stripe_subscription_id": theirs.subscription(),
        "status": theirs.status,
        "amount_paid_minor": theirs.amount_paid,
        "not_given_back_minor": (kept > 0).then_some(kept),
        "currency": theirs.currency,
        "paid_at": theirs.paid_at(),
    })
}
