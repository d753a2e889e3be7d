//! Clients that leave (BIL-14): what was asked for, and how it stands. A saga carries it out.
//! Deliberately absent: its steps; `saga/offboard_client.rs`.

pub mod rpc;
pub(crate) mod sql;

use std::time::Instant;

use chrono::{DateTime, Utc};
use mainstay_types::{SagaId, SubscriptionId, Tenant};

use crate::history::{self, By, OffboardingChange};
use crate::repeat::Repeat;
use crate::saga::Standing;
use crate::saga::change_subscription::{self, Change};
use crate::saga::offboard_client::{self, Leaving, OffboardClient};
use crate::subscription::{self as subscriptions, Desk, Status, SubscriptionError, change};

/// How often it begins again when the client's subscription changes meanwhile.
const TRIES: usize = 3;

/// A client's last off-boarding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offboarding {
    /// The saga.
    pub saga: SagaId,
    /// With the paid period, rather than now.
    pub period_end: bool,
    /// Asked for after that: now after all.
    pub hurried: bool,
    /// Why.
    pub reason: Option<String>,
    /// By whom.
    pub requested_by: String,
    /// When.
    pub requested_at: DateTime<Utc>,
    /// When it was withdrawn.
    pub withdrawn_at: Option<DateTime<Utc>>,
    /// Why.
    pub withdrawn_for: Option<String>,
    /// When it was completed.
    pub completed_at: Option<DateTime<Utc>>,
    /// Rises with each change.
    pub revision: i64,
}

impl Offboarding {
    /// Whether it is still to end.
    pub fn is_pending(&self) -> bool {
        self.withdrawn_at.is_none() && self.completed_at.is_none()
    }

    /// Whether it waits for no period, or does not any longer.
    pub fn is_now(&self) -> bool {
        !self.period_end || self.hurried
    }
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Ask {
    /// With the paid period, rather than now.
    pub period_end: bool,
    /// Why.
    pub reason: Option<String>,
}

/// Off-boards a client, and waits for its saga until then.
///
/// # Errors
/// [`SubscriptionError::Busy`] while another saga changes the subscription.
pub async fn offboard(
    desk: &Desk,
    by: &By,
    tenant: Tenant,
    ask: &Ask,
    until: Instant,
) -> Result<(Offboarding, Standing), SubscriptionError> {
    let mut saga = None;
    for _ in 0..TRIES {
        match begin(desk, by, tenant, ask).await? {
            Begin::Known(known) => {
                saga = Some(known);
                break;
            }
            // Its first payment has not come: that is given up first, like by a cancellation.
            Begin::Unpaid(subscription) => {
                let gives_up = Repeat::unkeyed();
                change::change(
                    desk,
                    by,
                    tenant,
                    subscription,
                    Change::CancelNow,
                    &gives_up,
                    until,
                )
                .await?;
            }
        }
    }
    let Some(saga) = saga else {
        return Err(still_starting(desk, tenant).await?);
    };
    let standing = desk.engine.wait(saga, until).await?;
    let mut tx = desk.database.tenant(tenant).await?;
    let found = sql::get(tx.conn(), tenant).await?;
    Ok((found.ok_or(SubscriptionError::NotFound)?, standing))
}

/// Its first payment was given up and has not ended yet.
async fn still_starting(desk: &Desk, tenant: Tenant) -> mainstay_db::Result<SubscriptionError> {
    let mut tx = desk.database.tenant(tenant).await?;
    let live = match subscriptions::sql::find_live(tx.conn(), tenant).await? {
        Some(id) => subscriptions::sql::get(tx.conn(), tenant, id).await?,
        None => None,
    };
    Ok(live.map_or(SubscriptionError::NotFound, |live| {
        SubscriptionError::Busy(live.saga_id)
    }))
}

enum Begin {
    /// This saga does it.
    Known(SagaId),
    /// This subscription stands in the way.
    Unpaid(SubscriptionId),
}

async fn begin(
    desk: &Desk,
    by: &By,
    tenant: Tenant,
    ask: &Ask,
) -> Result<Begin, SubscriptionError> {
    // By the worker: the app role may not write to sagas, and news is brought to one here.
    let mut tx = desk.database.worker().tenant(tenant).await?;
    subscriptions::sql::ensure_account(tx.conn(), tenant).await?;
    subscriptions::sql::lock_account(tx.conn(), tenant).await?;
    let before = sql::get(tx.conn(), tenant).await?;
    if let Some(stands) = before.as_ref().filter(|one| one.withdrawn_at.is_none()) {
        if stands.is_pending() && !stands.is_now() && !ask.period_end {
            let hurried = Offboarding {
                hurried: true,
                revision: stands.revision + 1,
                ..stands.clone()
            };
            sql::store(tx.conn(), tenant, &hurried, by.now).await?;
            let what = OffboardingChange::Hurried;
            history::offboarding_changed(tx.conn(), by, tenant, what, before.as_ref(), &hurried)
                .await?;
            desk.engine.signal(tx.conn(), stands.saga).await?;
            tx.commit().await?;
            desk.engine.wake();
        }
        return Ok(Begin::Known(stands.saga));
    }
    let live = match subscriptions::sql::find_live(tx.conn(), tenant).await? {
        Some(id) => subscriptions::sql::get(tx.conn(), tenant, id).await?,
        None => None,
    };
    if let Some(live) = &live {
        if live.status == Status::Incomplete {
            return Ok(Begin::Unpaid(live.id));
        }
        if let Some(saga) = change_subscription::busy(live) {
            return Err(SubscriptionError::Busy(saga));
        }
    }
    let saga = SagaId::generate();
    let asked = Offboarding {
        saga,
        period_end: ask.period_end && live.is_some(),
        hurried: false,
        reason: ask.reason.clone(),
        requested_by: by.principal.clone(),
        requested_at: by.now,
        withdrawn_at: None,
        withdrawn_for: None,
        completed_at: None,
        revision: before.as_ref().map_or(1, |before| before.revision + 1),
    };
    sql::store(tx.conn(), tenant, &asked, by.now).await?;
    let what = OffboardingChange::Requested;
    history::offboarding_changed(tx.conn(), by, tenant, what, before.as_ref(), &asked).await?;
    let input = OffboardClient {
        subscription: live.as_ref().map(|live| live.id),
        stripe_subscription: live.and_then(|live| live.stripe_subscription_id),
        leaving: match asked.period_end {
            true => Leaving::PeriodEnd,
            false => Leaving::Now,
        },
        by: by.clone(),
    };
    let started = desk
        .engine
        .start(tx.conn(), tenant, offboard_client::NAME, saga, &input)
        .await?;
    tx.commit().await?;
    desk.engine.launch(started);
    Ok(Begin::Known(saga))
}
