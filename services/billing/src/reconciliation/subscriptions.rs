//! One subscription: what Stripe has against our row, and the two repairs: our row follows, or an orphan is canceled.
//! Deliberately absent: acting on what a list said. A list is old when it is read; each difference is looked at again,
//! both sides, before anything is done about it.

use mainstay_types::{SubscriptionId, Tenant};
use serde_json::{Value, json};

use super::discrepancy::Difference;
use super::ours::{self, Ours, Owner};
use super::record::{action, look_at};
use super::rules::{self, Judgement, Remedy, Verdict};
use super::theirs::Theirs;
use super::walk::Walk;
use super::{Kind, WalkError};
use crate::stripe_events::{self, StripeEvent};
use crate::subscription::sql as rows;

const PATH: &str = "/subscriptions";
/// How often both sides are read again because ours moved in between. What moves so much is well looked after.
const LOOKS: u32 = 5;
/// Subscriptions of one client that are looked at one by one.
const MOST_OF_A_CLIENT: usize = 20;

impl Walk<'_> {
    /// A subscription of Stripe's list.
    pub(super) async fn subscription(
        &mut self,
        theirs: &Theirs,
        owner: Option<Owner>,
    ) -> Result<(), WalkError> {
        let Some(owner) = owner else {
            return self.stranger(theirs).await;
        };
        if !self.covers(owner.tenant) {
            return Ok(());
        }
        self.tally.objects += 1;
        let id = owner.subscription;
        let ours = self.ours(owner.tenant, id).await?;
        let lives_on = match rules::subscription(theirs, &ours) {
            Judgement::InFlight => {
                self.tally.in_flight += 1;
                true
            }
            Judgement::Agrees => {
                self.settle(&theirs.id, &[]).await?;
                theirs.live
            }
            Judgement::Differs(_) => self.confirm(owner.tenant, id, &theirs.id).await?,
        };
        if lives_on {
            self.sight(owner.tenant, "subscription", &theirs.id).await?;
        }
        Ok(())
    }

    /// Nobody's here. Never touched; only a run of all agencies tells of it.
    async fn stranger(&mut self, theirs: &Theirs) -> Result<(), WalkError> {
        if self.run.agency.is_some() {
            return Ok(());
        }
        self.tally.foreign += 1;
        let (kind, cause, action) = match theirs.named.client {
            None => (
                Kind::Foreign,
                "It names nobody here: the Stripe account is used for other things, too.",
                "Nothing. It is never touched.",
            ),
            Some(_) => (
                Kind::SubscriptionUnknown,
                "It names a client, and neither it nor its customer nor its saga is known here: another installation uses \
                 the same Stripe account, or rows were lost.",
                "Find out which installation made it. It is never touched.",
            ),
        };
        let found = Difference {
            kind,
            subject: &theirs.id,
            stripe_id: Some(&theirs.id),
            tenant: None,
            subscription: None,
            before: &json!({}),
            after: &theirs.told(),
            cause,
            action,
            attempted: false,
        };
        self.record(&found).await
    }

    /// Looks at both sides again and does what is to be done; gives whether it still lives at Stripe.
    pub(super) async fn confirm(
        &mut self,
        tenant: Tenant,
        id: Option<SubscriptionId>,
        stripe_id: &str,
    ) -> Result<bool, WalkError> {
        for _ in 0..LOOKS {
            let before = self.ours(tenant, id).await?;
            let stripe = self.with.stripe().await;
            let object = stripe.find_object(PATH, stripe_id).await?;
            let theirs = object.as_ref().map(Theirs::read).transpose()?;
            let ours = self.ours(tenant, id).await?;
            if ours.revision() != before.revision() {
                continue;
            }
            let judgement = match &theirs {
                Some(theirs) => rules::subscription(theirs, &ours),
                None => rules::gone(stripe_id, &ours),
            };
            let lives = theirs.as_ref().is_some_and(|theirs| theirs.live);
            return match judgement {
                Judgement::InFlight => {
                    self.tally.in_flight += 1;
                    Ok(lives)
                }
                Judgement::Agrees => {
                    self.settle(stripe_id, &[]).await?;
                    Ok(lives)
                }
                Judgement::Differs(verdicts) => {
                    let still: Vec<Kind> = verdicts.iter().map(|verdict| verdict.kind).collect();
                    self.settle(stripe_id, &still).await?;
                    let mut canceled = false;
                    for verdict in &verdicts {
                        canceled |= self
                            .act(tenant, stripe_id, theirs.as_ref(), &ours, verdict)
                            .await?;
                    }
                    Ok(lives && !canceled)
                }
            };
        }
        self.tally.in_flight += 1;
        Ok(true)
    }

    /// Does what one difference asks for; gives whether the subscription was canceled.
    async fn act(
        &mut self,
        tenant: Tenant,
        stripe_id: &str,
        theirs: Option<&Theirs>,
        ours: &Ours,
        verdict: &Verdict,
    ) -> Result<bool, WalkError> {
        let after = theirs.map_or_else(|| json!({ "status": "missing" }), Theirs::told);
        let before = ours.told();
        let found = Difference {
            kind: verdict.kind,
            subject: stripe_id,
            stripe_id: Some(stripe_id),
            tenant: Some(tenant),
            subscription: ours.row.as_ref().map(|row| row.id),
            before: &before,
            after: &after,
            cause: verdict.cause,
            action: action(verdict),
            attempted: false,
        };
        let repair = Difference {
            attempted: true,
            ..found.clone()
        };
        match (verdict.remedy, theirs) {
            (_, Some(_)) if self.run.dry_run => self.record(&found).await?,
            (Remedy::Apply, Some(theirs)) => self.follow(tenant, theirs, ours, &repair).await?,
            (Remedy::Cancel, Some(theirs)) => {
                return self.cancel(tenant, theirs, ours, &repair).await;
            }
            _ => self.record(&found).await?,
        }
        Ok(false)
    }

    /// Our row follows Stripe's object, through the door that events take: read again, applied once, identity told.
    async fn follow(
        &self,
        tenant: Tenant,
        theirs: &Theirs,
        ours: &Ours,
        found: &Difference<'_>,
    ) -> Result<(), WalkError> {
        let Some(row) = &ours.row else {
            return self.record(found).await;
        };
        let mut tx = self.with.worker.tenant(tenant).await?;
        // The door asks the directory whose it is.
        rows::note_object(tx.conn(), tenant, &theirs.id, Some(row.id)).await?;
        let begun = self.begin_repair(&mut tx, found).await?;
        tx.commit().await?;
        // The same for every try of this page, another for the next run: done once, and audited as this run's.
        let id = format!("{}/{}/{}", self.run.id, theirs.id, row.provider_revision);
        let body = look_at(&theirs.id, theirs.customer.as_deref());
        let event = StripeEvent::read(id, "customer.subscription.updated".to_owned(), &body)
            .map_err(WalkError::Unreadable)?;
        stripe_events::handle(&self.with.intake, &event).await?;
        let after = self.ours(tenant, Some(row.id)).await?;
        match rules::subscription(theirs, &after) {
            Judgement::Differs(left) if left.iter().any(|left| left.kind == found.kind) => {
                tracing::warn!(discrepancy = %begun, subject = found.subject, "a repair had no effect yet");
                Ok(())
            }
            _ => self.end_repair(begun, &after.told()).await,
        }
    }

    /// Cancels an orphan. Decided under the lock of the client's account: a saga that starts now waits for the decision,
    /// and has a subscription of its own.
    async fn cancel(
        &mut self,
        tenant: Tenant,
        theirs: &Theirs,
        ours: &Ours,
        found: &Difference<'_>,
    ) -> Result<bool, WalkError> {
        let mut tx = self.with.worker.tenant(tenant).await?;
        rows::lock_account(tx.conn(), tenant).await?;
        let id = ours.row.as_ref().map(|row| row.id);
        let locked = ours::load(tx.conn(), tenant, id).await?;
        let agreed = match rules::subscription(theirs, &locked) {
            Judgement::Differs(verdicts) => verdicts
                .iter()
                .any(|verdict| verdict.remedy == Remedy::Cancel),
            Judgement::Agrees | Judgement::InFlight => false,
        };
        if !agreed {
            self.tally.in_flight += 1;
            return Ok(false);
        }
        let begun = self.begin_repair(&mut tx, found).await?;
        tx.commit().await?;

        let stripe = self.with.stripe().await;
        if let Err(failure) = stripe.cancel_subscription(&theirs.id).await
            && stripe.subscription(&theirs.id).await?.is_live()
        {
            return Err(failure.into());
        }
        if let Some(invoice) = &theirs.latest_invoice {
            let stripe = self.with.stripe().await;
            let status = stripe.invoice(invoice).await?.status;
            if matches!(status.as_deref(), Some("open" | "uncollectible")) {
                let key = format!("reconcile/{}/void", theirs.id);
                stripe.void_invoice(invoice, &key).await?;
            }
        }
        let stands = self.with.stripe().await.subscription(&theirs.id).await?;
        let after = json!({ "stripe_subscription_id": theirs.id, "status": stands.status });
        self.end_repair(begun, &after).await?;
        Ok(true)
    }

    /// A client of whom more than one live subscription was met. Each is asked for again: between two pages one may have
    /// ended and another begun.
    pub(super) async fn doubled(
        &mut self,
        tenant: Tenant,
        ids: &[String],
    ) -> Result<(), WalkError> {
        if !self.covers(tenant) {
            return Ok(());
        }
        let ours = self.ours(tenant, None).await?;
        if ours.in_flight {
            self.tally.in_flight += 1;
            return Ok(());
        }
        let mut live = Vec::new();
        for id in ids.iter().take(MOST_OF_A_CLIENT) {
            let stripe = self.with.stripe().await;
            let object = stripe.find_object(PATH, id).await?;
            let theirs = object.as_ref().map(Theirs::read).transpose()?;
            live.extend(theirs.filter(|theirs| theirs.live));
        }
        let subject = tenant.client.to_string();
        if live.len() < 2 {
            return self.settle(&subject, &[]).await;
        }
        let told: Vec<Value> = live.iter().map(Theirs::told).collect();
        let found = Difference {
            kind: Kind::SubscriptionDuplicated,
            subject: &subject,
            stripe_id: None,
            tenant: Some(tenant),
            subscription: None,
            before: &json!({ "stripe_customer_id": ours.customer }),
            after: &json!({ "subscriptions": told }),
            cause: "The client is billed for each of them.",
            action: "Decide which one the client wants. Cancel the others at Stripe and refund what they took.",
            attempted: false,
        };
        self.record(&found).await
    }
}
