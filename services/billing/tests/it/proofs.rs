//! Every saga of billing before the prover: broken at every place, in every way, it ends, and Stripe, our rows and what
//! the other services were told agree. A saga that is not in [`PROVED`] fails here.
//! Deliberately absent: how things are broken; `saga/prover.rs`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use mainstay_billing::saga::change_subscription::NAMES;
use mainstay_billing::saga::end_grace::{self, EndGrace};
use mainstay_billing::saga::prover::{Case, Ended, Prover, Sabotage, World, cases};
use mainstay_billing::saga::sync_entitlements::{self, SyncEntitlements};
use mainstay_billing::saga::{Definition, Engine, EngineLimits, start_subscription};
use mainstay_proto::billing::v1::{
    CancelSubscriptionRequest, CancelWhen, ConfirmPaymentIntentRequest, PauseSubscriptionRequest,
    Plan, ReactivateSubscriptionRequest, ResumeSubscriptionRequest, Subscription,
    SubscriptionStatus,
};
use mainstay_runtime::Clock;
use mainstay_testkit::PATIENCE;
use mainstay_types::{ClientId, SagaId, SubscriptionId, Tenant};
use serde_json::{Value, json};
use tonic::Status;

use crate::stage::{Stage, pro};
mod offboarding;
mod onboarding;

/// The sagas that are proved below.
const PROVED: [&str; 9] = [
    start_subscription::NAME,
    mainstay_billing::saga::onboard_client::NAME,
    mainstay_billing::saga::offboard_client::NAME,
    sync_entitlements::NAME,
    end_grace::NAME,
    NAMES[0],
    NAMES[1],
    NAMES[2],
    NAMES[3],
];

/// Runs at once: two cores bear so many.
const AT_ONCE: usize = 6;

/// Silence is short here, and a dead coordinator's lease is let expire by the prover.
fn limits() -> EngineLimits {
    EngineLimits {
        step: Duration::from_secs(4),
        lease: Duration::from_secs(60),
        poll: Duration::from_millis(100),
        at_once: 64,
    }
}

async fn definition(stage: &Stage, name: &str) -> Definition {
    let all = stage.definitions().await;
    let found = all.into_iter().find(|one| one.name == name);
    found.expect("billing has this saga")
}

/// Proves all cases that are chosen, several at a time.
async fn prove(prover: Prover, world: Arc<dyn World>, chosen: Vec<Case>) {
    let prover = Arc::new(prover);
    let runs = futures_util::stream::iter(chosen).map(|case| {
        let (prover, world) = (Arc::clone(&prover), Arc::clone(&world));
        tokio::spawn(async move {
            let wrong = prover.prove(world.as_ref(), case).await;
            (case, wrong.expect("a database"))
        })
    });
    let wrong: Vec<String> = runs
        .buffer_unordered(AT_ONCE)
        .map(|run| run.expect("a run holds"))
        .filter(|(_, wrong)| std::future::ready(!wrong.is_empty()))
        .map(|(case, wrong)| format!("{case}: {}", wrong.join("; ")))
        .collect()
        .await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What can be seen of a client, everywhere.
struct Seen {
    at_stripe: Vec<Value>,
    customers: usize,
    charges: Vec<Value>,
    open_invoices: usize,
}

impl Seen {
    async fn of(stage: &Stage, client: ClientId) -> Self {
        let ledger = stage.ledger_of(client).await;
        let list = |name: &str| ledger[name].as_array().cloned().unwrap_or_default();
        let ours = |one: &Value| one["metadata"]["mainstay_client_id"] == client.to_string();
        let customers: Vec<Value> = list("customers").into_iter().filter(&ours).collect();
        let ids: Vec<&Value> = customers.iter().map(|customer| &customer["id"]).collect();
        let theirs = |one: &Value| ids.contains(&&one["customer"]);
        Seen {
            at_stripe: list("subscriptions").into_iter().filter(&theirs).collect(),
            charges: list("charges")
                .into_iter()
                .filter(|charge| theirs(charge) && charge["status"] != "failed")
                .collect(),
            open_invoices: list("invoices")
                .iter()
                .filter(|invoice| theirs(invoice) && invoice["status"] == "open")
                .count(),
            customers: customers.len(),
        }
    }

    fn live(&self) -> usize {
        let ended = ["canceled", "incomplete_expired"];
        let status = |one: &&Value| !ended.contains(&one["status"].as_str().unwrap_or_default());
        self.at_stripe.iter().filter(status).count()
    }

    fn taken(&self) -> i64 {
        let amount = |charge: &Value, name: &str| charge[name].as_i64().unwrap_or_default();
        self.charges
            .iter()
            .map(|charge| amount(charge, "amount") - amount(charge, "amount_refunded"))
            .sum()
    }
}

fn expect<T: PartialEq + std::fmt::Debug>(wrong: &mut Vec<String>, what: &str, is: T, wanted: T) {
    if is != wanted {
        wrong.push(format!("{what}: {is:?} instead of {wanted:?}"));
    }
}

/// Whether identity and messaging were told the same, and what: the features that are granted.
fn told(stage: &Stage, client: ClientId, wrong: &mut Vec<String>) -> Vec<String> {
    let client = client.to_string();
    let features = |granted: Option<mainstay_proto::common::v1::Entitlements>| {
        granted.map(|granted| granted.features).unwrap_or_default()
    };
    let identity = features(
        stage
            .identity
            .stored(&client)
            .and_then(|told| told.entitlements),
    );
    let messaging = features(
        stage
            .messaging
            .stored(&client)
            .and_then(|told| told.entitlements),
    );
    expect(wrong, "messaging and identity", &messaging, &identity);
    identity
}

/// A client subscribes.
struct Start {
    stage: Arc<Stage>,
    plan: Plan,
    card: &'static str,
}

impl Start {
    async fn subscription(&self, client: ClientId) -> Subscription {
        let id = self.stage.newest_subscription(client).await;
        self.stage.subscription_of(client, &id).await
    }
}

#[tonic::async_trait]
impl World for Start {
    fn saga(&self) -> &'static str {
        start_subscription::NAME
    }

    async fn client(&self) -> ClientId {
        self.stage.another_client()
    }

    async fn begin(&self, client: ClientId) -> SagaId {
        let order = self.stage.order_of(client, &self.plan, Some(self.card));
        let stage = Arc::clone(&self.stage);
        let asked = async move { stage.subscribe(order).await };
        self.stage.begun_by(client, self.saga(), asked).await
    }

    /// The payer authenticates.
    async fn go_on(&self, client: ClientId, _: SagaId) {
        let subscription = self.subscription(client).await;
        let Some(intent) = subscription
            .payer_action
            .and_then(|action| action.payment_intent_id)
        else {
            return;
        };
        let path = format!("stripe/payment_intents/{intent}/authenticate");
        let url = format!("{}/_/{path}", self.stage.sandbox_url);
        // A second time it has nothing to authenticate any more.
        let _ = self.stage.http.post(url).json(&json!({})).send().await;
        let request = ConfirmPaymentIntentRequest {
            client_id: client.to_string(),
            payment_intent_id: intent,
        };
        let mut subscriptions = self.stage.subscriptions();
        let request = self.stage.owner(request);
        let _ = subscriptions.confirm_payment_intent(request).await;
    }

    async fn disagreements(&self, client: ClientId, _: SagaId, ended: Ended) -> Vec<String> {
        let seen = Seen::of(&self.stage, client).await;
        let ours = self.subscription(client).await;
        let mut wrong = Vec::new();
        let (status, live, taken, features): (_, _, _, &[&str]) = match ended {
            Ended::Completed => (SubscriptionStatus::Active, 1, 99_700, &["ai_replies"]),
            Ended::Compensated => (SubscriptionStatus::Failed, 0, 0, &[]),
        };
        expect(&mut wrong, "our subscription", ours.status(), status);
        expect(&mut wrong, "live at Stripe", seen.live(), live);
        expect(&mut wrong, "taken at Stripe", seen.taken(), taken);
        expect(&mut wrong, "open invoices", seen.open_invoices, 0);
        if seen.charges.len() > 1 {
            wrong.push(format!("charged {} times", seen.charges.len()));
        }
        if seen.customers > 1 {
            wrong.push(format!("{} customers", seen.customers));
        }
        let granted = told(&self.stage, client, &mut wrong);
        expect(
            &mut wrong,
            "granted",
            granted.as_slice(),
            &features
                .iter()
                .map(|one| (*one).to_owned())
                .collect::<Vec<_>>()[..],
        );
        expect(
            &mut wrong,
            "payer action",
            ours.payer_action.is_some(),
            false,
        );
        wrong
    }
}

async fn sabotaged() -> (Arc<Stage>, Prover, Plan) {
    let mut stage = Stage::start().await;
    let sabotage = Sabotage::default();
    stage
        .start_sabotaged(limits(), Some(sabotage.clone()))
        .await;
    let plan = stage.plan(pro()).await;
    let prover = stage.prover(limits(), sabotage).await;
    (Arc::new(stage), prover, plan)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_saga_is_proved() {
    let stage = Stage::start().await;
    let names: BTreeSet<&str> = stage
        .definitions()
        .await
        .iter()
        .map(|one| one.name)
        .collect();
    assert_eq!(
        names,
        BTreeSet::from(PROVED),
        "each saga of billing needs its proof here, and each proof its saga"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_subscription_holds_whatever_breaks() {
    let (stage, prover, plan) = sabotaged().await;
    let chosen = cases(&definition(&stage, start_subscription::NAME).await);
    let world = Start {
        stage,
        plan,
        card: "pm_card_visa",
    };
    prove(prover, Arc::new(world), chosen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_subscription_holds_while_it_waits_for_its_payer() {
    let (stage, prover, plan) = sabotaged().await;
    let mut chosen = cases(&definition(&stage, start_subscription::NAME).await);
    chosen.retain(|case| {
        let step = case.breaks.map(|(step, _, _)| step);
        let here = ["confirm_payment", "await_payment"];
        step.or(case.refuses)
            .is_some_and(|step| here.contains(&step))
    });
    let world = Start {
        stage,
        plan,
        card: "pm_card_threeDSecure2Required",
    };
    prove(prover, Arc::new(world), chosen).await;
}

/// A client asks for a change of its running subscription.
struct Changing {
    stage: Arc<Stage>,
    plan: Plan,
    saga: &'static str,
}

impl Changing {
    async fn ask(&self, client: ClientId, saga: &str) -> Result<(), Status> {
        let id = self.stage.newest_subscription(client).await;
        let (client_id, subscription_id) = (client.to_string(), id);
        let stage = &self.stage;
        let mut service = stage.subscriptions();
        let answer = match saga {
            "cancel_subscription" => {
                let request = CancelSubscriptionRequest {
                    client_id,
                    subscription_id,
                    when: Some(CancelWhen::Now.into()),
                };
                service.cancel_subscription(stage.owner(request)).await
            }
            "pause_subscription" => {
                let request = PauseSubscriptionRequest {
                    client_id,
                    subscription_id,
                    resumes_at: None,
                };
                service.pause_subscription(stage.owner(request)).await
            }
            "resume_subscription" => {
                let request = ResumeSubscriptionRequest {
                    client_id,
                    subscription_id,
                };
                service.resume_subscription(stage.owner(request)).await
            }
            _ => {
                let request = ReactivateSubscriptionRequest {
                    client_id,
                    subscription_id,
                };
                service.reactivate_subscription(stage.owner(request)).await
            }
        };
        answer.map(drop)
    }
}

#[tonic::async_trait]
impl World for Changing {
    fn saga(&self) -> &'static str {
        self.saga
    }

    async fn client(&self) -> ClientId {
        let client = self.stage.another_client();
        let order = self
            .stage
            .order_of(client, &self.plan, Some("pm_card_visa"));
        let subscription = self.stage.subscribed(client, order).await;
        match self.saga {
            "resume_subscription" => {
                let pause = "pause_subscription";
                self.ask(client, pause).await.expect("paused");
                let saga = self.stage.saga_of(client, pause).await;
                self.stage.at_rest(&saga.to_string()).await;
            }
            "reactivate_subscription" => {
                let request = CancelSubscriptionRequest {
                    client_id: client.to_string(),
                    subscription_id: subscription.id().to_owned(),
                    when: Some(CancelWhen::PeriodEnd.into()),
                };
                let mut service = self.stage.subscriptions();
                let ending = service.cancel_subscription(self.stage.owner(request)).await;
                assert_eq!(
                    ending
                        .expect("it is to end")
                        .into_inner()
                        .cancel_at_period_end,
                    Some(true)
                );
                let saga = self.stage.saga_of(client, "cancel_subscription").await;
                self.stage.at_rest(&saga.to_string()).await;
            }
            _ => {}
        }
        client
    }

    async fn begin(&self, client: ClientId) -> SagaId {
        let asks = Changing {
            stage: Arc::clone(&self.stage),
            plan: self.plan.clone(),
            saga: self.saga,
        };
        let asked = async move { asks.ask(client, asks.saga).await };
        self.stage.begun_by(client, self.saga, asked).await
    }

    async fn disagreements(&self, client: ClientId, _: SagaId, ended: Ended) -> Vec<String> {
        let seen = Seen::of(&self.stage, client).await;
        let id = self.stage.newest_subscription(client).await;
        let ours = self.stage.subscription_of(client, &id).await;
        let theirs = &seen.at_stripe[0];
        let changed = ended == Ended::Completed;
        let (status, live, paused, ending) = match (self.saga, changed) {
            ("cancel_subscription", true) => (SubscriptionStatus::Canceled, 0, false, false),
            ("pause_subscription", true) | ("resume_subscription", false) => {
                (SubscriptionStatus::Paused, 1, true, false)
            }
            ("reactivate_subscription", false) => (SubscriptionStatus::Active, 1, false, true),
            _ => (SubscriptionStatus::Active, 1, false, false),
        };
        let mut wrong = Vec::new();
        expect(&mut wrong, "our status", ours.status(), status);
        expect(&mut wrong, "live at Stripe", seen.live(), live);
        expect(
            &mut wrong,
            "paused at Stripe",
            theirs["pause_collection"].is_object(),
            paused,
        );
        expect(
            &mut wrong,
            "ends with its period here",
            ours.cancel_at_period_end(),
            ending,
        );
        if live == 1 {
            let at_stripe = theirs["cancel_at_period_end"] == true;
            expect(
                &mut wrong,
                "ends with its period at Stripe",
                at_stripe,
                ending,
            );
        }
        expect(&mut wrong, "taken", seen.taken(), 99_700);
        expect(&mut wrong, "held by", ours.change_saga_id, None);
        let granted = told(&self.stage, client, &mut wrong);
        let serves = status == SubscriptionStatus::Active;
        expect(&mut wrong, "granted", granted.is_empty(), !serves);
        wrong
    }
}

async fn changing(saga: &'static str) {
    let (stage, prover, plan) = sabotaged().await;
    let chosen = cases(&definition(&stage, saga).await);
    prove(prover, Arc::new(Changing { stage, plan, saga }), chosen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancel_subscription_holds_whatever_breaks() {
    changing(NAMES[0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pause_subscription_holds_whatever_breaks() {
    changing(NAMES[1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resume_subscription_holds_whatever_breaks() {
    changing(NAMES[2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reactivate_subscription_holds_whatever_breaks() {
    changing(NAMES[3]).await;
}

/// What a subscription grants has changed, and the others are to know; by itself, or when a grace has ended.
struct Telling {
    stage: Arc<Stage>,
    plan: Plan,
    first: Engine,
    saga: &'static str,
}

#[tonic::async_trait]
impl World for Telling {
    fn saga(&self) -> &'static str {
        self.saga
    }

    /// Past due, and its grace has ended; or unpaid.
    async fn client(&self) -> ClientId {
        let client = self.stage.another_client();
        let order = self
            .stage
            .order_of(client, &self.plan, Some("pm_card_visa"));
        self.stage.subscribed(client, order).await;
        let change = match self.saga {
            end_grace::NAME => format!("status = 'past_due', grace_ends_at = '{}'", ends_at()),
            _ => "status = 'unpaid', entitlement_version = entitlement_version + 1".to_owned(),
        };
        let sql = format!(
            "update billing.subscription set {change} where tenant_id = '{}'",
            client.uuid()
        );
        self.stage.database.execute(&sql).await;
        let account =
            "update billing.billing_account set entitlement_version = entitlement_version + 1";
        let sql = format!("{account} where tenant_id = '{}'", client.uuid());
        self.stage.database.execute(&sql).await;
        client
    }

    async fn begin(&self, client: ClientId) -> SagaId {
        let id = self.stage.newest_subscription(client).await;
        let subscription: SubscriptionId = id.parse().expect("an id");
        let tenant = Tenant {
            agency: self.stage.agency,
            client,
        };
        let saga = SagaId::generate();
        let mut connection = self.stage.database.admin().await;
        sqlx::query("set search_path = billing")
            .execute(&mut connection)
            .await
            .expect("a schema");
        let grace = EndGrace {
            subscription,
            ends_at: ends_at(),
        };
        let sync = SyncEntitlements { subscription };
        let started = match self.saga {
            end_grace::NAME => {
                let start = self
                    .first
                    .start(&mut connection, tenant, self.saga, saga, &grace);
                start.await
            }
            _ => {
                let start = self
                    .first
                    .start(&mut connection, tenant, self.saga, saga, &sync);
                start.await
            }
        };
        self.first.launch(started.expect("it is written"));
        saga
    }

    async fn disagreements(&self, client: ClientId, _: SagaId, _: Ended) -> Vec<String> {
        let mut wrong = Vec::new();
        let granted = told(&self.stage, client, &mut wrong);
        expect(&mut wrong, "granted", granted, Vec::new());
        wrong
    }
}

/// A minute that has passed, to the second, as the database keeps it.
fn ends_at() -> chrono::DateTime<chrono::Utc> {
    chrono::DateTime::from_timestamp(1_790_000_000, 0).expect("a time")
}

async fn telling(saga: &'static str) {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    let sabotage = Sabotage::default();
    let clock = Clock::system(0);
    let (first, worker) = stage
        .engine(limits(), Some(sabotage.clone()), clock.clone())
        .await;
    let (second, _) = stage.engine(limits(), Some(sabotage.clone()), clock).await;
    for engine in [first.clone(), second.clone()] {
        tokio::spawn(async move { engine.run().await });
    }
    let prover = Prover {
        sabotage,
        second,
        worker,
        patience: PATIENCE,
    };
    let chosen = cases(&definition(&stage, saga).await);
    let world = Telling {
        stage: Arc::new(stage),
        plan,
        first,
        saga,
    };
    prove(prover, Arc::new(world), chosen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sync_entitlements_holds_whatever_breaks() {
    telling(sync_entitlements::NAME).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn end_grace_holds_whatever_breaks() {
    telling(end_grace::NAME).await;
}
