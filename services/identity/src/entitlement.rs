//! What a client may use. Identity is the one owner; billing's sagas write, everybody reads.
//! Deliberately absent: metering and enforcing. Whoever does the work asks and counts.

mod error;
mod rpc;
mod sql;

use chrono::{DateTime, Utc};
use mainstay_jobs::record::{self, By, Change};
use mainstay_jobs::saga_step::{self, Decision, Write};
use mainstay_rpc::Context;
use mainstay_rpc::entitlement::Limits;
use mainstay_types::{AgencyScope, PlanId, SagaId, SubscriptionId, Tenant};
use serde::Serialize;

pub use error::Error;

use crate::Identity;
use crate::client;

/// What a client may use, and on what grounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entitlements {
    /// Features that are on.
    pub features: Vec<String>,
    /// Limits by name.
    pub limits: Limits,
    /// Where they come from.
    pub subscription_id: SubscriptionId,
    /// The plan.
    pub plan_id: PlanId,
    /// The subscription's status when they were written.
    pub subscription_status: String,
    /// Paid, or on trial, until then.
    pub paid_through_at: Option<DateTime<Utc>>,
}

/// What is stored, and who wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// What.
    pub entitlements: Entitlements,
    /// The writer's version.
    pub version: i64,
    /// The saga.
    pub saga: SagaId,
    /// Its step.
    pub step: String,
    /// Rises with each write that took effect.
    pub revision: i64,
    /// When that was.
    pub updated_at: DateTime<Utc>,
}

/// A saga step's write.
#[derive(Debug, Clone)]
pub struct Put {
    /// What the client may use from now on.
    pub entitlements: Entitlements,
    /// Which saga step says so, and with what right.
    pub write: Write,
}

/// What stands after a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Whether this write is what is stored.
    pub applied: bool,
    /// The stored version; 0 for none.
    pub version: i64,
}

/// Takes a saga step's write, if it is the newest there is. All writes for a client wait for each other on its row.
///
/// A canceled client's entitlements can still be written: a step past the point of no return is not refused, and
/// revoking everything must always be possible. [`check`] says no while no money has moved.
///
/// # Errors
/// [`Error::Refused`] for a saga that was taken over, or a step whose undo came first.
pub async fn put(
    identity: &Identity,
    ctx: &Context,
    tenant: Tenant,
    put: Put,
) -> Result<Outcome, Error> {
    let now = identity.clock.now();
    let mut tx = identity.database.tenant(tenant).await?;
    client::lock(tx.conn(), tenant)
        .await?
        .ok_or(Error::NoSuchClient)?;
    let heard = sql::heard(tx.conn(), tenant, put.write.saga, &put.write.step).await?;
    let stored = sql::get(tx.conn(), tenant).await?;
    let known = stored.as_ref().map(saga_step::Stored::from);
    let decision = saga_step::decide(heard, known.as_ref(), &put.write);
    let standing = stored.as_ref().map_or(0, |stored| stored.version);
    let outcome = match decision {
        Decision::Refuse(refusal) => return Err(Error::Refused(refusal)),
        Decision::Leave => Outcome {
            applied: false,
            version: standing,
        },
        Decision::Repeat => Outcome {
            applied: true,
            version: standing,
        },
        Decision::Store => {
            let after = sql::store(tx.conn(), tenant, &put, now).await?;
            let by = By::service(ctx, tenant.agency, now);
            let change = Change {
                action: "identity.entitlements.put",
                event: "identity.entitlements.changed",
                noun: "entitlements",
                target: tenant.client.to_string(),
                client: Some(tenant.client),
                sequence: after,
                before: stored
                    .as_ref()
                    .map(|stored| record::image(&stored.entitlements)),
                after: record::image(&put.entitlements),
            };
            record::write(tx.conn(), &by, change).await?;
            Outcome {
                applied: true,
                version: put.write.version,
            }
        }
    };
    sql::hear(tx.conn(), tenant, &put.write, now, now + saga_step::KEPT).await?;
    tx.commit().await?;
    Ok(outcome)
}

/// Says, before money moves, that the client stands and is not canceled.
///
/// # Errors
/// [`Error::NoSuchClient`], [`Error::ClientCanceled`].
pub async fn check(
    identity: &Identity,
    scope: &AgencyScope,
    client: mainstay_types::ClientId,
) -> Result<(), Error> {
    let found = client::get(identity, scope, client)
        .await
        .map_err(|error| match error {
            client::Error::Database(error) => Error::Database(error),
            _ => Error::NoSuchClient,
        })?;
    if found.state == client::State::Canceled {
        Err(Error::ClientCanceled)
    } else {
        Ok(())
    }
}

/// What the client may use; none for one that never subscribed.
///
/// # Errors
/// Only the database's.
pub async fn get(identity: &Identity, tenant: Tenant) -> Result<Option<Stored>, Error> {
    let mut tx = identity.database.tenant(tenant).await?;
    let stored = sql::get(tx.conn(), tenant).await?;
    tx.commit().await?;
    Ok(stored)
}

impl From<&Stored> for saga_step::Stored {
    fn from(stored: &Stored) -> Self {
        saga_step::Stored {
            version: stored.version,
            saga: stored.saga,
            step: stored.step.clone(),
        }
    }
}
