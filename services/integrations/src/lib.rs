//! Integrations: accounts at providers, the webhook inbox, and every service's dead letters for operators.
//! Deliberately absent: what a webhook means (billing and messaging say), and signatures (the gateway verifies them).
//!
//! Reading order: [`config`] (what webhooks are signed with) → [`vault`] (how secrets are kept) → [`provider_account`] and
//! [`sender`] (with what messages leave, and from whom) → [`form_endpoint`] (where forms are sent to) → [`webhook`] (stored
//! once, shown, and the decisions) → [`delivery`] (handed on, from the inbox itself) → [`provider_event`] (what is messaging's
//! to know) → [`recovery`] (what never came) → [`replay`] (handed on again because a person asks) → [`jobs`] (the rest of what happens in the background) →
//! [`dead_letter`] (what any service gave up).

pub mod config;
pub mod dead_letter;
pub mod delivery;
pub mod form_endpoint;
pub mod jobs;
pub mod provider_account;
pub mod provider_event;
pub mod recovery;
pub mod replay;
pub mod sender;
pub mod vault;
pub mod webhook;
mod wire;

use std::sync::Arc;

use mainstay_db::{Database, at_start};
use mainstay_jobs::Machinery;
use mainstay_proto::integrations::v1::dead_letter_service_server::DeadLetterServiceServer;
use mainstay_proto::integrations::v1::form_endpoint_service_server::FormEndpointServiceServer;
use mainstay_proto::integrations::v1::provider_account_service_server::ProviderAccountServiceServer;
use mainstay_proto::integrations::v1::sender_directory_service_server::SenderDirectoryServiceServer;
use mainstay_proto::integrations::v1::sender_parking_service_server::SenderParkingServiceServer;
use mainstay_proto::integrations::v1::sender_service_server::SenderServiceServer;
use mainstay_proto::integrations::v1::webhook_event_service_server::WebhookEventServiceServer;
use mainstay_proto::integrations::v1::webhook_intake_service_server::WebhookIntakeServiceServer;
use mainstay_rpc::{ClientDirectory, RemoteDirectory, ServiceRuntime};
use mainstay_runtime::Clock;
use tonic::service::Routes;

pub use config::{GROUPS, Settings};

use vault::{Vault, VaultError};

/// What every operation on accounts and senders works with. Cheap to clone.
#[derive(Clone)]
pub struct Integrations {
    pub(crate) database: Database,
    pub(crate) directory: Arc<dyn ClientDirectory>,
    pub(crate) clock: Clock,
    pub(crate) vault: Vault,
    /// Whether an account may name an address without encryption: a simulator's, so never in production.
    pub(crate) plain_http_allowed: bool,
}

/// Why integrations could not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// What is sealed could not be opened with these master keys.
    #[error("integrations cannot open what it keeps: {0}")]
    Vault(#[from] VaultError),
    /// The HTTP client cannot be made.
    #[error(transparent)]
    Stack(#[from] mainstay_providers::StackError),
    /// The transport or the descriptors.
    #[error(transparent)]
    Rpc(#[from] mainstay_rpc::ServeError),
}

/// Serves until the runtime's shutdown is triggered, and what was in hand is done or handed back.
///
/// # Errors
/// When the database does not answer at the start or needs a master key that is not there, or the transport fails.
pub async fn serve(
    settings: Settings,
    database: Database,
    runtime: ServiceRuntime,
) -> Result<(), ServeError> {
    let (worker, clock) = (database.worker(), runtime.clock.clone());
    let vault = Vault::new(settings.master_keys);
    at_start(VaultError::is_unavailable, || vault.ready(&worker)).await?;
    let directory = Arc::new(RemoteDirectory::new(&runtime.channels));
    let integrations = Integrations {
        database: database.clone(),
        directory: directory.clone(),
        clock: clock.clone(),
        vault: vault.clone(),
        plain_http_allowed: settings.plain_http_allowed,
    };
    // Webhooks are taken in until the server has stopped, and handed on until the machinery has.
    let mut machinery = Machinery::new(&runtime, &database);
    let pressure = webhook::Pressure::default();
    let deliver = delivery::Deliver::new(
        worker.clone(),
        &runtime.channels,
        provider_event::ProviderEvents::new(integrations.clone(), &runtime.channels),
        clock.clone(),
        pressure.clone(),
    );
    let wake = machinery.works_queue(delivery::Inbox, delivery::KIND, deliver);
    let jobs = machinery.wake();
    let recovery = recovery::Recovery::new(
        integrations.clone(),
        &settings.twilio,
        settings.recover_after,
        wake.clone(),
    )?;
    runtime.health.probe(recovery.stack().clone());
    let machinery = machinery
        .works(
            jobs::deliver_webhook::KIND,
            jobs::deliver_webhook::DeliverWebhook::new(worker.clone(), clock.clone(), wake.clone()),
        )
        .recurs(jobs::recover_webhooks::RecoverWebhooks {
            recovery,
            after: settings.recover_after,
        })
        .recurs(jobs::empty_old_weeks::EmptyOldWeeks::new(worker.clone()))
        .works(
            jobs::release_senders::KIND,
            jobs::release_senders::ReleaseSenders(integrations.clone()),
        )
        .recurs(jobs::rewrap_data_keys::RewrapDataKeys::new(
            worker.clone(),
            vault,
            clock.clone(),
        ))
        .works(
            jobs::replay_webhooks::KIND,
            jobs::replay_webhooks::ReplayWebhooks::new(worker, clock.clone(), wake.clone()),
        );
    let intake = webhook::rpc::Intake {
        integrations: integrations.clone(),
        // Whatever else the service does must not make a sender wait.
        inbox: database.apart("inbox", settings.inbox_connections),
        secrets: Arc::new(settings.verification),
        wake: wake.clone(),
        pressure,
    };
    let events = webhook::events::Events {
        database: database.clone(),
        clock: clock.clone(),
        wake,
        jobs,
    };
    let dead_letters = dead_letter::rpc::DeadLetters::new(&runtime.channels);
    let routes = Routes::new(WebhookIntakeServiceServer::new(intake))
        .add_service(WebhookEventServiceServer::new(events))
        .add_service(ProviderAccountServiceServer::new(integrations.clone()))
        .add_service(SenderServiceServer::new(integrations.clone()))
        .add_service(FormEndpointServiceServer::new(integrations.clone()))
        .add_service(SenderParkingServiceServer::new(integrations.clone()))
        .add_service(SenderDirectoryServiceServer::new(integrations))
        .add_service(DeadLetterServiceServer::new(dead_letters));
    runtime
        .health
        .probe(webhook::WebhookProbe::new(&database, &clock));
    Ok(machinery.serve(runtime, directory, routes).await?)
}
