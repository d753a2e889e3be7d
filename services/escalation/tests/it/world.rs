//! Escalation and identity running, an agency with members, and a messaging that writes down what it is to send.
//! Deliberately absent: a way around the server stack; what tests say goes over the wire.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;
use mainstay_escalation::Settings;
use mainstay_escalation::link::Links;
use mainstay_identity::Identity;
use mainstay_identity::bootstrap::{Wanted, ensure_agency};
use mainstay_identity::keys::{LookupKey, SignInKey};
use mainstay_proto::escalation::v1 as proto;
use mainstay_proto::escalation::v1::alert_route_service_client::AlertRouteServiceClient;
use mainstay_proto::escalation::v1::alert_service_client::AlertServiceClient;
use mainstay_proto::escalation::v1::business_hours_service_client::BusinessHoursServiceClient;
use mainstay_proto::escalation::v1::claim_link_service_client::ClaimLinkServiceClient;
use mainstay_proto::escalation::v1::escalation_service_client::EscalationServiceClient;
use mainstay_proto::escalation::v1::ladder_service_client::LadderServiceClient;
use mainstay_proto::events::v1::event_inbox_service_client::EventInboxServiceClient;
use mainstay_proto::events::v1::{DeliverEventsRequest, EventEnvelope, EventOutcome};
use mainstay_proto::identity::v1 as identity;
use mainstay_proto::identity::v1::client_service_client::ClientServiceClient;
use mainstay_proto::identity::v1::member_service_client::MemberServiceClient;
use mainstay_proto::messaging::v1::notice_service_server::{NoticeService, NoticeServiceServer};
use mainstay_proto::messaging::v1::{self as messaging, MessageStatus};
use mainstay_rpc::{Actor, ErrorReason, Grant, Problem, RemoteDirectory, ServiceChannel};
use mainstay_runtime::health::Status as Standing;
use mainstay_runtime::{Clock, ClockHand, Health};
use mainstay_testkit::stage::SignedIn;
use mainstay_testkit::{Stage, TestDatabase};
use mainstay_types::{
    AgencyId, ApiKeyId, ClientId, EventId, MemberId, MessageId, PersonId, ServiceName,
};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

/// Everything that escalation's RPCs ask for.
const ALL: [&str; 12] = [
    "escalation.alert_routes.manage",
    "escalation.alert_routes.read",
    "escalation.alerts.read",
    "escalation.alerts.work",
    "escalation.business_hours.manage",
    "escalation.business_hours.read",
    "escalation.escalations.assign",
    "escalation.escalations.raise",
    "escalation.escalations.read",
    "escalation.escalations.work",
    "escalation.ladders.manage",
    "escalation.ladders.read",
];

pub fn settings() -> Settings {
    Settings {
        links: Links::new(&[7; 32], "https://gate.test"),
        audit_every: Duration::from_secs(1),
        operators: None,
        health_every: Duration::from_secs(1),
    }
}

fn keys() -> mainstay_identity::Settings {
    mainstay_identity::Settings {
        lookup: LookupKey::new(&[7; 32]),
        access: mainstay_rpc::token::access::AccessKeys::new(&[8; 32]),
        sign_in: SignInKey::new(&[9; 32]),
        limits: mainstay_identity::sign_in::rules::Limits::default(),
    }
}

/// What messaging was told to send, each thing once by its key.
#[derive(Clone, Default)]
pub struct Sent(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    by_key: BTreeMap<String, (String, messaging::SendNoticeRequest)>,
    /// What is answered instead, so often.
    refusals: u32,
    /// Takes nothing.
    deaf: Option<String>,
}

impl Sent {
    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next few are answered that messaging is away.
    pub fn away(&self, times: u32) {
        self.kept().refusals = times;
    }

    /// An address that nothing can be sent to.
    pub fn refuses(&self, address: &str) {
        self.kept().deaf = Some(address.to_owned());
    }

    /// To whom what was sent, in no order.
    pub fn all(&self) -> Vec<(String, String)> {
        let kept = self.kept();
        let of = |(_, request): &(String, messaging::SendNoticeRequest)| {
            (
                request.address.clone().unwrap_or_default(),
                request.body.clone().unwrap_or_default(),
            )
        };
        kept.by_key.values().map(of).collect()
    }

    /// What was sent to an address.
    pub fn to(&self, address: &str) -> Vec<String> {
        let all = self.all().into_iter();
        all.filter(|(to, _)| to == address)
            .map(|(_, body)| body)
            .collect()
    }
}

#[tonic::async_trait]
impl NoticeService for Sent {
    async fn send_notice(
        &self,
        request: Request<messaging::SendNoticeRequest>,
    ) -> Result<Response<messaging::SendNoticeResponse>, Status> {
        let request = request.into_inner();
        let mut kept = self.kept();
        if kept.refusals > 0 {
            kept.refusals -= 1;
            return Err(Status::unavailable("away"));
        }
        if request.address.is_some() && request.address == kept.deaf {
            return Err(Problem::new(ErrorReason::NoSender, "nothing reaches it").into());
        }
        let key = request.once_key.clone().unwrap_or_default();
        let id = MessageId::generate().to_string();
        let (id, _) = kept.by_key.entry(key).or_insert((id, request));
        Ok(Response::new(messaging::SendNoticeResponse {
            message_id: id.clone(),
            status: MessageStatus::Queued.into(),
        }))
    }
}

pub struct World {
    pub postgres: TestDatabase,
    pub stage: Stage,
    pub hand: ClockHand,
    clock: Clock,
    pub sent: Sent,
    /// How messaging stands.
    pub messaging: Health,
    pub agency: AgencyId,
    pub client: ClientId,
    key: ApiKeyId,
}

/// A member, as tests know them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub id: MemberId,
    pub name: String,
    pub phone: String,
}

impl World {
    pub async fn new() -> Self {
        Self::with(false).await
    }

    /// Whose agency operates the platform.
    pub async fn operating() -> Self {
        Self::with(true).await
    }

    async fn with(operates: bool) -> Self {
        let (clock, hand) = Clock::fixed(Clock::system(0).now());
        let postgres = TestDatabase::new().await;
        let mut stage = Stage::new(&[
            ServiceName::Identity,
            ServiceName::Messaging,
            ServiceName::Escalation,
        ])
        .await;
        let identity = Identity::new(
            postgres.database("identity").await,
            clock.clone(),
            keys(),
            stage.key(ServiceName::Identity),
        );
        let role = stage.runtime(ServiceName::Identity, &clock);
        tokio::spawn(mainstay_identity::serve(identity.clone(), role));
        let wanted = Wanted {
            slug: "acme".to_owned(),
            name: "Acme".to_owned(),
            owner_name: "Olga Owner".to_owned(),
            owner_email: "owner@acme.test".to_owned(),
        };
        let ensured = ensure_agency(&identity, &wanted, None).await;
        let ensured = ensured.expect("an agency");
        let sent = Sent::default();
        let role = stage.runtime(ServiceName::Messaging, &clock);
        let messaging = role.health.clone();
        messaging.set("carriers", Standing::Healthy, "");
        let directory = Arc::new(RemoteDirectory::new(&role.channels));
        let routes = Routes::new(NoticeServiceServer::new(sent.clone()));
        tokio::spawn(mainstay_rpc::serve(role, directory, routes));
        let role = stage.runtime(ServiceName::Escalation, &clock);
        let database = postgres.database("escalation").await;
        let settings = Settings {
            operators: operates.then_some(ensured.agency),
            ..settings()
        };
        tokio::spawn(mainstay_escalation::serve(settings, database, role));
        let mut world = World {
            postgres,
            stage,
            hand,
            clock,
            sent,
            messaging,
            agency: ensured.agency,
            client: ClientId::generate(),
            key: ensured.api_key,
        };
        let request = identity::CreateClientRequest {
            name: Some("Roofs".to_owned()),
            email: Some("roofs@client.test".to_owned()),
            time_zone: Some("America/Chicago".to_owned()),
            ..Default::default()
        };
        let door = world.as_key(ServiceName::Identity, &["identity.clients.create"]);
        let made = ClientServiceClient::new(door).create_client(request).await;
        let id = made.expect("a client").into_inner().id.expect("an id");
        world.client = id.parse().expect("a client's id");
        world
    }

    fn as_actor(&self, service: ServiceName, actor: &Actor, permissions: &[&str]) -> SignedIn {
        let grant = Grant {
            permissions: permissions.iter().map(|p| (*p).to_owned()).collect(),
            clients: None,
        };
        self.stage
            .signed_in(service, actor, self.agency, vec![grant])
    }

    fn as_key(&self, service: ServiceName, permissions: &[&str]) -> SignedIn {
        self.as_actor(service, &Actor::ApiKey { key: self.key }, permissions)
    }

    /// The agency's key, which may do everything.
    pub fn escalations(&self) -> EscalationServiceClient<SignedIn> {
        EscalationServiceClient::new(self.as_key(ServiceName::Escalation, &ALL))
    }

    pub fn ladders(&self) -> LadderServiceClient<SignedIn> {
        LadderServiceClient::new(self.as_key(ServiceName::Escalation, &ALL))
    }

    pub fn business_hours(&self) -> BusinessHoursServiceClient<SignedIn> {
        BusinessHoursServiceClient::new(self.as_key(ServiceName::Escalation, &ALL))
    }

    pub fn alerts(&self) -> AlertServiceClient<SignedIn> {
        AlertServiceClient::new(self.as_key(ServiceName::Escalation, &ALL))
    }

    pub fn alert_routes(&self) -> AlertRouteServiceClient<SignedIn> {
        AlertRouteServiceClient::new(self.as_key(ServiceName::Escalation, &ALL))
    }

    /// Somebody who serves these clients alone.
    pub fn alerts_of(&self, clients: &[ClientId]) -> AlertServiceClient<SignedIn> {
        let actor = Actor::Member {
            member: MemberId::generate(),
            person: PersonId::generate(),
        };
        let grant = Grant {
            permissions: ALL.iter().map(|p| (*p).to_owned()).collect(),
            clients: Some(clients.to_vec()),
        };
        let service = ServiceName::Escalation;
        let door = self
            .stage
            .signed_in(service, &actor, self.agency, vec![grant]);
        AlertServiceClient::new(door)
    }

    /// A member with a session of their own, who may take and give back.
    pub fn as_member(&self, member: &Member) -> EscalationServiceClient<SignedIn> {
        let actor = Actor::Member {
            member: member.id,
            person: PersonId::generate(),
        };
        let may = ["escalation.escalations.read", "escalation.escalations.work"];
        EscalationServiceClient::new(self.as_actor(ServiceName::Escalation, &actor, &may))
    }

    /// Whoever has a link, through the gateway.
    pub fn links(&self) -> ClaimLinkServiceClient<ServiceChannel> {
        ClaimLinkServiceClient::new(
            self.stage
                .channel(ServiceName::Gateway, ServiceName::Escalation),
        )
    }

    /// A member who serves every client, with a telephone.
    pub async fn add_member(&self, number: u32) -> Member {
        let all: Vec<&str> = mainstay_identity::permission::all()
            .iter()
            .map(|known| known.name)
            .collect();
        let (name, phone) = (
            format!("Member {number}"),
            format!("+1512555{:04}", 1000 + number),
        );
        let request = identity::CreateMemberRequest {
            name: Some(name.clone()),
            email: Some(format!("member{number}@acme.test")),
            phone: Some(phone.clone()),
            role: Some("agent".to_owned()),
            ..Default::default()
        };
        let door = self.as_key(ServiceName::Identity, &all);
        let made = MemberServiceClient::new(door).create_member(request).await;
        let id = made.expect("a member").into_inner().id.expect("an id");
        Member {
            id: id.parse().expect("a member's id"),
            name,
            phone,
        }
    }

    /// A person is called for this.
    pub async fn raise(&self, subject: &str) -> proto::Escalation {
        self.escalations()
            .raise_escalation(self.wanted(subject))
            .await
            .expect("raised")
            .into_inner()
    }

    pub fn wanted(&self, subject: &str) -> Request<proto::RaiseEscalationRequest> {
        let mut request = Request::new(proto::RaiseEscalationRequest {
            client_id: self.client.to_string(),
            subject: Some(subject.to_owned()),
            summary: Some(format!("{subject} needs a person")),
            ..Default::default()
        });
        let key = uuid::Uuid::new_v4().to_string().parse().expect("ASCII");
        request.metadata_mut().insert("idempotency-key", key);
        request
    }

    pub async fn get(&self, id: &str) -> proto::Escalation {
        let request = proto::GetEscalationRequest {
            escalation_id: id.to_owned(),
        };
        let found = self.escalations().get_escalation(request).await;
        found.expect("found").into_inner()
    }

    /// What another service tells.
    pub async fn tell(
        &self,
        from: ServiceName,
        kind: &str,
        about: (&str, &str),
        payload: &serde_json::Value,
    ) {
        let client = kind
            .starts_with("messaging.")
            .then(|| self.client.to_string());
        let event = EventEnvelope {
            event_id: EventId::generate().to_string(),
            r#type: kind.to_owned(),
            schema_version: 1,
            agency_id: self.agency.to_string(),
            client_id: client,
            aggregate_type: about.0.to_owned(),
            aggregate_id: about.1.to_owned(),
            aggregate_sequence: 1,
            occurred_at: Some(prost_types::Timestamp::default()),
            actor: format!("service:{from}"),
            payload_json: payload.to_string(),
            ..EventEnvelope::default()
        };
        let mut inbox =
            EventInboxServiceClient::new(self.stage.channel(from, ServiceName::Escalation));
        // The same delivery twice, as it happens when an answer is lost.
        for _ in 0..2 {
            let request = DeliverEventsRequest {
                events: vec![event.clone()],
            };
            let answer = inbox.deliver_events(request).await.expect("delivered");
            let outcome = answer.into_inner().results[0].outcome();
            assert_eq!(outcome, EventOutcome::Applied);
        }
    }

    /// What the clock shows.
    pub fn clock_seconds(&self) -> i64 {
        self.clock.now().timestamp()
    }

    /// Time passes.
    pub fn pass(&self, seconds: i64) {
        self.hand.advance(TimeDelta::seconds(seconds));
    }
}

/// Asks until something is so.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    for _ in 0..1_200 {
        pace.tick().await;
        if let Some(found) = ask().await {
            return found;
        }
    }
    panic!("it did not come about: {what}");
}

/// Why it was refused, and what the refusal tells.
pub fn refused(status: &Status) -> Problem {
    Problem::from_status(status)
}
