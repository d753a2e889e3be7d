//! What a role says of itself, and to whom.

use std::time::Duration;

use mainstay_proto::health::v1::health_report_service_client::HealthReportServiceClient;
use mainstay_proto::health::v1::{GetHealthReportRequest, HealthReport, HealthStatus};
use mainstay_runtime::health::{
    Database, Finding, Pool, Probe, Probing, Queue, Severity, Status as Standing,
};
use mainstay_types::AgencyId;
use tonic::{Code, Status};

use crate::harness::{House, as_actor, get};

struct Backlog;

impl Probe for Backlog {
    fn name(&self) -> &'static str {
        "backlog"
    }

    fn probe(&self) -> Probing<'_> {
        let pool = Pool {
            role: "app",
            open: 2,
            idle: 1,
            limit: 8,
        };
        let database = Database::judged(true, Duration::from_millis(3), vec![pool]);
        let queue = Queue {
            name: "jobs",
            ready: 900,
            oldest_ready: Some(Duration::from_secs(301)),
            running: 8,
            dead: 1,
            late_after: Duration::from_secs(300),
            dead_is: Severity::Warning,
        };
        Box::pin(std::future::ready(vec![
            Finding::Database(database),
            Finding::Queue(queue),
        ]))
    }
}

async fn report(house: &House) -> Result<HealthReport, Status> {
    let mut client = HealthReportServiceClient::new(house.channel(&house.gateway));
    let answer = client.get_health_report(GetHealthReportRequest {}).await?;
    Ok(answer.into_inner())
}

#[tokio::test]
async fn a_role_tells_the_gateway_what_its_probes_found_and_how_its_calls_went() {
    let house = House::build().await;
    house.health.probe(Backlog);
    let agency = AgencyId::generate();
    let (client, token) = (house.clients.make(agency), house.owner(agency));
    for _ in 0..4 {
        let question = as_actor(&token, get(client));
        house
            .client()
            .get_client(question)
            .await
            .expect("an answer");
    }
    let report = report(&house).await.expect("a report");
    assert_eq!(report.status(), HealthStatus::Healthy);
    assert_eq!(
        report.calls.map(|calls| (calls.requests, calls.error_rate)),
        Some((4, 0.0))
    );
    let database = report.database.expect("the probe's");
    assert_eq!(
        (
            database.latency_ms,
            database.pools[0].idle,
            database.pools[0].limit
        ),
        (3.0, 1, 8)
    );
    assert_eq!(
        (
            report.queues[0].ready,
            report.queues[0].running,
            report.queues[0].dead
        ),
        (900, 8, 1)
    );
    let codes: Vec<&str> = report
        .alerts
        .iter()
        .map(|alert| alert.code.as_str())
        .collect();
    assert_eq!(codes, ["jobs_dead", "jobs_late"]);
    // The directory was asked once, and knew the client by itself three times.
    let directory = report
        .caches
        .iter()
        .find(|cache| cache.name == "client_directory");
    assert_eq!(
        directory.map(|cache| (cache.lookups, cache.hit_rate)),
        Some((4, Some(0.75)))
    );
    assert_eq!(report.version, env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn a_role_that_is_not_ready_says_so_and_still_answers() {
    let house = House::build().await;
    house
        .health
        .set("database", Standing::Starting, "connecting");
    let early = report(&house).await.expect("a report");
    assert_eq!(early.status(), HealthStatus::Unhealthy);
    assert_eq!(early.alerts[0].code, "not_ready");
    // Not a second later: at once.
    house.health.set("database", Standing::Healthy, "");
    let now = report(&house).await.expect("a report");
    assert_eq!(now.status(), HealthStatus::Healthy);
    assert!(now.alerts.is_empty());
}

#[tokio::test]
async fn only_the_gateway_is_told() {
    let house = House::build().await;
    let mut client = HealthReportServiceClient::new(house.channel(&house.messaging));
    let refused = client.get_health_report(GetHealthReportRequest {}).await;
    assert_eq!(refused.expect_err("refused").code(), Code::PermissionDenied);
}
