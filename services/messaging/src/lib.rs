//! Messaging: leads, consent and messages. So far the ground of it: its own schema, walls, queue and inbox for events,
//! served through the stack that every service has.
//! Deliberately absent: APIs of its own. Each comes with the capability it belongs to.
//!
//! Reading order: [`config`] → [`events`] (what it does about the facts of others).

pub mod config;
pub mod events;

use std::sync::Arc;

use mainstay_db::Database;
use mainstay_jobs::runner::RunnerSettings;
use mainstay_jobs::{DatabaseProbe, Inbox, QueueProbe, Runner};
use mainstay_rpc::{RemoteDirectory, ServeError, ServiceName, ServiceRuntime};
use mainstay_runtime::health::Status;
use tonic::service::Routes;

pub use config::{GROUP, Settings};

/// Serves until the runtime's shutdown is triggered, and what was in hand is done or handed back.
///
/// # Errors
/// When the transport fails.
pub async fn serve(
    _: Settings,
    database: Database,
    runtime: ServiceRuntime,
) -> Result<(), ServeError> {
    let worker = database.worker();
    // It works no jobs yet, but deletes what has expired: events taken in are noted for sixty days.
    let runner = Runner::new(
        ServiceName::Messaging,
        worker.clone(),
        runtime.clock.clone(),
        RunnerSettings::default(),
    );
    let inbox = Inbox::new(ServiceName::Messaging, worker, events::Facts);
    let directory = Arc::new(RemoteDirectory::new(&runtime.channels));
    runtime.health.set("database", Status::Healthy, "");
    runtime.health.probe(DatabaseProbe::new(&database));
    runtime
        .health
        .probe(QueueProbe::new(&database, &runtime.clock));
    let working = runtime.shutdown.spawn(runner.run(runtime.shutdown.clone()));
    let served = mainstay_rpc::serve(runtime, directory, Routes::new(inbox.server())).await;
    drop(working.await);
    database.close().await;
    served
}
