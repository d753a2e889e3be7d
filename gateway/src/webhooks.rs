//! Webhooks in: verify the raw bytes, store once through integrations, answer after the commit.
//! Deliberately absent: what a webhook means; the service that owns its meaning is told by integrations.

pub mod forms;
mod intake;
mod receive;
mod resend;
mod secrets;
mod sendgrid;
mod stripe;
mod twilio;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::post;
use mainstay_proto::errors::v1::ErrorReason;
use mainstay_rpc::Channels;
use mainstay_runtime::health::{Alert, Finding, Queue, Severity, Window};

use crate::app::Gateway;
use crate::refusal::Refusal;

pub use intake::Intake;
pub use secrets::Secrets;

/// The provider whose webhooks are sent to this path, if it is one of ours.
pub fn provider_of(path: &str) -> Option<&'static str> {
    let sender = path.strip_prefix("/webhooks/")?.split('/').next()?;
    PROVIDERS.into_iter().find(|known| *known == sender)
}

const PROVIDERS: [&str; 5] = ["stripe", "twilio", "resend", "sendgrid", "forms"];

/// The addresses that providers send to; [`forms`] has that of browsers.
pub fn routes() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/webhooks/stripe", post(stripe::platform))
        .route("/webhooks/stripe/{endpoint_token}", post(stripe::endpoint))
        .route("/webhooks/resend/{account_token}", post(resend::endpoint))
        .route(
            "/webhooks/sendgrid/{account_token}",
            post(sendgrid::endpoint),
        )
        .merge(twilio::routes())
}

/// What webhooks of all providers share.
pub struct Webhooks {
    /// Verification secrets.
    pub secrets: Secrets,
    /// The way into the store.
    pub intake: Intake,
    refused: Told,
    turned_away: Told,
    /// All that verified or might have; failed: those that were turned away.
    taken: Window,
}

impl Webhooks {
    /// At most `most_waiting` wait for the store. Must run inside a tokio runtime: the intake has a task.
    pub fn new(channels: Channels, most_waiting: usize) -> Self {
        Self {
            secrets: Secrets::new(channels.clone()),
            intake: Intake::start(channels, most_waiting),
            refused: Told::default(),
            turned_away: Told::default(),
            taken: Window::default(),
        }
    }

    /// Notes how a webhook was answered: none is turned away without being counted.
    pub fn note(&self, provider: &str, answer: Result<(), &Refusal>) {
        match answer.map_err(|refusal| refusal.reason) {
            Ok(()) => self.taken.count(false, Duration::ZERO),
            Err(ErrorReason::SignatureInvalid) => {
                if let Some(refused) = self.refused.note() {
                    tracing::warn!(provider, refused, "webhooks did not verify");
                }
            }
            // The sender's fault, and told so: it would be no other the next time.
            Err(
                ErrorReason::InvalidRequest
                | ErrorReason::PayloadTooLarge
                | ErrorReason::UnsupportedMediaType,
            ) => {}
            Err(reason) => {
                self.taken.count(true, Duration::ZERO);
                if let Some(turned_away) = self.turned_away.note() {
                    tracing::error!(
                        alert = "webhooks_turned_away",
                        provider,
                        reason = reason.as_str_name(),
                        turned_away,
                        "webhooks were not taken in; their senders are told to send them again"
                    );
                }
            }
        }
    }

    /// How the intake stands, for the health report.
    pub fn findings(&self) -> Vec<Finding> {
        let mut found = vec![Finding::Queue(Queue {
            name: "webhook_intake",
            ready: u32::try_from(self.intake.waiting()).unwrap_or(u32::MAX),
            // Nobody waits here for longer than seconds; whoever would is answered 503.
            oldest_ready: None,
            running: 0,
            dead: 0,
            late_after: Duration::MAX,
            dead_is: Severity::Critical,
        })];
        let summary = self.taken.summary();
        if summary.failures > 0 {
            let words = format!(
                "{} of {} webhooks of the last five minutes were not taken in; their senders send them again",
                summary.failures, summary.requests
            );
            found.push(Finding::Alert(Alert::new(
                "webhooks_turned_away",
                Severity::Critical,
                words,
            )));
        }
        found
    }
}

/// Something that is counted each time and told once a second at most: a wrong secret must be seen, and a flood of
/// forgeries must not become a flood of lines.
struct Told {
    since: Instant,
    /// The second of the last line, counted from 1.
    told_at: AtomicU64,
    untold: AtomicU64,
}

impl Default for Told {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            told_at: AtomicU64::new(0),
            untold: AtomicU64::new(0),
        }
    }
}

impl Told {
    /// One more. Gives how many there were since the last line, when it is time for one.
    fn note(&self) -> Option<u64> {
        self.untold.fetch_add(1, Ordering::Relaxed);
        let now = self.since.elapsed().as_secs() + 1;
        (self.told_at.swap(now, Ordering::Relaxed) < now)
            .then(|| self.untold.swap(0, Ordering::Relaxed))
    }
}
