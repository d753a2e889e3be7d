//! Graceful stop (PLT-12): one trigger that everything hears, and a count of what still runs.
//!
//! Deliberately absent: the order in which a role stops. A role decides that; this only tells it when.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;

/// Tells all parts of the process to stop, and waits for the tasks it was given. Clones share both.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    stop: CancellationToken,
    hurry: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// Nothing triggered, nothing running.
    pub fn new() -> Self {
        Self::default()
    }

    /// A part that stops when the whole does, or alone: its trigger does not reach the whole.
    pub fn child(&self) -> Self {
        Shutdown {
            stop: self.stop.child_token(),
            hurry: self.hurry.child_token(),
            tasks: TaskTracker::new(),
        }
    }

    /// Starts the stop. Again is harmless.
    pub fn trigger(&self) {
        self.stop.cancel();
    }

    /// Ends when the stop was triggered.
    pub fn triggered(&self) -> WaitForCancellationFutureOwned {
        self.stop.clone().cancelled_owned()
    }

    /// Whether the stop was triggered.
    pub fn is_triggered(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Runs a task that `wait_idle` waits for. The task itself must listen to [`triggered`](Self::triggered).
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(task)
    }

    /// Waits until every spawned task has ended; false when `timeout` passed first, or somebody asked to hurry.
    pub async fn wait_idle(&self, timeout: Duration) -> bool {
        self.tasks.close();
        tokio::select! {
            () = self.tasks.wait() => true,
            () = tokio::time::sleep(timeout) => self.tasks.is_empty(),
            () = self.hurry.cancelled() => self.tasks.is_empty(),
        }
    }

    /// How many spawned tasks still run.
    pub fn running(&self) -> usize {
        self.tasks.len()
    }

    /// Triggers at the first SIGTERM or SIGINT; a second one cuts every `wait_idle` short.
    ///
    /// # Errors
    /// When the process may not install signal handlers.
    pub fn on_signal(&self) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = self.clone();
        // Not one of the counted tasks: it listens until the process ends.
        tokio::spawn(async move {
            for asked_before in [false, true] {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                tracing::info!(
                    signal = name,
                    running = shutdown.running(),
                    hurry = asked_before,
                    "stopping"
                );
                shutdown.trigger();
                if asked_before {
                    shutdown.hurry.cancel();
                }
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_stop_waits_for_the_work_in_hand() {
        let shutdown = Shutdown::new();
        let (finish, finished) = tokio::sync::oneshot::channel::<()>();
        let work = shutdown.spawn(async move { finished.await.is_ok() });
        shutdown.trigger();
        shutdown.triggered().await;
        assert!(
            !shutdown.wait_idle(Duration::ZERO).await,
            "work is still in hand"
        );
        finish.send(()).expect("the work waits");
        assert!(shutdown.wait_idle(Duration::from_secs(30)).await);
        assert!(work.await.expect("the work ran to its end"));
    }

    #[tokio::test]
    async fn a_part_stops_with_the_whole_but_not_the_whole_with_a_part() {
        let whole = Shutdown::new();
        let part = whole.child();
        let other = whole.child();
        part.trigger();
        assert!(part.is_triggered());
        assert!(!whole.is_triggered() && !other.is_triggered());
        whole.trigger();
        assert!(other.is_triggered());
    }
}
