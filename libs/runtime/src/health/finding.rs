//! What probes find, and which of it somebody should look at.
//! Deliberately absent: sending alerts anywhere. A condition is shown for as long as it is true.

use std::time::Duration;

use super::{PROBE_TIME, Status, Summary};

/// The simplest question to a database takes less than this on any day.
const SLOW_DATABASE: Duration = Duration::from_millis(250);
/// Fewer calls than this say nothing about a rate of errors.
const ENOUGH_CALLS: u64 = 20;
const TOO_MANY_ERRORS: f64 = 0.1;

/// One thing that a probe found.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// The database.
    Database(Database),
    /// Work that waits.
    Queue(Queue),
    /// A provider.
    Provider(Provider),
    /// A cache.
    Cache(Cache),
    /// Something else to look at.
    Alert(Alert),
}

/// How a database stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Database {
    /// Whether it answers.
    pub status: Status,
    /// How long the simplest question took.
    pub latency: Duration,
    /// The pools of connections to it.
    pub pools: Vec<Pool>,
}

impl Database {
    /// What an answer after `latency` (none: no answer in its time, or a refusal) and the pools mean together.
    pub fn judged(answered: bool, latency: Duration, pools: Vec<Pool>) -> Self {
        let status = match answered {
            true if latency < SLOW_DATABASE => Status::Healthy,
            true => Status::Degraded,
            // Whoever waits for a connection that others hold learns nothing about the server.
            false if pools.iter().any(Pool::exhausted) => Status::Degraded,
            false => Status::Unhealthy,
        };
        Database {
            status,
            latency,
            pools,
        }
    }
}

/// How full a pool of connections is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// For whom: `app` (requests), `worker` (jobs, events, sagas) or `inbox` (storing webhooks).
    pub role: &'static str,
    /// Connections open.
    pub open: u32,
    /// Of those, waiting for work.
    pub idle: u32,
    /// The most there may be.
    pub limit: u32,
}

impl Pool {
    /// Whether whoever comes has to wait.
    pub fn exhausted(&self) -> bool {
        self.idle == 0 && self.open >= self.limit
    }
}

/// Work that waits.
#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    /// Of what: `jobs`.
    pub name: &'static str,
    /// Due, and nobody works on it.
    pub ready: u32,
    /// How long the oldest of these is due.
    pub oldest_ready: Option<Duration>,
    /// In hand.
    pub running: u32,
    /// Given up: a person has to decide.
    pub dead: u32,
    /// From what wait on it is late.
    pub late_after: Duration,
    /// How bad it is that one was given up.
    pub dead_is: Severity,
}

/// A provider, by its circuit breaker and its last calls.
#[derive(Clone, Debug, PartialEq)]
pub struct Provider {
    /// Its name.
    pub name: &'static str,
    /// Healthy: in use. Degraded: one call goes out to see. Unhealthy: left alone.
    pub status: Status,
    /// Its calls.
    pub calls: Summary,
    /// How long ago it last answered as it should.
    pub last_success: Option<Duration>,
}

/// How often a cache could answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Its name.
    pub name: &'static str,
    /// How often it was asked.
    pub lookups: u64,
    /// How often it knew.
    pub hits: u64,
}

impl Cache {
    /// The part that it knew.
    #[expect(clippy::cast_precision_loss, reason = "shown, not counted with")]
    pub fn hit_rate(&self) -> Option<f64> {
        (self.lookups > 0).then(|| self.hits as f64 / self.lookups as f64)
    }
}

/// How bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Slow, late, or waiting for a person.
    Warning,
    /// Does not work, or money waits.
    Critical,
}

/// Something that somebody should look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Which; for programs.
    pub code: String,
    /// How bad.
    pub severity: Severity,
    /// What, in words; numbers and names of our own parts only.
    pub detail: String,
}

impl Alert {
    /// One.
    pub fn new(code: impl Into<String>, severity: Severity, detail: impl Into<String>) -> Self {
        Alert {
            code: code.into(),
            severity,
            detail: detail.into(),
        }
    }
}

/// A probe that did not answer in its time.
pub fn late_probe(name: &str) -> Finding {
    let seconds = PROBE_TIME.as_secs();
    Finding::Alert(Alert::new(
        "probe_timeout",
        Severity::Warning,
        format!("{name} did not answer within {seconds} s"),
    ))
}

/// What of a finding somebody should look at:
///
/// | code | when |
/// |---|---|
/// | `database_unavailable`, `database_slow` | no answer; an answer after more than 250 ms |
/// | `pool_exhausted` | every connection of a pool is in use |
/// | `<queue>_dead` | the machine gave something up |
/// | `<queue>_late` | something is due for longer than its queue's patience |
/// | `provider_unavailable`, `provider_failing` | the circuit is open; a tenth of at least twenty calls failed |
/// | `probe_timeout`, `probe_failed` | how it stands is not known |
pub fn alerts_of(finding: &Finding) -> Vec<Alert> {
    match finding {
        Finding::Database(database) => of_database(database),
        Finding::Queue(queue) => of_queue(queue),
        Finding::Provider(provider) => of_provider(provider).into_iter().collect(),
        Finding::Cache(_) => Vec::new(),
        Finding::Alert(alert) => vec![alert.clone()],
    }
}

fn of_database(database: &Database) -> Vec<Alert> {
    let mut alerts = Vec::new();
    let exhausted: Vec<&Pool> = database
        .pools
        .iter()
        .filter(|pool| pool.exhausted())
        .collect();
    match database.status {
        Status::Healthy => {}
        Status::Degraded if database.latency < SLOW_DATABASE => {}
        Status::Degraded => alerts.push(Alert::new(
            "database_slow",
            Severity::Warning,
            format!(
                "the database took {} ms for the simplest question",
                database.latency.as_millis()
            ),
        )),
        _ => alerts.push(Alert::new(
            "database_unavailable",
            Severity::Critical,
            "the database does not answer",
        )),
    }
    alerts.extend(exhausted.into_iter().map(|pool| {
        Alert::new(
            "pool_exhausted",
            Severity::Warning,
            format!("all {} connections of {} are in use", pool.limit, pool.role),
        )
    }));
    alerts
}

fn of_queue(queue: &Queue) -> Vec<Alert> {
    let name = queue.name;
    let mut alerts = Vec::new();
    if queue.dead > 0 {
        alerts.push(Alert::new(
            format!("{name}_dead"),
            queue.dead_is,
            format!(
                "{} of {name} were given up and wait for a person",
                queue.dead
            ),
        ));
    }
    if let Some(age) = queue.oldest_ready.filter(|age| *age > queue.late_after) {
        alerts.push(Alert::new(
            format!("{name}_late"),
            Severity::Warning,
            format!("{name} are due for {} s", age.as_secs()),
        ));
    }
    alerts
}

fn of_provider(provider: &Provider) -> Option<Alert> {
    let name = provider.name;
    if provider.status == Status::Unhealthy {
        return Some(Alert::new(
            "provider_unavailable",
            Severity::Critical,
            format!("{name} failed too often and is left alone for now"),
        ));
    }
    let rate = provider.calls.error_rate();
    (provider.calls.requests >= ENOUGH_CALLS && rate >= TOO_MANY_ERRORS).then(|| {
        Alert::new(
            "provider_failing",
            Severity::Warning,
            format!("{:.0} % of the calls to {name} failed", rate * 100.0),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(finding: Finding) -> Vec<String> {
        alerts_of(&finding)
            .into_iter()
            .map(|alert| alert.code)
            .collect()
    }

    fn pool(open: u32, idle: u32) -> Pool {
        Pool {
            role: "app",
            open,
            idle,
            limit: 4,
        }
    }

    #[test]
    fn a_database_is_judged_by_its_answer_and_not_by_a_queue_for_connections() {
        let judge = |answered, ms, pool| {
            let database = Database::judged(answered, Duration::from_millis(ms), vec![pool]);
            (database.status, codes(Finding::Database(database)))
        };
        let told = |codes: &[&str]| codes.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(judge(true, 2, pool(1, 1)), (Status::Healthy, told(&[])));
        assert_eq!(
            judge(true, 2, pool(4, 0)),
            (Status::Healthy, told(&["pool_exhausted"]))
        );
        assert_eq!(
            judge(true, 400, pool(4, 1)),
            (Status::Degraded, told(&["database_slow"]))
        );
        assert_eq!(
            judge(false, 800, pool(4, 0)),
            (Status::Degraded, told(&["database_slow", "pool_exhausted"]))
        );
        assert_eq!(
            judge(false, 800, pool(0, 0)),
            (Status::Unhealthy, told(&["database_unavailable"]))
        );
    }

    #[test]
    fn a_queue_alerts_when_something_was_given_up_or_waits_too_long() {
        let queue = |dead, oldest_ready| {
            codes(Finding::Queue(Queue {
                name: "sagas",
                ready: 1,
                oldest_ready,
                running: 0,
                dead,
                late_after: Duration::from_secs(60),
                dead_is: Severity::Critical,
            }))
        };
        assert!(queue(0, None).is_empty());
        assert!(queue(0, Some(Duration::from_secs(60))).is_empty());
        assert_eq!(
            queue(1, Some(Duration::from_secs(61))),
            ["sagas_dead", "sagas_late"]
        );
    }

    #[test]
    fn a_provider_alerts_when_it_is_left_alone_or_fails_often() {
        let provider = |status, requests, failures| {
            codes(Finding::Provider(Provider {
                name: "stripe",
                status,
                calls: Summary {
                    requests,
                    failures,
                    took: Duration::ZERO,
                },
                last_success: None,
            }))
        };
        assert!(
            provider(Status::Healthy, 19, 19).is_empty(),
            "too few to say"
        );
        assert!(provider(Status::Healthy, 100, 9).is_empty());
        assert_eq!(provider(Status::Healthy, 20, 2), ["provider_failing"]);
        assert_eq!(provider(Status::Unhealthy, 0, 0), ["provider_unavailable"]);
    }
}
