//! Integrations: the webhook inbox.
//! Deliberately absent: what a webhook means (billing says, for Stripe's), and signatures (the gateway verifies them).
//!
//! Reading order: [`config`] (what webhooks are signed with) → [`webhook`] (stored once, shown, and the decisions) →
//! [`jobs`] (handed on, and let go of after their retention).

pub mod config;
pub mod jobs;
pub mod webhook;

use std::sync::Arc;

use mainstay_db::Database;
use mainstay_jobs::runner::RunnerSettings;
use mainstay_jobs::{DatabaseProbe, QueueProbe, Runner};
use mainstay_proto::integrations::v1::webhook_event_service_server::WebhookEventServiceServer;
use mainstay_proto::integrations::v1::webhook_intake_service_server::WebhookIntakeServiceServer;
use mainstay_rpc::{RemoteDirectory, ServiceName, ServiceRuntime};
use mainstay_runtime::health::Status;
use tonic::service::Routes;

pub use config::{GROUP, Settings};

/// Why integrations could not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The queue could not be set up.
    #[error("integrations cannot set up its jobs")]
    Jobs(#[source] mainstay_db::Error),
    /// The transport or the descriptors.
    #[error(transparent)]
    Rpc(#[from] mainstay_rpc::ServeError),
}

/// Serves until the runtime's shutdown is triggered, and what was in hand is done or handed back.
///
/// # Errors
/// When the database does not answer at the start, or the transport fails.
pub async fn serve(
    settings: Settings,
    database: Database,
    runtime: ServiceRuntime,
) -> Result<(), ServeError> {
    let worker = database.worker();
    jobs::empty_old_weeks::ensure(&worker, runtime.clock.now())
        .await
        .map_err(ServeError::Jobs)?;
    let runner = Runner::new(
        ServiceName::Integrations,
        worker.clone(),
        runtime.clock.clone(),
        RunnerSettings::default(),
    )
    .register(
        jobs::deliver_webhook::KIND,
        jobs::deliver_webhook::DeliverWebhook::new(
            worker.clone(),
            &runtime.channels,
            runtime.clock.clone(),
        ),
    )
    .register(
        jobs::empty_old_weeks::KIND,
        jobs::empty_old_weeks::EmptyOldWeeks::new(worker.clone()),
    );
    let intake = webhook::rpc::Intake {
        database: database.clone(),
        secrets: Arc::new(settings.verification),
        clock: runtime.clock.clone(),
        wake: runner.wake(),
    };
    let services = Routes::new(WebhookIntakeServiceServer::new(intake)).add_service(
        WebhookEventServiceServer::new(webhook::rpc::Events {
            database: database.clone(),
        }),
    );
    let directory = Arc::new(RemoteDirectory::new(&runtime.channels));
    runtime.health.set("database", Status::Healthy, "");
    runtime.health.probe(DatabaseProbe::new(&database));
    runtime
        .health
        .probe(QueueProbe::new(&database, &runtime.clock));
    runtime
        .health
        .probe(webhook::WebhookProbe::new(&database, &runtime.clock));
    // Webhooks are taken in until the server has stopped, and handed on until the runner has.
    let working = runtime.shutdown.spawn(runner.run(runtime.shutdown.clone()));
    let served = mainstay_rpc::serve(runtime, directory, services).await;
    drop(working.await);
    database.close().await;
    Ok(served?)
}
