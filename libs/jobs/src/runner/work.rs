//! One job from claim to outcome: its trace, its deadline, its panic, and what is written afterwards.
//! Deliberately absent: retries of the outcome itself; if it cannot be written, the lease runs out and the job comes again.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;
use tracing::Instrument;

use super::{Handler, Running, Shared};
use crate::queue::{Failed, Failure, Job, JobError};

/// Errors are kept for people, not whole.
const ERROR_LEN: usize = 2000;

impl Shared {
    /// Starts the job on a slot of its own.
    pub(super) async fn start(shared: &Arc<Self>, handler: Arc<dyn Handler>, job: Job) {
        // Claimed no more than there are free slots, and only this loop takes them: this does not wait.
        let Ok(slot) = Arc::clone(&shared.slots).acquire_owned().await else {
            return;
        };
        let (id, fence) = (job.id, job.fence);
        let span = tracing::info_span!(
            "job",
            otel.name = format!("job {}", job.kind),
            otel.kind = "consumer",
            otel.status_code = tracing::field::Empty,
            mainstay.role = shared.service.as_str(),
            job.id = %job.id,
            job.kind = job.kind,
            job.attempt = job.attempt,
        );
        if let Some(traceparent) = &job.traceparent {
            mainstay_runtime::telemetry::set_parent(&span, traceparent);
        }
        let own = Arc::clone(shared);
        // Registered before it can end: the task waits for this.
        let (registered, ready) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(
            async move {
                let _slot = slot;
                if ready.await.is_ok() {
                    own.work(handler, &job).await;
                    own.forget(&job);
                }
            }
            .instrument(span),
        );
        if let Ok(mut running) = shared.running.lock() {
            let abort = task.abort_handle();
            // Its lease ran out here, and it was claimed here again before a heartbeat saw that.
            if let Some(lost) = running.insert(id, Running { fence, abort }) {
                lost.abort.abort();
            }
        }
        let _ = registered.send(());
    }

    fn forget(&self, job: &Job) {
        if let Ok(mut running) = self.running.lock()
            && running.get(&job.id).is_some_and(|r| r.fence == job.fence)
        {
            running.remove(&job.id);
        }
    }

    async fn work(&self, handler: Arc<dyn Handler>, job: &Job) {
        let attempt = AssertUnwindSafe(handler.run(job)).catch_unwind();
        let outcome = match tokio::time::timeout(self.settings.deadline, attempt).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_panic)) => Err(JobError::retry("the handler panicked")),
            Err(_) => Err(JobError::retry("the handler ran longer than its deadline")),
        };
        // To be put off is no failure: what recurs ends each turn so.
        if matches!(&outcome, Err(error) if !matches!(error, JobError::Snooze(_))) {
            tracing::Span::current().record("otel.status_code", "ERROR");
        }
        if let Err(error) = self.write(job, outcome).await {
            tracing::error!(
                job.id = %job.id, job.kind, error = &error as &dyn std::error::Error,
                "the outcome of a job cannot be written: it will run again"
            );
        }
    }

    async fn write(&self, job: &Job, outcome: Result<(), JobError>) -> mainstay_db::Result<()> {
        let (error, dead) = match outcome {
            Ok(()) => {
                // A lost race with a claim or a heartbeat must not make a job that is done run again.
                return mainstay_db::retrying(|| async {
                    // False also when the handler completed it in its own transaction.
                    let completed = self.queue.complete(&self.worker, job.id, job.fence);
                    completed.await.map(drop)
                })
                .await;
            }
            Err(JobError::LeaseLost) => {
                tracing::warn!(job.id = %job.id, job.kind, "another runner has this job by now");
                return Ok(());
            }
            Err(JobError::Snooze(pause)) => {
                let until = self.clock.now() + pause;
                return mainstay_db::retrying(|| async {
                    let mut connection = self.worker.connection().await?;
                    self.queue
                        .snooze(connection.conn(), job.id, job.fence, until)
                        .await
                        .map(drop)
                })
                .await;
            }
            Err(JobError::Retry(error)) => (error, false),
            Err(JobError::Dead(error)) => (error, true),
        };
        let chain = chain(error.as_ref());
        let failure = Failure {
            error: &chain,
            retry_at: self.clock.now() + self.backoff.jittered(job.attempt),
            dead,
            now: self.clock.now(),
        };
        let failed = mainstay_db::retrying(|| async {
            let mut connection = self.worker.connection().await?;
            self.queue
                .fail(connection.conn(), job.id, job.fence, failure)
                .await
        });
        match failed.await? {
            Failed::Retried => tracing::warn!(
                job.id = %job.id, job.kind, job.attempt, error = chain, "a job failed and will be tried again"
            ),
            Failed::Buried => tracing::error!(
                job.id = %job.id, job.kind, job.attempt, error = chain, "a job was given up: see the dead letters"
            ),
            Failed::NotOurs => tracing::warn!(
                job.id = %job.id, job.kind, error = chain, "a job failed whose lease was lost"
            ),
        }
        Ok(())
    }
}

/// The error and its causes, shortened.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    // NUL cannot be stored in text.
    text.retain(|c| c != '\0');
    text.chars().take(ERROR_LEN).collect()
}
