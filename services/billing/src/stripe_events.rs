//! Stripe's events (BIL-30): each has its effect once, in one transaction with the note that it had it. An event says
//! only *that* something changed; *what* is read from the object as it stands.
//! Deliberately absent: order. A late, double or reversed event reads the same object and changes nothing.

mod invoice;
pub mod rpc;
mod sql;
mod subscription;

use mainstay_db::Database;
use mainstay_providers::stripe::StripeFailure;
use mainstay_runtime::clock::Clock;
use mainstay_types::Tenant;
use serde::Deserialize;

use crate::saga::Engine;
use crate::stripe::{StripeGateway, object::Ref};

/// What events are taken with.
#[derive(Debug, Clone)]
pub struct Intake {
    /// Our rows.
    pub database: Database,
    /// Where objects are read again.
    pub stripe: StripeGateway,
    /// Who tells identity.
    pub engine: Engine,
    /// The platform's time.
    pub clock: Clock,
}

/// An event as it was stored.
#[derive(Debug, Clone)]
pub struct StripeEvent {
    /// `evt_…`.
    pub id: String,
    /// `invoice.paid`.
    pub kind: String,
    /// What it is about.
    about: About,
}

/// The object of an event, as far as it tells which one it is. All else is read again.
#[derive(Debug, Clone, Deserialize)]
struct About {
    id: String,
    #[serde(default)]
    customer: Option<Ref>,
}

#[derive(Deserialize)]
struct Body {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    object: About,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It had its effect now.
    Applied,
    /// It had it before.
    Duplicate,
    /// Its type has none here.
    Ignored,
    /// It cannot have it yet.
    Retry,
}

/// What became of an event, and whose it is as far as that is known.
#[derive(Debug, Clone)]
pub struct Handled {
    /// What became of it.
    pub outcome: Outcome,
    /// What was done, or why not, for people.
    pub detail: String,
    /// Whose it is.
    pub tenant: Option<Tenant>,
}

impl Handled {
    fn new(outcome: Outcome, detail: impl Into<String>, tenant: Option<Tenant>) -> Self {
        Self {
            outcome,
            detail: detail.into(),
            tenant,
        }
    }
}

/// Why an event could not be handled. All of these may pass.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The object could not be read.
    #[error("Stripe could not be asked")]
    Stripe(#[source] StripeFailure),
    /// The database failed.
    #[error("the database failed")]
    Database(#[from] mainstay_db::Error),
}

/// How often a reading is made again because another one was applied meanwhile.
const READINGS: u32 = 5;

impl StripeEvent {
    /// Reads a stored body.
    ///
    /// # Errors
    /// When it names no object: such a body is no event.
    pub fn read(id: String, kind: String, body: &[u8]) -> Result<Self, serde_json::Error> {
        let body: Body = serde_json::from_slice(body)?;
        Ok(Self {
            id,
            kind,
            about: body.data.object,
        })
    }
}

/// Gives an event its effect.
///
/// # Errors
/// Those that may pass; the event is to be delivered again.
pub async fn handle(intake: &Intake, event: &StripeEvent) -> Result<Handled, IntakeError> {
    let owner = find_owner(intake, event).await?;
    let tenant = owner.as_ref().map(|owner| owner.tenant);
    if seen(intake, event).await? {
        return Ok(Handled::new(Outcome::Duplicate, "seen before", tenant));
    }
    match event.kind.as_str() {
        "customer.subscription.created"
        | "customer.subscription.updated"
        | "customer.subscription.deleted"
        | "customer.subscription.paused"
        | "customer.subscription.resumed"
        | "customer.subscription.trial_will_end" => {
            subscription::handle(intake, event, owner).await
        }
        "invoice.paid" => invoice::handle(intake, event, owner).await,
        _ => ignore(intake, event, tenant).await,
    }
}

/// Whose the event is: by its object, or else by the customer its object names.
async fn find_owner(
    intake: &Intake,
    event: &StripeEvent,
) -> Result<Option<sql::Owner>, IntakeError> {
    let mut tx = intake.database.worker().tx().await?;
    if let Some(owner) = sql::find_owner(tx.conn(), &event.about.id).await? {
        return Ok(Some(owner));
    }
    match &event.about.customer {
        Some(customer) => Ok(sql::find_owner(tx.conn(), customer.id()).await?),
        None => Ok(None),
    }
}

async fn seen(intake: &Intake, event: &StripeEvent) -> Result<bool, IntakeError> {
    let mut worker = intake.database.worker().connection().await?;
    Ok(sql::seen(worker.conn(), &event.id).await?)
}

/// Types without an effect here are kept and counted.
async fn ignore(
    intake: &Intake,
    event: &StripeEvent,
    tenant: Option<Tenant>,
) -> Result<Handled, IntakeError> {
    let mut worker = intake.database.worker().connection().await?;
    let first = sql::note(worker.conn(), event, "ignored").await?;
    let outcome = if first {
        Outcome::Ignored
    } else {
        Outcome::Duplicate
    };
    let detail = format!("{} has no effect here", event.kind);
    Ok(Handled::new(outcome, detail, tenant))
}
