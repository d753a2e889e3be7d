//! One customer at Stripe against the account of the client it names, and one account against its customer.
//! Deliberately absent: names and addresses. Identity owns them; here is only whose a customer is.

use mainstay_types::Tenant;
use serde_json::json;

use super::WalkError;
use super::discrepancy::Difference;
use super::ours::{self, Ours, Owner};
use super::record::action;
use super::rules::{self, Judgement, Remedy, Verdict};
use super::theirs::{Customer, Named};
use super::walk::Walk;
use crate::subscription::sql as rows;

const PATH: &str = "/customers";

impl Walk<'_> {
    /// A customer of Stripe's list.
    pub(super) async fn customer(
        &mut self,
        customer: &Customer,
        owner: Option<Owner>,
    ) -> Result<(), WalkError> {
        let Some(Owner { tenant, .. }) = owner else {
            // It bills nothing: counted, not recorded one by one.
            if self.run.agency.is_none() {
                self.tally.foreign += 1;
            }
            return Ok(());
        };
        if !self.covers(tenant) {
            return Ok(());
        }
        self.tally.objects += 1;
        let ours = self.ours(tenant, None).await?;
        let judgement = rules::customer(&customer.id, &ours);
        self.conclude(tenant, customer, &ours, judgement).await?;
        self.sight(tenant, "customer", &customer.id).await
    }

    /// A customer that an account knows and that was not met; or one that is open from before.
    pub(super) async fn account(
        &mut self,
        tenant: Tenant,
        stripe_id: &str,
    ) -> Result<(), WalkError> {
        let stripe = self.with.stripe().await;
        let object = stripe.find_object(PATH, stripe_id).await?;
        let customer = object.as_ref().map(Customer::read).transpose()?;
        let ours = self.ours(tenant, None).await?;
        let (customer, judgement) = match customer.filter(|customer| !customer.deleted) {
            Some(customer) => {
                let judgement = rules::customer(stripe_id, &ours);
                (customer, judgement)
            }
            None => {
                let gone = Customer {
                    id: stripe_id.to_owned(),
                    named: Named::default(),
                    deleted: true,
                };
                (gone, rules::customer_gone(stripe_id, &ours))
            }
        };
        self.conclude(tenant, &customer, &ours, judgement).await
    }

    async fn conclude(
        &mut self,
        tenant: Tenant,
        customer: &Customer,
        ours: &Ours,
        judgement: Judgement,
    ) -> Result<(), WalkError> {
        let verdicts = match judgement {
            Judgement::InFlight => {
                self.tally.in_flight += 1;
                return Ok(());
            }
            Judgement::Agrees => return self.settle(&customer.id, &[]).await,
            Judgement::Differs(verdicts) => verdicts,
        };
        for verdict in &verdicts {
            self.settle(&customer.id, &[verdict.kind]).await?;
            let found = Difference {
                kind: verdict.kind,
                subject: &customer.id,
                stripe_id: Some(&customer.id),
                tenant: Some(tenant),
                subscription: None,
                before: &json!({ "stripe_customer_id": ours.customer }),
                after: &json!({
                    "stripe_customer_id": customer.id,
                    "client_id": customer.named.client,
                    "deleted": customer.deleted,
                }),
                cause: verdict.cause,
                action: action(verdict),
                attempted: false,
            };
            match verdict.remedy {
                Remedy::Adopt if !self.run.dry_run => {
                    self.adopt(tenant, customer, verdict, &found).await?;
                }
                _ => self.record(&found).await?,
            }
        }
        Ok(())
    }

    /// The account takes the customer, so that the next saga uses it instead of making another one. Under the lock that
    /// every saga's writes of this client need.
    async fn adopt(
        &mut self,
        tenant: Tenant,
        customer: &Customer,
        verdict: &Verdict,
        found: &Difference<'_>,
    ) -> Result<(), WalkError> {
        let mut tx = self.with.worker.tenant(tenant).await?;
        rows::lock_account(tx.conn(), tenant).await?;
        let locked = ours::load(tx.conn(), tenant, None).await?;
        if rules::customer(&customer.id, &locked) != Judgement::Differs(vec![*verdict]) {
            self.tally.in_flight += 1;
            return Ok(());
        }
        let repair = Difference {
            attempted: true,
            ..found.clone()
        };
        let begun = self.begin_repair(&mut tx, &repair).await?;
        let stands = rows::note_customer(tx.conn(), tenant, &customer.id).await?;
        tx.commit().await?;
        self.end_repair(begun, &json!({ "stripe_customer_id": stands }))
            .await
    }
}
