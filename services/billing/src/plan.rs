//! Plans (BIL-01, BIL-02): what an agency sells, in versions that are immutable once sold.
//! Deliberately absent: deleting. A plan that is not sold any more is archived; its subscribers keep their version.

mod error;
pub mod rpc;
pub(crate) mod rules;
pub(crate) mod sql;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use mainstay_db::{Database, page::Page, page::PageRequest};
use mainstay_types::{AgencyScope, Currency, Interval, Money, PlanId};
use serde::{Deserialize, Serialize};

pub use error::PlanError;
pub(crate) use error::archived;

use crate::history::{self, By, PlanChange};
use crate::repeat::{Answered, Begun, Repeat};

/// What a plan costs in one currency and interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// In which currency.
    pub currency: Currency,
    /// How often.
    pub interval: Interval,
    /// How much, in minor units.
    pub amount_minor: i64,
}

/// What a limit does, said explicitly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "beyond", rename_all = "snake_case")]
pub enum Limit {
    /// Use past what is included is refused.
    Block {
        /// Units included a period.
        included: i64,
    },
    /// Use past what is included is billed by the block; a started block is billed whole.
    Overage {
        /// Units included a period.
        included: i64,
        /// Units a block has.
        block_size: i64,
        /// What a block costs.
        price: Money,
    },
    /// There is no limit.
    Unlimited,
}

/// What a plan grants a client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grants {
    /// Features that are on.
    pub features: Vec<String>,
    /// Limits by name.
    pub limits: BTreeMap<String, Limit>,
}

/// What a version of a plan says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// What it is called.
    pub name: String,
    /// One price a currency and interval, in the order given.
    pub prices: Vec<Price>,
    /// Days before the first charge.
    pub trial_days: i32,
    /// What it grants.
    pub grants: Grants,
}

/// Whether a plan is sold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanState {
    /// It is.
    Active,
    /// Not any more.
    Archived,
}

impl PlanState {
    /// As the database spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            PlanState::Active => "active",
            PlanState::Archived => "archived",
        }
    }
}

/// A plan, as one of its versions has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Its id.
    pub id: PlanId,
    /// Whether it is sold.
    pub state: PlanState,
    /// Rises with every change.
    pub revision: i64,
    /// The version shown.
    pub version: i32,
    /// Whether somebody bought this version.
    pub sold: bool,
    /// What it says.
    pub terms: Terms,
    /// When the plan was made.
    pub created_at: DateTime<Utc>,
    /// When this version was made.
    pub version_created_at: DateTime<Utc>,
}

/// A change; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Edit {
    /// The new name.
    pub name: Option<String>,
    /// All new prices.
    pub prices: Option<Vec<Price>>,
    /// The new trial.
    pub trial_days: Option<i32>,
    /// All new grants.
    pub grants: Option<Grants>,
    /// The revision that was read.
    pub revision: Option<i64>,
}

/// Creates a plan, active, version 1.
pub async fn create(
    database: &Database,
    by: &By,
    scope: &AgencyScope,
    terms: Terms,
    repeat: &Repeat,
    answer: impl FnOnce(&Plan) -> Vec<u8>,
) -> Result<Answered<Plan>, PlanError> {
    let mut tx = database.agency(scope).await?;
    if let Begun::Before(bytes) = repeat.begin(tx.conn(), by).await? {
        return Ok(Answered::Before(bytes));
    }
    let plan = Plan {
        id: PlanId::generate(),
        state: PlanState::Active,
        revision: 1,
        version: 1,
        sold: false,
        terms,
        created_at: by.now,
        version_created_at: by.now,
    };
    if let Err(error) = sql::insert(tx.conn(), by.agency, &plan).await {
        drop(tx);
        return Err(name_taken(database, scope, &plan.terms.name, error).await);
    }
    history::plan_changed(tx.conn(), by, PlanChange::Created, None, &plan).await?;
    repeat.store(tx.conn(), by, answer(&plan)).await?;
    tx.commit().await?;
    Ok(Answered::Now(plan))
}

/// Reads a plan: its latest version, or the one asked for.
pub async fn get(
    database: &Database,
    scope: &AgencyScope,
    id: PlanId,
    version: Option<i32>,
) -> Result<Plan, PlanError> {
    let mut tx = database.agency(scope).await?;
    let plan = sql::get(tx.conn(), scope.agency, id, version).await?;
    plan.ok_or(PlanError::NotFound)
}

/// Lists plans by their latest version, newest first.
pub async fn list(
    database: &Database,
    scope: &AgencyScope,
    state: Option<PlanState>,
    page: PageRequest<PlanId>,
) -> Result<Page<Plan>, PlanError> {
    let mut tx = database.agency(scope).await?;
    let after = page.after().copied();
    let rows = sql::list(tx.conn(), scope.agency, state, after, page.limit()).await?;
    Ok(page.page(rows, |plan| plan.id))
}

/// Edits a plan: a version that was sold stays and gets a successor, one that was not is replaced.
pub async fn update(
    database: &Database,
    by: &By,
    scope: &AgencyScope,
    id: PlanId,
    edit: Edit,
    repeat: &Repeat,
    answer: impl FnOnce(&Plan) -> Vec<u8>,
) -> Result<Answered<Plan>, PlanError> {
    let mut tx = database.agency(scope).await?;
    if let Begun::Before(bytes) = repeat.begin(tx.conn(), by).await? {
        return Ok(Answered::Before(bytes));
    }
    // Before the version is read: a sale in between would make it immutable under our hands.
    if !sql::lock(tx.conn(), by.agency, id).await? {
        return Err(PlanError::NotFound);
    }
    let before = sql::get(tx.conn(), by.agency, id, None).await?;
    let before = before.ok_or(PlanError::NotFound)?;
    let after = rules::edit(&before, &edit, by.now)?;
    if after != before {
        let name = after.terms.name.clone();
        if let Err(error) = sql::apply(tx.conn(), by.agency, &before, &after).await {
            drop(tx);
            return Err(name_taken(database, scope, &name, error).await);
        }
        history::plan_changed(tx.conn(), by, PlanChange::Updated, Some(&before), &after).await?;
    }
    repeat.store(tx.conn(), by, answer(&after)).await?;
    tx.commit().await?;
    Ok(Answered::Now(after))
}

/// Stops selling a plan, unless a client lives on it.
pub async fn archive(
    database: &Database,
    by: &By,
    scope: &AgencyScope,
    id: PlanId,
) -> Result<Plan, PlanError> {
    let mut tx = database.agency(scope).await?;
    // Whoever subscribes holds the plan's row shared: the count below cannot be outrun.
    if !sql::lock(tx.conn(), by.agency, id).await? {
        return Err(PlanError::NotFound);
    }
    let before = sql::get(tx.conn(), by.agency, id, None).await?;
    let before = before.ok_or(PlanError::NotFound)?;
    if before.state == PlanState::Archived {
        return Ok(before);
    }
    let live_subscriptions = sql::count_live(tx.conn(), by.agency, id).await?;
    if live_subscriptions > 0 {
        return Err(PlanError::HasSubscriptions { live_subscriptions });
    }
    let after = Plan {
        state: PlanState::Archived,
        revision: before.revision + 1,
        ..before.clone()
    };
    sql::archive(tx.conn(), by.agency, id, by.now).await?;
    history::plan_changed(tx.conn(), by, PlanChange::Archived, Some(&before), &after).await?;
    tx.commit().await?;
    Ok(after)
}

/// The failed transaction is gone; a new one finds whose name it is.
async fn name_taken(
    database: &Database,
    scope: &AgencyScope,
    name: &str,
    error: mainstay_db::Error,
) -> PlanError {
    if error.constraint() != Some("plan_active_name_key") {
        return error.into();
    }
    let existing = async {
        let mut tx = database.agency(scope).await?;
        sql::find_by_name(tx.conn(), scope.agency, name).await
    };
    PlanError::NameTaken {
        name: name.to_owned(),
        existing: existing.await.ok().flatten(),
    }
}
