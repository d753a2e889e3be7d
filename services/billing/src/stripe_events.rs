//! Stripe's events (BIL-30): each has its effect once, in one transaction with the note that it had it. An event says
//! only *that* something changed; *what* is read from the object as it stands. Read `effects` (what each type does), then
//! the families.
//! Deliberately absent: order. A late, double or reversed event reads the same object and changes nothing.

mod checkout;
mod customer;
pub(crate) mod directory;
mod dispute;
pub mod effects;
mod invoice;
mod payment;
mod payment_method;
pub mod recover;
mod refund;
pub mod rpc;
mod sql;
mod subscription;

use mainstay_db::{Database, TenantTx};
use mainstay_providers::stripe::StripeFailure;
use mainstay_rpc::Problem;
use mainstay_runtime::clock::Clock;
use mainstay_types::Tenant;
use serde::Deserialize;
use serde_json::Value;

use crate::history::By;
use crate::identity::Identity;
use crate::payment::ReadError;
use crate::saga::{Engine, Started};
use crate::stripe::{StripeGateway, object::Ref};
use crate::subscription::sql::lock_account;
use directory::Look;
use effects::{Effect, Family};

/// What events are taken with.
#[derive(Debug, Clone)]
pub struct Intake {
    /// Our rows.
    pub database: Database,
    /// Where objects are read again.
    pub stripe: StripeGateway,
    /// Who makes clients of those who pay a link.
    pub identity: Identity,
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
    /// The object as the event has it, for the one type whose object cannot be read.
    snapshot: Value,
    /// What the object was before, where the event says so. Used to tell *what* was edited, never for state.
    previous: Value,
}

/// The object of an event, as far as it tells which one it is. All else is read again.
#[derive(Debug, Clone, Deserialize)]
struct About {
    /// Only an invoice that is not made yet has none.
    #[serde(default)]
    id: String,
    #[serde(default)]
    customer: Option<Ref>,
    #[serde(default)]
    payment_intent: Option<Ref>,
    #[serde(default)]
    charge: Option<Ref>,
}

#[derive(Deserialize)]
struct Body {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    object: Value,
    #[serde(default)]
    previous_attributes: Value,
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

    fn retry(detail: impl Into<String>, tenant: Option<Tenant>) -> Self {
        Self::new(Outcome::Retry, detail, tenant)
    }
}

/// Why an event could not be handled. All of these may pass.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The object could not be read.
    #[error("Stripe could not be asked")]
    Stripe(#[source] StripeFailure),
    /// Identity could not be asked, or refused.
    #[error("identity gave no client")]
    Identity(#[source] Problem),
    /// The database failed.
    #[error("the database failed")]
    Database(#[from] mainstay_db::Error),
}

impl From<ReadError> for IntakeError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Stripe(failure) => IntakeError::Stripe(failure),
            ReadError::Database(error) => IntakeError::Database(error),
        }
    }
}

/// How often a reading is made again because another one was applied meanwhile.
const READINGS: u32 = 8;

impl StripeEvent {
    /// Reads a stored body.
    ///
    /// # Errors
    /// When it names no object: such a body is no event.
    pub fn read(id: String, kind: String, body: &[u8]) -> Result<Self, serde_json::Error> {
        let body: Body = serde_json::from_slice(body)?;
        let (snapshot, previous) = (body.data.object, body.data.previous_attributes);
        let about = About::deserialize(&snapshot)?;
        // Stripe sends the invoice that is not made yet without an id; nothing else.
        if about.id.is_empty() && effects::of(&kind) != Some(Effect::AnnounceInvoice) {
            return Err(serde::de::Error::custom("its object has no id"));
        }
        Ok(Self {
            id,
            kind,
            about,
            snapshot,
            previous,
        })
    }

    /// Other objects by which its client is found.
    fn related(&self) -> Vec<&str> {
        let about = &self.about;
        let named = [&about.customer, &about.payment_intent, &about.charge];
        named.into_iter().flatten().map(Ref::id).collect()
    }
}

/// Gives an event its effect.
///
/// # Errors
/// Those that may pass; the event is to be delivered again.
pub async fn handle(intake: &Intake, event: &StripeEvent) -> Result<Handled, IntakeError> {
    let look = look(intake, event).await?;
    let tenant = look.tenant();
    if look.seen {
        return Ok(Handled::new(Outcome::Duplicate, "seen before", tenant));
    }
    let Some(effect) = effects::of(&event.kind) else {
        return ignore(intake, event, tenant).await;
    };
    match effect.family() {
        Family::Subscription => subscription::handle(intake, event, effect, look).await,
        Family::Invoice if effect == Effect::AnnounceInvoice => {
            invoice::announce(intake, event, tenant).await
        }
        Family::Invoice => follow(intake, event, &invoice::Invoices(effect), look).await,
        Family::Payment => follow(intake, event, &payment::Payments(effect), look).await,
        Family::Refund => follow(intake, event, &refund::Refunds(effect), look).await,
        Family::Dispute => follow(intake, event, &dispute::Disputes(effect), look).await,
        Family::Customer => follow(intake, event, &customer::Customers(effect), look).await,
        Family::PaymentMethod => follow(intake, event, &payment_method::Methods, look).await,
        Family::Checkout => checkout::handle(intake, event, effect).await,
        Family::None => ignore(intake, event, tenant).await,
    }
}

async fn look(intake: &Intake, event: &StripeEvent) -> Result<Look, IntakeError> {
    let mut worker = intake.database.worker().connection().await?;
    let object = Some(event.about.id.as_str()).filter(|id| !id.is_empty());
    let look = directory::look(worker.conn(), &event.id, object, &event.related()).await?;
    worker.give_back();
    Ok(look)
}

/// A family whose events mean: read the object again, then write what it says.
#[tonic::async_trait]
trait Follow: Sync {
    type Read: Send + Sync;

    /// Asks Stripe, after asking the directory how many readings were applied. Called again when others were faster.
    async fn read(
        &self,
        intake: &Intake,
        event: &StripeEvent,
        look: &Look,
    ) -> Result<Found<Self::Read>, IntakeError>;

    /// Writes it, under the lock of the client's account, in the transaction that notes the event.
    async fn apply(
        &self,
        intake: &Intake,
        tx: &mut TenantTx,
        by: &By,
        read: &Self::Read,
    ) -> Result<Written, IntakeError>;
}

/// What was found at Stripe.
enum Found<R> {
    /// The object, and whose it is.
    Read(R, Tenant),
    /// It cannot be given its effect yet.
    NotYet(&'static str),
    /// It is nobody's here, and never will be.
    NotOurs(&'static str),
}

/// What came of writing.
enum Written {
    /// It is written; sagas to launch once it is committed.
    Done(&'static str, Vec<Started>),
    /// Another reading was applied meanwhile.
    Stale,
}

/// One reading after another, until one is applied.
async fn follow<F: Follow>(
    intake: &Intake,
    event: &StripeEvent,
    family: &F,
    first: Look,
) -> Result<Handled, IntakeError> {
    let mut known = first;
    for reading in 0..READINGS {
        if reading > 0 {
            known = look(intake, event).await?;
        }
        let (read, tenant) = match family.read(intake, event, &known).await? {
            Found::Read(read, tenant) => (read, tenant),
            Found::NotYet(detail) => return Ok(Handled::retry(detail, known.tenant())),
            Found::NotOurs(detail) => {
                let mut worker = intake.database.worker().connection().await?;
                sql::note(worker.conn(), event, "ignored").await?;
                return Ok(Handled::new(Outcome::Ignored, detail, known.tenant()));
            }
        };
        let mut tx = intake.database.worker().tenant(tenant).await?;
        lock_account(tx.conn(), tenant).await?;
        if !sql::note(tx.conn(), event, "applied").await? {
            return Ok(Handled::new(
                Outcome::Duplicate,
                "seen before",
                Some(tenant),
            ));
        }
        let by = By::stripe(tenant, &event.id, intake.clock.now());
        match family.apply(intake, &mut tx, &by, &read).await? {
            Written::Stale => {}
            Written::Done(detail, started) => {
                tx.commit().await?;
                intake.engine.wake();
                for started in started {
                    intake.engine.launch(started);
                }
                return Ok(Handled::new(Outcome::Applied, detail, Some(tenant)));
            }
        }
    }
    let detail = "its object is being changed by others";
    Ok(Handled::retry(detail, known.tenant()))
}

/// Whose a payment is: by its own id, or by who pays.
async fn payer(
    intake: &Intake,
    stripe_id: &str,
    customer: Option<&str>,
) -> Result<Option<Tenant>, IntakeError> {
    let mut worker = intake.database.worker().connection().await?;
    for id in [Some(stripe_id), customer].into_iter().flatten() {
        if let Some(owner) = directory::owner(worker.conn(), id).await? {
            return Ok(Some(owner.tenant));
        }
    }
    Ok(None)
}

/// Types without an effect here are kept and counted.
async fn ignore(
    intake: &Intake,
    event: &StripeEvent,
    tenant: Option<Tenant>,
) -> Result<Handled, IntakeError> {
    let mut worker = intake.database.worker().connection().await?;
    let first = sql::note(worker.conn(), event, "ignored").await?;
    worker.give_back();
    let outcome = if first {
        Outcome::Ignored
    } else {
        Outcome::Duplicate
    };
    let detail = format!("{} has no effect here", event.kind);
    Ok(Handled::new(outcome, detail, tenant))
}
