//! What stands behind the gateway in its tests: services that do as a plan's name or a client's id says.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use mainstay_proto::{
    billing::v1::{
        self as billing,
        plan_service_server::{PlanService, PlanServiceServer},
        subscription_service_server::{SubscriptionService, SubscriptionServiceServer},
    },
    errors::v1::ObjectExists,
    identity::v1::{
        self as identity,
        client_service_server::{ClientService, ClientServiceServer},
        credential_service_server::{CredentialService, CredentialServiceServer},
    },
    integrations::v1::{
        self as integrations,
        webhook_intake_service_server::{WebhookIntakeService, WebhookIntakeServiceServer},
    },
};
use mainstay_rpc::{Actor, ClientDirectory, ErrorReason, Grant, Problem, Schema, ServiceKey};
use mainstay_types::{AgencyId, ApiKeyId, ClientId, ServiceName};
use tokio::sync::Notify;
use tonic::{Request, Response, Status, service::Routes};

/// The client that exists.
pub const CLIENT: &str = "cli_01h455vb4pex5vsknk084sn02q";
/// A client that does not.
pub const STRANGER: &str = "cli_01h455vb4pex5vsknk084sn02r";
/// A plan's id.
pub const PLAN: &str = "plan_01h455vb4pex5vsknk084sn02q";

/// What the services saw, and how they are told to behave.
pub struct Backend {
    key: Arc<ServiceKey>,
    /// Credentials exchanged.
    pub exchanges: AtomicUsize,
    /// `metadata` of the last call to billing.
    pub seen: Mutex<tonic::metadata::MetadataMap>,
    /// The batches that were stored, by their event keys.
    pub batches: Mutex<Vec<Vec<integrations::Webhook>>>,
    /// How often secrets were asked for.
    pub secret_asks: AtomicUsize,
    /// The secrets.
    pub secrets: Mutex<Vec<String>>,
    /// Those of other endpoints, by provider and token.
    pub endpoints: Mutex<BTreeMap<(String, String), integrations::ListVerificationSecretsResponse>>,
    /// Whether the webhook store is down.
    pub store_down: std::sync::atomic::AtomicBool,
    /// While true, the store answers nobody.
    pub store_held: tokio::sync::watch::Sender<bool>,
    /// How many webhooks have arrived at the store, answered or not.
    pub arrived_at_store: tokio::sync::watch::Sender<usize>,
    /// Told when a plan called `wait` has arrived.
    pub arrived: Notify,
    /// Lets plans called `wait` go on.
    pub go_on: Notify,
}

/// Knows [`CLIENT`] only.
pub struct Directory;

#[tonic::async_trait]
impl ClientDirectory for Directory {
    async fn exists(&self, _: AgencyId, client: ClientId) -> Result<bool, Status> {
        Ok(client.to_string() == CLIENT)
    }
}

impl Backend {
    /// All well.
    pub fn new(key: Arc<ServiceKey>) -> Self {
        Self {
            key,
            exchanges: AtomicUsize::new(0),
            seen: Mutex::default(),
            batches: Mutex::default(),
            secret_asks: AtomicUsize::new(0),
            secrets: Mutex::new(vec!["whsec_first".to_owned()]),
            endpoints: Mutex::default(),
            store_down: false.into(),
            store_held: tokio::sync::watch::Sender::new(false),
            arrived_at_store: tokio::sync::watch::Sender::new(0),
            arrived: Notify::new(),
            go_on: Notify::new(),
        }
    }

    /// What a service serves; messaging and escalation are left out, and so are unreachable.
    pub fn routes(self: &Arc<Self>, service: ServiceName) -> Option<Routes> {
        let fake = || Fake(Arc::clone(self));
        match service {
            ServiceName::Identity => Some(
                Routes::new(CredentialServiceServer::new(fake()))
                    .add_service(ClientServiceServer::new(fake())),
            ),
            ServiceName::Billing => Some(
                Routes::new(PlanServiceServer::new(fake()))
                    .add_service(SubscriptionServiceServer::new(fake())),
            ),
            ServiceName::Integrations => Some(Routes::new(WebhookIntakeServiceServer::new(fake()))),
            _ => None,
        }
    }

    fn see<T>(&self, request: &Request<T>) {
        *self.seen.lock().expect("a lock") = request.metadata().clone();
    }

    /// What a header of the last call to billing said.
    pub fn saw(&self, name: &str) -> String {
        let seen = self.seen.lock().expect("a lock");
        let value = seen.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    }
}

struct Fake(Arc<Backend>);

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl CredentialService for Fake {
    async fn exchange_credential(
        &self,
        request: Request<identity::ExchangeCredentialRequest>,
    ) -> Answer<identity::ExchangeCredentialResponse> {
        self.0.exchanges.fetch_add(1, Ordering::SeqCst);
        let all: Vec<String> = Schema::mainstay()
            .methods()
            .iter()
            .map(|method| method.access.permission.clone())
            .filter(|permission| !permission.is_empty())
            .collect();
        let permissions = match request.into_inner().credential.as_str() {
            "msk_owner" => all,
            "msk_reader" => vec!["billing.plans.read".to_owned()],
            "msk_later" => return Err(Problem::unavailable("identity is away").into()),
            _ => return Err(Problem::unauthenticated("The credential is not valid.").into()),
        };
        let actor = Actor::ApiKey {
            key: ApiKeyId::generate(),
        };
        let agency = AgencyId::generate();
        let grant = Grant {
            permissions,
            clients: None,
        };
        let (token, claims) =
            self.0
                .key
                .actor_token(&actor, agency, vec![grant], 0, Duration::from_secs(30));
        Ok(Response::new(identity::ExchangeCredentialResponse {
            token,
            expires_at: Some(prost_types::Timestamp {
                seconds: claims.expires_at().timestamp(),
                nanos: 0,
            }),
            principal: actor.to_string(),
            agency_id: agency.to_string(),
        }))
    }
}

#[tonic::async_trait]
impl ClientService for Fake {
    async fn create_client(
        &self,
        _: Request<identity::CreateClientRequest>,
    ) -> Answer<identity::Client> {
        Err(Problem::internal("the disk is on fire").into())
    }
    async fn get_client(
        &self,
        request: Request<identity::GetClientRequest>,
    ) -> Answer<identity::Client> {
        Ok(Response::new(identity::Client {
            id: Some(request.into_inner().client_id),
            name: Some("Acme".to_owned()),
            state: Some(identity::ClientState::Active.into()),
            etag: Some("v7".to_owned()),
            ..Default::default()
        }))
    }
    async fn list_clients(
        &self,
        _: Request<identity::ListClientsRequest>,
    ) -> Answer<identity::ListClientsResponse> {
        Ok(Response::new(identity::ListClientsResponse::default()))
    }
    async fn update_client(
        &self,
        request: Request<identity::UpdateClientRequest>,
    ) -> Answer<identity::Client> {
        let request = request.into_inner();
        if request.etag.as_deref() == Some("v7") {
            return Ok(Response::new(identity::Client {
                id: Some(request.client_id),
                name: request.name,
                ..Default::default()
            }));
        }
        Err(Problem::new(ErrorReason::EtagMismatch, "The client has changed since.").into())
    }
}

#[tonic::async_trait]
impl PlanService for Fake {
    async fn create_plan(
        &self,
        request: Request<billing::CreatePlanRequest>,
    ) -> Answer<billing::Plan> {
        self.0.see(&request);
        let name = request.into_inner().name.unwrap_or_default();
        match name.as_str() {
            "taken" => {
                return Err(Problem::new(
                    ErrorReason::PlanNameTaken,
                    "There is a plan called taken.",
                )
                .with_data(&ObjectExists {
                    existing_id: Some(PLAN.to_owned()),
                })
                .into());
            }
            "bug" => return Err(Problem::internal("select * from secrets").into()),
            "panic" => panic!("a bug in the service"),
            "busy" => {
                return Err(Problem::unavailable("the pool is empty")
                    .retry_after(7)
                    .into());
            }
            "too late" => {
                return Err(Problem::unauthenticated("The credential does not hold.").into());
            }
            "wait" => {
                self.0.arrived.notify_one();
                self.0.go_on.notified().await;
            }
            "never" => std::future::pending().await,
            _ => {}
        }
        Ok(Response::new(billing::Plan {
            id: Some(PLAN.to_owned()),
            version: Some(1),
            name: Some(name),
            state: Some(billing::PlanState::Active.into()),
            ..Default::default()
        }))
    }
    async fn get_plan(&self, request: Request<billing::GetPlanRequest>) -> Answer<billing::Plan> {
        self.0.see(&request);
        Ok(Response::new(billing::Plan {
            id: Some(request.into_inner().plan_id),
            ..Default::default()
        }))
    }
    async fn list_plans(
        &self,
        request: Request<billing::ListPlansRequest>,
    ) -> Answer<billing::ListPlansResponse> {
        self.0.see(&request);
        Ok(Response::new(billing::ListPlansResponse::default()))
    }
    async fn update_plan(&self, _: Request<billing::UpdatePlanRequest>) -> Answer<billing::Plan> {
        Err(Status::unimplemented("not in these tests"))
    }
    async fn archive_plan(&self, _: Request<billing::ArchivePlanRequest>) -> Answer<billing::Plan> {
        Ok(Response::new(billing::Plan::default()))
    }
}

#[tonic::async_trait]
impl SubscriptionService for Fake {
    async fn create_subscription(
        &self,
        request: Request<billing::CreateSubscriptionRequest>,
    ) -> Answer<billing::Subscription> {
        self.0.see(&request);
        let request = request.into_inner();
        let mut answer = Response::new(billing::Subscription {
            client_id: Some(request.client_id),
            ..Default::default()
        });
        if request.coupon_code.as_deref() == Some("LATER") {
            answer
                .metadata_mut()
                .insert("x-mainstay-accepted", "1".parse().expect("a value"));
        }
        Ok(answer)
    }
    async fn get_subscription(
        &self,
        _: Request<billing::GetSubscriptionRequest>,
    ) -> Answer<billing::Subscription> {
        Err(Problem::not_found("subscription").into())
    }
    async fn list_subscriptions(
        &self,
        _: Request<billing::ListSubscriptionsRequest>,
    ) -> Answer<billing::ListSubscriptionsResponse> {
        Ok(Response::new(billing::ListSubscriptionsResponse::default()))
    }
    async fn cancel_subscription(
        &self,
        _: Request<billing::CancelSubscriptionRequest>,
    ) -> Answer<billing::Subscription> {
        Err(Status::unimplemented("not in these tests"))
    }
    async fn pause_subscription(
        &self,
        _: Request<billing::PauseSubscriptionRequest>,
    ) -> Answer<billing::Subscription> {
        Err(Status::unimplemented("not in these tests"))
    }
    async fn resume_subscription(
        &self,
        _: Request<billing::ResumeSubscriptionRequest>,
    ) -> Answer<billing::Subscription> {
        Err(Status::unimplemented("not in these tests"))
    }
    async fn reactivate_subscription(
        &self,
        _: Request<billing::ReactivateSubscriptionRequest>,
    ) -> Answer<billing::Subscription> {
        Err(Status::unimplemented("not in these tests"))
    }
    async fn confirm_payment_intent(
        &self,
        _: Request<billing::ConfirmPaymentIntentRequest>,
    ) -> Answer<billing::Subscription> {
        Err(Status::unimplemented("not in these tests"))
    }
}

#[tonic::async_trait]
impl WebhookIntakeService for Fake {
    async fn store_webhooks(
        &self,
        request: Request<integrations::StoreWebhooksRequest>,
    ) -> Answer<integrations::StoreWebhooksResponse> {
        if self.0.store_down.load(Ordering::SeqCst) {
            return Err(Problem::unavailable("the database is away").into());
        }
        let webhooks = request.into_inner().webhooks;
        let arriving = webhooks.len();
        self.0
            .arrived_at_store
            .send_modify(|arrived| *arrived += arriving);
        let mut held = self.0.store_held.subscribe();
        held.wait_for(|held| !held)
            .await
            .map_err(|_| Status::internal("the test has ended"))?;
        // One bad webhook spoils its batch, as a constraint would.
        if webhooks
            .iter()
            .any(|webhook| webhook.event_key == "evt_bad")
        {
            return Err(Problem::internal("constraint violated").into());
        }
        let results = webhooks
            .iter()
            .map(|_| integrations::StoredWebhook {
                id: mainstay_types::WebhookEventId::generate().to_string(),
                duplicate: false,
            })
            .collect();
        self.0.batches.lock().expect("a lock").push(webhooks);
        Ok(Response::new(integrations::StoreWebhooksResponse {
            results,
        }))
    }

    async fn list_verification_secrets(
        &self,
        request: Request<integrations::ListVerificationSecretsRequest>,
    ) -> Answer<integrations::ListVerificationSecretsResponse> {
        self.0.secret_asks.fetch_add(1, Ordering::SeqCst);
        let request = request.into_inner();
        if let Some(known) = self
            .0
            .endpoints
            .lock()
            .expect("a lock")
            .get(&(request.provider.clone(), request.endpoint_token.clone()))
        {
            return Ok(Response::new(known.clone()));
        }
        match request.endpoint_token.as_str() {
            "" => Ok(Response::new(
                integrations::ListVerificationSecretsResponse {
                    secrets: self.0.secrets.lock().expect("a lock").clone(),
                    account: String::new(),
                    allowed_origins: Vec::new(),
                    ..Default::default()
                },
            )),
            "tok_known" => Ok(Response::new(
                integrations::ListVerificationSecretsResponse {
                    secrets: vec!["whsec_endpoint".to_owned()],
                    account: "acct_7".to_owned(),
                    allowed_origins: Vec::new(),
                    ..Default::default()
                },
            )),
            _ => Err(Problem::not_found("endpoint").into()),
        }
    }
}
