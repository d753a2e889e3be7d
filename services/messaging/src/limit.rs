//! What a client may send, as billing sold it. Billing's sagas write, people and every sender here read.
//! Deliberately absent: counting. Whatever is sent counts itself, in its own transaction (MSG-23).

mod error;
mod rpc;
mod rules;
mod sql;

use chrono::{DateTime, Utc};
use mainstay_jobs::record::{self, By, Change};
use mainstay_jobs::saga_step::{self, Decision, Write};
use mainstay_rpc::Context;
use mainstay_rpc::entitlement;
use mainstay_types::{SagaId, SubscriptionId, Tenant};
use serde::Serialize;

pub use error::Error;

use crate::{Messaging, hold};

/// What a client may send, in which period, and on what grounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Features that are on.
    pub features: Vec<String>,
    /// Limits by name.
    pub limits: entitlement::Limits,
    /// Where they come from.
    pub subscription_id: SubscriptionId,
    /// The period they count in.
    pub period: Option<Period>,
}

/// From when to when limits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Period {
    /// Its first moment.
    pub start_at: DateTime<Utc>,
    /// The first moment that is not in it.
    pub end_at: DateTime<Utc>,
}

/// What is stored, and who wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// What.
    pub limits: Limits,
    /// The writer's version.
    pub version: i64,
    /// The saga.
    pub saga: SagaId,
    /// Its step.
    pub step: String,
    /// When that was.
    pub updated_at: DateTime<Utc>,
}

/// A saga step's write.
#[derive(Debug, Clone)]
pub struct Apply {
    /// What the client may send from now on.
    pub limits: Limits,
    /// Which saga step says so, and with what right.
    pub write: Write,
    /// Whether it is being sold now. What follows a sale is never refused for a hold.
    pub sale: bool,
}

/// What stands after a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Whether this write is what is stored.
    pub applied: bool,
    /// The stored version; 0 for none.
    pub version: i64,
}

/// Takes a saga step's write, if it is the newest there is and nothing keeps it from being sold. All writes for a client,
/// and its holds, wait for each other on its row.
///
/// # Errors
/// [`Error::Refused`] for a saga that was taken over, or a step whose undo came first; [`Error::OnHold`] for a sale while
/// a hold stands: then nothing is stored.
pub async fn apply(
    messaging: &Messaging,
    ctx: &Context,
    tenant: Tenant,
    apply: Apply,
) -> Result<Outcome, Error> {
    known(messaging, tenant).await?;
    let now = messaging.clock.now();
    let mut tx = messaging.database.tenant(tenant).await?;
    let sending = hold::lock(tx.conn(), tenant, now)
        .await?
        .ok_or(Error::NoSuchClient)?;
    let heard = sql::heard(tx.conn(), tenant, apply.write.saga, &apply.write.step).await?;
    let stored = sql::get(tx.conn(), tenant).await?;
    let standing = stored.as_ref().map_or(0, |stored| stored.version);
    let decision = saga_step::decide(
        heard,
        stored.as_ref().map(saga_step::Stored::from).as_ref(),
        &apply.write,
    );
    if let Decision::Refuse(refusal) = decision {
        return Err(Error::Refused(refusal));
    }
    if let Some(hold) = sending.hold
        && rules::hold_refuses(heard, &apply.write, apply.sale)
    {
        return Err(Error::OnHold(hold.reason));
    }
    let outcome = match decision {
        Decision::Store => {
            let revision = sql::store(tx.conn(), tenant, &apply, now).await?;
            let by = By::service(ctx, tenant.agency, now);
            let change = Change {
                action: "messaging.limits.apply",
                event: "messaging.limits.changed",
                noun: "limits",
                target: tenant.client.to_string(),
                client: Some(tenant.client),
                sequence: revision,
                before: stored.as_ref().map(|stored| record::image(&stored.limits)),
                after: record::image(&apply.limits),
            };
            record::write(tx.conn(), &by, change).await?;
            Outcome {
                applied: true,
                version: apply.write.version,
            }
        }
        Decision::Repeat => Outcome {
            applied: true,
            version: standing,
        },
        Decision::Leave | Decision::Refuse(_) => Outcome {
            applied: false,
            version: standing,
        },
    };
    sql::hear(tx.conn(), tenant, &apply.write, now, now + saga_step::KEPT).await?;
    tx.commit().await?;
    Ok(outcome)
}

/// Says, before money moves, that a sale would not be refused.
///
/// # Errors
/// [`Error::NoSuchClient`], [`Error::OnHold`].
pub async fn check(messaging: &Messaging, tenant: Tenant) -> Result<(), Error> {
    known(messaging, tenant).await?;
    match hold::find(messaging, tenant)
        .await?
        .and_then(|row| row.hold)
    {
        Some(hold) => Err(Error::OnHold(hold.reason)),
        None => Ok(()),
    }
}

/// What the client may send; none when nothing was ever sold to it.
///
/// # Errors
/// Only the database's.
pub async fn get(messaging: &Messaging, tenant: Tenant) -> Result<Option<Stored>, Error> {
    let mut tx = messaging.database.tenant(tenant).await?;
    let stored = sql::get(tx.conn(), tenant).await?;
    tx.commit().await?;
    Ok(stored)
}

/// A client that messaging has not heard of is asked of identity: the first row decides for ever whose tenant it is.
pub(crate) async fn known(messaging: &Messaging, tenant: Tenant) -> Result<(), Error> {
    if hold::find(messaging, tenant).await?.is_some() {
        return Ok(());
    }
    let exists = messaging
        .directory
        .exists(tenant.agency, tenant.client)
        .await
        .map_err(Error::Directory)?;
    if exists {
        Ok(())
    } else {
        Err(Error::NoSuchClient)
    }
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
