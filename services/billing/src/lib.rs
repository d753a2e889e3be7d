//! Billing: plans, subscriptions, invoices, what Stripe says about them, and the saga coordinator.
//! Deliberately absent: who may do what (the stack decides, from the protos), people and clients (identity), webhooks as
//! they arrive (integrations).
//!
//! Reading order: [`plan`] (what is sold) → [`coupon`] (what is taken off) → [`subscription`] (who bought it) → [`offboarding`] (who leaves) → [`saga`] (how several systems agree, first
//! `saga/start_subscription.rs`) → [`stripe`] (how Stripe is called) → [`stripe_events`] (what Stripe tells) →
//! [`invoice`], [`payment`], [`dispute`] (what Stripe made, mirrored) → [`reconciliation`] (what Stripe has against what we
//! have) → [`history`] (what every change leaves behind) → [`repeat`] (the same request twice).

mod checkout;
pub mod config;
pub mod coupon;
pub mod dispute;
pub mod history;
pub mod identity;
pub mod integrations;
pub mod invoice;
pub mod jobs;
pub mod messaging;
pub mod offboarding;
pub mod payment;
pub mod payment_method;
pub mod plan;
pub mod reconciliation;
pub mod refund;
pub mod repeat;
pub mod saga;
pub mod stripe;
pub mod stripe_events;
pub mod subscription;
mod wire;

use std::sync::Arc;

use mainstay_db::{Database, Worker};
use mainstay_jobs::Machinery;
use mainstay_jobs::runner::Wake;
use mainstay_proto::billing::v1::coupon_service_server::CouponServiceServer;
use mainstay_proto::billing::v1::dispute_service_server::DisputeServiceServer;
use mainstay_proto::billing::v1::invoice_service_server::InvoiceServiceServer;
use mainstay_proto::billing::v1::offboarding_service_server::OffboardingServiceServer;
use mainstay_proto::billing::v1::payment_service_server::PaymentServiceServer;
use mainstay_proto::billing::v1::plan_service_server::PlanServiceServer;
use mainstay_proto::billing::v1::reconciliation_service_server::ReconciliationServiceServer;
use mainstay_proto::billing::v1::saga_service_server::SagaServiceServer;
use mainstay_proto::billing::v1::stripe_event_service_server::StripeEventServiceServer;
use mainstay_proto::billing::v1::subscription_service_server::SubscriptionServiceServer;
use mainstay_rpc::{Channels, RemoteDirectory, ServeError, ServiceName, ServiceRuntime};
use mainstay_runtime::{clock::Clock, shutdown::Shutdown};
use tonic::service::Routes;

pub use config::{GROUPS, Settings};

use identity::Identity;
use integrations::Integrations;
use jobs::reconcile_stripe::{self, ReconcileDaily, ReconcilePage};
use jobs::{recover_stripe_event, recover_stripe_events};
use messaging::Messaging;
use reconciliation::{ReconciliationProbe, Walker, rpc::ReconciliationRpc};
use saga::prover::Sabotage;
use saga::{
    Definition, Engine, EngineLimits, Interruption, change_subscription, end_grace,
    offboard_client, onboard_client, start_subscription, sync_entitlements,
};
use stripe::StripeGateway;

/// All of billing's sagas. Each of them is proved by the prover (`tests/it/proofs.rs`), which compares this list.
pub fn definitions(
    stripe: &StripeGateway,
    identity: &Identity,
    messaging: &Messaging,
    integrations: &Integrations,
    worker: &Worker,
) -> Vec<Definition> {
    let mut all = vec![
        start_subscription::definition(stripe, identity, messaging, worker),
        sync_entitlements::definition(identity, messaging, worker),
        end_grace::definition(identity, messaging, worker),
        onboard_client::definition(stripe, identity, messaging, worker),
        offboard_client::definition(stripe, identity, messaging, integrations, worker),
    ];
    all.extend(change_subscription::definitions(
        stripe, identity, messaging, worker,
    ));
    all
}

/// The coordinator of billing's sagas.
pub fn coordinator(
    settings: &Settings,
    database: &Database,
    channels: &Channels,
    clock: Clock,
    shutdown: Shutdown,
    limits: EngineLimits,
    sabotage: Option<Sabotage>,
) -> Engine {
    let stripe = StripeGateway::new(settings.stripe.clone());
    let identity = Identity::new(channels);
    let worker = database.worker();
    let (messaging, integrations) = (Messaging::new(channels), Integrations::new(channels));
    let definitions = definitions(&stripe, &identity, &messaging, &integrations, &worker);
    match sabotage {
        None => Engine::new(worker, clock, shutdown, definitions, limits),
        Some(sabotage) => {
            let definitions = definitions.into_iter();
            let definitions = definitions.map(|one| sabotage.over(one)).collect();
            let interruption = Some(Arc::new(sabotage) as Arc<dyn Interruption>);
            Engine::interrupted(worker, clock, shutdown, definitions, limits, interruption)
        }
    }
}

/// The handlers, without the stack around them.
fn routes(
    intake: stripe_events::Intake,
    database: &Database,
    runtime: &ServiceRuntime,
    engine: &Engine,
    wake: Wake,
) -> Routes {
    let clock = &runtime.clock;
    let desk = subscription::Desk {
        database: database.clone(),
        identity: Identity::new(&runtime.channels),
        messaging: Messaging::new(&runtime.channels),
        stripe: intake.stripe.clone(),
        engine: engine.clone(),
    };
    let plans = plan::rpc::PlanRpc::new(database.clone(), clock.clone());
    let reconciliations = ReconciliationRpc::new(database.clone(), clock.clone(), wake);
    let offboardings = offboarding::rpc::OffboardingRpc::new(desk.clone(), clock.clone());
    let subscriptions = subscription::rpc::SubscriptionRpc::new(desk, clock.clone());
    let coupons = coupon::rpc::CouponRpc::new(database.clone(), clock.clone());
    Routes::new(PlanServiceServer::new(plans))
        .add_service(CouponServiceServer::new(coupons))
        .add_service(SubscriptionServiceServer::new(subscriptions))
        .add_service(OffboardingServiceServer::new(offboardings))
        .add_service(InvoiceServiceServer::new(invoice::rpc::InvoiceRpc::new(
            database.clone(),
        )))
        .add_service(PaymentServiceServer::new(payment::rpc::PaymentRpc::new(
            database.clone(),
        )))
        .add_service(DisputeServiceServer::new(dispute::rpc::DisputeRpc::new(
            database.clone(),
        )))
        .add_service(SagaServiceServer::new(saga::rpc::SagaRpc::new(
            database.clone(),
            engine.clone(),
            clock.clone(),
        )))
        .add_service(ReconciliationServiceServer::new(reconciliations))
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
    serve_sabotaged(settings, database, runtime, EngineLimits::default(), None).await
}

/// Serves with sagas that break as they are told: how the prover has a whole service to break.
///
/// # Errors
/// When the transport fails.
pub async fn serve_sabotaged(
    settings: Settings,
    database: Database,
    runtime: ServiceRuntime,
    limits: EngineLimits,
    sabotage: Option<Sabotage>,
) -> Result<(), ServeError> {
    let (worker, clock) = (database.worker(), runtime.clock.clone());
    // Not the runtime's: requests in hand wait for their sagas, so the sagas stop when the requests have.
    let sagas = Shutdown::new();
    let engine = coordinator(
        &settings,
        &database,
        &runtime.channels,
        clock.clone(),
        sagas.clone(),
        limits,
        sabotage,
    );
    let takes_over = sagas.spawn({
        let engine = engine.clone();
        async move { engine.run().await }
    });

    let intake = stripe_events::Intake {
        database: database.clone(),
        stripe: StripeGateway::new(settings.stripe.clone()),
        identity: Identity::new(&runtime.channels),
        engine: engine.clone(),
        clock: clock.clone(),
    };
    let walker = Walker::new(intake.clone());
    let grace = runtime.limits.grace;
    let stop = async move {
        sagas.trigger();
        sagas.wait_idle(grace).await;
        drop(takes_over.await);
    };
    let machinery = Machinery::new(&runtime, &database);
    let wake = machinery.wake();
    let pages = ReconcilePage::new(walker.clone(), worker.clone(), wake.clone());
    let daily = ReconcileDaily::new(walker, worker.clone(), wake.clone());
    let count = jobs::count_redemptions::CountRedemptions::new(worker, clock);
    let machinery = machinery
        .tells(&runtime, ServiceName::Messaging)
        .works(jobs::count_redemptions::KIND, count)
        .recurs(recover_stripe_events::RecoverStripeEvents::new(
            intake.clone(),
        ))
        .works(
            recover_stripe_event::KIND,
            recover_stripe_event::RecoverStripeEvent::new(intake.clone()),
        )
        .works(reconcile_stripe::PAGE, pages)
        .recurs(daily)
        .then(stop);
    let routes = routes(intake, &database, &runtime, &engine, wake);
    let directory = Arc::new(RemoteDirectory::new(&runtime.channels));
    runtime.health.probe(saga::SagaProbe::new(&database));
    runtime.health.probe(ReconciliationProbe::new(&database));
    runtime.health.probe(settings.stripe.stack().clone());
    machinery.serve(runtime, directory, routes).await
}
