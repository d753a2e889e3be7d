//! Billing: plans, subscriptions, invoices, what Stripe says about them, and the saga coordinator.
//! Deliberately absent: who may do what (the stack decides, from the protos), people and clients (identity), webhooks as
//! they arrive (integrations).
//!
//! Reading order: [`plan`] (what is sold) → [`subscription`] (who bought it) → [`saga`] (how several systems agree, first
//! `saga/start_subscription.rs`) → [`stripe`] (how Stripe is called) → [`stripe_events`] (what Stripe tells) →
//! [`invoice`] → [`history`] (what every change leaves behind) → [`repeat`] (the same request twice).

pub mod config;
pub mod history;
pub mod identity;
pub mod invoice;
pub mod plan;
pub mod repeat;
pub mod saga;
pub mod stripe;
pub mod stripe_events;
pub mod subscription;
mod wire;

use std::sync::Arc;

use mainstay_db::Database;
use mainstay_jobs::outbox::{Relay, RelaySettings, RemoteInbox};
use mainstay_jobs::runner::RunnerSettings;
use mainstay_jobs::{DatabaseProbe, QueueProbe, Runner};
use mainstay_proto::billing::v1::invoice_service_server::InvoiceServiceServer;
use mainstay_proto::billing::v1::plan_service_server::PlanServiceServer;
use mainstay_proto::billing::v1::saga_service_server::SagaServiceServer;
use mainstay_proto::billing::v1::stripe_event_service_server::StripeEventServiceServer;
use mainstay_proto::billing::v1::subscription_service_server::SubscriptionServiceServer;
use mainstay_rpc::{Channels, RemoteDirectory, ServiceName, ServiceRuntime};
use mainstay_runtime::{clock::Clock, health::Status, shutdown::Shutdown};
use tonic::service::Routes;

pub use config::{GROUPS, Settings};

use identity::Identity;
use saga::{Engine, EngineLimits, start_subscription, sync_entitlements};
use stripe::StripeGateway;

/// Why billing could not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The transport or the descriptors.
    #[error(transparent)]
    Rpc(#[from] mainstay_rpc::ServeError),
}

/// The coordinator of billing's sagas.
pub fn coordinator(
    settings: &Settings,
    database: &Database,
    channels: &Channels,
    clock: Clock,
    shutdown: Shutdown,
    limits: EngineLimits,
) -> Engine {
    let stripe = StripeGateway::new(settings.stripe.clone());
    let identity = Identity::new(channels);
    let worker = database.worker();
    let definitions = vec![
        start_subscription::definition(&stripe, &identity, &worker),
        sync_entitlements::definition(&identity, &worker),
    ];
    Engine::new(worker, clock, shutdown, definitions, limits)
}

/// The handlers, without the stack around them.
fn routes(
    settings: &Settings,
    database: &Database,
    runtime: &ServiceRuntime,
    engine: &Engine,
) -> Routes {
    let clock = &runtime.clock;
    let intake = stripe_events::Intake {
        database: database.clone(),
        stripe: StripeGateway::new(settings.stripe.clone()),
        engine: engine.clone(),
        clock: clock.clone(),
    };
    let desk = subscription::Desk {
        database: database.clone(),
        identity: Identity::new(&runtime.channels),
        engine: engine.clone(),
    };
    let plans = plan::rpc::PlanRpc::new(database.clone(), clock.clone());
    let subscriptions = subscription::rpc::SubscriptionRpc::new(desk, clock.clone());
    Routes::new(PlanServiceServer::new(plans))
        .add_service(SubscriptionServiceServer::new(subscriptions))
        .add_service(InvoiceServiceServer::new(invoice::rpc::InvoiceRpc::new(
            database.clone(),
        )))
        .add_service(SagaServiceServer::new(saga::rpc::SagaRpc::new(
            database.clone(),
        )))
        .add_service(StripeEventServiceServer::new(
            stripe_events::rpc::StripeEventRpc::new(intake),
        ))
}

/// Serves until the runtime's shutdown is triggered, and what was in hand is done or handed back.
///
/// # Errors
/// When the transport fails.
pub async fn serve(
    settings: Settings,
    database: Database,
    runtime: ServiceRuntime,
) -> Result<(), ServeError> {
    let (worker, clock) = (database.worker(), runtime.clock.clone());
    // Not the runtime's: requests in hand wait for their sagas, so the sagas stop when the requests have.
    let sagas = Shutdown::new();
    let limits = EngineLimits::default();
    let engine = coordinator(
        &settings,
        &database,
        &runtime.channels,
        clock.clone(),
        sagas.clone(),
        limits,
    );
    let takes_over = sagas.spawn({
        let engine = engine.clone();
        async move { engine.run().await }
    });

    // No jobs of its own yet; the runner also deletes what has expired.
    let runner = Runner::new(
        ServiceName::Billing,
        worker.clone(),
        clock.clone(),
        RunnerSettings::default(),
    );
    let relay = Relay::new(
        ServiceName::Billing,
        worker,
        clock,
        RelaySettings::default(),
    )
    .to(
        ServiceName::Messaging,
        RemoteInbox::new(&runtime.channels, ServiceName::Messaging),
    )
    .audit_to(RemoteInbox::new(&runtime.channels, ServiceName::Identity));
    let machinery = Shutdown::new();
    let running = machinery.spawn(runner.run(machinery.clone()));
    let relaying = machinery.spawn(relay.run(machinery.clone()));

    let routes = routes(&settings, &database, &runtime, &engine);
    let directory = Arc::new(RemoteDirectory::new(&runtime.channels));
    runtime.health.set("database", Status::Healthy, "");
    runtime.health.probe(DatabaseProbe::new(&database));
    runtime
        .health
        .probe(QueueProbe::new(&database, &runtime.clock));
    runtime.health.probe(saga::SagaProbe::new(&database));
    runtime.health.probe(settings.stripe.stack().clone());
    let grace = runtime.limits.grace;
    let served = mainstay_rpc::serve(runtime, directory, routes).await;

    // In the order in which each needs the next: requests, sagas, machinery, database.
    sagas.trigger();
    sagas.wait_idle(grace).await;
    machinery.trigger();
    drop(tokio::join!(takes_over, running, relaying));
    database.close().await;
    Ok(served?)
}
