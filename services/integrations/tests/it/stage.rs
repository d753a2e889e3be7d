//! The stage: integrations between a gateway that the test plays and a billing that follows a script.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay_db::Database;
use mainstay_integrations::Settings;
use mainstay_integrations::config::VerificationSecrets;
use mainstay_integrations::vault::MasterKeys;
use mainstay_proto::billing::v1::stripe_event_service_server::{
    StripeEventService, StripeEventServiceServer,
};
use mainstay_proto::billing::v1::{
    HandleStripeEventRequest, HandleStripeEventResponse, StripeEventOutcome,
};
use mainstay_proto::integrations::v1::dead_letter_service_client::DeadLetterServiceClient;
use mainstay_proto::integrations::v1::webhook_event_service_client::WebhookEventServiceClient;
use mainstay_proto::integrations::v1::webhook_intake_service_client::WebhookIntakeServiceClient;
use mainstay_proto::integrations::v1::{StoreWebhooksRequest, StoredWebhook, Webhook};
use mainstay_rpc::server::Limits;
use mainstay_rpc::{
    Actor, Channels, Grant, RemoteDirectory, ServiceChannel, ServiceKey, ServiceName,
    ServiceRuntime, TrustedKeys, open,
};
use mainstay_runtime::clock::Clock;
use mainstay_runtime::health::{Health, Status as Fitness};
use mainstay_runtime::shutdown::Shutdown;
use mainstay_testkit::{PATIENCE, TestDatabase, in_time};
use mainstay_types::{AgencyId, ApiKeyId, ClientId};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

/// A master key.
pub const MASTER_KEY: &str =
    "2026:5c1a60b2f7d84e93a1c05b7e2d9f4836b0e7c4d15a8f29637be01d4c8a52f963";

/// What billing answers to one event.
pub type Line = Result<HandleStripeEventResponse, Status>;

/// Billing as the script has it: to each event these answers in this order, the last one again and again; to an event
/// that is not in it, `applied`.
#[derive(Clone)]
struct Script {
    lines: Arc<Mutex<HashMap<&'static str, VecDeque<Line>>>>,
    heard: mpsc::UnboundedSender<Heard>,
}

/// What billing was handed.
#[derive(Debug)]
pub struct Heard {
    pub event: HandleStripeEventRequest,
    pub traceparent: Option<String>,
}

#[tonic::async_trait]
impl StripeEventService for Script {
    async fn handle_stripe_event(
        &self,
        request: Request<HandleStripeEventRequest>,
    ) -> Result<Response<HandleStripeEventResponse>, Status> {
        let traceparent = request
            .metadata()
            .get("traceparent")
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let (context, event) = open(request)?;
        assert_eq!(context.caller, ServiceName::Integrations);
        let line = {
            let mut script = self.lines.lock().expect("no test panics here");
            script
                .get_mut(event.stripe_event_id.as_str())
                .and_then(|lines| match lines.len() {
                    1 => lines.front().cloned(),
                    _ => lines.pop_front(),
                })
        };
        self.heard
            .send(Heard { event, traceparent })
            .expect("the test listens");
        line.unwrap_or_else(|| Ok(answer(StripeEventOutcome::Applied, None)))
            .map(Response::new)
    }
}

/// An answer of billing.
pub fn answer(
    outcome: StripeEventOutcome,
    whose: Option<(AgencyId, ClientId)>,
) -> HandleStripeEventResponse {
    HandleStripeEventResponse {
        outcome: outcome.into(),
        detail: String::new(),
        agency_id: whose.map(|(agency, _)| agency.to_string()),
        client_id: whose.map(|(_, client)| client.to_string()),
    }
}

/// Everything on the stage.
pub struct Stage {
    pub database: TestDatabase,
    /// The database as the service has it.
    pub own: Database,
    heard: mpsc::UnboundedReceiver<Heard>,
    gateway: Channels,
    billing: Channels,
    identity: ServiceKey,
    shutdown: Shutdown,
    serving: Vec<JoinHandle<()>>,
}

impl Stage {
    /// Integrations and billing serve.
    pub async fn start() -> Self {
        Self::with_script([]).await
    }

    /// Integrations and billing serve, and billing answers so.
    pub async fn with_script<const N: usize>(script: [(&'static str, Vec<Line>); N]) -> Self {
        Self::on(TestDatabase::new().await, script).await
    }

    /// The same on a database that holds something already.
    pub async fn on<const N: usize>(
        database: TestDatabase,
        script: [(&'static str, Vec<Line>); N],
    ) -> Self {
        let keys: Vec<ServiceKey> = ServiceName::ALL
            .into_iter()
            .map(ServiceKey::generate)
            .collect();
        let trusted = keys.iter().fold(TrustedKeys::new(), |trusted, key| {
            trusted
                .trust(key.service(), &key.public_hex())
                .expect("a key of its own making")
        });
        let [integrations, billing] = [listener().await, listener().await];
        let addresses = [
            (ServiceName::Integrations, url(&integrations)),
            (ServiceName::Billing, url(&billing)),
        ];
        let mut key_of = keys
            .into_iter()
            .map(|key| (key.service(), key))
            .collect::<HashMap<_, _>>();
        let mut channels = |service: ServiceName| {
            let key = key_of.remove(&service).expect("each service has one key");
            let channels = Channels::new(Arc::new(key), addresses.clone());
            channels.expect("addresses are URLs").patient(PATIENCE)
        };
        let shutdown = Shutdown::new();
        let clock = Clock::system(0);
        let runtime = |me, listener, channels| ServiceRuntime {
            me,
            trusted: trusted.clone(),
            channels,
            clock: clock.clone(),
            shutdown: shutdown.clone(),
            health: Health::new(),
            listener,
            limits: Limits::default(),
        };

        let (heard_by_billing, heard) = mpsc::unbounded_channel();
        let lines = script
            .into_iter()
            .map(|(event, lines)| (event, VecDeque::from(lines)));
        let script = Script {
            lines: Arc::new(Mutex::new(lines.collect())),
            heard: heard_by_billing,
        };
        let billing_channels = channels(ServiceName::Billing);
        let billing = runtime(ServiceName::Billing, billing, billing_channels.clone());
        billing.health.set("script", Fitness::Healthy, "");
        let directory = Arc::new(RemoteDirectory::new(&billing.channels));
        let played = tokio::spawn(async move {
            let services = Routes::new(StripeEventServiceServer::new(script));
            mainstay_rpc::serve(billing, directory, services)
                .await
                .expect("billing serves");
        });

        let own = database.database("integrations").await;
        let settings = Settings {
            verification: VerificationSecrets {
                stripe: vec!["whsec_new".into(), "whsec_old".into()],
                twilio: Vec::new(),
            },
            master_keys: MasterKeys::parse(MASTER_KEY).expect("a master key"),
            inbox_connections: 4,
            twilio: "http://127.0.0.1:9".to_owned(),
            recover_after: Duration::from_secs(86_400),
            plain_http_allowed: true,
        };
        let serving = mainstay_integrations::serve(
            settings,
            own.clone(),
            runtime(
                ServiceName::Integrations,
                integrations,
                channels(ServiceName::Integrations),
            ),
        );
        let serving = tokio::spawn(async move { serving.await.expect("integrations serves") });
        let gateway = channels(ServiceName::Gateway);
        let identity = key_of
            .remove(&ServiceName::Identity)
            .expect("identity has a key");
        Stage {
            database,
            own,
            heard,
            gateway,
            billing: billing_channels,
            identity,
            shutdown,
            serving: vec![played, serving],
        }
    }

    /// What billing is handed next.
    pub async fn billing_hears(&mut self) -> Heard {
        in_time("billing is handed something", self.heard.recv())
            .await
            .expect("billing plays on")
    }

    /// Whether billing was handed more than the test has heard.
    pub fn billing_heard_more(&mut self) -> bool {
        self.heard.try_recv().is_ok()
    }

    /// The intake, as the gateway calls it.
    pub fn intake(&self) -> WebhookIntakeServiceClient<ServiceChannel> {
        WebhookIntakeServiceClient::new(self.gateway.channel(ServiceName::Integrations))
    }

    /// The intake, as billing would call it.
    pub fn intake_for_billing(&self) -> WebhookIntakeServiceClient<ServiceChannel> {
        WebhookIntakeServiceClient::new(self.billing.channel(ServiceName::Integrations))
    }

    /// The inbox, as the gateway calls it for people.
    pub fn inbox(&self) -> WebhookEventServiceClient<ServiceChannel> {
        WebhookEventServiceClient::new(self.gateway.channel(ServiceName::Integrations))
    }

    /// The dead letters, as the gateway calls them for people.
    pub fn dead_letters(&self) -> DeadLetterServiceClient<ServiceChannel> {
        DeadLetterServiceClient::new(self.gateway.channel(ServiceName::Integrations))
    }

    /// Asks the database again until it counts so many.
    pub async fn until(&self, wanted: i64, count: &str) {
        let asked = async {
            let mut pace = tokio::time::interval(Duration::from_millis(20));
            while self.database.count(count).await != wanted {
                pace.tick().await;
            }
        };
        in_time(&format!("{wanted}: {count}"), asked).await;
    }

    /// A request in the name of a key of this agency that may see its webhooks (of these clients only).
    pub fn acting_for<T>(
        &self,
        agency: AgencyId,
        clients: Option<Vec<ClientId>>,
        message: T,
    ) -> Request<T> {
        let grant = Grant {
            permissions: [
                "integrations.webhook_events.read",
                "integrations.webhook_events.replay",
                "integrations.dead_letters.read",
                "integrations.dead_letters.replay",
            ]
            .map(str::to_owned)
            .into(),
            clients,
        };
        let actor = Actor::ApiKey {
            key: ApiKeyId::generate(),
        };
        let (token, _) =
            self.identity
                .actor_token(&actor, agency, vec![grant], 0, Duration::from_secs(30));
        let mut request = Request::new(message);
        let bearer = format!("Bearer {token}").parse().expect("a token is ASCII");
        request.metadata_mut().insert("authorization", bearer);
        request
    }

    /// Stores these, as one batch.
    pub async fn store(&self, webhooks: Vec<Webhook>) -> Result<Vec<StoredWebhook>, Status> {
        let stored = self
            .intake()
            .store_webhooks(StoreWebhooksRequest { webhooks })
            .await?;
        Ok(stored.into_inner().results)
    }

    /// Everything stops as a role does: what is in hand is finished.
    pub async fn stop(self) -> TestDatabase {
        self.shutdown.trigger();
        for serving in self.serving {
            serving.await.expect("a role ends without a panic");
        }
        self.database
    }
}

/// A webhook of Stripe's.
pub fn webhook(event_key: &str, kind: &str) -> Webhook {
    Webhook {
        provider: "stripe".to_owned(),
        account: "default".to_owned(),
        event_key: event_key.to_owned(),
        r#type: kind.to_owned(),
        body: format!(r#"{{"id":"{event_key}","type":"{kind}"}}"#).into(),
        content_type: "application/json".to_owned(),
        received_at: None,
        traceparent: None,
    }
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a loopback port is free")
}

fn url(listener: &TcpListener) -> String {
    format!("http://{}", listener.local_addr().expect("it is bound"))
}
