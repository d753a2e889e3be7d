//! The health of the whole, as JSON, folded from what each service says of itself.
//! Deliberately absent: the words of a role's readiness. They are for the operator's log; this is for everybody.

use std::time::Duration;

use mainstay_proto::health::v1::{
    Alert, CacheReport, Calls, DatabaseReport, HealthReport, HealthStatus, Part, PoolReport,
    ProviderReport, QueueReport, Severity,
};
use mainstay_types::ServiceName;
use serde::{Serialize, Serializer};
use serde_json::Value;

/// What became of the question to one service.
pub(super) struct Asked {
    pub(super) service: ServiceName,
    pub(super) latency: Duration,
    /// None: it could not be reached, or did not answer in time.
    pub(super) said: Option<HealthReport>,
}

impl Asked {
    fn status(&self) -> HealthStatus {
        match self.said.as_ref().map(HealthReport::status) {
            // A word of a later version that we do not know yet is not a good one.
            None | Some(HealthStatus::Unspecified) => HealthStatus::Unhealthy,
            Some(status) => status,
        }
    }
}

/// The whole stands as the worst of its services: each is needed by some requests. Whether traffic may come to this
/// gateway is another question, which `/readyz` answers.
pub(super) fn overall(services: &[Asked]) -> HealthStatus {
    services
        .iter()
        .map(Asked::status)
        .max()
        .unwrap_or(HealthStatus::Unhealthy)
}

/// The whole.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    status: Standing,
    version: &'static str,
    uptime_seconds: u64,
    checked_at: Value,
    services: Vec<Service>,
    active_alerts: Vec<ActiveAlert>,
}

impl Report {
    /// At this moment, of a gateway that runs for so long.
    pub(super) fn new(checked_at: Value, uptime: Duration, asked: Vec<Asked>) -> Self {
        Report {
            status: Standing(overall(&asked)),
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: uptime.as_secs(),
            checked_at,
            active_alerts: asked.iter().flat_map(alerts).collect(),
            services: asked.into_iter().map(Service::of).collect(),
        }
    }

    pub(super) fn status(&self) -> HealthStatus {
        self.status.0
    }
}

#[derive(Debug, Clone, Copy)]
struct Standing(HealthStatus);

impl Serialize for Standing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self.0 {
            HealthStatus::Healthy => "healthy",
            HealthStatus::Degraded => "degraded",
            HealthStatus::Unhealthy | HealthStatus::Unspecified => "unhealthy",
        })
    }
}

#[derive(Debug, Serialize)]
struct Service {
    name: &'static str,
    status: Standing,
    latency_ms: f64,
    version: Option<String>,
    uptime_seconds: Option<i64>,
    components: Components,
    calls: Option<CallFigures>,
}

/// Empty where the service did not answer, and where it has none.
#[derive(Debug, Default, Serialize)]
struct Components {
    parts: Vec<Named>,
    database: Option<Database>,
    queues: Vec<Queue>,
    providers: Vec<Provider>,
    caches: Vec<Cache>,
}

#[derive(Debug, Serialize)]
struct Named {
    name: String,
    status: Standing,
}

#[derive(Debug, Serialize)]
struct Database {
    status: Standing,
    latency_ms: f64,
    pools: Vec<Pool>,
}

#[derive(Debug, Serialize)]
struct Pool {
    role: String,
    open: u32,
    idle: u32,
    limit: u32,
}

#[derive(Debug, Serialize)]
struct Queue {
    name: String,
    ready: u32,
    oldest_ready_seconds: Option<f64>,
    running: u32,
    dead: u32,
}

#[derive(Debug, Serialize)]
struct Provider {
    name: String,
    status: Standing,
    calls: CallFigures,
    last_success_seconds_ago: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Cache {
    name: String,
    lookups: u64,
    hit_rate: Option<f64>,
}

#[derive(Debug, Default, Serialize)]
struct CallFigures {
    requests: u64,
    error_rate: f64,
    mean_latency_ms: Option<f64>,
}

#[derive(Debug, Serialize)]
struct ActiveAlert {
    code: String,
    severity: &'static str,
    service: &'static str,
    detail: String,
}

impl Service {
    fn of(asked: Asked) -> Self {
        let (status, name) = (Standing(asked.status()), asked.service.as_str());
        let latency_ms = (asked.latency.as_secs_f64() * 10_000.0).round() / 10.0;
        let Some(said) = asked.said else {
            return Service {
                name,
                status,
                latency_ms,
                version: None,
                uptime_seconds: None,
                components: Components::default(),
                calls: None,
            };
        };
        Service {
            name,
            status,
            latency_ms,
            version: Some(said.version),
            uptime_seconds: Some(said.uptime_seconds),
            components: Components {
                parts: said.parts.into_iter().map(Named::from).collect(),
                database: said.database.map(Database::from),
                queues: said.queues.into_iter().map(Queue::from).collect(),
                providers: said.providers.into_iter().map(Provider::from).collect(),
                caches: said.caches.into_iter().map(Cache::from).collect(),
            },
            calls: said.calls.map(CallFigures::from),
        }
    }
}

fn alerts(asked: &Asked) -> Vec<ActiveAlert> {
    let service = asked.service.as_str();
    let Some(said) = &asked.said else {
        return vec![ActiveAlert {
            code: "service_unreachable".to_owned(),
            severity: "critical",
            service,
            detail: format!("{service} cannot be reached or does not answer in time"),
        }];
    };
    let alert = |alert: &Alert| ActiveAlert {
        code: alert.code.clone(),
        severity: match alert.severity() {
            Severity::Warning => "warning",
            Severity::Critical | Severity::Unspecified => "critical",
        },
        service,
        detail: alert.detail.clone(),
    };
    said.alerts.iter().map(alert).collect()
}

impl From<Part> for Named {
    fn from(part: Part) -> Self {
        Named {
            status: Standing(part.status()),
            name: part.name,
        }
    }
}

impl From<DatabaseReport> for Database {
    fn from(said: DatabaseReport) -> Self {
        let pool = |pool: PoolReport| Pool {
            role: pool.role,
            open: pool.open,
            idle: pool.idle,
            limit: pool.limit,
        };
        Database {
            status: Standing(said.status()),
            latency_ms: said.latency_ms,
            pools: said.pools.into_iter().map(pool).collect(),
        }
    }
}

impl From<QueueReport> for Queue {
    fn from(said: QueueReport) -> Self {
        Queue {
            name: said.name,
            ready: said.ready,
            oldest_ready_seconds: said.oldest_ready_seconds,
            running: said.running,
            dead: said.dead,
        }
    }
}

impl From<ProviderReport> for Provider {
    fn from(said: ProviderReport) -> Self {
        Provider {
            status: Standing(said.status()),
            name: said.name,
            calls: said.calls.map(CallFigures::from).unwrap_or_default(),
            last_success_seconds_ago: said.last_success_seconds_ago,
        }
    }
}

impl From<CacheReport> for Cache {
    fn from(said: CacheReport) -> Self {
        Cache {
            name: said.name,
            lookups: said.lookups,
            hit_rate: said.hit_rate,
        }
    }
}

impl From<Calls> for CallFigures {
    fn from(said: Calls) -> Self {
        CallFigures {
            requests: said.requests,
            error_rate: said.error_rate,
            mean_latency_ms: said.mean_latency_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_stands_as_the_worst_of_its_services() {
        use HealthStatus::{Degraded, Healthy, Unhealthy, Unspecified};
        let asked = |status: Option<HealthStatus>| Asked {
            service: ServiceName::Billing,
            latency: Duration::from_millis(1),
            said: status.map(|status| HealthReport {
                status: status.into(),
                ..HealthReport::default()
            }),
        };
        let cases = [
            (vec![], Unhealthy),
            (vec![Some(Healthy), Some(Healthy)], Healthy),
            (vec![Some(Healthy), Some(Degraded)], Degraded),
            (vec![Some(Degraded), Some(Unhealthy)], Unhealthy),
            // Not reached, and not understood.
            (vec![Some(Healthy), None], Unhealthy),
            (vec![Some(Healthy), Some(Unspecified)], Unhealthy),
        ];
        for (said, expected) in cases {
            let services: Vec<Asked> = said.iter().copied().map(asked).collect();
            assert_eq!(overall(&services), expected, "{said:?}");
        }
    }

    #[test]
    fn a_service_that_does_not_answer_is_an_alert_with_its_name() {
        let silent = Asked {
            service: ServiceName::Messaging,
            latency: Duration::from_secs(2),
            said: None,
        };
        let report = Report::new(Value::Null, Duration::ZERO, vec![silent]);
        assert_eq!(report.active_alerts.len(), 1);
        assert_eq!(
            (
                report.active_alerts[0].code.as_str(),
                report.active_alerts[0].service
            ),
            ("service_unreachable", "messaging")
        );
    }
}
