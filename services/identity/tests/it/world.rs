//! A running identity service, an agency in it, and callers of every kind.
//! Deliberately absent: a way around the server stack; what tests say to identity goes over the wire.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay_identity::bootstrap::{Ensured, Wanted, ensure_agency};
use mainstay_identity::keys::{LookupKey, SignInKey};
use mainstay_identity::sign_in::rules::Limits as CodeLimits;
use mainstay_identity::{Identity, Settings, serve};
use mainstay_proto::identity::v1 as proto;
use mainstay_proto::identity::v1::{
    account_service_client::AccountServiceClient, api_key_service_client::ApiKeyServiceClient,
    audit_service_client::AuditServiceClient, client_service_client::ClientServiceClient,
    credential_service_client::CredentialServiceClient,
    entitlement_service_client::EntitlementServiceClient,
    member_service_client::MemberServiceClient, role_service_client::RoleServiceClient,
    session_service_client::SessionServiceClient, sign_in_service_client::SignInServiceClient,
};
use mainstay_proto::messaging::v1 as messaging;
use mainstay_proto::messaging::v1::notice_service_server::{NoticeService, NoticeServiceServer};
use mainstay_rpc::token::access::AccessKeys;
use mainstay_rpc::{
    Actor, Channels, ErrorReason, Grant, Limits, Problem, RemoteDirectory, ServiceChannel,
    ServiceKey, ServiceRuntime, TrustedKeys,
};
use mainstay_runtime::clock::ClockHand;
use mainstay_runtime::{Clock, Health, Shutdown};
use mainstay_testkit::{Looks, PATIENCE, TestDatabase};
use mainstay_types::{AgencyId, ClientId, MemberId, PersonId, ServiceName};
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status};

pub struct World {
    pub postgres: TestDatabase,
    pub identity: Identity,
    pub hand: ClockHand,
    pub clock: Clock,
    pub signer: Arc<ServiceKey>,
    pub mailbox: Mailbox,
    trusted: TrustedKeys,
    keys: Vec<Arc<ServiceKey>>,
    messaging: String,
    channels: Vec<(ServiceName, Channels)>,
    shutdown: Shutdown,
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

impl World {
    pub async fn new() -> Self {
        Self::with(CodeLimits::default()).await
    }

    /// With other limits of codes.
    pub async fn with(limits: CodeLimits) -> Self {
        let postgres = TestDatabase::new().await;
        let database = postgres.database("identity").await;
        // Tokens live by wall time, so platform time begins there.
        let (clock, hand) = Clock::fixed(Clock::system(0).now());
        let keys: Vec<Arc<ServiceKey>> = ServiceName::ALL
            .map(|s| Arc::new(ServiceKey::generate(s)))
            .into();
        let trusted = keys.iter().fold(TrustedKeys::new(), |trusted, key| {
            trusted
                .trust(key.service(), &key.public_hex())
                .expect("a public key")
        });
        let signer = keys
            .iter()
            .find(|key| key.service() == ServiceName::Identity)
            .expect("one of all")
            .clone();
        let settings = settings(limits);
        let identity = Identity::new(database, clock.clone(), settings, signer.clone());
        let mut world = World {
            postgres,
            identity,
            hand,
            clock,
            signer,
            mailbox: Mailbox::default(),
            trusted,
            keys,
            messaging: String::new(),
            channels: Vec::new(),
            shutdown: Shutdown::new(),
        };
        world.messaging = world.serve_messaging().await;
        world.channels = world.serve_identity().await;
        world
    }

    /// One more identity on the same database, and the gateway's way to it.
    pub async fn replica(&self) -> ServiceChannel {
        let channels = self.serve_identity().await;
        let of_gateway = channels
            .into_iter()
            .find(|(service, _)| *service == ServiceName::Gateway);
        let (_, channels) = of_gateway.expect("one of all");
        channels.channel(ServiceName::Identity)
    }

    async fn serve_identity(&self) -> Vec<(ServiceName, Channels)> {
        let (listener, address) = port().await;
        let to = [
            (ServiceName::Identity, address),
            (ServiceName::Messaging, self.messaging.clone()),
        ];
        let channels: Vec<(ServiceName, Channels)> = self
            .keys
            .iter()
            .map(|key| {
                let channels = Channels::new(Arc::clone(key), to.clone()).expect("an address");
                (key.service(), channels.patient(PATIENCE))
            })
            .collect();
        let runtime = self.runtime(ServiceName::Identity, &channels, listener);
        let serving = serve(self.identity.clone(), runtime);
        tokio::spawn(async move { serving.await.expect("serves until the test ends") });
        channels
    }

    /// Stands in for messaging: keeps what is to be sent.
    async fn serve_messaging(&self) -> String {
        let (listener, address) = port().await;
        let key = self.keys.first().expect("one of all");
        let channels = Channels::new(Arc::clone(key), []).expect("no address");
        let channels = [(ServiceName::Messaging, channels)];
        let runtime = self.runtime(ServiceName::Messaging, &channels, listener);
        let directory = Arc::new(RemoteDirectory::new(&runtime.channels));
        let routes = Routes::new(NoticeServiceServer::new(self.mailbox.clone()));
        tokio::spawn(mainstay_rpc::serve(runtime, directory, routes));
        address
    }

    fn runtime(
        &self,
        me: ServiceName,
        channels: &[(ServiceName, Channels)],
        listener: tokio::net::TcpListener,
    ) -> ServiceRuntime {
        let (_, own) = channels
            .iter()
            .find(|(service, _)| *service == me)
            .expect("one of all");
        ServiceRuntime {
            me,
            trusted: self.trusted.clone(),
            channels: own.clone(),
            clock: self.clock.clone(),
            shutdown: self.shutdown.clone(),
            health: Health::new(),
            listener,
            limits: Limits::default(),
        }
    }

    /// Whoever is not signed in yet, at the gateway.
    pub fn stranger(&self) -> SignInServiceClient<ServiceChannel> {
        SignInServiceClient::new(self.channel(ServiceName::Gateway))
    }

    /// A channel on which `caller` calls identity.
    pub fn channel(&self, caller: ServiceName) -> ServiceChannel {
        let (_, channels) = self
            .channels
            .iter()
            .find(|(service, _)| *service == caller)
            .expect("one of all");
        channels.channel(ServiceName::Identity)
    }

    pub fn credentials(&self) -> CredentialServiceClient<ServiceChannel> {
        CredentialServiceClient::new(self.channel(ServiceName::Gateway))
    }

    /// Billing, writing entitlements.
    pub fn billing(&self) -> EntitlementServiceClient<ServiceChannel> {
        EntitlementServiceClient::new(self.channel(ServiceName::Billing))
    }

    pub async fn exchange(
        &self,
        secret: &str,
    ) -> Result<proto::ExchangeCredentialResponse, Status> {
        let request = proto::ExchangeCredentialRequest {
            credential: secret.to_owned(),
        };
        Ok(self
            .credentials()
            .exchange_credential(request)
            .await?
            .into_inner())
    }

    /// The agency of this slug, with its owner signed in by key.
    pub async fn agency(&self, slug: &str) -> Agency<'_> {
        let ensured = ensure_agency(&self.identity, &wanted(slug), None)
            .await
            .expect("an agency");
        let secret = ensured.secret.clone().expect("a new key");
        let token = self
            .exchange(&secret)
            .await
            .expect("the owner's key opens")
            .token;
        Agency {
            world: self,
            id: ensured.agency,
            owner: Caller {
                channel: self.channel(ServiceName::Gateway),
                token,
            },
            ensured,
            secret,
        }
    }

    /// A caller whose token says exactly this, as identity would sign it for a member.
    pub fn member(&self, agency: AgencyId, member: MemberId, grants: Vec<Grant>) -> Caller {
        let actor = Actor::Member {
            member,
            person: PersonId::generate(),
        };
        let life = std::time::Duration::from_secs(60);
        let (token, _) = self.signer.actor_token(&actor, agency, grants, 1, life);
        Caller {
            channel: self.channel(ServiceName::Gateway),
            token,
        }
    }

    /// Whoever holds this API key.
    pub async fn holder(&self, secret: &str) -> Caller {
        let token = self.exchange(secret).await.expect("the key opens").token;
        Caller {
            channel: self.channel(ServiceName::Gateway),
            token,
        }
    }
}

/// Keys that are no secrets.
pub fn settings(limits: CodeLimits) -> Settings {
    Settings {
        lookup: LookupKey::new(&[7; 32]),
        access: AccessKeys::new(&[8; 32]),
        sign_in: SignInKey::new(&[9; 32]),
        limits,
    }
}

async fn port() -> (tokio::net::TcpListener, String) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    (listener, address)
}

pub fn wanted(slug: &str) -> Wanted {
    Wanted {
        slug: slug.to_owned(),
        name: format!("Agency {slug}"),
        owner_name: "Olga Owner".to_owned(),
        owner_email: format!("owner@{slug}.test"),
    }
}

pub struct Agency<'w> {
    pub world: &'w World,
    pub id: AgencyId,
    pub owner: Caller,
    pub ensured: Ensured,
    pub secret: String,
}

impl Agency<'_> {
    pub async fn client(&self, name: &str) -> ClientId {
        let made = self
            .owner
            .clients()
            .create_client(new_client(name))
            .await
            .expect("a client")
            .into_inner();
        made.id.expect("an id").parse().expect("a client id")
    }

    /// Adds a member and gives its id.
    pub async fn add(&self, name: &str, role: &str) -> MemberId {
        let member = self
            .owner
            .members()
            .create_member(new_member(name, role, None))
            .await
            .expect("a member");
        member
            .into_inner()
            .id
            .expect("an id")
            .parse()
            .expect("a member id")
    }

    /// A member with everything, as a token says it.
    pub fn signed_in(
        &self,
        member: MemberId,
        permissions: &[&str],
        clients: Option<Vec<ClientId>>,
    ) -> Caller {
        let permissions = permissions.iter().map(|p| (*p).to_owned()).collect();
        self.world.member(
            self.id,
            member,
            vec![Grant {
                permissions,
                clients,
            }],
        )
    }

    /// The id as other services send it.
    pub fn text(&self) -> String {
        self.id.to_string()
    }
}

pub fn new_client(name: &str) -> proto::CreateClientRequest {
    proto::CreateClientRequest {
        name: Some(name.to_owned()),
        email: Some(format!("{}@client.test", name.to_lowercase())),
        phone: Some("+15125550100".to_owned()),
        time_zone: Some("America/Chicago".to_owned()),
        state: None,
    }
}

pub fn new_member(
    name: &str,
    role: &str,
    clients: Option<Vec<ClientId>>,
) -> proto::CreateMemberRequest {
    proto::CreateMemberRequest {
        name: Some(name.to_owned()),
        email: Some(format!("{}@staff.test", name.to_lowercase())),
        phone: None,
        role: Some(role.to_owned()),
        client_ids: clients.map(|list| proto::ClientIds {
            values: list.iter().map(ToString::to_string).collect(),
        }),
    }
}

pub fn new_key(client: Option<ClientId>, permissions: &[&str]) -> proto::CreateApiKeyRequest {
    proto::CreateApiKeyRequest {
        name: Some("ci".to_owned()),
        client_id: client.map(|id| id.to_string()),
        permissions: permissions.iter().map(|p| (*p).to_owned()).collect(),
        expires_at: None,
    }
}

/// The request with an Idempotency-Key.
pub fn keyed<T>(key: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("idempotency-key", key.parse().expect("ASCII"));
    request
}

/// Why the call was refused.
pub fn reason(status: &Status) -> ErrorReason {
    Problem::from_status(status).reason()
}

/// Somebody signed in, calling through the gateway.
#[derive(Clone)]
pub struct Caller {
    channel: ServiceChannel,
    pub token: String,
}

#[derive(Clone)]
pub struct Bearer(String);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let value =
            MetadataValue::try_from(format!("Bearer {}", self.0)).expect("a token is ASCII");
        request.metadata_mut().insert("authorization", value);
        Ok(request)
    }
}

pub type Signed = InterceptedService<ServiceChannel, Bearer>;

impl Caller {
    fn signed(&self) -> Signed {
        InterceptedService::new(self.channel.clone(), Bearer(self.token.clone()))
    }
    pub fn account(&self) -> AccountServiceClient<Signed> {
        AccountServiceClient::new(self.signed())
    }
    pub fn clients(&self) -> ClientServiceClient<Signed> {
        ClientServiceClient::new(self.signed())
    }
    pub fn members(&self) -> MemberServiceClient<Signed> {
        MemberServiceClient::new(self.signed())
    }
    pub fn roles(&self) -> RoleServiceClient<Signed> {
        RoleServiceClient::new(self.signed())
    }
    pub fn keys(&self) -> ApiKeyServiceClient<Signed> {
        ApiKeyServiceClient::new(self.signed())
    }
    pub fn audit(&self) -> AuditServiceClient<Signed> {
        AuditServiceClient::new(self.signed())
    }
    pub fn sessions(&self) -> SessionServiceClient<Signed> {
        SessionServiceClient::new(self.signed())
    }
    pub fn entitlements(&self) -> EntitlementServiceClient<Signed> {
        EntitlementServiceClient::new(self.signed())
    }
}

/// What identity wanted to be sent.
#[derive(Clone, Default)]
pub struct Mailbox(Arc<Mutex<Vec<messaging::SendNoticeRequest>>>);

impl Mailbox {
    /// All of it, in order.
    pub fn all(&self) -> Vec<messaging::SendNoticeRequest> {
        self.0.lock().expect("no test panics under it").clone()
    }

    /// The notice for a challenge, once it is there.
    pub async fn notice(&self, challenge: &str) -> messaging::SendNoticeRequest {
        let mut looks = Looks::every(Duration::from_millis(10));
        while looks.again().await {
            let ours = |notice: &&messaging::SendNoticeRequest| {
                notice.once_key.as_deref() == Some(challenge)
            };
            if let Some(found) = self.all().iter().find(ours) {
                return found.clone();
            }
        }
        panic!("nothing was sent for {challenge}");
    }

    /// The code for a challenge, once it is there.
    pub async fn code(&self, challenge: &str) -> String {
        let body = self.notice(challenge).await.body.expect("a text");
        body.chars().take(6).collect()
    }
}

#[tonic::async_trait]
impl NoticeService for Mailbox {
    async fn send_notice(
        &self,
        request: Request<messaging::SendNoticeRequest>,
    ) -> Result<Response<messaging::SendNoticeResponse>, Status> {
        let mut all = self.0.lock().expect("no test panics under it");
        all.push(request.into_inner());
        Ok(Response::new(messaging::SendNoticeResponse::default()))
    }
}
