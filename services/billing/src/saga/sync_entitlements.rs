//! Tells identity what a client may use, after Stripe said something that changes it.
//!
//! ```text
//! do    put_entitlements        nothing to undo: identity keeps the highest version, whoever brings it
//! ```
//! Deliberately absent: a frozen state. The step sends what stands when it runs; an older saga that comes late sends the
//! newer state or is ignored for its lower version.

use mainstay_db::Worker;
use mainstay_proto::common::v1::Entitlements;
use mainstay_types::SubscriptionId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::definition::{Call, Definition, Failure, Step, Stop};
use crate::identity::{Identity, Standing};
use crate::{plan, subscription};

/// Its name in the log.
pub const NAME: &str = "sync_entitlements";

/// What it is started with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SyncEntitlements {
    /// The subscription that changed.
    pub subscription: SubscriptionId,
}

/// The saga.
pub fn definition(identity: &Identity, worker: &Worker) -> Definition {
    Definition {
        name: NAME,
        version: 1,
        steps: vec![Box::new(PutEntitlements {
            identity: identity.clone(),
            worker: worker.clone(),
        })],
        pivot: 0,
    }
}

/// Writes to identity what the saga's subscription grants. Any saga whose input names a `subscription` can end with it.
pub(super) struct PutEntitlements {
    pub(super) identity: Identity,
    pub(super) worker: Worker,
}

#[tonic::async_trait]
impl Step for PutEntitlements {
    fn name(&self) -> &'static str {
        "put_entitlements"
    }

    async fn run(&self, call: &Call<'_>) -> Result<Value, Stop> {
        let input: SyncEntitlements = call.input()?;
        let standing = self.standing(call, input.subscription).await?;
        let version = standing.version;
        match self.identity.put(call, standing.clone(), false).await {
            Ok(()) => Ok(json!({ "version": version })),
            // An earlier try may have arrived. A refusal must mean that nothing stands, so it is taken back first.
            Err(Stop::Refused(refusal)) if call.attempt > 0 => {
                self.take_back(call, standing).await?;
                Err(refusal.into())
            }
            Err(stop) => Err(stop),
        }
    }
}

impl PutEntitlements {
    /// Read when it is sent, in a transaction of its own.
    async fn standing(&self, call: &Call<'_>, id: SubscriptionId) -> Result<Standing, Stop> {
        let mut tx = self.worker.tenant(call.tenant).await?;
        let found = subscription::sql::get(tx.conn(), call.tenant, id).await?;
        let subscription =
            found.ok_or_else(|| Failure::new("the saga's subscription is not there"))?;
        let agency = call.tenant.agency;
        let version = Some(subscription.plan_version);
        let plan = plan::sql::get(tx.conn(), agency, subscription.plan_id, version).await?;
        let plan = plan.ok_or_else(|| Failure::new("the subscription's plan is not there"))?;
        let entitlements = match subscription.status.grants() {
            true => plan::rpc::entitlements(&plan.terms.grants),
            false => Entitlements::default(),
        };
        Ok(Standing {
            subscription: subscription.id,
            plan: subscription.plan_id,
            status: subscription.status.as_str().to_owned(),
            entitlements,
            paid_through: subscription.paid_through_at,
            version: subscription.entitlement_version,
        })
    }

    async fn take_back(&self, call: &Call<'_>, standing: Standing) -> Result<(), Stop> {
        let nothing = Standing {
            entitlements: Entitlements::default(),
            ..standing
        };
        match self.identity.put(call, nothing, true).await {
            // Refused again: identity keeps nothing for this client.
            Ok(()) | Err(Stop::Refused(_)) => Ok(()),
            Err(stop) => Err(stop),
        }
    }
}
