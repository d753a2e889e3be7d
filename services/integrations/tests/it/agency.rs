//! Integrations for agencies: people who keep accounts, senders and forms, and the services that ask about them. Identity is
//! played: it knows every client but one. So is messaging: it takes every event, unless the test says otherwise.
//! Deliberately absent: billing ([`crate::stage`] plays it).

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay_integrations::Settings;
use mainstay_integrations::config::VerificationSecrets;
use mainstay_integrations::vault::MasterKeys;
use mainstay_proto::identity::v1 as identity;
use mainstay_proto::identity::v1::client_directory_service_server::{
    ClientDirectoryService, ClientDirectoryServiceServer,
};
use mainstay_proto::integrations::v1 as proto;
use mainstay_proto::integrations::v1::form_endpoint_service_client::FormEndpointServiceClient;
use mainstay_proto::integrations::v1::provider_account_service_client::ProviderAccountServiceClient;
use mainstay_proto::integrations::v1::sender_directory_service_client::SenderDirectoryServiceClient;
use mainstay_proto::integrations::v1::sender_service_client::SenderServiceClient;
use mainstay_proto::integrations::v1::webhook_intake_service_client::WebhookIntakeServiceClient;
use mainstay_proto::messaging::v1::provider_event_service_server::{
    ProviderEventService, ProviderEventServiceServer,
};
use mainstay_proto::messaging::v1::{
    HandleProviderEventRequest, HandleProviderEventResponse, ProviderEventOutcome,
};
use mainstay_rpc::{Actor, Grant, Problem, RemoteDirectory, ServiceChannel, ServiceName};
use mainstay_runtime::Clock;
use mainstay_testkit::stage::SignedIn;
use mainstay_testkit::{Stage, TestDatabase, in_time};
use mainstay_types::{AgencyId, ApiKeyId, ClientId};
use sqlx::{AssertSqlSafe, Row as _};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::stage::MASTER_KEY;

/// An auth token of Twilio's, and another one.
pub const TOKEN: &str = "b3a1f0c2d4e5968778695a4b3c2d1e0f";
pub const NEXT_TOKEN: &str = "0f1e2d3c4b5a69788796e5d4c2f0a1b3";

/// Everything that runs.
pub struct World {
    pub postgres: TestDatabase,
    stage: Stage,
    heard: mpsc::UnboundedReceiver<HandleProviderEventRequest>,
    answers: Answers,
    serving: JoinHandle<Result<(), mainstay_integrations::ServeError>>,
}

type Answers = Arc<Mutex<VecDeque<Result<HandleProviderEventResponse, Status>>>>;

/// Messaging, which says of each event what is next on its list, and `applied` when there is nothing left on it.
struct Messaging {
    heard: mpsc::UnboundedSender<HandleProviderEventRequest>,
    answers: Answers,
}

#[tonic::async_trait]
impl ProviderEventService for Messaging {
    async fn handle_provider_event(
        &self,
        request: Request<HandleProviderEventRequest>,
    ) -> Result<Response<HandleProviderEventResponse>, Status> {
        let (context, request) = mainstay_rpc::open(request)?;
        assert_eq!(context.caller, ServiceName::Integrations);
        let next = self
            .answers
            .lock()
            .expect("no test panics here")
            .pop_front();
        self.heard.send(request).expect("the test listens");
        next.unwrap_or_else(|| Ok(answer(ProviderEventOutcome::Applied)))
            .map(Response::new)
    }
}

/// An answer of messaging's.
pub fn answer(outcome: ProviderEventOutcome) -> HandleProviderEventResponse {
    HandleProviderEventResponse {
        outcome: outcome.into(),
        ..Default::default()
    }
}

/// A client that no agency has.
pub fn stranger() -> ClientId {
    ClientId::from_uuid(uuid::Uuid::from_u128(7))
}

struct EveryClient;

#[tonic::async_trait]
impl ClientDirectoryService for EveryClient {
    async fn lookup_client(
        &self,
        request: Request<identity::LookupClientRequest>,
    ) -> Result<Response<identity::LookupClientResponse>, Status> {
        let id = request.into_inner().client_id;
        if id == stranger().to_string() {
            return Err(Problem::not_found("client").into());
        }
        let client = identity::Client {
            id: Some(id),
            state: Some(identity::ClientState::Active.into()),
            ..Default::default()
        };
        Ok(Response::new(identity::LookupClientResponse {
            client: Some(client),
        }))
    }
}

/// Nobody is there whom it could read from.
fn settings(master_keys: &str) -> Settings {
    Settings {
        verification: VerificationSecrets::default(),
        master_keys: MasterKeys::parse(master_keys).expect("master keys"),
        inbox_connections: 4,
        twilio: "http://127.0.0.1:9".to_owned(),
        recover_after: Duration::from_secs(86_400),
        plain_http_allowed: true,
    }
}

impl World {
    /// Integrations on a database of its own.
    pub async fn new() -> Self {
        Self::on(TestDatabase::new().await, MASTER_KEY).await
    }

    /// The same, reading what this Twilio has, again and again.
    pub async fn reading(twilio: &str) -> Self {
        let settings = Settings {
            twilio: twilio.to_owned(),
            recover_after: Duration::from_secs(1),
            ..settings(MASTER_KEY)
        };
        Self::with(TestDatabase::new().await, settings).await
    }

    /// Integrations on this database, with these master keys.
    pub async fn on(postgres: TestDatabase, master_keys: &str) -> Self {
        Self::with(postgres, settings(master_keys)).await
    }

    async fn with(postgres: TestDatabase, settings: Settings) -> Self {
        let clock = Clock::system(0);
        let roles = [
            ServiceName::Identity,
            ServiceName::Messaging,
            ServiceName::Integrations,
        ];
        let mut stage = Stage::new(&roles).await;
        let played = stage.runtime(ServiceName::Identity, &clock);
        let directory = Arc::new(RemoteDirectory::new(&played.channels));
        let routes = Routes::new(ClientDirectoryServiceServer::new(EveryClient));
        tokio::spawn(mainstay_rpc::serve(played, directory, routes));
        let played = stage.runtime(ServiceName::Messaging, &clock);
        let directory = Arc::new(RemoteDirectory::new(&played.channels));
        let (hears, heard) = mpsc::unbounded_channel();
        let answers = Answers::default();
        let messaging = Messaging {
            heard: hears,
            answers: Arc::clone(&answers),
        };
        let routes = Routes::new(ProviderEventServiceServer::new(messaging));
        tokio::spawn(mainstay_rpc::serve(played, directory, routes));
        let own = stage.runtime(ServiceName::Integrations, &clock);
        let database = postgres.database("integrations").await;
        let serving = tokio::spawn(mainstay_integrations::serve(settings, database, own));
        World {
            postgres,
            stage,
            heard,
            answers,
            serving,
        }
    }

    /// Why integrations does not serve, and its database.
    pub async fn serving_refused(self) -> (String, TestDatabase) {
        let ended = self.serving.await.expect("no panic");
        let refusal = ended.expect_err("it refuses to start");
        (refusal.to_string(), self.postgres)
    }

    /// Integrations stops; its database stays.
    pub async fn stop(self) -> TestDatabase {
        self.stage.shutdown().trigger();
        self.serving.await.expect("no panic").expect("a clean end");
        self.postgres
    }

    /// Messaging says this of the next event.
    pub fn messaging_says(&self, next: Result<HandleProviderEventResponse, Status>) {
        let mut answers = self.answers.lock().expect("no test panics here");
        answers.push_back(next);
    }

    /// What messaging is handed next.
    pub async fn messaging_hears(&mut self) -> HandleProviderEventRequest {
        in_time("messaging is handed something", self.heard.recv())
            .await
            .expect("messaging plays on")
    }

    /// Stores a webhook, as the gateway does.
    pub async fn store(&self, webhook: proto::Webhook) {
        let request = proto::StoreWebhooksRequest {
            webhooks: vec![webhook],
        };
        self.intake().store_webhooks(request).await.expect("stored");
    }

    /// An agency.
    pub fn agency(&self) -> Agency<'_> {
        Agency {
            world: self,
            id: AgencyId::generate(),
            client: ClientId::generate(),
        }
    }

    /// What the gateway asks.
    pub fn intake(&self) -> WebhookIntakeServiceClient<ServiceChannel> {
        let gateway = ServiceName::Gateway;
        WebhookIntakeServiceClient::new(self.stage.channel(gateway, ServiceName::Integrations))
    }

    /// What a service asks.
    pub fn directory(&self, caller: ServiceName) -> SenderDirectoryServiceClient<ServiceChannel> {
        SenderDirectoryServiceClient::new(self.stage.channel(caller, ServiceName::Integrations))
    }

    /// Asks the database again until it counts so many.
    pub async fn until(&self, wanted: i64, count: &str) {
        let asked = async {
            let mut pace = tokio::time::interval(Duration::from_millis(20));
            while self.postgres.count(count).await != wanted {
                pace.tick().await;
            }
        };
        in_time(&format!("{wanted}: {count}"), asked).await;
    }

    /// By what an account's webhooks are verified; empty when they are not.
    pub async fn verified_by(&self, provider: &str, token: &str) -> Vec<String> {
        let asked = proto::ListVerificationSecretsRequest {
            provider: provider.to_owned(),
            endpoint_token: token.to_owned(),
        };
        match self.intake().list_verification_secrets(asked).await {
            Ok(known) => known.into_inner().secrets,
            Err(status) => {
                assert_eq!(status.code(), tonic::Code::NotFound, "{status}");
                Vec::new()
            }
        }
    }

    /// Every row of the service's schema, as text.
    pub async fn dump(&self) -> String {
        let mut admin = self.postgres.admin().await;
        let tables = sqlx::query(
            "select c.relname::text as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
             where n.nspname = 'integrations' and c.relkind = 'r'",
        )
        .fetch_all(&mut admin)
        .await
        .expect("the catalogue");
        let mut text = String::new();
        for table in tables {
            let name: String = table.get("name");
            let rows = format!("select t::text as row from integrations.\"{name}\" t");
            let rows = sqlx::query(AssertSqlSafe(rows)).fetch_all(&mut admin).await;
            for row in rows.expect("rows") {
                text.push_str(&row.get::<String, _>("row"));
                text.push('\n');
            }
        }
        text
    }
}

/// An agency with a client.
pub struct Agency<'w> {
    pub world: &'w World,
    pub id: AgencyId,
    pub client: ClientId,
}

impl Agency<'_> {
    fn signed_in(&self) -> SignedIn {
        let permissions = [
            "integrations.provider_accounts.read",
            "integrations.provider_accounts.manage",
            "integrations.senders.read",
            "integrations.senders.manage",
            "integrations.form_endpoints.read",
            "integrations.form_endpoints.manage",
            "integrations.webhook_events.read",
        ];
        let grant = Grant {
            permissions: permissions.map(str::to_owned).into(),
            clients: None,
        };
        let actor = Actor::ApiKey {
            key: ApiKeyId::generate(),
        };
        let integrations = ServiceName::Integrations;
        self.world
            .stage
            .signed_in(integrations, &actor, self.id, vec![grant])
    }

    /// Its accounts.
    pub fn accounts(&self) -> ProviderAccountServiceClient<SignedIn> {
        ProviderAccountServiceClient::new(self.signed_in())
    }

    /// Its senders.
    pub fn senders(&self) -> SenderServiceClient<SignedIn> {
        SenderServiceClient::new(self.signed_in())
    }

    /// The forms of its client.
    pub fn forms(&self) -> FormEndpointServiceClient<SignedIn> {
        FormEndpointServiceClient::new(self.signed_in())
    }

    /// Adds an account.
    pub async fn add(
        &self,
        request: proto::CreateProviderAccountRequest,
    ) -> proto::ProviderAccount {
        let added = self.accounts().create_provider_account(request).await;
        added.expect("an account").into_inner()
    }

    /// Adds a sender.
    pub async fn add_sender(
        &self,
        request: proto::CreateSenderRequest,
    ) -> Result<proto::Sender, Status> {
        let added = self.senders().create_sender(request).await?;
        Ok(added.into_inner())
    }

    /// From whom a message of its client may leave.
    pub async fn resolve(&self, channel: &str) -> Vec<proto::SendingAccount> {
        let request = proto::ResolveSendersRequest {
            agency_id: self.id.to_string(),
            client_id: self.client.to_string(),
            channel: channel.to_owned(),
            sender_address: None,
        };
        let directory = &mut self.world.directory(ServiceName::Messaging);
        let found = directory.resolve_senders(request).await;
        found.expect("an answer").into_inner().accounts
    }
}

/// An account of Twilio's with this auth token.
pub fn twilio(token: &str) -> proto::CreateProviderAccountRequest {
    account(proto::Provider::Twilio, twilio_credentials(token))
}

/// What Twilio gives.
pub fn twilio_credentials(token: &str) -> proto::ProviderCredentials {
    proto::ProviderCredentials {
        account_sid: Some("AC5ef8732a3c49700934481addd5ce1659".to_owned()),
        auth_token: Some(token.to_owned()),
        ..Default::default()
    }
}

/// An account of Resend's.
pub fn resend() -> proto::CreateProviderAccountRequest {
    let credentials = proto::ProviderCredentials {
        api_key: Some("re_123456789abcdef".to_owned()),
        webhook_secret: Some("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()),
        ..Default::default()
    };
    account(proto::Provider::Resend, credentials)
}

/// An account of SendGrid's.
pub fn sendgrid() -> proto::CreateProviderAccountRequest {
    let credentials = proto::ProviderCredentials {
        api_key: Some("SG.123456789abcdef".to_owned()),
        webhook_public_key: Some(
            "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==".to_owned(),
        ),
        ..Default::default()
    };
    account(proto::Provider::Sendgrid, credentials)
}

/// An account.
pub fn account(
    provider: proto::Provider,
    credentials: proto::ProviderCredentials,
) -> proto::CreateProviderAccountRequest {
    proto::CreateProviderAccountRequest {
        provider: Some(provider.into()),
        name: Some("Main".to_owned()),
        credentials: Some(credentials),
        is_default: None,
    }
}

/// A sender of an account.
pub fn sender(
    account: &proto::ProviderAccount,
    channel: proto::SenderChannel,
    address: &str,
    client: Option<ClientId>,
) -> proto::CreateSenderRequest {
    proto::CreateSenderRequest {
        account_id: account.id.clone(),
        channel: Some(channel.into()),
        address: Some(address.to_owned()),
        client_id: client.map(|client| client.to_string()),
        rate_per_second: None,
        forward_calls_to: None,
    }
}

/// The fields at fault.
pub fn faults(status: &Status) -> Vec<String> {
    let problem = Problem::from_status(status);
    let fields = problem.errors().iter();
    fields.map(|fault| fault.field.clone()).collect()
}

/// The secrets of an account that something may leave with.
pub fn credentials(sending: &proto::SendingAccount) -> BTreeMap<&str, &str> {
    let fields = sending.credentials.iter();
    fields
        .map(|(field, secret)| (field.as_str(), secret.as_str()))
        .collect()
}
