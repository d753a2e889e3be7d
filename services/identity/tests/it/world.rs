//! A running identity service, an agency in it, and callers of every kind.
//! Deliberately absent: a way around the server stack; what tests say to identity goes over the wire.

use std::sync::Arc;

use mainstay_identity::bootstrap::{Ensured, Wanted, ensure_agency};
use mainstay_identity::keys::LookupKey;
use mainstay_identity::{Identity, serve};
use mainstay_proto::identity::v1 as proto;
use mainstay_proto::identity::v1::{
    account_service_client::AccountServiceClient, api_key_service_client::ApiKeyServiceClient,
    audit_service_client::AuditServiceClient, client_service_client::ClientServiceClient,
    credential_service_client::CredentialServiceClient,
    entitlement_service_client::EntitlementServiceClient,
    member_service_client::MemberServiceClient, role_service_client::RoleServiceClient,
};
use mainstay_rpc::{
    Actor, Channels, ErrorReason, Grant, Limits, Problem, ServiceChannel, ServiceKey,
    ServiceRuntime, TrustedKeys,
};
use mainstay_runtime::clock::ClockHand;
use mainstay_runtime::{Clock, Health, Shutdown};
use mainstay_testkit::TestDatabase;
use mainstay_types::{AgencyId, ClientId, MemberId, PersonId, ServiceName};
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};

pub struct World {
    pub postgres: TestDatabase,
    pub identity: Identity,
    pub hand: ClockHand,
    pub clock: Clock,
    pub signer: Arc<ServiceKey>,
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
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let channels: Vec<(ServiceName, Channels)> = keys
            .iter()
            .map(|key| {
                let to = [(ServiceName::Identity, address.clone())];
                (
                    key.service(),
                    Channels::new(Arc::clone(key), to).expect("an address"),
                )
            })
            .collect();
        let signer = keys
            .iter()
            .find(|key| key.service() == ServiceName::Identity)
            .expect("one of all")
            .clone();
        let identity = Identity::new(
            database,
            clock.clone(),
            LookupKey::new(&[7; 32]),
            signer.clone(),
        );
        let shutdown = Shutdown::new();
        let runtime = ServiceRuntime {
            me: ServiceName::Identity,
            trusted,
            channels: channels[0].1.clone(),
            clock: clock.clone(),
            shutdown: shutdown.clone(),
            health: Health::new(),
            listener,
            limits: Limits::default(),
        };
        let serving = serve(identity.clone(), runtime);
        tokio::spawn(async move { serving.await.expect("serves until the test ends") });
        World {
            postgres,
            identity,
            hand,
            clock,
            signer,
            channels,
            shutdown,
        }
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
    pub fn entitlements(&self) -> EntitlementServiceClient<Signed> {
        EntitlementServiceClient::new(self.signed())
    }
}
