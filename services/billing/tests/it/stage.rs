//! The stage: billing between a gateway that the test plays, an identity that follows a script, and simulated Stripe.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay_billing::saga::{Engine, EngineLimits, Standing};
use mainstay_billing::{Settings, coordinator};
use mainstay_proto::billing::v1::invoice_service_client::InvoiceServiceClient;
use mainstay_proto::billing::v1::plan_service_client::PlanServiceClient;
use mainstay_proto::billing::v1::saga_service_client::SagaServiceClient;
use mainstay_proto::billing::v1::stripe_event_service_client::StripeEventServiceClient;
use mainstay_proto::billing::v1::subscription_service_client::SubscriptionServiceClient;
use mainstay_proto::billing::v1::{
    CreatePlanRequest, CreateSubscriptionRequest, GetSagaRequest, GetSubscriptionRequest,
    HandleStripeEventRequest, HandleStripeEventResponse, Interval, Plan, PlanPrice, Saga,
    Subscription,
};
use mainstay_proto::common::v1::{Beyond, Entitlements, Limit};
use mainstay_proto::identity::v1::client_directory_service_server::ClientDirectoryServiceServer;
use mainstay_proto::identity::v1::entitlement_service_server::EntitlementServiceServer;
use mainstay_providers::stripe::StripeApi;
use mainstay_rpc::{
    Actor, Channels, ClientDirectory, Grant, Limits, Problem, ServiceChannel, ServiceKey,
    ServiceName, ServiceRuntime, TrustedKeys,
};
use mainstay_runtime::{Clock, Health, Shutdown, health};
use mainstay_sandbox::{Sandbox, SandboxConfig};
use mainstay_testkit::TestDatabase;
use mainstay_types::{AgencyId, ApiKeyId, ClientId, SagaId};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};

use crate::identity::Identity;

/// Everything on the stage.
pub struct Stage {
    pub database: TestDatabase,
    pub identity: Identity,
    pub agency: AgencyId,
    pub client: ClientId,
    pub sandbox_url: String,
    pub http: reqwest::Client,
    house: House,
    billing: Process,
    shutdown: Shutdown,
    /// Runs nothing; it only waits for sagas of others.
    waiter: Engine,
}

/// What all processes of the stage share.
struct House {
    keys: HashMap<ServiceName, Arc<ServiceKey>>,
    trusted: TrustedKeys,
    identity_url: String,
}

/// A billing process: killed, it ends between any two of its steps.
struct Process {
    runtime: Option<Runtime>,
    url: String,
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl House {
    fn build(identity_url: String) -> Self {
        let keys: HashMap<_, _> = ServiceName::ALL
            .into_iter()
            .map(|service| (service, Arc::new(ServiceKey::generate(service))))
            .collect();
        let trusted = keys.values().fold(TrustedKeys::new(), |trusted, key| {
            trusted
                .trust(key.service(), &key.public_hex())
                .expect("a key of its own making")
        });
        House {
            keys,
            trusted,
            identity_url,
        }
    }

    fn channels(&self, me: ServiceName, billing: &str) -> Channels {
        let addresses = [
            (ServiceName::Identity, self.identity_url.clone()),
            (ServiceName::Billing, billing.to_owned()),
        ];
        Channels::new(Arc::clone(&self.keys[&me]), addresses).expect("addresses are URLs")
    }

    fn runtime(
        &self,
        me: ServiceName,
        listener: TcpListener,
        shutdown: &Shutdown,
    ) -> ServiceRuntime {
        ServiceRuntime {
            me,
            trusted: self.trusted.clone(),
            channels: self.channels(me, "http://127.0.0.1:1"),
            clock: Clock::system(0),
            shutdown: shutdown.clone(),
            health: Health::new(),
            listener,
            limits: Limits::default(),
        }
    }
}

/// Every client exists: which one is whose is identity's test.
struct AnyClient;

#[tonic::async_trait]
impl ClientDirectory for AnyClient {
    async fn exists(&self, _: AgencyId, _: ClientId) -> Result<bool, Status> {
        Ok(true)
    }
}

impl Stage {
    /// All of it, with one client.
    pub async fn start() -> Self {
        let database = TestDatabase::new().await;
        let shutdown = Shutdown::new();
        let sandbox = Sandbox::open(SandboxConfig::default())
            .await
            .expect("simulators in memory");
        let listener = listen().await;
        let sandbox_url = url(&listener);
        tokio::spawn(sandbox.serve(listener, shutdown.triggered()));

        let (identity, listener) = (Identity::default(), listen().await);
        let house = House::build(url(&listener));
        let role = house.runtime(ServiceName::Identity, listener, &shutdown);
        role.health.set("script", health::Status::Healthy, "");
        let services = Routes::new(EntitlementServiceServer::new(identity.clone()))
            .add_service(ClientDirectoryServiceServer::new(identity.clone()));
        tokio::spawn(mainstay_rpc::serve(role, Arc::new(AnyClient), services));

        let (agency, client) = (AgencyId::generate(), ClientId::generate());
        identity.add(&client.to_string());
        let waiter = {
            let config = mainstay_db::DatabaseConfig {
                app_connections: 1,
                worker_connections: 1,
                ..database.config("billing")
            };
            let own = mainstay_db::Database::connect(&config)
                .await
                .expect("billing's roles");
            Engine::new(
                own.worker(),
                Clock::system(0),
                shutdown.clone(),
                Vec::new(),
                EngineLimits::default(),
            )
        };
        let mut stage = Stage {
            waiter,
            database,
            identity,
            agency,
            client,
            sandbox_url,
            http: reqwest::Client::new(),
            house,
            billing: Process {
                runtime: None,
                url: String::new(),
            },
            shutdown,
        };
        stage.start_billing().await;
        stage
    }

    /// Starts a billing process; one that ran before is killed.
    pub async fn start_billing(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("threads");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let config = self.config();
        let stripe = self.stripe();
        let shutdown = Shutdown::new();
        let (keys, trusted) = (self.house.keys.clone(), self.house.trusted.clone());
        let identity_url = self.house.identity_url.clone();
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        runtime.spawn(async move {
            let house = House {
                keys,
                trusted,
                identity_url,
            };
            let listener = TcpListener::from_std(listener).expect("a socket");
            let role = house.runtime(ServiceName::Billing, listener, &shutdown);
            let database = mainstay_db::Database::connect(&config)
                .await
                .expect("billing's roles");
            let _ = ready.send(());
            let settings = Settings { stripe };
            mainstay_billing::serve(settings, database, role)
                .await
                .expect("billing serves");
        });
        is_ready.await.expect("billing starts");
        self.billing = Process {
            runtime: Some(runtime),
            url,
        };
    }

    /// Kills the billing process: what it was doing ends at whatever await it is at.
    pub fn kill_billing(&mut self) {
        self.billing
            .runtime
            .take()
            .expect("it runs")
            .shutdown_background();
    }

    /// Few connections: many stages share one server.
    fn config(&self) -> mainstay_db::DatabaseConfig {
        mainstay_db::DatabaseConfig {
            app_connections: 5,
            worker_connections: 4,
            ..self.database.config("billing")
        }
    }

    fn stripe(&self) -> StripeApi {
        let base = format!("{}/stripe", self.sandbox_url);
        StripeApi::new("billing", &base, &"sk_test_stage".into()).expect("an HTTP client")
    }

    /// Another coordinator on the same database.
    pub async fn coordinator(&self) -> Engine {
        let database = mainstay_db::Database::connect(&self.config())
            .await
            .expect("billing's roles");
        let settings = Settings {
            stripe: self.stripe(),
        };
        let channels = self.house.channels(ServiceName::Billing, &self.billing.url);
        let (clock, shutdown) = (Clock::system(0), Shutdown::new());
        let limits = EngineLimits::default();
        coordinator(&settings, &database, &channels, clock, shutdown, limits)
    }

    fn gateway(&self) -> ServiceChannel {
        let channels = self.house.channels(ServiceName::Gateway, &self.billing.url);
        channels.channel(ServiceName::Billing)
    }

    /// The plans, as the gateway calls them.
    pub fn plans(&self) -> PlanServiceClient<ServiceChannel> {
        PlanServiceClient::new(self.gateway())
    }

    /// The subscriptions, likewise.
    pub fn subscriptions(&self) -> SubscriptionServiceClient<ServiceChannel> {
        SubscriptionServiceClient::new(self.gateway())
    }

    /// The invoices, likewise.
    pub fn invoices(&self) -> InvoiceServiceClient<ServiceChannel> {
        InvoiceServiceClient::new(self.gateway())
    }

    /// The saga log, likewise.
    pub fn sagas(&self) -> SagaServiceClient<ServiceChannel> {
        SagaServiceClient::new(self.gateway())
    }

    /// A request of the agency's owner.
    pub fn owner<T>(&self, message: T) -> Request<T> {
        let permissions = [
            "billing.plans.create",
            "billing.plans.read",
            "billing.plans.update",
            "billing.plans.archive",
            "billing.subscriptions.create",
            "billing.subscriptions.read",
            "billing.invoices.read",
            "billing.sagas.read",
        ];
        let grant = Grant {
            permissions: permissions.map(str::to_owned).to_vec(),
            clients: None,
        };
        // One key: repeats of a request are those of one principal.
        let key = ApiKeyId::from_uuid(self.agency.uuid());
        let identity = &self.house.keys[&ServiceName::Identity];
        let (token, _) = identity.actor_token(
            &Actor::ApiKey { key },
            self.agency,
            vec![grant],
            0,
            Duration::from_secs(30),
        );
        let mut request = Request::new(message);
        let bearer = format!("Bearer {token}").parse().expect("a token is ASCII");
        request.metadata_mut().insert("authorization", bearer);
        request
    }

    /// The same with an Idempotency-Key.
    pub fn keyed<T>(&self, key: &str, message: T) -> Request<T> {
        let mut request = self.owner(message);
        let key = key.parse().expect("a key is ASCII");
        request.metadata_mut().insert("idempotency-key", key);
        request
    }

    /// Makes a plan.
    pub async fn plan(&self, request: CreatePlanRequest) -> Plan {
        let made = self.plans().create_plan(self.owner(request)).await;
        made.expect("a plan").into_inner()
    }

    /// Asks for a subscription; also whether the answer was "accepted, still running".
    pub async fn subscribe(
        &self,
        request: CreateSubscriptionRequest,
    ) -> Result<Subscription, Problem> {
        let answer = self
            .subscriptions()
            .create_subscription(self.owner(request))
            .await;
        answer.map(Response::into_inner).map_err(problem)
    }

    /// Reads a subscription of the client.
    pub async fn subscription(&self, id: &str) -> Subscription {
        let request = GetSubscriptionRequest {
            client_id: self.client.to_string(),
            subscription_id: id.to_owned(),
        };
        let found = self
            .subscriptions()
            .get_subscription(self.owner(request))
            .await;
        found.expect("a subscription").into_inner()
    }

    /// Reads a saga.
    pub async fn saga(&self, id: &str) -> Saga {
        let request = GetSagaRequest {
            saga_id: id.to_owned(),
        };
        let found = self.sagas().get_saga(self.owner(request)).await;
        found.expect("a saga").into_inner()
    }

    /// Waits until a saga is at rest.
    pub async fn at_rest(&self, saga: &str) -> Standing {
        let id: SagaId = saga.parse().expect("an id of a saga");
        let until = Instant::now() + Duration::from_secs(60);
        let standing = self.waiter.wait(id, until).await.expect("a saga");
        if !standing.at_rest {
            let saga = self.saga(saga).await;
            panic!(
                "the saga does not end: at {} for the {}th time: {}",
                saga.step(),
                saga.attempt(),
                saga.error()
            );
        }
        standing
    }

    /// The newest saga.
    pub async fn newest_saga(&self) -> String {
        let mut connection = self.database.admin().await;
        let sql = "select id from billing.saga order by id desc limit 1";
        let (id,): (uuid::Uuid,) = sqlx::query_as(sql)
            .fetch_one(&mut connection)
            .await
            .expect("a saga");
        SagaId::from_uuid(id).to_string()
    }

    /// What Stripe's ledger holds under this name: `subscriptions`, `charges` …
    pub async fn ledger(&self, what: &str) -> Vec<Value> {
        let url = format!("{}/_/stripe/ledger", self.sandbox_url);
        let ledger: Value = self
            .http
            .get(url)
            .send()
            .await
            .expect("a ledger")
            .json()
            .await
            .expect("JSON");
        ledger[what].as_array().cloned().unwrap_or_default()
    }

    /// Subscriptions at Stripe that still bill or may yet.
    pub async fn live_at_stripe(&self) -> usize {
        let all = self.ledger("subscriptions").await;
        let ended = ["canceled", "incomplete_expired"];
        all.iter()
            .filter(|one| !ended.contains(&one["status"].as_str().unwrap_or_default()))
            .count()
    }

    /// What was charged and not given back, in all.
    pub async fn taken_at_stripe(&self) -> i64 {
        let charges = self.ledger("charges").await;
        let amount = |charge: &Value, name: &str| charge[name].as_i64().unwrap_or_default();
        charges
            .iter()
            .filter(|charge| charge["status"] != "failed")
            .map(|charge| amount(charge, "amount") - amount(charge, "amount_refunded"))
            .sum()
    }

    /// Sets a fault at the simulator.
    pub async fn fault(&self, operation: &str, kind: &str, value: u64, count: u64) {
        let url = format!("{}/_/faults", self.sandbox_url);
        let fault = json!({ "provider": "stripe", "operation": operation, "kind": kind, "value": value, "count": count });
        let answer = self
            .http
            .post(url)
            .json(&fault)
            .send()
            .await
            .expect("an answer");
        assert!(
            answer.status().is_success(),
            "{}",
            answer.text().await.unwrap_or_default()
        );
    }

    /// How often faults have struck.
    pub async fn struck(&self) -> u64 {
        let url = format!("{}/_/faults", self.sandbox_url);
        let faults: Value = self
            .http
            .get(url)
            .send()
            .await
            .expect("an answer")
            .json()
            .await
            .expect("JSON");
        let faults = faults["data"].as_array().cloned().unwrap_or_default();
        faults
            .iter()
            .filter_map(|fault| fault["fired"].as_u64())
            .sum()
    }

    /// Ends all faults, and lets go of the connections they hold.
    pub async fn mend(&self) {
        let url = format!("{}/_/faults", self.sandbox_url);
        self.http.delete(url).send().await.expect("an answer");
    }

    /// Every event that Stripe made, oldest first.
    pub async fn stripe_events(&self) -> Vec<Value> {
        let url = format!("{}/stripe/v1/events?limit=100", self.sandbox_url);
        let request = self.http.get(url).bearer_auth("sk_test_stage");
        let page: Value = request
            .send()
            .await
            .expect("an answer")
            .json()
            .await
            .expect("JSON");
        let mut events = page["data"].as_array().cloned().unwrap_or_default();
        events.reverse();
        events
    }

    /// Hands an event on, as integrations does.
    pub async fn deliver(&self, event: &Value) -> Result<HandleStripeEventResponse, Problem> {
        let channels = self
            .house
            .channels(ServiceName::Integrations, &self.billing.url);
        let channel = channels.channel(ServiceName::Billing);
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let request = HandleStripeEventRequest {
            stripe_event_id: text("id"),
            r#type: text("type"),
            body: serde_json::to_vec(event).expect("JSON"),
        };
        let answer = StripeEventServiceClient::new(channel)
            .handle_stripe_event(request)
            .await;
        answer.map(Response::into_inner).map_err(problem)
    }

    /// A request to subscribe the client to this plan with this payment method.
    pub fn order(&self, plan: &Plan, payment_method: Option<&str>) -> CreateSubscriptionRequest {
        CreateSubscriptionRequest {
            client_id: self.client.to_string(),
            plan_id: plan.id.clone(),
            currency: Some("usd".to_owned()),
            interval: Some(Interval::Month.into()),
            coupon_code: None,
            payment_method_id: payment_method.map(str::to_owned),
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

/// A plan at 997 dollars a month.
pub fn pro() -> CreatePlanRequest {
    let messages = Limit {
        included: Some(1_000),
        beyond: Some(Beyond::Block.into()),
        block_size: None,
        price: None,
    };
    CreatePlanRequest {
        name: Some("Pro".to_owned()),
        prices: vec![price(99_700)],
        trial_days: None,
        entitlements: Some(Entitlements {
            features: vec!["ai_replies".to_owned()],
            limits: [("messages".to_owned(), messages)].into_iter().collect(),
        }),
    }
}

/// A monthly price in dollars.
pub fn price(amount_minor: i64) -> PlanPrice {
    PlanPrice {
        currency: Some("usd".to_owned()),
        interval: Some(Interval::Month.into()),
        amount_minor: Some(amount_minor),
    }
}

/// What a refusal says.
pub fn problem(status: Status) -> Problem {
    assert_ne!(status.code(), Code::Unknown, "{status}");
    Problem::from_status(&status)
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a loopback port is free")
}

fn url(listener: &TcpListener) -> String {
    format!("http://{}", listener.local_addr().expect("it is bound"))
}
