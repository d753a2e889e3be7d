//! What messaging sends with in tests: accounts that a stand-in for integrations tells, the simulated providers over HTTP,
//! and their callbacks, handed on as integrations hands them on.
//! Deliberately absent: signatures of callbacks; the gateway's tests have those.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::{Path, RawQuery, State};
use mainstay_proto::integrations::v1 as integrations;
use mainstay_proto::integrations::v1::sender_directory_service_server::{
    SenderDirectoryService, SenderDirectoryServiceServer,
};
use mainstay_proto::messaging::v1 as proto;
use mainstay_proto::messaging::v1::provider_event_service_client::ProviderEventServiceClient;
use mainstay_rpc::{RemoteDirectory, ServiceChannel};
use mainstay_runtime::Clock;
use mainstay_sandbox::{Sandbox, SandboxConfig};
use mainstay_testkit::Stage;
use mainstay_types::{AgencyId, ClientId, ServiceName};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::door::Door;

/// How many callbacks more are refused.
type Refusals = Arc<AtomicU32>;
/// Who takes events, once there is somebody.
type Events = Arc<Mutex<Option<Taker>>>;
type Taker = (ProviderEventServiceClient<ServiceChannel>, Directory);

/// Whose each number is, and with which account.
type Known = HashMap<String, (AgencyId, ClientId, integrations::SendingAccount)>;

/// Stands in for integrations' accounts.
#[derive(Clone, Default)]
pub struct Directory(Arc<Mutex<Known>>);

impl Directory {
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().expect("no test panics under it")
    }

    /// A client has a number of this account.
    pub fn add(&self, agency: AgencyId, client: ClientId, account: integrations::SendingAccount) {
        self.known()
            .insert(account.address.clone(), (agency, client, account));
    }

    /// Whose the account with this token is.
    fn of(&self, token: &str) -> Option<(AgencyId, ClientId, integrations::SendingAccount)> {
        let known = self.known();
        let mut all = known.values();
        all.find(|(_, _, account)| account.endpoint_token == token)
            .cloned()
    }

    /// Serves on the stage.
    pub fn serve(&self, stage: &mut Stage, clock: &Clock) {
        let runtime = stage.runtime(ServiceName::Integrations, clock);
        let directory = Arc::new(RemoteDirectory::new(&runtime.channels));
        let routes = Routes::new(SenderDirectoryServiceServer::new(self.clone()));
        tokio::spawn(mainstay_rpc::serve(runtime, directory, routes));
    }
}

#[tonic::async_trait]
impl SenderDirectoryService for Directory {
    async fn resolve_senders(
        &self,
        request: Request<integrations::ResolveSendersRequest>,
    ) -> Result<Response<integrations::ResolveSendersResponse>, Status> {
        let request = request.into_inner();
        let mut accounts: Vec<_> = self
            .known()
            .values()
            .filter(|(_, client, account)| {
                let by_mail = account.provider != "twilio";
                client.to_string() == request.client_id
                    && by_mail == (request.channel == "email")
                    && request
                        .sender_address
                        .as_ref()
                        .is_none_or(|only| *only == account.address)
            })
            .map(|(_, _, account)| account.clone())
            .collect();
        // Resend before SendGrid.
        accounts.sort_by(|one, other| one.provider.cmp(&other.provider));
        Ok(Response::new(integrations::ResolveSendersResponse {
            accounts,
        }))
    }

    async fn find_receiver(
        &self,
        _: Request<integrations::FindReceiverRequest>,
    ) -> Result<Response<integrations::FindReceiverResponse>, Status> {
        Err(Status::not_found("nobody asks here"))
    }
}

/// The simulated providers, and what they tell.
pub struct Providers {
    /// Where they are told what to do.
    pub url: String,
    /// Where they answer.
    pub door: Door,
    /// Where their callbacks go.
    pub public: String,
    http: reqwest::Client,
    events: Events,
    refusals: Refusals,
}

impl Providers {
    /// Starts them.
    pub async fn start() -> Self {
        let sandbox = Sandbox::open(SandboxConfig::default())
            .await
            .expect("a sandbox");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(sandbox.serve(listener, std::future::pending()));
        let door = Door::before(url.trim_start_matches("http://")).await;
        let (events, refusals) = (Events::default(), Refusals::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let public = format!("http://{}", listener.local_addr().expect("bound"));
        let hooks = axum::Router::new()
            .route(
                "/webhooks/twilio/{token}/{what}",
                axum::routing::post(twilio),
            )
            .route("/webhooks/mail/{token}", axum::routing::post(mail))
            .with_state((Arc::clone(&events), Arc::clone(&refusals)));
        tokio::spawn(axum::serve(listener, hooks).into_future());
        let providers = Providers {
            url,
            door,
            public,
            http: reqwest::Client::new(),
            events,
            refusals,
        };
        let model = json!({"api_key": "sk-test"});
        providers.post("/_/openai/accounts", &model).await;
        providers
    }

    /// From now on callbacks are handed to messaging.
    pub fn tell(&self, stage: &Stage, directory: &Directory) {
        let client = ProviderEventServiceClient::new(
            stage.channel(ServiceName::Integrations, ServiceName::Messaging),
        );
        *self.events.lock().expect("no test panics under it") = Some((client, directory.clone()));
    }

    /// A Twilio account with this number, known to both sides.
    pub async fn number(&self, number: &str, rate: f64) -> integrations::SendingAccount {
        let sid = format!("AC{:0>32}", number.trim_start_matches('+'));
        let hook = |what: &str| format!("{}/webhooks/twilio/{number}/{what}", self.public);
        let account = json!({
            "account_sid": sid,
            "auth_token": "secret",
            "numbers": [{"number": number, "sms_url": hook("sms"), "status_url": hook("status")}],
        });
        self.post("/_/twilio/accounts", &account).await;
        integrations::SendingAccount {
            account_id: format!("pac_{}", number.trim_start_matches('+')),
            sender_id: String::new(),
            provider: "twilio".to_owned(),
            address: number.to_owned(),
            rate_per_second: rate,
            credentials: BTreeMap::from([
                ("account_sid".to_owned(), sid),
                ("auth_token".to_owned(), "secret".to_owned()),
            ])
            .into_iter()
            .collect(),
            endpoint_token: number.to_owned(),
            revision: 1,
        }
    }

    /// A mail account of this provider that sends as this address, known to both sides.
    pub async fn mail(&self, provider: &str, address: &str) -> integrations::SendingAccount {
        let token = format!("{provider}-token");
        let mut account = json!({
            "api_key": format!("{provider}-key"),
            "webhook_url": format!("{}/webhooks/mail/{token}", self.public),
        });
        if provider == "resend" {
            account["webhook_secret"] = json!("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        }
        self.post(&format!("/_/{provider}/accounts"), &account)
            .await;
        let key = ("api_key".to_owned(), format!("{provider}-key"));
        integrations::SendingAccount {
            account_id: format!("pac_{provider}"),
            sender_id: String::new(),
            provider: provider.to_owned(),
            address: address.to_owned(),
            rate_per_second: 1000.0,
            credentials: [key].into_iter().collect(),
            endpoint_token: token,
            revision: 1,
        }
    }

    /// So many callbacks are answered 503 from now on.
    pub fn refuse_callbacks(&self, count: u32) {
        self.refusals.store(count, Ordering::Relaxed);
    }

    /// How many are still to be refused.
    pub fn refusals_left(&self) -> u32 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// An account that mail leaves from, at Resend or SendGrid.
    pub async fn mailbox(&self, provider: &str, address: &str) -> integrations::SendingAccount {
        let key = format!("key_of_{provider}");
        let path = format!("/_/{provider}/accounts");
        self.post(&path, &json!({"api_key": key})).await;
        integrations::SendingAccount {
            account_id: format!("pac_{provider}"),
            provider: provider.to_owned(),
            address: address.to_owned(),
            rate_per_second: 100.0,
            credentials: [("api_key".to_owned(), key)].into_iter().collect(),
            revision: 1,
            ..Default::default()
        }
    }

    /// Every mail that was taken, in order.
    pub async fn mails(&self) -> Vec<Value> {
        let answer = self.http.get(format!("{}/_/email/ledger", self.url)).send();
        let answer = answer.await.expect("the sandbox answers");
        let answer: Value = answer.json().await.expect("JSON");
        answer["emails"].as_array().expect("a list").clone()
    }

    /// Breaks something.
    pub async fn fault(&self, fault: Value) {
        self.post("/_/faults", &fault).await;
    }

    /// Mends everything.
    pub async fn mend(&self) {
        let done = self.http.delete(format!("{}/_/faults", self.url)).send();
        assert!(
            done.await
                .expect("the sandbox answers")
                .status()
                .is_success()
        );
    }

    /// A person texts.
    pub async fn text(&self, from: &str, to: &str, body: &str) {
        self.post(
            "/_/inbound/sms",
            &json!({"from": from, "to": to, "body": body}),
        )
        .await;
    }

    /// What arrived at a number, in order.
    pub async fn arrived(&self, to: &str) -> Vec<String> {
        let url = format!("{}/_/messages", self.url);
        let answer = self.http.get(url).query(&[("to", to)]).send().await;
        let answer: Value = answer
            .expect("the sandbox answers")
            .json()
            .await
            .expect("JSON");
        let all = answer["data"].as_array().expect("a list").iter();
        all.map(|one| one["body"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// What was made at a provider: `twilio`, `email`.
    pub async fn ledger(&self, of: &str) -> Value {
        let url = format!("{}/_/{of}/ledger", self.url);
        let answer = self.http.get(url).send().await;
        let answer = answer.expect("the sandbox answers");
        answer.json().await.expect("JSON")
    }

    /// Asks a simulator's controls.
    pub async fn post(&self, path: &str, body: &Value) -> Value {
        let answer = self.http.post(format!("{}{path}", self.url)).json(body);
        let answer = answer.send().await.expect("the sandbox answers");
        let status = answer.status();
        let body: Value = answer.json().await.unwrap_or_default();
        assert!(status.is_success(), "{path}: {status} {body}");
        body
    }
}

/// As integrations' inbox does: what was taken from a provider is handed on until messaging has it.
fn hand_on(
    mut client: ProviderEventServiceClient<ServiceChannel>,
    request: proto::HandleProviderEventRequest,
) {
    tokio::spawn(async move {
        let (mut looks, mut last) = (crate::sending::looks(), None);
        while looks.again().await {
            match client.handle_provider_event(request.clone()).await {
                Ok(_) => return,
                Err(refused) => last = Some(refused),
            }
        }
        panic!("messaging never took what a provider told: {last:?}");
    });
}

/// As the gateway and integrations do: the address's query behind the body, then to messaging. What is refused is said again
/// by the simulator as often as our address asks it to, as Twilio does.
async fn twilio(
    State((events, refusals)): State<(Events, Refusals)>,
    Path((token, what)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    body: String,
) -> Result<([(&'static str, &'static str); 1], &'static str), axum::http::StatusCode> {
    let unavailable = axum::http::StatusCode::SERVICE_UNAVAILABLE;
    let one_less = |left: u32| left.checked_sub(1);
    if refusals
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
        .is_ok()
    {
        return Err(unavailable);
    }
    let told = events.lock().expect("no test panics under it").clone();
    let (client, directory) = told.ok_or(unavailable)?;
    let (agency, owner, _) = directory
        .of(&token)
        .ok_or(axum::http::StatusCode::NOT_FOUND)?;
    let attempt = query.and_then(|query| query.strip_prefix("attempt=").map(str::to_owned));
    let request = proto::HandleProviderEventRequest {
        agency_id: agency.to_string(),
        client_id: Some(owner.to_string()),
        provider: "twilio".to_owned(),
        account_id: None,
        event_key: "of no matter here".to_owned(),
        r#type: match what.as_str() {
            "sms" => "message.received",
            _ => "message.status",
        }
        .to_owned(),
        content_type: "application/x-www-form-urlencoded".to_owned(),
        body: match attempt {
            Some(attempt) => format!("{body}&MainstayAttempt={attempt}"),
            None => body,
        }
        .into_bytes(),
        form_endpoint_id: None,
        received_at: None,
        webhook_event_id: mainstay_types::WebhookEventId::generate().to_string(),
    };
    hand_on(client, request);
    Ok(([("content-type", "text/xml")], "<Response/>"))
}

/// As the gateway and integrations do: each event of a batch by itself, by its kind, to messaging.
async fn mail(
    State((events, _)): State<(Events, Refusals)>,
    Path(token): Path<String>,
    body: String,
) -> Result<&'static str, axum::http::StatusCode> {
    let unavailable = axum::http::StatusCode::SERVICE_UNAVAILABLE;
    let told = events.lock().expect("no test panics under it").clone();
    let (client, directory) = told.ok_or(unavailable)?;
    let known = directory.of(&token);
    let (agency, owner, account) = known.ok_or(axum::http::StatusCode::NOT_FOUND)?;
    let batch = match serde_json::from_str(&body).expect("JSON") {
        Value::Array(batch) => batch,
        one => vec![one],
    };
    for event in batch {
        let kind = event["type"].as_str().filter(|kind| kind.contains('.'));
        let kind = kind.or(event["event"].as_str()).unwrap_or_default();
        let request = proto::HandleProviderEventRequest {
            agency_id: agency.to_string(),
            client_id: Some(owner.to_string()),
            provider: account.provider.clone(),
            account_id: None,
            event_key: "of no matter here".to_owned(),
            r#type: format!("email.{}", kind.trim_start_matches("email.")),
            content_type: "application/json".to_owned(),
            body: event.to_string().into_bytes(),
            form_endpoint_id: None,
            received_at: None,
            webhook_event_id: mainstay_types::WebhookEventId::generate().to_string(),
        };
        hand_on(client.clone(), request);
    }
    Ok("")
}
