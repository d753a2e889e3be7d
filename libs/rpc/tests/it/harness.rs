//! An identity role whose handlers tell what they were given, and callers of every kind.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay_proto::errors::v1::{ErrorReason, GrantExceedsOwn};
use mainstay_proto::identity::v1::account_service_server::{AccountService, AccountServiceServer};
use mainstay_proto::identity::v1::client_directory_service_server::{
    ClientDirectoryService, ClientDirectoryServiceServer,
};
use mainstay_proto::identity::v1::client_service_client::ClientServiceClient;
use mainstay_proto::identity::v1::client_service_server::{ClientService, ClientServiceServer};
use mainstay_proto::identity::v1::{
    Client, CreateClientRequest, GetClientRequest, GetMeRequest, ListClientsRequest,
    ListClientsResponse, LookupClientRequest, LookupClientResponse, Me, UpdateClientRequest,
};
use mainstay_rpc::{
    Actor, Channels, ClientDirectory, Context, Grant, Limits, Problem, ServiceChannel, ServiceKey,
    ServiceName, ServiceRuntime, TrustedKeys, Visible, open, serve,
};
use mainstay_runtime::health::Status as HealthStatus;
use mainstay_runtime::{Clock, Health, Shutdown};
use mainstay_types::{AgencyId, ClientId, MemberId, PersonId};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

/// The permission of every method on clients that tests use.
pub const READ: &str = "identity.clients.read";
pub const UPDATE: &str = "identity.clients.update";
pub const CREATE: &str = "identity.clients.create";

pub struct House {
    pub address: String,
    pub identity: Arc<ServiceKey>,
    pub gateway: Arc<ServiceKey>,
    pub messaging: Arc<ServiceKey>,
    pub clients: Arc<Directory>,
    pub handlers: Handlers,
    pub shutdown: Shutdown,
    pub health: Health,
    pub served: JoinHandle<()>,
}

/// Which clients there are.
#[derive(Default)]
pub struct Directory {
    known: Mutex<HashSet<(AgencyId, ClientId)>>,
    pub asked: AtomicU32,
}

impl Directory {
    pub fn make(&self, agency: AgencyId) -> ClientId {
        let client = ClientId::generate();
        self.known
            .lock()
            .expect("no panic")
            .insert((agency, client));
        client
    }
}

#[tonic::async_trait]
impl ClientDirectory for Directory {
    async fn exists(&self, agency: AgencyId, client: ClientId) -> Result<bool, Status> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Ok(self
            .known
            .lock()
            .expect("no panic")
            .contains(&(agency, client)))
    }
}

/// Answer with what they were given; `name` in an update says how to behave.
#[derive(Clone, Default)]
pub struct Handlers {
    pub calls: Arc<AtomicU32>,
    pub entered: Arc<Notify>,
    pub go_on: Arc<Notify>,
    pub seen: Arc<Mutex<Vec<Context>>>,
}

impl Handlers {
    pub fn calls(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }

    fn note(&self, context: &Context) -> u32 {
        self.seen.lock().expect("no panic").push(context.clone());
        self.calls.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub fn last(&self) -> Context {
        self.seen
            .lock()
            .expect("no panic")
            .last()
            .cloned()
            .expect("a call")
    }
}

#[tonic::async_trait]
impl ClientService for Handlers {
    async fn create_client(
        &self,
        request: Request<CreateClientRequest>,
    ) -> Result<Response<Client>, Status> {
        let (context, request) = open(request)?;
        let call = self.note(&context);
        match request.name.as_deref() {
            Some("unavailable twice") if call < 3 => {
                Err(Problem::unavailable("the database is gone").into())
            }
            _ => Ok(Response::new(Client {
                name: request.name,
                ..Client::default()
            })),
        }
    }

    async fn get_client(
        &self,
        request: Request<GetClientRequest>,
    ) -> Result<Response<Client>, Status> {
        let (context, _) = open(request)?;
        self.note(&context);
        Ok(Response::new(Client {
            id: Some(context.tenant().client.to_string()),
            ..Client::default()
        }))
    }

    async fn list_clients(
        &self,
        request: Request<ListClientsRequest>,
    ) -> Result<Response<ListClientsResponse>, Status> {
        let (context, _) = open(request)?;
        if self.note(&context) < 3 && context.request_id == "unavailable-twice" {
            return Err(Problem::unavailable("the database is gone").into());
        }
        let visible = match context.agency_scope().visible {
            Visible::All => vec!["all".to_owned()],
            Visible::Only(clients) => clients.iter().map(ToString::to_string).collect(),
        };
        let data = visible
            .into_iter()
            .map(|id| Client {
                id: Some(id),
                ..Client::default()
            })
            .collect();
        Ok(Response::new(ListClientsResponse {
            data,
            next_page_token: None,
        }))
    }

    async fn update_client(
        &self,
        request: Request<UpdateClientRequest>,
    ) -> Result<Response<Client>, Status> {
        let (context, request) = open(request)?;
        self.note(&context);
        match request.name.as_deref() {
            Some("panic") => panic!("the price of Mike's roof"),
            Some("bug") => Err(Problem::internal("relation \"client\" does not exist").into()),
            Some(refusal) if refusal.starts_with("refuse ") => Err(large_refusal(refusal)),
            Some("raw status") => Err(Status::unknown("h2 protocol error at 10.0.0.7")),
            Some("wait") => {
                self.entered.notify_one();
                self.go_on.notified().await;
                Ok(Response::new(Client::default()))
            }
            _ => Ok(Response::new(Client {
                name: request.name,
                ..Client::default()
            })),
        }
    }
}

#[tonic::async_trait]
impl AccountService for Handlers {
    async fn get_me(&self, request: Request<GetMeRequest>) -> Result<Response<Me>, Status> {
        let (context, _) = open(request)?;
        self.note(&context);
        Ok(Response::new(Me {
            principal: Some(context.principal()),
            ..Me::default()
        }))
    }
}

#[tonic::async_trait]
impl ClientDirectoryService for Handlers {
    async fn lookup_client(
        &self,
        request: Request<LookupClientRequest>,
    ) -> Result<Response<LookupClientResponse>, Status> {
        let (context, request) = open(request)?;
        self.note(&context);
        let parsed = (
            AgencyId::parse(&request.agency_id),
            ClientId::parse(&request.client_id),
        );
        let (Ok(agency), Ok(client)) = parsed else {
            panic!("the rules let no other ids through")
        };
        context.service_tenant(agency, client)?;
        Ok(Response::new(LookupClientResponse {
            client: Some(Client::default()),
        }))
    }
}

/// As large as its name says: `refuse 100 faults`, `refuse 200 permissions`.
fn large_refusal(name: &str) -> Status {
    let words: Vec<&str> = name.split(' ').collect();
    let number: usize = words[1].parse().expect("a number");
    let problem = Problem::new(ErrorReason::GrantExceedsOwn, "That is too much.");
    let problem = match words[2] {
        "permissions" => problem.with_data(&GrantExceedsOwn {
            permissions: (0..number)
                .map(|nth| format!("billing.plans.{nth:0>60}"))
                .collect(),
        }),
        _ => (0..number).fold(problem, |problem, nth| {
            problem.violation(long_path(nth), "must be one of: big, small")
        }),
    };
    problem.into()
}

/// A path that few requests have.
pub fn long_path(nth: usize) -> String {
    format!("{}[{nth}]", ["a_field_of_a_message_of"; 8].join("."))
}

impl House {
    pub async fn build() -> House {
        House::with(Limits::default()).await
    }

    pub async fn with(limits: Limits) -> House {
        let key = |service| Arc::new(ServiceKey::generate(service));
        let (identity, gateway, messaging) = (
            key(ServiceName::Identity),
            key(ServiceName::Gateway),
            key(ServiceName::Messaging),
        );
        let trusted =
            [&identity, &gateway, &messaging]
                .iter()
                .fold(TrustedKeys::new(), |trusted, key| {
                    trusted
                        .trust(key.service(), &key.public_hex())
                        .expect("a key")
                });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let (shutdown, health) = (Shutdown::new(), Health::new());
        health.set("database", HealthStatus::Healthy, "");
        let runtime = ServiceRuntime {
            me: ServiceName::Identity,
            trusted,
            channels: Channels::new(identity.clone(), []).expect("no addresses"),
            clock: Clock::system(0),
            shutdown: shutdown.clone(),
            health: health.clone(),
            listener,
            limits,
        };
        let (handlers, clients) = (Handlers::default(), Arc::new(Directory::default()));
        let routes = Routes::new(ClientServiceServer::new(handlers.clone()))
            .add_service(AccountServiceServer::new(handlers.clone()))
            .add_service(ClientDirectoryServiceServer::new(handlers.clone()));
        let directory = clients.clone();
        let served =
            tokio::spawn(async move { serve(runtime, directory, routes).await.expect("serves") });
        House {
            address,
            identity,
            gateway,
            messaging,
            clients,
            handlers,
            shutdown,
            health,
            served,
        }
    }

    /// The way to this house, for a service that signs with `key`.
    pub fn channel(&self, key: &Arc<ServiceKey>) -> ServiceChannel {
        let addresses = [(ServiceName::Identity, self.address.clone())];
        Channels::new(key.clone(), addresses)
            .expect("an address")
            .channel(ServiceName::Identity)
    }

    pub fn client(&self) -> ClientServiceClient<ServiceChannel> {
        ClientServiceClient::new(self.channel(&self.gateway))
    }

    /// A token of identity's for a member with these grants.
    pub fn token(&self, agency: AgencyId, grants: Vec<Grant>) -> String {
        let actor = Actor::Member {
            member: MemberId::generate(),
            person: PersonId::generate(),
        };
        self.identity
            .actor_token(&actor, agency, grants, 1, Duration::from_secs(30))
            .0
    }

    /// A token for everything on clients, for the whole agency.
    pub fn owner(&self, agency: AgencyId) -> String {
        self.token(agency, vec![grant(&[READ, UPDATE, CREATE], None)])
    }
}

pub fn grant(permissions: &[&str], clients: Option<&[ClientId]>) -> Grant {
    let permissions = permissions
        .iter()
        .map(|&permission| permission.to_owned())
        .collect();
    Grant {
        permissions,
        clients: clients.map(<[ClientId]>::to_vec),
    }
}

pub fn as_actor<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(
        "authorization",
        format!("Bearer {token}").parse().expect("ascii"),
    );
    request
}

pub fn get(client: ClientId) -> GetClientRequest {
    GetClientRequest {
        client_id: client.to_string(),
    }
}

pub fn update(client: ClientId, name: &str) -> UpdateClientRequest {
    UpdateClientRequest {
        client_id: client.to_string(),
        name: Some(name.to_owned()),
        ..UpdateClientRequest::default()
    }
}

pub fn create(name: &str) -> CreateClientRequest {
    CreateClientRequest {
        name: Some(name.to_owned()),
        email: Some("owner@acme.test".to_owned()),
        time_zone: Some("America/Chicago".to_owned()),
        ..CreateClientRequest::default()
    }
}
