//! Every sender there is against everybody who must not be written to: each purpose on each channel over each adapter, taken
//! from the code itself, through the one way in and the one way out (MSG-10, MSG-11).
//! Deliberately absent: the rules. What has to come of each is written out here once more, by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderName, StatusCode};
use mainstay_proto::identity::v1::member_directory_service_client::MemberDirectoryServiceClient;
use mainstay_rpc::{ClientDirectory, Problem};
use mainstay_runtime::{Clock, Shutdown};
use mainstay_testkit::{Stage, TestDatabase};
use mainstay_types::{AgencyId, ClientId, LeadId, ServiceName, Tenant};
use secrecy::SecretString;
use tokio::net::TcpListener;
use uuid::Uuid;

use super::{Pace, Wake, run};
use crate::Messaging;
use crate::address::Address;
use crate::answer::Turns;
use crate::carrier::{Account, Bases, Carriers, Provider};
use crate::gate::{Channel, PermitKey, Purpose};
use crate::message::{self, Draft};
use crate::model::{Model, ModelSettings};
use crate::senders::Senders;
use crate::unsubscribe::Links;

/// Whom a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Person {
    OptedOut,
    Listed,
    NoConsent,
    AtNight,
    /// Who signed, and is awake: so that a gate that refuses everything is not taken for a good one.
    Willing,
}

const PEOPLE: [Person; 5] = [
    Person::OptedOut,
    Person::Listed,
    Person::NoConsent,
    Person::AtNight,
    Person::Willing,
];

/// What has to come of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Leaves,
    Waits,
    Never,
}

use Fate::{Leaves, Never, Waits};

/// By purpose, in the order of [`PEOPLE`].
const WANTED: [(Purpose, [Fate; 5]); 6] = [
    (Purpose::Marketing, [Never, Never, Never, Waits, Leaves]),
    (
        Purpose::Conversational,
        [Never, Never, Never, Waits, Leaves],
    ),
    (Purpose::Transactional, [Never, Never, Never, Waits, Leaves]),
    (
        Purpose::SecurityCode,
        [Leaves, Leaves, Leaves, Leaves, Leaves],
    ),
    (Purpose::StaffNotice, [Never, Never, Leaves, Leaves, Leaves]),
    (
        Purpose::KeywordReply,
        [Leaves, Never, Leaves, Leaves, Leaves],
    ),
];

/// What mail may that nothing else may: it rings nowhere, and tells of what somebody has without being asked to.
const MAIL_MAY: [(Purpose, Person); 4] = [
    (Purpose::Marketing, Person::AtNight),
    (Purpose::Conversational, Person::AtNight),
    (Purpose::Transactional, Person::AtNight),
    (Purpose::Transactional, Person::NoConsent),
];

fn wanted(purpose: Purpose, channel: Channel, person: Person) -> Fate {
    if channel == Channel::Email && MAIL_MAY.contains(&(purpose, person)) {
        return Leaves;
    }
    let place = PEOPLE.iter().position(|one| *one == person);
    let row = WANTED.iter().find(|(named, _)| *named == purpose);
    let (_, fates) = row.unwrap_or_else(|| panic!("what is wanted of {purpose:?} is not said"));
    fates[place.expect("a person")]
}

/// What came in at the providers, all of it.
#[derive(Clone, Default)]
struct Wire(Arc<Mutex<Vec<String>>>);

impl Wire {
    fn bodies(&self) -> Vec<String> {
        self.0.lock().expect("no test panics under it").clone()
    }
}

/// Takes whatever comes as every provider does.
async fn take(State(wire): State<Wire>, body: String) -> impl axum::response::IntoResponse {
    let id = Uuid::now_v7().to_string();
    let answer = serde_json::json!({"sid": id, "id": id}).to_string();
    wire.0.lock().expect("no test panics under it").push(body);
    let header = (HeaderName::from_static("x-message-id"), id);
    (StatusCode::CREATED, [header], answer)
}

/// Whoever asks sends over the provider that is tried just now.
#[derive(Clone, Default)]
struct Trying(Arc<AtomicUsize>);

impl Trying {
    fn provider(&self) -> Provider {
        Provider::ALL[self.0.load(Ordering::Relaxed)]
    }
}

#[tonic::async_trait]
impl Senders for Trying {
    async fn resolve(
        &self,
        _: Tenant,
        channel: Channel,
        sender: Option<&str>,
    ) -> Result<Vec<Account>, Problem> {
        let secret = |name: &str| (name.to_owned(), SecretString::from("secret"));
        Ok(vec![Account {
            id: format!("pac_{}", self.provider().as_str()),
            provider: self.provider(),
            sender: sender.unwrap_or(ours(channel)).to_owned(),
            rate: 1000.0,
            endpoint_token: "token".to_owned(),
            credentials: ["account_sid", "auth_token", "api_key"]
                .map(secret)
                .into_iter()
                .collect(),
        }])
    }
}

fn ours(channel: Channel) -> &'static str {
    match channel {
        Channel::Email => "hello@acme.test",
        Channel::Sms | Channel::Whatsapp | Channel::Voice => "+15125550100",
    }
}

struct Anyone;

#[tonic::async_trait]
impl ClientDirectory for Anyone {
    async fn exists(&self, _: AgencyId, _: ClientId) -> Result<bool, tonic::Status> {
        Ok(true)
    }
}

struct World {
    postgres: TestDatabase,
    // What is on it stops with it.
    _stage: Stage,
    messaging: Messaging,
    tenant: Tenant,
    wire: Wire,
    trying: Trying,
    /// What each message said when it was queued: a security code is forgotten once it has left.
    said: Mutex<BTreeMap<Uuid, String>>,
}

impl World {
    async fn new() -> Self {
        let postgres = TestDatabase::new().await;
        let stage = Stage::new(&[ServiceName::Identity]).await;
        // Noon in Texas, whatever the clock says.
        let now = Clock::system(0).now();
        let noon = now.date_naive().and_hms_opt(18, 0, 0).expect("a time");
        let clock = Clock::system((noon.and_utc() - now).num_seconds());
        let wire = Wire::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let all = axum::Router::new().fallback(take).with_state(wire.clone());
        tokio::spawn(axum::serve(listener, all).into_future());
        let pace = Pace {
            poll: Duration::from_millis(50),
            ..Pace::default()
        };
        let bases = Bases {
            twilio: url.clone(),
            resend: url.clone(),
            sendgrid: url.clone(),
            public: url,
        };
        let (key, trying) = (PermitKey::new(&[9; 32]), Trying::default());
        let channel = stage.channel(ServiceName::Messaging, ServiceName::Identity);
        let nobody = ModelSettings {
            base: bases.public.clone(),
            key: None,
            name: "none".to_owned(),
            patience: pace.patience,
            price_in: 0,
            price_out: 0,
        };
        let messaging = Messaging {
            database: postgres.database("messaging").await,
            clock,
            directory: Arc::new(Anyone),
            members: MemberDirectoryServiceClient::new(channel),
            senders: Arc::new(trying.clone()),
            carriers: Carriers::new(key.clone(), &bases, pace.patience).expect("HTTP clients"),
            key,
            pace,
            wake: Wake::default(),
            jobs: mainstay_jobs::Wake::default(),
            links: Links::new(&[9; 32], &bases.public),
            model: Model::new(nobody).expect("an HTTP client"),
            turns: Turns::default(),
            answers_per_day: 0,
            burst_window: Duration::from_secs(8),
        };
        let tenant = Tenant {
            agency: AgencyId::generate(),
            client: ClientId::generate(),
        };
        let (agency, client) = (tenant.agency.uuid(), tenant.client.uuid());
        postgres
            .execute(&format!(
                "insert into messaging.client_sending (agency_id, tenant_id) values ('{agency}', '{client}');
                 insert into messaging.client_limit (agency_id, tenant_id, features, limits, subscription_id, version, saga_id, step)
                 values ('{agency}', '{client}', '{{}}', '{{\"messages\": {{\"beyond\": \"unlimited\"}}}}', gen_random_uuid(), 1,
                         gen_random_uuid(), 'sold')"
            ))
            .await;
        World {
            postgres,
            _stage: stage,
            messaging,
            tenant,
            wire,
            trying,
            said: Mutex::default(),
        }
    }

    /// Somebody of this kind, with an address that nobody else has; they are there when the statements are executed.
    fn person(
        &self,
        (person, channel): (Person, Channel),
        number: usize,
        sql: &mut String,
    ) -> (LeadId, Address) {
        let address = match channel {
            Channel::Email => format!("lead{number}@person.test"),
            Channel::Sms | Channel::Whatsapp | Channel::Voice => {
                format!("+1512{:07}", 6_000_000 + number)
            }
        };
        let id = LeadId::generate();
        let (agency, client) = (self.tenant.agency.uuid(), self.tenant.client.uuid());
        let (zone, state) = match person {
            Person::AtNight => ("Asia/Tokyo", "null"),
            _ => ("America/Chicago", "'TX'"),
        };
        sql.push_str(&format!(
            "insert into messaging.lead (agency_id, tenant_id, id, status, source, time_zone, state, engagement, task_priority)
             values ('{agency}', '{client}', '{}', 'new', 'api', '{zone}', {state}, 'warm', 'low');",
            id.uuid()
        ));
        if person != Person::NoConsent {
            let out = match person {
                Person::OptedOut => "now()",
                _ => "null",
            };
            sql.push_str(&format!(
                "insert into messaging.consent_standing (agency_id, tenant_id, channel, address, opted_out_at, basis, given_at)
                 values ('{agency}', '{client}', '{}', '{address}', {out}, 'express_written', now() - interval '1 day');",
                channel.as_str()
            ));
        }
        if person == Person::Listed {
            sql.push_str(&format!(
                "insert into messaging.client_do_not_contact (agency_id, tenant_id, address, reason, listed_by, listed_at)
                 values ('{agency}', '{client}', '{address}', 'a lawyer wrote', 'mem_x', now());"
            ));
        }
        (id, Address::parse(&address).expect("an address"))
    }

    /// How each message stands, by what it said: its status, its tries, its permits, and whether it was put off.
    async fn standing(&self) -> BTreeMap<String, (String, i64, i64, bool)> {
        let rows: Vec<(Uuid, String, i64, i64, bool)> = sqlx::query_as(
            "select m.id, m.status,
               (select count(*) from messaging.message_attempt a where a.message_id = m.id),
               (select count(*) from messaging.send_permit p where p.message_id = m.id),
               exists (select from messaging.send_queue q
                       where q.message_id = m.id and q.due_at > $1 + interval '5 minutes')
             from messaging.message m",
        )
        .bind(self.messaging.clock.now())
        .fetch_all(&mut self.postgres.admin().await)
        .await
        .expect("messages");
        let said = self.said.lock().expect("no test panics under it");
        let rows = rows.into_iter();
        rows.map(|(id, status, tries, permits, later)| {
            (said[&id].clone(), (status, tries, permits, later))
        })
        .collect()
    }

    /// Until each stands at what is wanted of it.
    async fn until_all_stand(&self, fates: &BTreeMap<String, Fate>) {
        let mut pace = tokio::time::interval(Duration::from_millis(100));
        let mut wrong = Vec::new();
        for turn in 1..600 {
            pace.tick().await;
            let standing = self.standing().await;
            wrong = fates
                .iter()
                .filter(|(text, fate)| {
                    let (status, _, _, later) = &standing[*text];
                    match fate {
                        Leaves => status != "sent",
                        Never => status != "blocked",
                        Waits => status != "queued" || !later,
                    }
                })
                .map(|(text, fate)| format!("{text} {fate:?}: {:?}", standing[text]))
                .collect();
            if wrong.is_empty() {
                return;
            }
            if turn % 50 == 0 {
                // A gate that could not look in time on a busy machine asks again in a minute; the test does not wait for it.
                self.due_now().await;
            }
        }
        panic!("{} stand elsewhere: {wrong:#?}", wrong.len());
    }

    /// Whatever waits is tried now.
    async fn due_now(&self) {
        self.postgres
            .execute("update messaging.send_queue set due_at = '2020-01-01' where leased_until is null or leased_until < clock_timestamp()")
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_sender_brings_a_byte_to_a_provider_without_a_permit() {
    let world = World::new().await;
    let stop = Shutdown::new();
    let sending = tokio::spawn(run(world.messaging.clone(), stop.clone()));
    let mut fates = BTreeMap::new();
    for (place, provider) in Provider::ALL.into_iter().enumerate() {
        world.trying.0.store(place, Ordering::Relaxed);
        let (mut people, mut sql) = (Vec::new(), String::new());
        for purpose in Purpose::ALL {
            for channel in Channel::ALL {
                for person in PEOPLE {
                    let number = fates.len();
                    let to = world.person((person, channel), number, &mut sql);
                    let text = format!(
                        "m{number:04}-{}-{}-{}-{person:?}-end",
                        provider.as_str(),
                        purpose.as_str(),
                        channel.as_str()
                    )
                    .replace('_', "-");
                    fates.insert(text.clone(), wanted(purpose, channel, person));
                    people.push((to, channel, purpose, text));
                }
            }
        }
        world.postgres.execute(&sql).await;
        let now = world.messaging.clock.now();
        let worker = world.messaging.database.worker();
        let mut tx = worker.tenant(world.tenant).await.expect("a transaction");
        for ((lead, address), channel, purpose, text) in &people {
            let draft = Draft {
                lead: *lead,
                address,
                channel: *channel,
                sender: ours(*channel),
                rate: 1000.0,
                purpose: *purpose,
                caused_by: "service:messaging",
                once_key: None,
                subject: Some("About it".to_owned()),
                body: text.clone(),
                send_at: None,
                // Long enough for the morning, in every purpose alike.
                expires_at: Some(now + chrono::TimeDelta::days(2)),
            };
            let queued = message::enqueue(tx.conn(), world.tenant, draft, now).await;
            let id = queued.expect("queued").expect("new").uuid();
            let mut said = world.said.lock().expect("no test panics under it");
            said.insert(id, text.clone());
        }
        tx.commit().await.expect("committed");
        world.messaging.wake();
        world.until_all_stand(&fates).await;
    }
    // What waits is tried once more: it is still night.
    world.due_now().await;
    world.until_all_stand(&fates).await;
    stop.trigger();
    sending.await.expect("it stops");

    let bodies = world.wire.bodies();
    let standing = world.standing().await;
    let mut there = BTreeSet::new();
    for body in &bodies {
        let text = fates.keys().find(|text| body.contains(text.as_str()));
        let text = text.unwrap_or_else(|| panic!("nobody's bytes: {body}"));
        assert!(there.insert(text), "{text} left twice");
    }
    let tries: i64 = standing.values().map(|(_, tries, ..)| tries).sum();
    assert_eq!(
        usize::try_from(tries),
        Ok(bodies.len()),
        "each try is a request"
    );
    for (text, fate) in &fates {
        let (_, tries, permits, _) = &standing[text];
        let left = i64::from(*fate == Leaves);
        assert_eq!((*tries, *permits), (left, left), "{text}: {fate:?}");
        assert_eq!(there.contains(text), *fate == Leaves, "{text}: {fate:?}");
    }
}
