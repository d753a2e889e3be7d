//! What must be asked to know how it stands: databases, queues, providers.
//! Deliberately absent: keeping answers. Whoever shows them to many keeps them for as long as that may last.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::{Finding, late_probe};

/// How long a probe may take. A report that waits for what hangs would hang as well.
pub const PROBE_TIME: Duration = Duration::from_secs(1);

/// What a probe answers, in its own time.
pub type Probing<'a> = Pin<Box<dyn Future<Output = Vec<Finding>> + Send + 'a>>;

/// Something that can be asked how it stands. The question costs little, is the same for everybody, and its answer names
/// no tenant, person, address or secret.
pub trait Probe: Send + Sync + 'static {
    /// Its name, for when it does not answer.
    fn name(&self) -> &'static str;

    /// Asks. Dropped after [`PROBE_TIME`].
    fn probe(&self) -> Probing<'_>;
}

impl fmt::Debug for dyn Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Probe({})", self.name())
    }
}

/// All at once, each within `time`; in their order.
pub(super) async fn ask(probes: Vec<Arc<dyn Probe>>, time: Duration) -> Vec<Finding> {
    let mut asked = JoinSet::new();
    for (place, probe) in probes.into_iter().enumerate() {
        asked.spawn(async move {
            let findings = tokio::time::timeout(time, probe.probe()).await;
            let findings = findings.unwrap_or_else(|_| vec![late_probe(probe.name())]);
            (place, findings)
        });
    }
    // One that panics leaves a gap and a log line of its own; the others still tell.
    let mut answers: Vec<(usize, Vec<Finding>)> = Vec::new();
    while let Some(answer) = asked.join_next().await {
        answers.extend(answer.ok());
    }
    answers.sort_by_key(|(place, _)| *place);
    answers
        .into_iter()
        .flat_map(|(_, findings)| findings)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::Cache;
    use super::*;

    struct Answers(&'static str);
    struct Hangs;

    impl Probe for Answers {
        fn name(&self) -> &'static str {
            self.0
        }
        fn probe(&self) -> Probing<'_> {
            Box::pin(async {
                vec![Finding::Cache(Cache {
                    name: self.0,
                    lookups: 0,
                    hits: 0,
                })]
            })
        }
    }

    impl Probe for Hangs {
        fn name(&self) -> &'static str {
            "stuck"
        }
        fn probe(&self) -> Probing<'_> {
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test]
    async fn a_probe_that_hangs_is_named_and_holds_up_no_other() {
        let probes: [Arc<dyn Probe>; 3] = [
            Arc::new(Answers("first")),
            Arc::new(Hangs),
            Arc::new(Answers("second")),
        ];
        // No time at all is enough for those that need not wait.
        let findings = ask(probes.to_vec(), Duration::ZERO).await;
        let told: Vec<String> = findings
            .iter()
            .map(|finding| match finding {
                Finding::Cache(cache) => cache.name.to_owned(),
                Finding::Alert(alert) => format!("{}: {}", alert.code, alert.detail),
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(
            told,
            [
                "first",
                "probe_timeout: stuck did not answer within 1 s",
                "second"
            ]
        );
    }
}
