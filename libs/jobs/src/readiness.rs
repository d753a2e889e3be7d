//! Whether a role is ready as far as its own database goes: asked again and again, for `/readyz` and the gRPC health
//! service. Deliberately absent: other services. A role that calls them is ready without them; its answers say 503.

use std::time::Duration;

use mainstay_db::Database;
use mainstay_runtime::health::Status;
use mainstay_runtime::{Health, Shutdown};

const EVERY: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(2);
/// One slow answer under load must not take a replica out; several in a row mean there is no database.
const FAILURES: u32 = 3;

/// Asks the database again and again and tells the role's health, until the stop.
pub async fn watch(database: Database, health: Health, shutdown: Shutdown) {
    let mut failures = 0;
    loop {
        let answered = matches!(
            tokio::time::timeout(PATIENCE, database.ping()).await,
            Ok(Ok(()))
        );
        failures = if answered { 0 } else { failures + 1 };
        if answered {
            health.set("database", Status::Healthy, "");
        } else if failures >= FAILURES {
            health.set(
                "database",
                Status::Unhealthy,
                "the database does not answer",
            );
        }
        tokio::select! {
            () = shutdown.triggered() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}
