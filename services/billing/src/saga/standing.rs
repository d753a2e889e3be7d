//! The steps that tell the other services what a client may use: identity, which owns it, and messaging, which counts
//! against it. Any saga whose input names a `subscription` can end with them.
//! Deliberately absent: a frozen state. A step sends what stands when it runs; an older saga that comes late sends the
//! newer state or is ignored for its lower version.

use mainstay_db::Worker;
use mainstay_proto::common::v1::Entitlements;
use serde::Deserialize;
use serde_json::{Value, json};

use super::definition::{Call, Failure, Probed, Step, Stop};
use crate::identity::{self, Identity};
use crate::messaging::{self, Messaging};
use crate::plan;
use crate::subscription::{Subscription, rules, sql};
use mainstay_types::SubscriptionId;

/// What these steps read of a saga's input.
#[derive(Debug, Deserialize)]
struct About {
    /// None where nothing was sold: then there is nothing to tell.
    subscription: Option<SubscriptionId>,
}

/// What stands, read when it is sent, in a transaction of its own.
async fn read(
    worker: &Worker,
    call: &Call<'_>,
) -> Result<Option<(Subscription, Entitlements)>, Stop> {
    let About { subscription } = call.input()?;
    let Some(subscription) = subscription else {
        return Ok(None);
    };
    let mut tx = worker.tenant(call.tenant).await?;
    let found = sql::get(tx.conn(), call.tenant, subscription).await?;
    let subscription = found.ok_or_else(|| Failure::new("the saga's subscription is not there"))?;
    let version = Some(subscription.plan_version);
    let plan = plan::sql::get(tx.conn(), call.tenant.agency, subscription.plan_id, version);
    let plan = plan.await?;
    let plan = plan.ok_or_else(|| Failure::new("the subscription's plan is not there"))?;
    let entitlements = match rules::standing(&subscription, call.now).grants {
        true => plan::rpc::entitlements(&plan.terms.grants),
        false => Entitlements::default(),
    };
    Ok(Some((subscription, entitlements)))
}

/// Writes to identity what the subscription grants.
pub(super) struct PutEntitlements {
    identity: Identity,
    worker: Worker,
    of_a_sale: bool,
}

impl PutEntitlements {
    /// As part of a sale, which a later step may still refuse: then it is taken back.
    pub(super) fn of_a_sale(identity: &Identity, worker: &Worker) -> Self {
        Self {
            of_a_sale: true,
            ..Self::of_a_change(identity, worker)
        }
    }

    /// After a change that stands.
    pub(super) fn of_a_change(identity: &Identity, worker: &Worker) -> Self {
        Self {
            identity: identity.clone(),
            worker: worker.clone(),
            of_a_sale: false,
        }
    }

    async fn standing(&self, call: &Call<'_>) -> Result<Option<identity::Standing>, Stop> {
        let read = read(&self.worker, call).await?;
        Ok(read.map(|(subscription, entitlements)| identity::Standing {
            subscription: subscription.id,
            plan: subscription.plan_id,
            status: subscription.status.as_str().to_owned(),
            entitlements,
            paid_through: subscription.paid_through_at,
            version: subscription.entitlement_version,
        }))
    }

    /// A refusal must mean that nothing stands, so what an earlier try may have written is taken back.
    async fn take_back(&self, call: &Call<'_>, standing: identity::Standing) -> Result<(), Stop> {
        let nothing = identity::Standing {
            entitlements: Entitlements::default(),
            ..standing
        };
        match self.identity.put(call, nothing, true).await {
            // Refused: identity keeps nothing for this client.
            Ok(()) | Err(Stop::Refused(_)) => Ok(()),
            Err(stop) => Err(stop),
        }
    }
}

#[tonic::async_trait]
impl Step for PutEntitlements {
    fn name(&self) -> &'static str {
        "put_entitlements"
    }

    async fn run(&self, call: &Call<'_>) -> Result<Value, Stop> {
        let Some(standing) = self.standing(call).await? else {
            return Ok(Value::Null);
        };
        let version = standing.version;
        match self.identity.put(call, standing.clone(), false).await {
            Ok(()) => Ok(json!({ "version": version })),
            // The client is gone, and with it whatever it could use.
            Err(Stop::Refused(refusal)) if !self.of_a_sale => Ok(json!({ "refused": refusal })),
            Err(Stop::Refused(refusal)) if call.attempt > 0 => {
                self.take_back(call, standing).await?;
                Err(refusal.into())
            }
            Err(stop) => Err(stop),
        }
    }

    fn may_refuse(&self) -> bool {
        self.of_a_sale
    }

    /// Writing the same again is harmless, so there is nothing to look for.
    async fn probe(&self, _: &Call<'_>) -> Result<Probed, Stop> {
        Ok(Probed::Unknowable)
    }

    fn undoable(&self) -> bool {
        self.of_a_sale
    }

    async fn undo(&self, call: &Call<'_>) -> Result<(), Stop> {
        match self.standing(call).await? {
            Some(standing) => self.take_back(call, standing).await,
            None => Ok(()),
        }
    }
}

/// Has messaging apply what the subscription grants. The last to be told: of a sale it may refuse what it could not carry.
pub(super) struct ApplyLimits {
    messaging: Messaging,
    worker: Worker,
    of_a_sale: bool,
}

impl ApplyLimits {
    /// As part of a sale, which messaging may refuse.
    pub(super) fn of_a_sale(messaging: &Messaging, worker: &Worker) -> Self {
        Self {
            of_a_sale: true,
            ..Self::of_a_change(messaging, worker)
        }
    }

    /// After a change that stands.
    pub(super) fn of_a_change(messaging: &Messaging, worker: &Worker) -> Self {
        Self {
            messaging: messaging.clone(),
            worker: worker.clone(),
            of_a_sale: false,
        }
    }
}

#[tonic::async_trait]
impl Step for ApplyLimits {
    fn name(&self) -> &'static str {
        "apply_limits"
    }

    async fn run(&self, call: &Call<'_>) -> Result<Value, Stop> {
        let Some((subscription, entitlements)) = read(&self.worker, call).await? else {
            return Ok(Value::Null);
        };
        let version = subscription.entitlement_version;
        let limits = messaging::Limits {
            subscription: subscription.id,
            entitlements,
            period_start: subscription.current_period_start_at,
            period_end: subscription.current_period_end_at,
            version,
            sale: self.of_a_sale,
        };
        match self.messaging.apply(call, limits.clone(), false).await {
            Ok(()) => Ok(json!({ "version": version })),
            Err(Stop::Refused(refusal)) if !self.of_a_sale => Ok(json!({ "refused": refusal })),
            // An earlier try may have arrived before the reason to refuse did.
            Err(Stop::Refused(refusal)) if call.attempt > 0 => {
                let nothing = messaging::Limits {
                    entitlements: Entitlements::default(),
                    sale: false,
                    ..limits
                };
                match self.messaging.apply(call, nothing, true).await {
                    Ok(()) | Err(Stop::Refused(_)) => Err(refusal.into()),
                    Err(stop) => Err(stop),
                }
            }
            Err(stop) => Err(stop),
        }
    }

    fn may_refuse(&self) -> bool {
        self.of_a_sale
    }
}
