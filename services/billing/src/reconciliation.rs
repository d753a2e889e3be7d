//! Reconciliation (BIL-40): Stripe against our rows, both ways. What is safe is repaired, everything else is recorded for a
//! person; nothing is guessed, and nothing is touched while a saga works on it.
//!
//! Reading order: `rules` (what a difference is, and what is safe) → `theirs`, `ours` (the two sides) → `walk` (page by
//! page) → `subscriptions`, `customers`, `invoices` (one object each) → `record`, `discrepancy` (what was found) → `rpc`, `probe`.
//! Deliberately absent: giving money back, and ending subscriptions here because Stripe does not know them.

mod customers;
mod discrepancy;
mod invoices;
mod ours;
mod probe;
mod record;
pub mod rpc;
mod rules;
pub(crate) mod sql;
mod subscriptions;
mod theirs;
pub(crate) mod walk;

use chrono::{DateTime, Utc};
use mainstay_db::Database;
use mainstay_jobs::audit::{self, AuditRecord};
use mainstay_providers::stripe::StripeFailure;
use mainstay_rpc::{ErrorReason, Problem};
use mainstay_types::{AgencyId, AgencyScope, ReconciliationId};
use serde_json::{Value, json};

pub use probe::ReconciliationProbe;
pub use walk::Walker;

use crate::history::By;
use crate::jobs::reconcile_stripe;
use crate::repeat::{Answered, Begun, Repeat, RepeatError};
use crate::stripe_events::IntakeError;
use crate::wire::database_problem;

/// What differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Live at Stripe for a client of ours, not known here.
    SubscriptionUnknown,
    /// Live at Stripe, its saga undone.
    SubscriptionOrphaned,
    /// Live at Stripe, ended here.
    SubscriptionEndedHere,
    /// Live here, not known to Stripe.
    SubscriptionGone,
    /// Status or times differ.
    SubscriptionDiffers,
    /// The price differs.
    SubscriptionPriceDiffers,
    /// Two live ones of one client.
    SubscriptionDuplicated,
    /// A customer that the account of its client does not know.
    CustomerUnknown,
    /// An account's customer that Stripe does not have.
    CustomerGone,
    /// Paid at Stripe, not mirrored here.
    InvoiceMissing,
    /// Paid on both sides, differently.
    InvoiceAmountDiffers,
    /// Paid for nothing.
    PaymentKept,
    /// Somebody else's in the same account. Told to no agency.
    Foreign,
}

impl Kind {
    /// All of them.
    const ALL: [Kind; 13] = [
        Kind::SubscriptionUnknown,
        Kind::SubscriptionOrphaned,
        Kind::SubscriptionEndedHere,
        Kind::SubscriptionGone,
        Kind::SubscriptionDiffers,
        Kind::SubscriptionPriceDiffers,
        Kind::SubscriptionDuplicated,
        Kind::CustomerUnknown,
        Kind::CustomerGone,
        Kind::InvoiceMissing,
        Kind::InvoiceAmountDiffers,
        Kind::PaymentKept,
        Kind::Foreign,
    ];

    /// As the database spells it.
    const fn as_str(self) -> &'static str {
        match self {
            Kind::SubscriptionUnknown => "subscription_unknown",
            Kind::SubscriptionOrphaned => "subscription_orphaned",
            Kind::SubscriptionEndedHere => "subscription_ended_here",
            Kind::SubscriptionGone => "subscription_gone",
            Kind::SubscriptionDiffers => "subscription_differs",
            Kind::SubscriptionPriceDiffers => "subscription_price_differs",
            Kind::SubscriptionDuplicated => "subscription_duplicated",
            Kind::CustomerUnknown => "customer_unknown",
            Kind::CustomerGone => "customer_gone",
            Kind::InvoiceMissing => "invoice_missing",
            Kind::InvoiceAmountDiffers => "invoice_amount_differs",
            Kind::PaymentKept => "payment_kept",
            Kind::Foreign => "foreign",
        }
    }

    /// From a column that a CHECK keeps to these words.
    fn from_text(text: &str) -> Self {
        let mut all = Self::ALL.into_iter();
        all.find(|kind| kind.as_str() == text)
            .unwrap_or(Kind::Foreign)
    }
}

/// Where a difference stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// A person has to look.
    Open,
    /// Repaired by a run.
    Repaired,
    /// Gone by itself, or by a person.
    Resolved,
    /// Found by a dry run.
    Previewed,
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            State::Open => "open",
            State::Repaired => "repaired",
            State::Resolved => "resolved",
            State::Previewed => "previewed",
        }
    }

    fn from_text(text: &str) -> Self {
        let mut all = [
            State::Open,
            State::Repaired,
            State::Resolved,
            State::Previewed,
        ]
        .into_iter();
        all.find(|state| state.as_str() == text)
            .unwrap_or(State::Open)
    }
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunState {
    /// Under way.
    Running,
    /// Everything was compared.
    Completed,
    /// It gave up.
    Failed,
}

impl RunState {
    fn from_text(text: &str) -> Self {
        match text {
            "completed" => RunState::Completed,
            "failed" => RunState::Failed,
            _ => RunState::Running,
        }
    }
}

/// A run.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub id: ReconciliationId,
    /// Whose objects it looks at; none for all.
    pub agency: Option<AgencyId>,
    pub dry_run: bool,
    pub state: RunState,
    /// Where the next page starts, as [`walk::Position`] writes it.
    pub position: Value,
    pub objects_count: i64,
    pub in_flight_count: i64,
    pub foreign_count: i64,
    pub found_count: i64,
    pub repaired_count: i64,
    pub open_count: i64,
    pub error: Option<String>,
    pub created_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
}

impl Run {
    fn new(agency: Option<AgencyId>, dry_run: bool, now: DateTime<Utc>) -> Self {
        Self {
            id: ReconciliationId::generate(),
            agency,
            dry_run,
            state: RunState::Running,
            position: walk::Position::first().to_json(),
            objects_count: 0,
            in_flight_count: 0,
            foreign_count: 0,
            found_count: 0,
            repaired_count: 0,
            open_count: 0,
            error: None,
            created_at: now,
            ended_at: None,
        }
    }
}

/// What one page adds to its run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Compared.
    pub objects: i64,
    /// Left alone for now.
    pub in_flight: i64,
    /// Nobody's here.
    pub foreign: i64,
}

/// Why a run cannot be started or read.
#[derive(Debug, thiserror::Error)]
pub enum ReconciliationError {
    /// Not this agency's.
    #[error("there is no such reconciliation")]
    NotFound,
    /// One at a time.
    #[error("a reconciliation is under way")]
    Running {
        /// This one, if it still is.
        existing: Option<ReconciliationId>,
    },
    /// The Idempotency-Key says no.
    #[error(transparent)]
    Repeat(#[from] RepeatError),
    /// The database failed.
    #[error("the database failed")]
    Database(#[from] mainstay_db::Error),
}

impl From<ReconciliationError> for Problem {
    fn from(error: ReconciliationError) -> Problem {
        match error {
            ReconciliationError::NotFound => Problem::not_found("reconciliation"),
            ReconciliationError::Running { existing } => Problem::new(
                ErrorReason::ReconciliationRunning,
                "A reconciliation of this agency is under way.",
            )
            .with_data(&mainstay_proto::errors::v1::ObjectExists {
                existing_id: existing.map(|id| id.to_string()),
            }),
            ReconciliationError::Repeat(error) => error.into(),
            ReconciliationError::Database(error) => database_problem(error),
        }
    }
}

/// Why a page could not be done. All of these may pass; the page is done again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WalkError {
    /// Stripe did not answer, or not as asked.
    #[error("Stripe could not be asked")]
    Stripe(#[source] Box<StripeFailure>),
    /// What it answered makes no sense.
    #[error("an object of Stripe's cannot be read")]
    Unreadable(#[source] serde_json::Error),
    /// The place where the page starts makes no sense: written by another version.
    #[error("the position of the run cannot be read")]
    Position(#[source] serde_json::Error),
    /// Stripe's list broke off at objects that were deleted meanwhile, again and again.
    #[error("the place in Stripe's list was lost too often")]
    Lost,
    /// A repair by the door of events failed.
    #[error("a repair failed")]
    Repair(#[source] Box<IntakeError>),
    /// The database failed.
    #[error("the database failed")]
    Database(#[from] mainstay_db::Error),
}

impl From<StripeFailure> for WalkError {
    fn from(failure: StripeFailure) -> Self {
        WalkError::Stripe(Box::new(failure))
    }
}

impl From<IntakeError> for WalkError {
    fn from(error: IntakeError) -> Self {
        WalkError::Repair(Box::new(error))
    }
}

/// Starts a run of an agency. Wake the runner after it.
pub(crate) async fn start(
    database: &Database,
    scope: &AgencyScope,
    by: &By,
    dry_run: bool,
    repeat: &Repeat,
    answer: impl FnOnce(&Run) -> Vec<u8>,
) -> Result<Answered<Run>, ReconciliationError> {
    let mut tx = database.agency(scope).await?;
    if let Begun::Before(bytes) = repeat.begin(tx.conn(), by).await? {
        return Ok(Answered::Before(bytes));
    }
    let run = Run::new(Some(scope.agency), dry_run, by.now);
    sql::end_lost(tx.conn(), run.agency, by.now).await?;
    if let Err(error) = sql::insert(tx.conn(), &run, &by.principal).await {
        drop(tx);
        return Err(running(database, scope, error).await);
    }
    let record = AuditRecord {
        agency: scope.agency,
        client: None,
        actor: &by.principal,
        action: "billing.reconciliation.run",
        target_type: "reconciliation",
        target_id: &run.id.to_string(),
        before: None,
        after: Some(json!({ "provider": "stripe", "dry_run": dry_run })),
        request_id: by.request_id.as_deref(),
        occurred_at: by.now,
    };
    audit::record(tx.conn(), &record).await?;
    reconcile_stripe::enqueue_page(tx.conn(), &run, by.now).await?;
    repeat.store(tx.conn(), by, answer(&run)).await?;
    tx.commit().await?;
    Ok(Answered::Now(run))
}

/// The failed transaction is gone; a new one finds which run is under way.
async fn running(
    database: &Database,
    scope: &AgencyScope,
    error: mainstay_db::Error,
) -> ReconciliationError {
    if error.constraint() != Some("billing_reconciliation_one_running_key") {
        return error.into();
    }
    let existing = async {
        let mut tx = database.agency(scope).await?;
        sql::find_running(tx.conn(), Some(scope.agency)).await
    };
    ReconciliationError::Running {
        existing: existing.await.ok().flatten(),
    }
}

/// Starts the run of all agencies, unless one is under way.
pub(crate) async fn start_for_all(
    worker: &mainstay_db::Worker,
    now: DateTime<Utc>,
) -> Result<Option<ReconciliationId>, mainstay_db::Error> {
    let mut tx = worker.tx().await?;
    let run = Run::new(None, false, now);
    sql::end_lost(tx.conn(), None, now).await?;
    if sql::find_running(tx.conn(), None).await?.is_some() {
        // Also keeps that a lost one has ended.
        tx.commit().await?;
        return Ok(None);
    }
    // Two at once: the index lets one of them through, and the other's job tries again.
    sql::insert(tx.conn(), &run, "service:billing").await?;
    reconcile_stripe::enqueue_page(tx.conn(), &run, now).await?;
    tx.commit().await?;
    Ok(Some(run.id))
}
