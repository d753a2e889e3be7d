//! Services behind their real stacks, on loopback ports, with keys that trust each other, and callers of every kind.
//! Deliberately absent: the services. A test brings those it is about; a database is in [`crate::postgres`].
#![expect(
    clippy::expect_used,
    reason = "a test without its stage has failed, and the message is for its reader"
)]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mainstay_rpc::{
    Actor, Channels, Grant, Limits, ServiceChannel, ServiceKey, ServiceRuntime, TrustedKeys,
};
use mainstay_runtime::{Clock, Health, Shutdown};
use mainstay_types::{AgencyId, ServiceName};
use tokio::net::TcpListener;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};

use crate::PATIENCE;

/// How long a caller's token holds: longer than any test.
const SIGNED_IN: Duration = Duration::from_secs(600);

/// Who is on the stage, and how they reach each other. Everything on it stops when it is dropped.
pub struct Stage {
    keys: HashMap<ServiceName, Arc<ServiceKey>>,
    addresses: Vec<(ServiceName, String)>,
    listeners: HashMap<ServiceName, TcpListener>,
    shutdown: Shutdown,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

impl Stage {
    /// A port for each of these services, and a key for every service there is.
    ///
    /// # Panics
    /// When no loopback port is free.
    pub async fn new(services: &[ServiceName]) -> Self {
        let keys = ServiceName::ALL
            .into_iter()
            .map(|service| (service, Arc::new(ServiceKey::generate(service))))
            .collect();
        let (mut addresses, mut listeners) = (Vec::new(), HashMap::new());
        for &service in services {
            let listener = TcpListener::bind("127.0.0.1:0")
                .await
                .expect("a loopback port is free");
            let address = listener.local_addr().expect("it is bound");
            addresses.push((service, format!("http://{address}")));
            listeners.insert(service, listener);
        }
        Stage {
            keys,
            addresses,
            listeners,
            shutdown: Shutdown::new(),
        }
    }

    /// What a service of the stage is given to serve with, once.
    ///
    /// # Panics
    /// When the stage has no port for the service, or it was given before.
    pub fn runtime(&mut self, me: ServiceName, clock: &Clock) -> ServiceRuntime {
        let trusted = self.keys.values().fold(TrustedKeys::new(), |trusted, key| {
            trusted
                .trust(key.service(), &key.public_hex())
                .expect("a key of its own making")
        });
        let listener = self.listeners.remove(&me);
        ServiceRuntime {
            me,
            trusted,
            channels: self.channels(me),
            clock: clock.clone(),
            shutdown: self.shutdown.clone(),
            health: Health::new(),
            listener: listener.expect("the stage has a port for it, given once"),
            limits: Limits::default(),
        }
    }

    /// The stop of everything on the stage.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// A service's key.
    ///
    /// # Panics
    /// Never: every service has one.
    pub fn key(&self, service: ServiceName) -> Arc<ServiceKey> {
        Arc::clone(self.keys.get(&service).expect("every service has one"))
    }

    /// The ways of `caller` to the services of the stage.
    ///
    /// # Panics
    /// Never: the addresses are the stage's own.
    pub fn channels(&self, caller: ServiceName) -> Channels {
        let channels = Channels::new(self.key(caller), self.addresses.clone());
        channels.expect("addresses are URLs").patient(PATIENCE)
    }

    /// How `caller` reaches `service`, on its own account.
    pub fn channel(&self, caller: ServiceName, service: ServiceName) -> ServiceChannel {
        self.channels(caller).channel(service)
    }

    /// How somebody with these grants reaches `service` through the gateway.
    pub fn signed_in(
        &self,
        service: ServiceName,
        actor: &Actor,
        agency: AgencyId,
        grants: Vec<Grant>,
    ) -> SignedIn {
        let identity = self.key(ServiceName::Identity);
        let (token, _) = identity.actor_token(actor, agency, grants, 1, SIGNED_IN);
        InterceptedService::new(self.channel(ServiceName::Gateway, service), Bearer(token))
    }
}

/// Everything that is asked for carries this token.
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

/// A channel of somebody signed in.
pub type SignedIn = InterceptedService<ServiceChannel, Bearer>;
