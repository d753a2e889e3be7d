//! Identity: people, agencies, clients, members, roles, API keys, entitlements, the audit log.
//!
//! In reading order: [`agency`], [`person`] and [`member`] (who there is), [`permission`], [`role`] and [`grant`] (what
//! they may), [`client`] (for whom), [`address`], [`sign_in`] and [`session`] (how people prove it), [`api_key`] (how programs
//! do), [`credential`] (what both are exchanged for), [`entitlement`], [`audit`], [`jobs`].
//! [`bootstrap`] makes the first of everything; `mainstay_jobs::record` and `once` are what every mutation leaves behind.
//! Deliberately absent: the check of a request's permission, which is `mainstay_rpc`'s, the same in every service.

pub mod account;
pub mod address;
pub mod agency;
pub mod api_key;
pub mod audit;
pub mod bootstrap;
pub mod client;
pub mod config;
pub mod credential;
pub mod entitlement;
pub mod grant;
pub mod jobs;
pub mod keys;
pub mod member;
pub mod permission;
pub mod person;
pub mod role;
pub mod session;
pub mod sign_in;
mod wire;

use std::sync::Arc;

use mainstay_db::Database;
use mainstay_jobs::{Machinery, failure, once};
use mainstay_proto::identity::v1::{
    account_service_server::AccountServiceServer, api_key_service_server::ApiKeyServiceServer,
    audit_service_server::AuditServiceServer,
    client_directory_service_server::ClientDirectoryServiceServer,
    client_offboarding_service_server::ClientOffboardingServiceServer,
    client_onboarding_service_server::ClientOnboardingServiceServer,
    client_service_server::ClientServiceServer, credential_service_server::CredentialServiceServer,
    entitlement_service_server::EntitlementServiceServer,
    member_directory_service_server::MemberDirectoryServiceServer,
    member_service_server::MemberServiceServer, role_service_server::RoleServiceServer,
    session_service_server::SessionServiceServer, sign_in_service_server::SignInServiceServer,
};
use mainstay_rpc::token::access::AccessKeys;
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
    pub(crate) access: AccessKeys,
    pub(crate) sign_in: keys::SignInKey,
    pub(crate) limits: sign_in::rules::Limits,
    pub(crate) jobs: mainstay_jobs::Wake,
    pub(crate) signer: Arc<ServiceKey>,
}

impl Identity {
    /// On a database that is connected. `signer` is identity's own service key: it signs actor tokens as well.
    pub fn new(
        database: Database,
        clock: Clock,
        settings: Settings,
        signer: Arc<ServiceKey>,
    ) -> Self {
        Identity {
            database,
            clock,
            lookup: settings.lookup,
            access: settings.access,
            sign_in: settings.sign_in,
            limits: settings.limits,
            jobs: mainstay_jobs::Wake::default(),
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
            .add_service(ClientOffboardingServiceServer::new(self.clone()))
            .add_service(ClientOnboardingServiceServer::new(self.clone()))
            .add_service(ClientServiceServer::new(self.clone()))
            .add_service(CredentialServiceServer::new(self.clone()))
            .add_service(EntitlementServiceServer::new(self.clone()))
            .add_service(MemberDirectoryServiceServer::new(self.clone()))
            .add_service(MemberServiceServer::new(self.clone()))
            .add_service(RoleServiceServer::new(self.clone()))
            .add_service(SessionServiceServer::new(self.clone()))
            .add_service(SignInServiceServer::new(self.clone()));
        routes.routes()
    }
}

/// Serves until the runtime's shutdown is triggered; beside requests it takes in audit rows and deletes what expired.
///
/// # Errors
/// When the transport fails.
pub async fn serve(identity: Identity, runtime: ServiceRuntime) -> Result<(), ServeError> {
    let machinery = Machinery::new(&runtime, &identity.database);
    let identity = Identity {
        jobs: machinery.wake(),
        ..identity
    };
    if let Err(error) = jobs::index_addresses::begin(&identity).await {
        // The next start asks again; until then those who joined long ago cannot sign in.
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "addresses to sign in with are not looked through"
        );
    }
    let directory = Arc::new(identity.clone());
    machinery
        .takes(audit::Log)
        .tells(&runtime, ServiceName::Messaging)
        .works(
            jobs::send_sign_in_code::KIND,
            jobs::send_sign_in_code::SendSignInCode::new(identity.clone(), &runtime.channels),
        )
        .works(
            jobs::index_addresses::KIND,
            jobs::index_addresses::IndexAddresses(identity.clone()),
        )
        .serve(runtime, directory, identity.routes())
        .await
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
