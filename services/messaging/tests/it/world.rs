//! Messaging and identity running, agencies with clients in them, and callers of every kind.
//! Deliberately absent: a way around the server stack; what tests say to messaging goes over the wire.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{Datelike as _, TimeDelta, Weekday};
use mainstay_identity::Identity;
use mainstay_identity::bootstrap::{Wanted, ensure_agency};
use mainstay_identity::keys::{LookupKey, SignInKey};
use mainstay_messaging::Settings;
use mainstay_messaging::carrier::Bases;
use mainstay_messaging::model::ModelSettings;
use mainstay_messaging::sending::Pace;
use mainstay_proto::common::v1 as common;
use mainstay_proto::errors::v1::ObjectExists;
use mainstay_proto::identity::v1 as identity;
use mainstay_proto::identity::v1::client_service_client::ClientServiceClient;
use mainstay_proto::identity::v1::member_service_client::MemberServiceClient;
use mainstay_proto::messaging::v1 as proto;
use mainstay_proto::messaging::v1::appointment_service_client::AppointmentServiceClient;
use mainstay_proto::messaging::v1::automation_service_client::AutomationServiceClient;
use mainstay_proto::messaging::v1::call_service_client::CallServiceClient;
use mainstay_proto::messaging::v1::canned_reply_service_client::CannedReplyServiceClient;
use mainstay_proto::messaging::v1::consent_service_client::ConsentServiceClient;
use mainstay_proto::messaging::v1::conversation_note_service_client::ConversationNoteServiceClient;
use mainstay_proto::messaging::v1::conversation_service_client::ConversationServiceClient;
use mainstay_proto::messaging::v1::do_not_contact_service_client::DoNotContactServiceClient;
use mainstay_proto::messaging::v1::form_submission_service_client::FormSubmissionServiceClient;
use mainstay_proto::messaging::v1::lead_service_client::LeadServiceClient;
use mainstay_proto::messaging::v1::limit_service_client::LimitServiceClient;
use mainstay_proto::messaging::v1::message_service_client::MessageServiceClient;
use mainstay_proto::messaging::v1::sendability_service_client::SendabilityServiceClient;
use mainstay_proto::messaging::v1::sending_hold_service_client::SendingHoldServiceClient;
use mainstay_rpc::{Actor, ErrorReason, Grant, Problem, ServiceChannel};
use mainstay_runtime::Clock;
use mainstay_testkit::stage::SignedIn;
use mainstay_testkit::{Stage, TestDatabase};
use mainstay_types::{AgencyId, ApiKeyId, ClientId, SagaId, ServiceName, SubscriptionId, Tenant};
use tonic::Status;

use crate::carried::{Directory, Providers};

/// Texts that come within this time are handed on as one.
const BURST: Duration = Duration::from_millis(300);

pub struct World {
    pub postgres: TestDatabase,
    pub stage: Stage,
    pub senders: Directory,
    pub clock: Clock,
    identity: Identity,
}

impl World {
    pub async fn new() -> Self {
        Self::on(TestDatabase::new().await, settings(), &Clock::system(0)).await
    }

    /// The same, with what is asked of the database counted.
    pub async fn counting() -> Self {
        let postgres = TestDatabase::counting().await;
        Self::on(postgres, settings(), &Clock::system(0)).await
    }

    /// With the simulated providers, at noon in Texas, whatever the clock says: at night little may leave.
    pub async fn sending(providers: &Providers, pace: Pace) -> Self {
        Self::sending_in_bursts(providers, pace, BURST).await
    }

    /// The same, with texts that come within this time handed on as one.
    pub async fn sending_in_bursts(providers: &Providers, pace: Pace, window: Duration) -> Self {
        Self::sending_on(TestDatabase::new().await, providers, pace, window).await
    }

    /// As [`World::sending`], with what is asked of the database counted.
    pub async fn sending_and_counting(providers: &Providers, pace: Pace) -> Self {
        Self::sending_on(TestDatabase::counting().await, providers, pace, BURST).await
    }

    async fn sending_on(
        postgres: TestDatabase,
        providers: &Providers,
        pace: Pace,
        window: Duration,
    ) -> Self {
        let now = Clock::system(0).now();
        // Never on a Sunday, whose morning lasts longer there.
        let mut day = now.date_naive();
        if day.weekday() == Weekday::Sun {
            day += TimeDelta::days(1);
        }
        let noon = day.and_hms_opt(18, 0, 0).expect("a time");
        let clock = Clock::system((noon.and_utc() - now).num_seconds());
        let bases = Bases {
            twilio: format!("{}/twilio", providers.door.url),
            resend: format!("{}/resend", providers.door.url),
            sendgrid: format!("{}/sendgrid", providers.door.url),
            public: providers.public.clone(),
        };
        let model = format!("{}/openai/v1", providers.url);
        let mut settings = settings_to(&bases, pace, &model);
        settings.burst_window = window;
        let world = Self::on(postgres, settings, &clock).await;
        providers.tell(&world.stage, &world.senders);
        world
    }

    async fn on(postgres: TestDatabase, settings: Settings, clock: &Clock) -> Self {
        let mut stage = Stage::new(&[
            ServiceName::Identity,
            ServiceName::Messaging,
            ServiceName::Integrations,
        ])
        .await;
        let identity = Identity::new(
            postgres.database("identity").await,
            clock.clone(),
            keys(),
            stage.key(ServiceName::Identity),
        );
        let role = stage.runtime(ServiceName::Identity, clock);
        tokio::spawn(mainstay_identity::serve(identity.clone(), role));
        let senders = Directory::default();
        senders.serve(&mut stage, clock);
        let role = stage.runtime(ServiceName::Messaging, clock);
        let database = postgres.database("messaging").await;
        tokio::spawn(mainstay_messaging::serve(settings, database, role));
        World {
            postgres,
            stage,
            senders,
            clock: clock.clone(),
            identity,
        }
    }

    /// The agency of this slug, with one client, Acme.
    pub async fn agency(&self, slug: &str) -> Agency<'_> {
        let wanted = Wanted {
            slug: slug.to_owned(),
            name: format!("Agency {slug}"),
            owner_name: "Olga Owner".to_owned(),
            owner_email: format!("owner@{slug}.test"),
        };
        let ensured = ensure_agency(&self.identity, &wanted, None)
            .await
            .expect("an agency");
        let mut agency = Agency {
            world: self,
            id: ensured.agency,
            key: ensured.api_key,
            client: ClientId::generate(),
        };
        agency.client = agency.add_client("Acme").await;
        agency
    }

    /// From now on statements are counted anew, of this test alone: others count at the same time, on the same server.
    pub async fn forget_statements(&self) {
        let own = "select pg_stat_statements_reset(0, (select oid from pg_database where datname = current_database()), 0)";
        self.postgres.execute(own).await;
    }

    /// Billing, writing limits.
    pub fn billing(&self) -> LimitServiceClient<ServiceChannel> {
        LimitServiceClient::new(
            self.stage
                .channel(ServiceName::Billing, ServiceName::Messaging),
        )
    }
}

/// Identity's keys.
fn keys() -> mainstay_identity::Settings {
    mainstay_identity::Settings {
        lookup: LookupKey::new(&[7; 32]),
        access: mainstay_rpc::token::access::AccessKeys::new(&[8; 32]),
        sign_in: SignInKey::new(&[9; 32]),
        limits: mainstay_identity::sign_in::rules::Limits::default(),
    }
}

fn settings_to(bases: &Bases, pace: Pace, model: &str) -> Settings {
    let model = ModelSettings {
        base: model.to_owned(),
        key: Some("sk-test".into()),
        name: "gpt-5-mini".to_owned(),
        patience: Duration::from_secs(5),
        price_in: 250_000,
        price_out: 2_000_000,
    };
    Settings::new(&[9; 32], bases, pace, model).expect("HTTP clients")
}

/// Nothing is sent: nobody listens there.
fn nowhere() -> Bases {
    let nowhere = "http://127.0.0.1:9".to_owned();
    Bases {
        twilio: nowhere.clone(),
        resend: nowhere.clone(),
        sendgrid: nowhere.clone(),
        public: nowhere,
    }
}

/// For tests that send nothing.
pub fn settings() -> Settings {
    settings_to(&nowhere(), Pace::default(), "http://127.0.0.1:9")
}

pub struct Agency<'w> {
    pub world: &'w World,
    pub id: AgencyId,
    pub client: ClientId,
    key: ApiKeyId,
}

impl Agency<'_> {
    fn signed_in(&self, service: ServiceName, permissions: &[&str]) -> SignedIn {
        let grant = Grant {
            permissions: permissions.iter().map(|p| (*p).to_owned()).collect(),
            clients: None,
        };
        let actor = Actor::ApiKey { key: self.key };
        self.world
            .stage
            .signed_in(service, &actor, self.id, vec![grant])
    }

    pub async fn add_client(&self, name: &str) -> ClientId {
        let channel = self.signed_in(ServiceName::Identity, &["identity.clients.create"]);
        let request = identity::CreateClientRequest {
            name: Some(name.to_owned()),
            email: Some(format!("{}@client.test", name.to_lowercase())),
            time_zone: Some("America/Chicago".to_owned()),
            ..Default::default()
        };
        let made = ClientServiceClient::new(channel)
            .create_client(request)
            .await;
        let id = made.expect("a client").into_inner().id;
        id.expect("an id").parse().expect("a client id")
    }

    /// Who may place and lift holds.
    pub fn keeper(&self) -> SendingHoldServiceClient<SignedIn> {
        self.holder(&[
            "messaging.sending_hold.read",
            "messaging.sending_hold.manage",
        ])
    }

    /// Somebody with these permissions.
    pub fn holder(&self, permissions: &[&str]) -> SendingHoldServiceClient<SignedIn> {
        SendingHoldServiceClient::new(self.signed_in(ServiceName::Messaging, permissions))
    }

    /// Who may record what people want.
    pub fn consents(&self) -> ConsentServiceClient<SignedIn> {
        let permissions = [
            "messaging.consents.read",
            "messaging.consents.record",
            "messaging.consents.opt_out",
        ];
        ConsentServiceClient::new(self.signed_in(ServiceName::Messaging, &permissions))
    }

    /// Who may keep the lists.
    pub fn lists(&self) -> DoNotContactServiceClient<SignedIn> {
        let permissions = [
            "messaging.do_not_contact.read",
            "messaging.do_not_contact.manage",
            "messaging.agency_do_not_contact.read",
            "messaging.agency_do_not_contact.manage",
        ];
        DoNotContactServiceClient::new(self.signed_in(ServiceName::Messaging, &permissions))
    }

    /// Who may send, and read what was said.
    pub fn messages(&self) -> MessageServiceClient<SignedIn> {
        let permissions = ["messaging.messages.create", "messaging.messages.read"];
        MessageServiceClient::new(self.signed_in(ServiceName::Messaging, &permissions))
    }

    /// Who may work in conversations, and delete them.
    pub fn conversations(&self) -> ConversationServiceClient<SignedIn> {
        self.clerk(&[
            "messaging.messages.read",
            "messaging.conversations.manage",
            "messaging.conversations.delete",
        ])
    }

    /// Somebody with these permissions.
    pub fn clerk(&self, permissions: &[&str]) -> ConversationServiceClient<SignedIn> {
        ConversationServiceClient::new(self.signed_in(ServiceName::Messaging, permissions))
    }

    /// Who may write notes and read them.
    pub fn notes(&self) -> ConversationNoteServiceClient<SignedIn> {
        let permissions = ["messaging.messages.read", "messaging.conversations.manage"];
        ConversationNoteServiceClient::new(self.signed_in(ServiceName::Messaging, &permissions))
    }

    /// Who may keep canned replies.
    pub fn canned_replies(&self) -> CannedReplyServiceClient<SignedIn> {
        let permissions = [
            "messaging.canned_replies.read",
            "messaging.canned_replies.manage",
        ];
        CannedReplyServiceClient::new(self.signed_in(ServiceName::Messaging, &permissions))
    }

    /// Who may keep automations.
    pub fn automations(&self) -> AutomationServiceClient<SignedIn> {
        let permissions = ["messaging.automations.read", "messaging.automations.manage"];
        AutomationServiceClient::new(self.signed_in(ServiceName::Messaging, &permissions))
    }

    /// Who may keep appointments.
    pub fn appointments(&self) -> AppointmentServiceClient<SignedIn> {
        let permissions = [
            "messaging.appointments.read",
            "messaging.appointments.manage",
        ];
        AppointmentServiceClient::new(self.signed_in(ServiceName::Messaging, &permissions))
    }

    /// Who may see who called.
    pub fn calls(&self) -> CallServiceClient<SignedIn> {
        CallServiceClient::new(self.signed_in(ServiceName::Messaging, &["messaging.calls.read"]))
    }

    /// Who may see what forms brought.
    pub fn forms(&self) -> FormSubmissionServiceClient<SignedIn> {
        let permissions = ["messaging.form_submissions.read"];
        FormSubmissionServiceClient::new(self.signed_in(ServiceName::Messaging, &permissions))
    }

    /// Who may ask the gate.
    pub fn sendability(&self) -> SendabilityServiceClient<SignedIn> {
        let permissions = ["messaging.consents.read"];
        SendabilityServiceClient::new(self.signed_in(ServiceName::Messaging, &permissions))
    }

    /// Who may do everything with leads.
    pub fn leads(&self) -> LeadServiceClient<SignedIn> {
        self.seller(&[
            "messaging.leads.create",
            "messaging.leads.import",
            "messaging.leads.merge",
            "messaging.leads.read",
            "messaging.leads.update",
            "messaging.consents.read",
            "messaging.consents.record",
            "messaging.consents.opt_out",
        ])
    }

    /// Somebody with these permissions.
    pub fn seller(&self, permissions: &[&str]) -> LeadServiceClient<SignedIn> {
        LeadServiceClient::new(self.signed_in(ServiceName::Messaging, permissions))
    }

    /// A member who serves the agency's client, or these alone.
    pub async fn add_member(&self, name: &str, clients: Option<Vec<ClientId>>) -> String {
        let all: Vec<&str> = mainstay_identity::permission::all()
            .iter()
            .map(|known| known.name)
            .collect();
        let request = identity::CreateMemberRequest {
            name: Some(name.to_owned()),
            email: Some(format!("{name}@{}.test", self.id.uuid()).to_lowercase()),
            role: Some("agent".to_owned()),
            client_ids: clients.map(|clients| identity::ClientIds {
                values: clients.iter().map(ToString::to_string).collect(),
            }),
            ..Default::default()
        };
        let channel = self.signed_in(ServiceName::Identity, &all);
        let made = MemberServiceClient::new(channel)
            .create_member(request)
            .await;
        made.expect("a member").into_inner().id.expect("an id")
    }

    /// The client, as transactions are opened for it.
    pub fn tenant(&self) -> Tenant {
        Tenant {
            agency: self.id,
            client: self.client,
        }
    }

    pub async fn place(&self, reason: &str) -> Result<proto::SendingHold, Status> {
        let request = proto::PlaceSendingHoldRequest {
            client_id: self.client.to_string(),
            reason: reason.to_owned(),
        };
        Ok(self
            .keeper()
            .place_sending_hold(request)
            .await?
            .into_inner())
    }

    pub async fn lift(&self) -> Result<proto::SendingHold, Status> {
        let request = proto::LiftSendingHoldRequest {
            client_id: self.client.to_string(),
        };
        Ok(self.keeper().lift_sending_hold(request).await?.into_inner())
    }

    /// What a person sees of the limits.
    pub async fn limits(&self) -> proto::ClientLimits {
        let channel = self.signed_in(ServiceName::Messaging, &["messaging.limits.read"]);
        let request = proto::GetLimitsRequest {
            client_id: self.client.to_string(),
        };
        let limits = LimitServiceClient::new(channel).get_limits(request).await;
        limits.expect("read").into_inner()
    }

    pub async fn check(&self) -> Result<(), Status> {
        let request = proto::CheckLimitsRequest {
            agency_id: self.id.to_string(),
            client_id: self.client.to_string(),
        };
        self.world.billing().check_limits(request).await.map(|_| ())
    }

    pub async fn apply(
        &self,
        request: proto::ApplyLimitsRequest,
    ) -> Result<proto::ApplyLimitsResponse, Status> {
        Ok(self
            .world
            .billing()
            .apply_limits(request)
            .await?
            .into_inner())
    }

    /// A saga of billing's that is about this client.
    pub fn saga(&self) -> Saga {
        Saga {
            id: SagaId::generate(),
            agency: self.id,
            client: self.client,
        }
    }
}

pub struct Saga {
    id: SagaId,
    agency: AgencyId,
    client: ClientId,
}

impl Saga {
    /// What it sells: a thousand messages, named so that they are told from others.
    pub fn sells(&self, feature: &str, version: i64, fence: i64) -> proto::ApplyLimitsRequest {
        let limit = common::Limit {
            included: Some(1000),
            beyond: Some(common::Beyond::Overage.into()),
            block_size: Some(100),
            price: Some(common::Money {
                amount_minor: Some(200),
                currency: Some("usd".into()),
            }),
        };
        proto::ApplyLimitsRequest {
            agency_id: self.agency.to_string(),
            client_id: self.client.to_string(),
            entitlements: Some(common::Entitlements {
                features: vec![feature.to_owned()],
                limits: BTreeMap::from([("messages".to_owned(), limit)]),
            }),
            subscription_id: SubscriptionId::generate().to_string(),
            period_start_at: Some(at(1_800_000_000)),
            period_end_at: Some(at(1_802_592_000)),
            version,
            saga_id: self.id.to_string(),
            step: "apply_limits".to_owned(),
            fence,
            undo: false,
            sale: true,
        }
    }

    /// What follows a sale: a renewal, a change that is due.
    pub fn follows(&self, feature: &str, version: i64, fence: i64) -> proto::ApplyLimitsRequest {
        proto::ApplyLimitsRequest {
            sale: false,
            ..self.sells(feature, version, fence)
        }
    }

    pub fn undoes(&self, version: i64, fence: i64) -> proto::ApplyLimitsRequest {
        proto::ApplyLimitsRequest {
            entitlements: Some(common::Entitlements::default()),
            undo: true,
            ..self.sells("none", version, fence)
        }
    }
}

pub fn at(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos: 0 }
}

pub fn features(limits: proto::ClientLimits) -> Vec<String> {
    limits.entitlements.expect("some").features
}

/// The request with an Idempotency-Key.
pub fn keyed<T>(message: T, key: &str) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let key = key.parse().expect("ASCII");
    request.metadata_mut().insert("idempotency-key", key);
    request
}

/// The fields that a refusal names.
pub fn fields(status: &Status) -> Vec<String> {
    let problem = Problem::from_status(status);
    let errors = problem.errors().iter();
    errors.map(|fault| fault.field.clone()).collect()
}

/// Which object stands in the way.
pub fn existing(status: &Status) -> Option<String> {
    let data = Problem::from_status(status).data_as::<ObjectExists>();
    data.and_then(|data| data.existing_id)
}

/// Why the call was refused.
pub fn reason(status: &Status) -> ErrorReason {
    Problem::from_status(status).reason()
}
