//! Subscriptions: a client on a version of a plan, in step with Stripe. Started by a saga (BIL-10), moved by what Stripe
//! says (BIL-30).
//! Deliberately absent: calls to Stripe. They stand in the saga's steps; here are our rows and what they mean.

pub(crate) mod change;
mod error;
pub mod rpc;
pub(crate) mod rules;
pub(crate) mod sql;

use std::time::Instant;

use chrono::{DateTime, Utc};
use mainstay_db::{Database, page::Page, page::PageRequest};
use mainstay_rpc::{Context, Violations};
use mainstay_types::{Currency, Interval, Money, PlanId, SagaId, SubscriptionId, Tenant};
use serde::{Deserialize, Serialize};

pub use error::SubscriptionError;

use crate::coupon::redemption::{self, Discount, Purchase};
use crate::coupon::{self, Coupon};
use crate::history::{self, By, SubscriptionChange};
use crate::identity::Identity;
use crate::messaging::Messaging;
use crate::plan::{self, Plan, PlanState, Price};
use crate::repeat::{Begun, Repeat};
use crate::saga::start_subscription::{self, StartSubscription};
use crate::saga::{Engine, Standing};
use crate::stripe::{Payer, StripeGateway};

/// Where a subscription stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Asked for; its saga runs.
    Incomplete,
    /// On trial.
    Trialing,
    /// Paid.
    Active,
    /// A renewal failed and is being retried.
    PastDue,
    /// The retries are used up.
    Unpaid,
    /// Collection is paused.
    Paused,
    /// Ended.
    Canceled,
    /// The first payment never came.
    IncompleteExpired,
    /// Its saga undid it.
    Failed,
}

impl Status {
    /// All of them.
    pub const ALL: [Status; 9] = [
        Status::Incomplete,
        Status::Trialing,
        Status::Active,
        Status::PastDue,
        Status::Unpaid,
        Status::Paused,
        Status::Canceled,
        Status::IncompleteExpired,
        Status::Failed,
    ];

    /// As the database and REST spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Incomplete => "incomplete",
            Status::Trialing => "trialing",
            Status::Active => "active",
            Status::PastDue => "past_due",
            Status::Unpaid => "unpaid",
            Status::Paused => "paused",
            Status::Canceled => "canceled",
            Status::IncompleteExpired => "incomplete_expired",
            Status::Failed => "failed",
        }
    }

    /// From a column that a CHECK keeps to these words.
    pub(crate) fn from_text(text: &str) -> Self {
        let mut all = Self::ALL.into_iter();
        all.find(|status| status.as_str() == text)
            .unwrap_or(Status::Failed)
    }
}

/// A client on a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Its id.
    pub id: SubscriptionId,
    /// The plan.
    pub plan_id: PlanId,
    /// The version it keeps.
    pub plan_version: i32,
    /// What is charged.
    pub price: Money,
    /// How often.
    pub interval: Interval,
    /// Where it stands.
    pub status: Status,
    /// Why it failed, for people.
    pub failure_reason: Option<String>,
    /// The saga that started it.
    pub saga_id: SagaId,
    /// `sub_…`.
    pub stripe_subscription_id: Option<String>,
    /// The period that is running.
    pub current_period_start_at: Option<DateTime<Utc>>,
    /// Its end.
    pub current_period_end_at: Option<DateTime<Utc>>,
    /// When the trial ends.
    pub trial_end_at: Option<DateTime<Utc>>,
    /// Paid, or on trial, until then.
    pub paid_through_at: Option<DateTime<Utc>>,
    /// When it ended, or was asked to end with its period.
    pub canceled_at: Option<DateTime<Utc>>,
    /// It ends with its period.
    pub cancel_at_period_end: bool,
    /// While paused: when collection begins again by itself.
    pub resumes_at: Option<DateTime<Utc>>,
    /// While past due: until when it grants what was sold all the same.
    pub grace_ends_at: Option<DateTime<Utc>>,
    /// The trial that was granted, in days.
    pub trial_days: i32,
    /// What the payer has to do before it can become active.
    pub payer_action: Option<PayerAction>,
    /// When it was asked to end while its first payment was waited for.
    pub cancel_requested_at: Option<DateTime<Utc>>,
    /// The saga that changes it right now.
    pub change_saga_id: Option<SagaId>,
    /// The entitlements version it last asked for.
    pub entitlement_version: i64,
    /// Rises with every event about it.
    pub sequence: i64,
    /// Rises with every applied reading of Stripe's object.
    pub provider_revision: i64,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// What the coupon it holds takes off.
    pub discount: Option<Discount>,
}

/// A payment that its payer has to authenticate, and what the payer's browser needs for that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayerAction {
    /// `pi_…`.
    pub payment_intent: String,
    /// Lets the payer's browser, and nobody else, go on with the payment.
    pub client_secret: Option<String>,
}

/// What to subscribe a client to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Subscribe {
    /// The plan; its latest version is sold.
    pub plan: PlanId,
    /// One of its prices.
    pub currency: Currency,
    /// One of its prices.
    pub interval: Interval,
    /// The code of a coupon.
    pub coupon_code: Option<String>,
    /// What pays.
    pub payment_method: Option<String>,
}

/// What subscriptions are started with.
#[derive(Debug, Clone)]
pub struct Desk {
    /// Our rows.
    pub database: Database,
    /// Who says which clients are active.
    pub identity: Identity,
    /// Who says whether what is sold could be used.
    pub messaging: Messaging,
    /// Where payments are looked at.
    pub stripe: StripeGateway,
    /// Who runs the saga.
    pub engine: Engine,
}

/// How a start ended, as far as it was waited for.
#[derive(Debug)]
pub enum Start {
    /// The answer that an earlier request with the same key was given.
    Before(Vec<u8>),
    /// This is how the saga and the subscription stand.
    Stands(Box<Subscription>, Standing),
}

/// Subscribes a client: checks what can be checked before money moves, takes the client's one place, starts the saga and
/// waits for it until then.
pub async fn start(
    desk: &Desk,
    ctx: &Context,
    by: &By,
    tenant: Tenant,
    command: Subscribe,
    repeat: &Repeat,
    until: Instant,
) -> Result<Start, SubscriptionError> {
    let saga = match take_place(desk, ctx, by, tenant, command, repeat).await? {
        Begun::Before(answer) => return Ok(Start::Before(answer)),
        Begun::Started(saga) => SagaId::from_uuid(saga),
        Begun::Now => unreachable!("a place that is taken names its saga"),
    };
    let standing = desk.engine.wait(saga, until).await?;
    let mut tx = desk.database.tenant(tenant).await?;
    let subscription = sql::find_by_saga(tx.conn(), tenant, saga).await?;
    let subscription = subscription.ok_or(SubscriptionError::NotFound)?;
    Ok(Start::Stands(Box::new(subscription), standing))
}

/// The part before the saga. Whoever comes with a key that was used is answered first: what has changed since does not
/// concern a request that was accepted then.
async fn take_place(
    desk: &Desk,
    ctx: &Context,
    by: &By,
    tenant: Tenant,
    command: Subscribe,
    repeat: &Repeat,
) -> Result<Begun, SubscriptionError> {
    if repeat.has_key() {
        let mut tx = desk.database.tenant(tenant).await?;
        match repeat.find(tx.conn(), by).await? {
            // Nobody knows it yet; it is claimed below, together with the effect.
            Begun::Now => {}
            known => return Ok(known),
        }
    }
    let (client, usable) = tokio::join!(
        desk.identity.check(ctx, tenant),
        desk.messaging.check(ctx, tenant)
    );
    let client = client.map_err(SubscriptionError::Asked)?;
    usable.map_err(SubscriptionError::Asked)?;
    let payer = Payer {
        name: client.name,
        email: client.email,
        phone: client.phone,
    };

    let mut tx = desk.database.tenant(tenant).await?;
    match repeat.begin(tx.conn(), by).await? {
        Begun::Now => {}
        known => return Ok(known),
    }
    // Shared, so that many can subscribe at once while nobody archives or edits.
    if !plan::sql::lock_for_sale(tx.conn(), tenant.agency, command.plan).await? {
        return Err(SubscriptionError::PlanNotFound);
    }
    let plan = plan::sql::get(tx.conn(), tenant.agency, command.plan, None).await?;
    let plan = plan.ok_or(SubscriptionError::PlanNotFound)?;
    let on_trial = !sql::had_subscription(tx.conn(), tenant).await?;
    let trial_days = if on_trial { plan.terms.trial_days } else { 0 };
    let price = sellable(&plan, &command)?;
    let saga = SagaId::generate();
    let purchase = Purchase {
        plan: plan.id,
        price: Money::new(price.amount_minor, price.currency),
        subscription: SubscriptionId::generate(),
        saga,
        now: by.now,
    };
    let coupon = match &command.coupon_code {
        Some(code) => Some(redemption::offer(tx.conn(), tenant, code, &purchase).await?),
        None => None,
    };
    payable(trial_days, price, coupon.as_ref(), &command)?;
    let mut input = StartSubscription {
        subscription: purchase.subscription,
        plan: plan.id,
        plan_version: plan.version,
        plan_name: plan.terms.name.clone(),
        price: purchase.price,
        coupon: None,
        interval: price.interval,
        trial_days,
        payment_method: command.payment_method,
        payer,
        by: by.clone(),
    };
    plan::sql::mark_sold(tx.conn(), tenant.agency, plan.id, plan.version, by.now).await?;
    sql::ensure_account(tx.conn(), tenant).await?;
    if coupon.is_some() {
        // What this client has redeemed and subscribed to stays as it is read below.
        sql::lock_account(tx.conn(), tenant).await?;
    }
    if let Err(error) = sql::insert(tx.conn(), tenant, saga, &input, by.now).await {
        drop(tx);
        return Err(place_taken(desk, tenant, error).await);
    }
    if let Some(coupon) = &coupon {
        let held = redemption::reserve(tx.conn(), tenant, coupon, &purchase).await?;
        input.coupon = Some(held);
    }
    let subscription = sql::get(tx.conn(), tenant, input.subscription).await?;
    let subscription = subscription.ok_or(SubscriptionError::NotFound)?;
    history::subscription_changed(
        tx.conn(),
        by,
        SubscriptionChange::Created,
        None,
        &subscription,
    )
    .await?;
    repeat.refer(tx.conn(), by, saga.uuid()).await?;
    let started = desk
        .engine
        .start(tx.conn(), tenant, start_subscription::NAME, saga, &input)
        .await?;
    tx.commit().await?;
    desk.engine.launch(started);
    Ok(Begun::Started(saga.uuid()))
}

/// The price at which the plan is sold now.
fn sellable(plan: &Plan, command: &Subscribe) -> Result<Price, SubscriptionError> {
    if plan.state == PlanState::Archived {
        return Err(SubscriptionError::PlanArchived);
    }
    let price = plan::rules::price(&plan.terms, command.currency, command.interval);
    let price = price.ok_or(SubscriptionError::PriceMissing {
        currency: command.currency,
        interval: command.interval,
    })?;
    Ok(price)
}

/// What is due at once needs something that pays.
fn payable(
    trial_days: i32,
    price: Price,
    coupon: Option<&Coupon>,
    command: &Subscribe,
) -> Result<(), SubscriptionError> {
    let discount = coupon.map_or(0, |coupon| {
        coupon::rules::discount_minor(coupon.terms.off, price.amount_minor)
    });
    let due = price.amount_minor > discount && trial_days == 0;
    if !due || command.payment_method.is_some() {
        return Ok(());
    }
    let mut faults = Violations::new();
    faults.add(
        "payment_method_id",
        "is required: this plan charges its first period at once",
    );
    faults.finish().map_err(SubscriptionError::Invalid)
}

/// The failed transaction is gone; a new one finds who has the place.
async fn place_taken(desk: &Desk, tenant: Tenant, error: mainstay_db::Error) -> SubscriptionError {
    match error.constraint() {
        Some("subscription_one_live_key") => {}
        Some("subscription_of_staying_client") => return SubscriptionError::Leaving,
        _ => return error.into(),
    }
    let existing = async {
        let mut tx = desk.database.tenant(tenant).await?;
        sql::find_live(tx.conn(), tenant).await
    };
    SubscriptionError::Exists {
        existing: existing.await.ok().flatten(),
    }
}

/// Reads one.
pub async fn get(
    database: &Database,
    tenant: Tenant,
    id: SubscriptionId,
) -> Result<Subscription, SubscriptionError> {
    let mut tx = database.tenant(tenant).await?;
    let subscription = sql::get(tx.conn(), tenant, id).await?;
    subscription.ok_or(SubscriptionError::NotFound)
}

/// Lists a client's, newest first.
pub async fn list(
    database: &Database,
    tenant: Tenant,
    page: PageRequest<SubscriptionId>,
) -> Result<Page<Subscription>, SubscriptionError> {
    let mut tx = database.tenant(tenant).await?;
    let rows = sql::list(tx.conn(), tenant, page.after().copied(), page.limit()).await?;
    Ok(page.page(rows, |subscription| subscription.id))
}
