//! Identity: people, agencies, clients, members, roles, API keys, entitlements, the audit log.
//!
//! In reading order: [`agency`], [`person`] and [`member`] (who there is), [`permission`], [`role`] and [`grant`] (what
//! they may), [`client`] (for whom), [`api_key`] and [`credential`] (how they prove it), [`entitlement`], [`audit`].
//! [`bootstrap`] makes the first of everything; [`record`] and [`once`] are what every mutation leaves behind.
//! Deliberately absent: the check of a request's permission, which is `mainstay_rpc`'s, the same in every service.

pub mod account;
pub mod agency;
pub mod api_key;
pub mod audit;
pub mod bootstrap;
pub mod client;
pub mod config;
pub mod credential;
pub mod entitlement;
mod failure;
pub mod grant;
pub mod keys;
pub mod member;
pub mod once;
pub mod permission;
pub mod person;
mod readiness;
pub mod record;
pub mod role;
mod wire;

use std::sync::Arc;

use mainstay_db::Database;
use mainstay_jobs::outbox::RelaySettings;
use mainstay_jobs::runner::RunnerSettings;
use mainstay_jobs::{DatabaseProbe, Inbox, QueueProbe, Relay, Runner};
use mainstay_proto::identity::v1::{
    account_service_server::AccountServiceServer, api_key_service_server::ApiKeyServiceServer,
    audit_service_server::AuditServiceServer,
    client_directory_service_server::ClientDirectoryServiceServer,
    client_service_server::ClientServiceServer, credential_service_server::CredentialServiceServer,
    entitlement_service_server::EntitlementServiceServer,
    member_service_server::MemberServiceServer, role_service_server::RoleServiceServer,
};
use mainstay_rpc::{Context, ServeError, ServiceKey, ServiceRuntime};
use mainstay_runtime::Clock;
use mainstay_types::{ServiceName, Visible};
use tonic::service::Routes;

pub use config::Settings;

/// What every operation works with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Identity {
    pub(crate) database: Database,
    pub(crate) clock: Clock,
    pub(crate) lookup: keys::LookupKey,
    pub(crate) signer: Arc<ServiceKey>,
}

impl Identity {
    /// On a database that is connected. `signer` is identity's own service key: it signs actor tokens as well.
    pub fn new(
        database: Database,
        clock: Clock,
        lookup: keys::LookupKey,
        signer: Arc<ServiceKey>,
    ) -> Self {
        Identity {
            database,
            clock,
            lookup,
            signer,
        }
    }

    fn routes(&self) -> Routes {
        let mut routes = Routes::builder();
        routes
            .add_service(AccountServiceServer::new(self.clone()))
            .add_service(ApiKeyServiceServer::new(self.clone()))
            .add_service(AuditServiceServer::new(self.clone()))
            .add_service(ClientDirectoryServiceServer::new(self.clone()))
            .add_service(ClientServiceServer::new(self.clone()))
            .add_service(CredentialServiceServer::new(self.clone()))
            .add_service(EntitlementServiceServer::new(self.clone()))
            .add_service(MemberServiceServer::new(self.clone()))
            .add_service(RoleServiceServer::new(self.clone()));
        routes.routes()
    }
}

/// Serves until the runtime's shutdown is triggered; beside requests it takes in audit rows and deletes what expired.
///
/// # Errors
/// When the transport fails.
pub async fn serve(identity: Identity, runtime: ServiceRuntime) -> Result<(), ServeError> {
    let worker = identity.database.worker();
    let (clock, shutdown) = (runtime.clock.clone(), runtime.shutdown.clone());
    runtime.health.probe(DatabaseProbe::new(&identity.database));
    runtime
        .health
        .probe(QueueProbe::new(&identity.database, &clock));
    let inbox = Inbox::new(ServiceName::Identity, worker.clone(), audit::Log);
    // Our own audit rows go the way of everybody's, but for the wire.
    let relay = Relay::new(
        ServiceName::Identity,
        worker.clone(),
        clock.clone(),
        RelaySettings::default(),
    )
    .audit_to(inbox.clone());
    shutdown.spawn(relay.run(shutdown.clone()));
    // No jobs of our own yet: the runner deletes what has expired.
    let runner = Runner::new(
        ServiceName::Identity,
        worker,
        clock,
        RunnerSettings::default(),
    );
    shutdown.spawn(runner.run(shutdown.clone()));

    let watch = readiness::watch(
        identity.database.clone(),
        runtime.health.clone(),
        shutdown.clone(),
    );
    shutdown.spawn(watch);

    let directory = Arc::new(identity.clone());
    let routes = identity.routes().add_service(inbox.server());
    mainstay_rpc::serve(runtime, directory, routes).await
}

/// The caller's grants, as the rule "nobody grants what they lack" reads them.
fn grants_of(ctx: &Context) -> Vec<grant::Grant> {
    let own = ctx.grants().iter().map(|held| grant::Grant {
        permissions: held.permissions.clone(),
        reach: held.clients.clone().map_or(Visible::All, Visible::Only),
    });
    own.collect()
}

/// A grant, as tokens carry it.
fn grant_of(grant: grant::Grant) -> mainstay_rpc::Grant {
    let clients = match grant.reach {
        Visible::All => None,
        Visible::Only(clients) => Some(clients),
    };
    mainstay_rpc::Grant {
        permissions: grant.permissions,
        clients,
    }
}
