//! The stage: billing between a gateway that the test plays, an identity that follows a script, and simulated Stripe.

#[path = "stage/sagas.rs"]
mod sagas;
#[path = "stage/stripe.rs"]
mod stripe;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mainstay_billing::saga::prover::Sabotage;
use mainstay_billing::saga::{Engine, EngineLimits};
use mainstay_billing::stripe::StripeGateway;
use mainstay_billing::stripe_events::Intake;
use mainstay_billing::{Settings, coordinator};
use mainstay_proto::billing::v1::dispute_service_client::DisputeServiceClient;
use mainstay_proto::billing::v1::invoice_service_client::InvoiceServiceClient;
use mainstay_proto::billing::v1::offboarding_service_client::OffboardingServiceClient;
use mainstay_proto::billing::v1::payment_service_client::PaymentServiceClient;
use mainstay_proto::billing::v1::plan_service_client::PlanServiceClient;
use mainstay_proto::billing::v1::reconciliation_service_client::ReconciliationServiceClient;
use mainstay_proto::billing::v1::saga_service_client::SagaServiceClient;
use mainstay_proto::billing::v1::subscription_service_client::SubscriptionServiceClient;
use mainstay_proto::billing::v1::{
    CreatePlanRequest, CreateSubscriptionRequest, GetSagaRequest, GetSubscriptionRequest, Interval,
    Plan, PlanPrice, Saga, Subscription,
};
use mainstay_proto::common::v1::{Beyond, Entitlements, Limit};
use mainstay_proto::identity::v1::client_directory_service_server::ClientDirectoryServiceServer;
use mainstay_proto::identity::v1::client_offboarding_service_server::ClientOffboardingServiceServer;
use mainstay_proto::identity::v1::client_onboarding_service_server::ClientOnboardingServiceServer;
use mainstay_proto::identity::v1::entitlement_service_server::EntitlementServiceServer;
use mainstay_proto::integrations::v1::sender_parking_service_server::SenderParkingServiceServer;
use mainstay_proto::messaging::v1::client_closing_service_server::ClientClosingServiceServer;
use mainstay_proto::messaging::v1::limit_service_server::LimitServiceServer;
use mainstay_providers::stripe::StripeApi;
use mainstay_rpc::{
    Actor, Channels, ClientDirectory, Grant, Limits, Problem, ServiceChannel, ServiceKey,
    ServiceName, ServiceRuntime, TrustedKeys,
};
use mainstay_runtime::{Clock, Health, Shutdown, health};
use mainstay_sandbox::{Sandbox, SandboxConfig};
use mainstay_testkit::{PATIENCE, TestDatabase};
use mainstay_types::{AgencyId, ApiKeyId, ClientId, SagaId};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};

use crate::identity::Identity;
use crate::integrations::Integrations;
use crate::messaging::Messaging;

/// Everything on the stage.
pub struct Stage {
    pub database: TestDatabase,
    pub identity: Identity,
    pub messaging: Messaging,
    pub integrations: Integrations,
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
#[derive(Clone)]
struct House {
    keys: HashMap<ServiceName, Arc<ServiceKey>>,
    trusted: TrustedKeys,
    identity_url: String,
    messaging_url: String,
    integrations_url: String,
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
    fn build(identity_url: String, messaging_url: String, integrations_url: String) -> Self {
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
            messaging_url,
            integrations_url,
        }
    }

    fn channels(&self, me: ServiceName, billing: &str) -> Channels {
        let addresses = [
            (ServiceName::Identity, self.identity_url.clone()),
            (ServiceName::Messaging, self.messaging_url.clone()),
            (ServiceName::Integrations, self.integrations_url.clone()),
            (ServiceName::Billing, billing.to_owned()),
        ];
        let channels = Channels::new(Arc::clone(&self.keys[&me]), addresses);
        channels.expect("addresses are URLs").patient(PATIENCE)
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
        let (messaging, messaging_listener) = (Messaging::default(), listen().await);
        let (integrations, integrations_listener) = (Integrations::default(), listen().await);
        let house = House::build(
            url(&listener),
            url(&messaging_listener),
            url(&integrations_listener),
        );
        let role = house.runtime(ServiceName::Identity, listener, &shutdown);
        role.health.set("script", health::Status::Healthy, "");
        let services = Routes::new(EntitlementServiceServer::new(identity.clone()))
            .add_service(ClientDirectoryServiceServer::new(identity.clone()))
            .add_service(ClientOnboardingServiceServer::new(identity.clone()))
            .add_service(ClientOffboardingServiceServer::new(identity.clone()));
        tokio::spawn(mainstay_rpc::serve(role, Arc::new(AnyClient), services));
        let role = house.runtime(ServiceName::Messaging, messaging_listener, &shutdown);
        role.health.set("script", health::Status::Healthy, "");
        let services = Routes::new(LimitServiceServer::new(messaging.clone()))
            .add_service(ClientClosingServiceServer::new(messaging.clone()));
        tokio::spawn(mainstay_rpc::serve(role, Arc::new(AnyClient), services));
        let role = house.runtime(ServiceName::Integrations, integrations_listener, &shutdown);
        role.health.set("script", health::Status::Healthy, "");
        let services = Routes::new(SenderParkingServiceServer::new(integrations.clone()));
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
            messaging,
            integrations,
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
        self.start_sabotaged(EngineLimits::default(), None).await;
    }

    /// The same, with sagas that break as they are told.
    pub async fn start_sabotaged(&mut self, limits: EngineLimits, sabotage: Option<Sabotage>) {
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
        let house = self.house.clone();
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a socket");
            let role = house.runtime(ServiceName::Billing, listener, &shutdown);
            let database = mainstay_db::Database::connect(&config)
                .await
                .expect("billing's roles");
            let _ = ready.send(());
            let settings = Settings { stripe };
            mainstay_billing::serve_sabotaged(settings, database, role, limits, sabotage)
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

    /// Another client of the agency.
    pub fn another_client(&self) -> ClientId {
        let client = ClientId::generate();
        self.identity.add(&client.to_string());
        client
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
        coordinator(
            &settings, &database, &channels, clock, shutdown, limits, None,
        )
    }

    /// Billing, as the gateway reaches it.
    pub fn gateway(&self) -> ServiceChannel {
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

    /// The off-boardings, likewise.
    pub fn offboardings(&self) -> OffboardingServiceClient<ServiceChannel> {
        OffboardingServiceClient::new(self.gateway())
    }

    /// The invoices, likewise.
    pub fn invoices(&self) -> InvoiceServiceClient<ServiceChannel> {
        InvoiceServiceClient::new(self.gateway())
    }

    /// The payments, likewise.
    pub fn payments(&self) -> PaymentServiceClient<ServiceChannel> {
        PaymentServiceClient::new(self.gateway())
    }

    /// The disputes, likewise.
    pub fn disputes(&self) -> DisputeServiceClient<ServiceChannel> {
        DisputeServiceClient::new(self.gateway())
    }

    /// What events are taken with, in this process: for what has no door of its own, and for many at once.
    pub async fn intake(&self) -> Intake {
        let config = mainstay_db::DatabaseConfig {
            app_connections: 1,
            worker_connections: 12,
            ..self.database.config("billing")
        };
        let database = mainstay_db::Database::connect(&config)
            .await
            .expect("billing's roles");
        let channels = self.house.channels(ServiceName::Billing, &self.billing.url);
        Intake {
            database,
            stripe: StripeGateway::new(self.stripe()),
            identity: mainstay_billing::identity::Identity::new(&channels),
            engine: self.coordinator().await,
            clock: Clock::system(0),
        }
    }

    /// The saga log, likewise.
    pub fn sagas(&self) -> SagaServiceClient<ServiceChannel> {
        SagaServiceClient::new(self.gateway())
    }

    /// Reconciliation, likewise.
    pub fn reconciliations(&self) -> ReconciliationServiceClient<ServiceChannel> {
        ReconciliationServiceClient::new(self.gateway())
    }

    /// A request of the agency's owner.
    pub fn owner<T>(&self, message: T) -> Request<T> {
        let permissions = [
            "billing.clients.offboard",
            "billing.plans.create",
            "billing.plans.read",
            "billing.plans.update",
            "billing.plans.archive",
            "billing.coupons.create",
            "billing.coupons.read",
            "billing.coupons.delete",
            "billing.subscriptions.create",
            "billing.subscriptions.read",
            "billing.subscriptions.cancel",
            "billing.invoices.read",
            "billing.payments.read",
            "billing.disputes.read",
            "billing.sagas.read",
            "billing.sagas.operate",
            "billing.reconciliations.run",
            "billing.reconciliations.read",
            "billing.discrepancies.read",
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
        self.subscription_of(self.client, id).await
    }

    /// Reads a subscription of another client.
    pub async fn subscription_of(&self, client: ClientId, id: &str) -> Subscription {
        let request = GetSubscriptionRequest {
            client_id: client.to_string(),
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

    /// The newest subscription of a client.
    pub async fn newest_subscription(&self, client: ClientId) -> String {
        let mut connection = self.database.admin().await;
        let sql =
            "select id from billing.subscription where tenant_id = $1 order by id desc limit 1";
        let (id,): (uuid::Uuid,) = sqlx::query_as(sql)
            .bind(client.uuid())
            .fetch_one(&mut connection)
            .await
            .expect("a subscription");
        mainstay_types::SubscriptionId::from_uuid(id).to_string()
    }

    /// A request to subscribe the client to this plan with this payment method.
    pub fn order(&self, plan: &Plan, payment_method: Option<&str>) -> CreateSubscriptionRequest {
        self.order_of(self.client, plan, payment_method)
    }

    /// The same for another client.
    pub fn order_of(
        &self,
        client: ClientId,
        plan: &Plan,
        payment_method: Option<&str>,
    ) -> CreateSubscriptionRequest {
        CreateSubscriptionRequest {
            client_id: client.to_string(),
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
