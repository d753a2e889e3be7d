//! Identity, as far as billing asks it: it keeps what it is told, refuses what the test says, and holds calls on request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use mainstay_proto::identity::v1::client_directory_service_server::ClientDirectoryService;
use mainstay_proto::identity::v1::client_offboarding_service_server::ClientOffboardingService;
use mainstay_proto::identity::v1::client_onboarding_service_server::ClientOnboardingService;
use mainstay_proto::identity::v1::entitlement_service_server::EntitlementService;
use mainstay_proto::identity::v1::{
    CancelClientRequest, CancelClientResponse, CheckEntitlementsRequest, CheckEntitlementsResponse,
    Client, ClientEntitlements, ClientState, EnsureClientRequest, EnsureClientResponse,
    GetEntitlementsRequest, LookupClientRequest, LookupClientResponse, PutEntitlementsRequest,
    PutEntitlementsResponse,
};
use mainstay_rpc::{ErrorReason, Problem, ServiceName, open};
use mainstay_testkit::in_time;
use mainstay_types::ClientId;
use tokio::sync::watch;
use tonic::{Request, Response, Status};

/// What identity knows and was told.
#[derive(Default)]
struct Known {
    clients: HashMap<String, Client>,
    /// Clients by what they began with.
    origins: HashMap<String, String>,
    stored: HashMap<String, PutEntitlementsRequest>,
    fences: HashMap<String, i64>,
    puts: u32,
    refuse_puts: Vec<Problem>,
    refuse_checks: Option<Problem>,
}

/// A script of identity. Clones are the same one.
#[derive(Clone)]
pub struct Identity {
    known: Arc<Mutex<Known>>,
    puts: watch::Sender<u32>,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            known: Arc::default(),
            puts: watch::Sender::new(0),
        }
    }
}

impl Identity {
    /// A client that stands and is active.
    pub fn add(&self, client_id: &str) {
        let client = Client {
            id: Some(client_id.to_owned()),
            name: Some("Acme Roofing".to_owned()),
            email: Some("owner@acme.test".to_owned()),
            phone: Some("+15125550100".to_owned()),
            state: Some(ClientState::Active.into()),
            ..Client::default()
        };
        self.know(|known| known.clients.insert(client_id.to_owned(), client));
    }

    /// The client is suspended.
    pub fn suspend(&self, client_id: &str) {
        self.know(|known| {
            let client = known.clients.get_mut(client_id).expect("it stands");
            client.state = Some(ClientState::Suspended.into());
        });
    }

    /// Whether the client is canceled.
    pub fn is_canceled(&self, client_id: &str) -> bool {
        self.know(|known| {
            let client = known.clients.get(client_id).expect("it stands");
            client.state() == ClientState::Canceled
        })
    }

    /// The next writes are refused so, one each.
    pub fn refuse_puts(&self, problems: impl IntoIterator<Item = Problem>) {
        self.know(|known| known.refuse_puts.extend(problems));
    }

    /// From now on clients are said not to be active.
    pub fn refuse_checks(&self) {
        let problem = Problem::new(ErrorReason::ClientNotActive, "The client is suspended.");
        self.know(|known| known.refuse_checks = Some(problem));
    }

    /// What stands for a client.
    pub fn stored(&self, client_id: &str) -> Option<PutEntitlementsRequest> {
        self.know(|known| known.stored.get(client_id).cloned())
    }

    /// The clients that began outside: what with, and the id.
    pub fn onboarded(&self) -> Vec<(String, String)> {
        self.know(|known| known.origins.clone().into_iter().collect())
    }

    /// How many writes were taken.
    pub fn puts(&self) -> u32 {
        self.know(|known| known.puts)
    }

    /// Waits until what stands for the client is as wanted.
    pub async fn until(
        &self,
        client_id: &str,
        wanted: impl Fn(&PutEntitlementsRequest) -> bool,
    ) -> PutEntitlementsRequest {
        let mut puts = self.puts.subscribe();
        let heard = async {
            loop {
                if let Some(stored) = self.stored(client_id).filter(&wanted) {
                    return stored;
                }
                puts.changed().await.expect("the script plays on");
            }
        };
        in_time("identity is told", heard).await
    }

    fn know<T>(&self, with: impl FnOnce(&mut Known) -> T) -> T {
        with(&mut self.known.lock().expect("no test panics here"))
    }
}

#[tonic::async_trait]
impl ClientDirectoryService for Identity {
    async fn lookup_client(
        &self,
        request: Request<LookupClientRequest>,
    ) -> Result<Response<LookupClientResponse>, Status> {
        let (_, request) = open(request)?;
        let client = self.know(|known| known.clients.get(&request.client_id).cloned());
        let client = client.ok_or_else(|| Problem::not_found("client"))?;
        Ok(Response::new(LookupClientResponse {
            client: Some(client),
        }))
    }
}

#[tonic::async_trait]
impl ClientOnboardingService for Identity {
    async fn ensure_client(
        &self,
        request: Request<EnsureClientRequest>,
    ) -> Result<Response<EnsureClientResponse>, Status> {
        let (_, request) = open(request)?;
        let (id, created) = self.know(|known| match known.origins.get(&request.origin) {
            Some(id) => (id.clone(), false),
            None => {
                let id = ClientId::generate().to_string();
                known.origins.insert(request.origin.clone(), id.clone());
                (id, true)
            }
        });
        if created {
            self.add(&id);
        }
        let client = self.know(|known| known.clients.get(&id).cloned());
        Ok(Response::new(EnsureClientResponse { client, created }))
    }
}

#[tonic::async_trait]
impl ClientOffboardingService for Identity {
    async fn cancel_client(
        &self,
        request: Request<CancelClientRequest>,
    ) -> Result<Response<CancelClientResponse>, Status> {
        let (_, request) = open(request)?;
        let client = self.know(|known| {
            let client = known.clients.get_mut(&request.client_id)?;
            client.state = Some(ClientState::Canceled.into());
            Some(client.clone())
        });
        let client = client.ok_or_else(|| Problem::not_found("client"))?;
        Ok(Response::new(CancelClientResponse {
            client: Some(client),
        }))
    }
}

#[tonic::async_trait]
impl EntitlementService for Identity {
    async fn get_entitlements(
        &self,
        _: Request<GetEntitlementsRequest>,
    ) -> Result<Response<ClientEntitlements>, Status> {
        Err(Problem::not_found("entitlements").into())
    }

    async fn check_entitlements(
        &self,
        request: Request<CheckEntitlementsRequest>,
    ) -> Result<Response<CheckEntitlementsResponse>, Status> {
        open(request)?;
        match self.know(|known| known.refuse_checks.clone()) {
            Some(problem) => Err(problem.into()),
            None => Ok(Response::new(CheckEntitlementsResponse {})),
        }
    }

    /// By the rules of architecture.md: a lower fence is refused, a version that is not higher changes nothing.
    async fn put_entitlements(
        &self,
        request: Request<PutEntitlementsRequest>,
    ) -> Result<Response<PutEntitlementsResponse>, Status> {
        let (ctx, request) = open(request)?;
        assert_eq!(ctx.caller, ServiceName::Billing);
        let answer = self.know(|known| {
            if !known.refuse_puts.is_empty() {
                return Err(known.refuse_puts.remove(0));
            }
            let step = format!("{}/{}", request.saga_id, request.step);
            let highest = known.fences.entry(step).or_default();
            if request.fence < *highest {
                return Err(Problem::new(
                    ErrorReason::Conflict,
                    "A higher fence stands.",
                ));
            }
            *highest = request.fence;
            known.puts += 1;
            let before = known.stored.get(&request.client_id);
            let stored = before.map_or(0, |stored| stored.version);
            // An undo takes back what its own step wrote, and nothing newer.
            let applied = request.version > stored || (request.undo && request.version == stored);
            let version = request.version.max(stored);
            if applied {
                known.stored.insert(request.client_id.clone(), request);
            }
            Ok(PutEntitlementsResponse { applied, version })
        });
        let answer = answer.map_err(Status::from)?;
        self.puts.send_modify(|puts| *puts += 1);
        Ok(Response::new(answer))
    }
}
