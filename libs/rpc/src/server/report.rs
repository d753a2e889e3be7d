//! `HealthReportService`, the same in every role: what the role, its probes and this stack know of how it stands.
//!
//! Deliberately absent: judging other services. The gateway asks all and folds what they say.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay_proto::health::v1::health_report_service_server::{
    HealthReportService, HealthReportServiceServer,
};
use mainstay_proto::health::v1::{
    Alert, CacheReport, Calls, DatabaseReport, GetHealthReportRequest, HealthReport, HealthStatus,
    Part, PoolReport, ProviderReport, QueueReport, Severity,
};
use mainstay_runtime::Health;
use mainstay_runtime::health::{
    self, Finding, HitRate, Snapshot, Status as Standing, Summary, Window,
};
use tokio::sync::Mutex;
use tonic::{Request, Response, Status};

use crate::context::open;

/// How long a report is used: whoever asks often does not make the database answer often.
const FRESH: Duration = Duration::from_secs(1);
/// Fewer calls than this say nothing about a rate of errors.
const ENOUGH_CALLS: u64 = 100;
const TOO_MANY_ERRORS: f64 = 0.05;

/// What the stack counts. Clones count together.
#[derive(Clone, Default)]
pub(super) struct Meters {
    /// Calls answered.
    pub(super) calls: Window,
    /// Verified tokens, of services and of actors.
    pub(super) tokens: HitRate,
    /// Which clients are whose.
    pub(super) clients: HitRate,
}

pub(super) fn service(health: Health, meters: Meters) -> HealthReportServiceServer<Reporter> {
    HealthReportServiceServer::new(Reporter {
        health,
        meters,
        last: Mutex::default(),
    })
}

pub(super) struct Reporter {
    health: Health,
    meters: Meters,
    last: Mutex<Option<Last>>,
}

/// What was said last, of which state, and when.
struct Last {
    at: Instant,
    of: Snapshot,
    report: Arc<HealthReport>,
}

#[tonic::async_trait]
impl HealthReportService for Reporter {
    async fn get_health_report(
        &self,
        request: Request<GetHealthReportRequest>,
    ) -> Result<Response<HealthReport>, Status> {
        open(request)?;
        // Held while asking: those who come meanwhile want the same answer.
        let mut last = self.last.lock().await;
        let now = self.health.snapshot();
        // A role that has become ready, or has stopped being so, says so at once.
        if let Some(last) = &*last
            && last.at.elapsed() < FRESH
            && last.of == now
        {
            return Ok(Response::new(HealthReport::clone(&last.report)));
        }
        let mut findings = self.health.findings().await;
        findings.push(Finding::Cache(self.meters.tokens.cache("verified_tokens")));
        findings.push(Finding::Cache(
            self.meters.clients.cache("client_directory"),
        ));
        let report = Arc::new(health_report(
            &self.health,
            &findings,
            self.meters.calls.summary(),
        ));
        *last = Some(Last {
            at: Instant::now(),
            of: now,
            report: Arc::clone(&report),
        });
        Ok(Response::new(HealthReport::clone(&report)))
    }
}

/// What a role says of itself, out of its readiness, what its probes found, and how its calls went. The gateway, which
/// serves no gRPC, makes its own with this.
pub fn health_report(health: &Health, findings: &[Finding], calls: Summary) -> HealthReport {
    let snapshot = health.snapshot();
    let mut status = said(snapshot.worst());
    let mut alerts: Vec<health::Alert> = Vec::new();
    if !snapshot.ready() {
        let words = match snapshot.worst() {
            Standing::Starting => "the role is starting",
            Standing::Draining => "the role is stopping",
            _ => "a part of the role does not work",
        };
        alerts.push(health::Alert::new(
            "not_ready",
            health::Severity::Critical,
            words,
        ));
    }
    let rate = calls.error_rate();
    if calls.requests >= ENOUGH_CALLS && rate >= TOO_MANY_ERRORS {
        alerts.push(health::Alert::new(
            "calls_failing",
            health::Severity::Warning,
            format!("{:.0} % of the requests failed by our fault", rate * 100.0),
        ));
    }
    let mut report = HealthReport {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_seconds: i64::try_from(health.since().elapsed().as_secs()).unwrap_or(i64::MAX),
        parts: snapshot
            .components
            .iter()
            .map(|(name, component)| Part {
                name: (*name).to_owned(),
                status: said(component.status).into(),
            })
            .collect(),
        calls: Some(calls_of(calls)),
        ..HealthReport::default()
    };
    for finding in findings {
        alerts.extend(health::alerts_of(finding));
        match finding {
            Finding::Database(database) => {
                status = status.max(said(database.status));
                report.database = Some(database_of(database));
            }
            Finding::Queue(queue) => report.queues.push(queue_of(queue)),
            Finding::Provider(provider) => {
                // Without a provider the service still answers, with less than it should.
                if provider.status != Standing::Healthy {
                    status = status.max(HealthStatus::Degraded);
                }
                report.providers.push(provider_of(provider));
            }
            Finding::Cache(cache) => report.caches.push(CacheReport {
                name: cache.name.to_owned(),
                lookups: cache.lookups,
                hit_rate: cache.hit_rate(),
            }),
            // How a part stands is not known: not well, then.
            Finding::Alert(_) => status = status.max(HealthStatus::Degraded),
        }
    }
    report.alerts = alerts.into_iter().map(alert_of).collect();
    report.set_status(status);
    report
}

fn said(status: Standing) -> HealthStatus {
    match status {
        Standing::Healthy => HealthStatus::Healthy,
        Standing::Degraded => HealthStatus::Degraded,
        // No traffic now; for whoever looks from outside that is one thing.
        Standing::Starting | Standing::Unhealthy | Standing::Draining => HealthStatus::Unhealthy,
    }
}

fn calls_of(calls: Summary) -> Calls {
    Calls {
        requests: calls.requests,
        error_rate: calls.error_rate(),
        mean_latency_ms: calls.mean_latency_ms(),
    }
}

fn database_of(database: &health::Database) -> DatabaseReport {
    let pool = |pool: &health::Pool| PoolReport {
        role: pool.role.to_owned(),
        open: pool.open,
        idle: pool.idle,
        limit: pool.limit,
    };
    DatabaseReport {
        status: said(database.status).into(),
        latency_ms: (database.latency.as_secs_f64() * 100_000.0).round() / 100.0,
        pools: database.pools.iter().map(pool).collect(),
    }
}

fn queue_of(queue: &health::Queue) -> QueueReport {
    QueueReport {
        name: queue.name.to_owned(),
        ready: queue.ready,
        oldest_ready_seconds: queue.oldest_ready.map(|age| age.as_secs_f64().round()),
        running: queue.running,
        dead: queue.dead,
    }
}

fn provider_of(provider: &health::Provider) -> ProviderReport {
    ProviderReport {
        name: provider.name.to_owned(),
        status: said(provider.status).into(),
        calls: Some(calls_of(provider.calls)),
        last_success_seconds_ago: provider.last_success.map(|ago| ago.as_secs_f64().round()),
    }
}

fn alert_of(alert: health::Alert) -> Alert {
    let severity = match alert.severity {
        health::Severity::Warning => Severity::Warning,
        health::Severity::Critical => Severity::Critical,
    };
    Alert {
        code: alert.code,
        severity: severity.into(),
        detail: alert.detail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(parts: &[Standing], findings: &[Finding]) -> (HealthStatus, Vec<String>) {
        let health = Health::new();
        for (name, part) in ["one", "two", "three"].into_iter().zip(parts) {
            health.set(name, *part, "");
        }
        let report = health_report(&health, findings, Summary::default());
        let codes = report.alerts.iter().map(|alert| alert.code.clone());
        (report.status(), codes.collect())
    }

    #[test]
    fn a_service_stands_as_the_worst_of_what_it_needs_to_answer() {
        use HealthStatus::{Degraded, Healthy, Unhealthy};
        let database = |answered, ms| {
            let latency = Duration::from_millis(ms);
            Finding::Database(health::Database::judged(answered, latency, Vec::new()))
        };
        let provider = Finding::Provider(health::Provider {
            name: "stripe",
            status: Standing::Unhealthy,
            calls: Summary::default(),
            last_success: None,
        });
        let dead = Finding::Queue(health::Queue {
            name: "jobs",
            ready: 0,
            oldest_ready: None,
            running: 0,
            dead: 3,
            late_after: Duration::from_secs(60),
            dead_is: health::Severity::Warning,
        });
        let good = [Standing::Healthy, Standing::Healthy];
        let cases = [
            (status(&[], &[]), Unhealthy, vec!["not_ready"]),
            (status(&good, &[database(true, 1)]), Healthy, vec![]),
            // Given up work waits for a person; the service answers all the same.
            (status(&good, &[dead]), Healthy, vec!["jobs_dead"]),
            (
                status(&good, &[database(true, 900)]),
                Degraded,
                vec!["database_slow"],
            ),
            (
                status(&good, &[provider]),
                Degraded,
                vec!["provider_unavailable"],
            ),
            (
                status(&good, &[health::late_probe("jobs")]),
                Degraded,
                vec!["probe_timeout"],
            ),
            (
                status(&good, &[database(false, 900)]),
                Unhealthy,
                vec!["database_unavailable"],
            ),
            (
                status(&[Standing::Healthy, Standing::Starting], &[]),
                Unhealthy,
                vec!["not_ready"],
            ),
        ];
        for ((found, codes), expected, expected_codes) in cases {
            assert_eq!(
                (found, codes),
                (
                    expected,
                    expected_codes
                        .iter()
                        .map(|code| (*code).to_owned())
                        .collect::<Vec<String>>()
                )
            );
        }
    }
}
