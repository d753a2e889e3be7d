//! What a health report says of alerts, and when a look makes one: on the second look in a row, and over on the second without it,
//! so that nothing flaps. Pure.
//! Deliberately absent: asking.

use mainstay_proto::health::v1::{self as proto, HealthReport, HealthStatus};

use crate::alert::{Kind, Severity};

/// Looks in a row that make it so, either way.
const LOOKS: i32 = 2;
/// A service that takes this long for a request on average is slow, and this long as good as down.
const SLOW_MS: f64 = 5_000.0;
const STUCK_MS: f64 = 10_000.0;
/// Fewer requests than this say nothing about how long they take.
const ENOUGH_CALLS: u64 = 20;

/// Something a report says that somebody should look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What kind.
    pub kind: Kind,
    /// Which, within the service.
    pub subject: String,
    /// How bad.
    pub severity: Severity,
    /// In words.
    pub detail: String,
}

/// What one look at one service saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Look {
    /// Which.
    pub service: String,
    /// What it found.
    pub found: Vec<Finding>,
    /// Whether it answered: what does not says nothing of its queues either.
    pub answered: bool,
}

/// Something that was found, look by look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sighting {
    /// In which service.
    pub service: String,
    /// What.
    pub finding: Finding,
    /// Looks in a row in which it was there.
    pub seen: i32,
    /// Looks since then in which it was not.
    pub missed: i32,
}

/// What follows for one finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing yet.
    Keep(Sighting),
    /// It is an alert.
    Raise(Sighting),
    /// It is over.
    End(Sighting),
}

/// What a report says; none: no answer.
pub(crate) fn findings(report: Option<&HealthReport>) -> Vec<Finding> {
    let Some(report) = report else {
        return vec![Finding {
            kind: Kind::ServiceDown,
            subject: "no_answer".to_owned(),
            severity: Severity::Critical,
            detail: "it does not say how it stands".to_owned(),
        }];
    };
    let mut found: Vec<Finding> = Vec::new();
    for provider in &report.providers {
        if provider.status() == HealthStatus::Unhealthy {
            found.push(Finding {
                kind: Kind::ProviderDown,
                subject: provider.name.clone(),
                severity: Severity::Critical,
                detail: format!(
                    "{} failed too often and is left alone for now",
                    provider.name
                ),
            });
        }
    }
    // Each provider that is left alone was named above.
    let alerts = report
        .alerts
        .iter()
        .filter(|alert| alert.code != "provider_unavailable");
    found.extend(alerts.map(finding));
    found.extend(slow(report));
    // One finding for a subject: the worst.
    found.sort_by(|a, b| {
        (a.kind.as_str(), &a.subject, b.severity.rank()).cmp(&(
            b.kind.as_str(),
            &b.subject,
            a.severity.rank(),
        ))
    });
    found.dedup_by(|later, first| later.subject == first.subject && later.kind == first.kind);
    found
}

fn finding(alert: &proto::Alert) -> Finding {
    let code = alert.code.as_str();
    let kind = match code {
        "not_ready" => Kind::ServiceDown,
        "calls_failing" => Kind::CallsFailing,
        "database_unavailable" | "database_slow" | "pool_exhausted" => Kind::Database,
        "provider_failing" => Kind::ProviderDown,
        "discrepancies_open" => Kind::Discrepancies,
        _ if code.ends_with("_late") => Kind::QueueLate,
        _ if code.ends_with("_dead") => Kind::QueueDead,
        _ => Kind::HealthUnknown,
    };
    let severity = match alert.severity() {
        proto::Severity::Critical => Severity::Critical,
        proto::Severity::Warning | proto::Severity::Unspecified => Severity::Warning,
    };
    Finding {
        kind,
        subject: code.chars().take(100).collect(),
        severity,
        detail: alert.detail.chars().take(500).collect(),
    }
}

fn slow(report: &HealthReport) -> Option<Finding> {
    let calls = report.calls.as_ref()?;
    let mean = calls.mean_latency_ms?;
    let severity = match mean {
        _ if calls.requests < ENOUGH_CALLS || mean < SLOW_MS => return None,
        _ if mean < STUCK_MS => Severity::Warning,
        _ => Severity::Critical,
    };
    Some(Finding {
        kind: Kind::ServiceSlow,
        subject: "requests".to_owned(),
        severity,
        detail: format!("a request takes {:.1} s on average", mean / 1000.0),
    })
}

/// What follows from a look at all services, given what earlier ones saw.
pub(crate) fn steps(known: &[Sighting], looks: &[Look]) -> Vec<Step> {
    let mut steps = Vec::new();
    for look in looks {
        let here = || known.iter().filter(|one| one.service == look.service);
        for finding in &look.found {
            let same = |one: &&Sighting| is_same(&one.finding, finding);
            let sighting = Sighting {
                service: look.service.clone(),
                finding: finding.clone(),
                seen: here().find(same).map_or(1, |one| LOOKS.min(one.seen + 1)),
                missed: 0,
            };
            steps.push(match sighting.seen >= LOOKS {
                true => Step::Raise(sighting),
                false => Step::Keep(sighting),
            });
        }
        let gone = here().filter(|one| !look.found.iter().any(|now| is_same(&one.finding, now)));
        for one in gone.filter(|_| look.answered) {
            let sighting = Sighting {
                missed: one.missed + 1,
                // Whatever was seen only once begins anew.
                seen: if one.seen < LOOKS { 0 } else { one.seen },
                ..one.clone()
            };
            steps.push(match sighting.missed >= LOOKS || sighting.seen == 0 {
                true => Step::End(sighting),
                false => Step::Keep(sighting),
            });
        }
    }
    steps
}

fn is_same(one: &Finding, other: &Finding) -> bool {
    one.kind == other.kind && one.subject == other.subject
}

/// What whoever looks at it reads.
pub(crate) fn summary(service: &str, finding: &Finding) -> String {
    format!(
        "{service}: {}. See `mainstay doctor` and /v1/health.",
        finding.detail
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn late(severity: Severity) -> Finding {
        Finding {
            kind: Kind::QueueLate,
            subject: "jobs_late".to_owned(),
            severity,
            detail: "jobs are due for 300 s".to_owned(),
        }
    }

    fn look(found: Vec<Finding>) -> Look {
        Look {
            service: "billing".to_owned(),
            found,
            answered: true,
        }
    }

    /// Looks one after the other; what became of each: raised, ended, or neither.
    fn walk(looks: &[Look]) -> Vec<&'static str> {
        let mut known: Vec<Sighting> = Vec::new();
        let mut became = Vec::new();
        for look in looks {
            let mut word = "-";
            for step in steps(&known, std::slice::from_ref(look)) {
                let (sighting, kept) = match step {
                    Step::Keep(sighting) => (sighting, true),
                    Step::Raise(sighting) => {
                        word = "raised";
                        (sighting, true)
                    }
                    Step::End(sighting) => {
                        word = "over";
                        (sighting, false)
                    }
                };
                known.retain(|one| !is_same(&one.finding, &sighting.finding));
                known.extend(kept.then_some(sighting));
            }
            became.push(word);
        }
        became
    }

    #[test]
    fn it_takes_two_looks_in_a_row_either_way() {
        let (there, gone) = (look(vec![late(Severity::Warning)]), look(Vec::new()));
        let seen = |pattern: &str| -> Vec<&'static str> {
            let looks: Vec<Look> = pattern
                .chars()
                .map(|letter| {
                    if letter == 'x' {
                        there.clone()
                    } else {
                        gone.clone()
                    }
                })
                .collect();
            walk(&looks)
        };
        assert_eq!(seen("x.x.x."), ["-", "over", "-", "over", "-", "over"]);
        assert_eq!(seen("xx.xx"), ["-", "raised", "-", "raised", "raised"]);
        assert_eq!(seen("xx..x"), ["-", "raised", "-", "over", "-"]);
    }

    #[test]
    fn a_service_that_does_not_answer_says_nothing_of_its_queues() {
        let silent = Look {
            service: "billing".to_owned(),
            found: findings(None),
            answered: false,
        };
        let known = [Sighting {
            service: "billing".to_owned(),
            finding: late(Severity::Warning),
            seen: 5,
            missed: 1,
        }];
        let steps = steps(&known, &[silent]);
        assert_eq!(steps.len(), 1, "{steps:?}");
        assert!(matches!(&steps[0], Step::Keep(one) if one.finding.kind == Kind::ServiceDown));
    }

    #[test]
    fn a_report_is_read_by_its_codes_providers_and_latency() {
        let alert = |code: &str, severity: proto::Severity| proto::Alert {
            code: code.to_owned(),
            severity: severity.into(),
            detail: code.to_owned(),
        };
        let provider = |name: &str, status: HealthStatus| proto::ProviderReport {
            name: name.to_owned(),
            status: status.into(),
            ..Default::default()
        };
        let report = HealthReport {
            alerts: vec![
                alert("jobs_late", proto::Severity::Warning),
                alert("webhooks_dead", proto::Severity::Critical),
                alert("pool_exhausted", proto::Severity::Warning),
                alert("pool_exhausted", proto::Severity::Critical),
                alert("provider_unavailable", proto::Severity::Critical),
                alert("of_tomorrow", proto::Severity::Warning),
            ],
            providers: vec![
                provider("stripe", HealthStatus::Unhealthy),
                provider("twilio", HealthStatus::Degraded),
            ],
            calls: Some(proto::Calls {
                requests: 50,
                error_rate: 0.0,
                mean_latency_ms: Some(12_000.0),
            }),
            ..Default::default()
        };
        let found: Vec<(Kind, String, Severity)> = findings(Some(&report))
            .into_iter()
            .map(|one| (one.kind, one.subject, one.severity))
            .collect();
        let wanted = [
            (Kind::Database, "pool_exhausted", Severity::Critical),
            (Kind::HealthUnknown, "of_tomorrow", Severity::Warning),
            (Kind::ProviderDown, "stripe", Severity::Critical),
            (Kind::QueueDead, "webhooks_dead", Severity::Critical),
            (Kind::QueueLate, "jobs_late", Severity::Warning),
            (Kind::ServiceSlow, "requests", Severity::Critical),
        ];
        let wanted = wanted.map(|(kind, subject, severity)| (kind, subject.to_owned(), severity));
        assert_eq!(found, wanted);
        assert_eq!(findings(Some(&HealthReport::default())), []);
    }
}
