//! What a page writes of itself: what it met, what differs, what was repaired, what differs no more.
//! Deliberately absent: deciding. That is `rules`.

use mainstay_db::TenantTx;
use mainstay_types::{DiscrepancyId, SubscriptionId, Tenant};
use serde_json::{Value, json};

use super::discrepancy::{self, Difference};
use super::ours::{self, Ours};
use super::rules::{Remedy, Verdict};
use super::walk::Walk;
use super::{Kind, WalkError, sql};

impl Walk<'_> {
    /// Our side, read now.
    pub(super) async fn ours(
        &self,
        tenant: Tenant,
        id: Option<SubscriptionId>,
    ) -> Result<Ours, WalkError> {
        let mut tx = self.with.worker.tenant(tenant).await?;
        Ok(ours::load(tx.conn(), tenant, id).await?)
    }

    /// Notes that this was met.
    pub(super) async fn sight(
        &self,
        tenant: Tenant,
        noun: &str,
        stripe_id: &str,
    ) -> Result<(), WalkError> {
        let mut worker = self.with.worker.connection().await?;
        sql::note_sighting(worker.conn(), self.run.id, tenant, noun, stripe_id).await?;
        Ok(())
    }

    /// What is open about this object and does not differ any more is closed. A dry run closes nothing.
    pub(super) async fn settle(&self, subject: &str, still: &[Kind]) -> Result<(), WalkError> {
        if self.run.dry_run {
            return Ok(());
        }
        let mut worker = self.with.worker.connection().await?;
        discrepancy::settle(worker.conn(), self.run.id, subject, still, self.now()).await?;
        Ok(())
    }

    /// Records what is left to a person, and raises the alert when it is new; a dry run only tells.
    pub(super) async fn record(&self, found: &Difference<'_>) -> Result<(), WalkError> {
        let (run, now) = (self.run.id, self.now());
        let mut worker = self.with.worker.connection().await?;
        if self.run.dry_run {
            return Ok(discrepancy::preview(worker.conn(), run, found, now).await?);
        }
        let (id, is_new) = discrepancy::record(worker.conn(), run, found, now).await?;
        if is_new && found.kind != Kind::Foreign {
            tracing::error!(
                discrepancy = %id,
                kind = found.kind.as_str(),
                subject = found.subject,
                agency = found.tenant.map(|tenant| tenant.agency.to_string()),
                client = found.tenant.map(|tenant| tenant.client.to_string()),
                reconciliation = %run,
                cause = found.cause,
                "Stripe and our rows differ, and a person has to look"
            );
        }
        Ok(())
    }

    /// Records that a repair is begun, in the transaction that decided on it.
    pub(super) async fn begin_repair(
        &self,
        tx: &mut TenantTx,
        found: &Difference<'_>,
    ) -> Result<DiscrepancyId, WalkError> {
        let (id, _) = discrepancy::record(tx.conn(), self.run.id, found, self.now()).await?;
        Ok(id)
    }

    /// Records that it is done.
    pub(super) async fn end_repair(
        &self,
        id: DiscrepancyId,
        after: &Value,
    ) -> Result<(), WalkError> {
        let mut worker = self.with.worker.connection().await?;
        discrepancy::repaired(worker.conn(), id, after, self.now()).await?;
        tracing::info!(discrepancy = %id, reconciliation = %self.run.id, "repaired a difference between Stripe and our rows");
        Ok(())
    }
}

/// What is done about a difference, for the record.
pub(super) fn action(verdict: &Verdict) -> &'static str {
    match verdict.remedy {
        Remedy::Apply => "Our rows follow Stripe's object, as after an event.",
        Remedy::Cancel => {
            "It is canceled at Stripe and its open invoice voided. What was paid for it is recorded by itself."
        }
        Remedy::Adopt => "The client's account takes it as its customer.",
        Remedy::Person(what) => what,
    }
}

/// The body of an event that says only which object to look at.
pub(super) fn look_at(id: &str, customer: Option<&str>) -> Vec<u8> {
    json!({ "data": { "object": { "id": id, "customer": customer } } })
        .to_string()
        .into_bytes()
}
