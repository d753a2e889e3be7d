//! Simulators of the providers, over HTTP: stateful, durable, with faults, a clock of their own and signed webhooks.
//! They are what the product runs on when no real keys are set. In reading order:
//!
//! - `store`: the simulated world and its transactions; `journal`: how it survives a kill; `clock`, `ids`.
//! - `door`: the walk of a request that all providers share; `idempotency`: keys; `time`: what falls due.
//! - `stripe`: Stripe's API under `/stripe/v1`, API version 2026-09-30.
//! - `twilio`: Twilio's messages, calls and numbers under `/twilio/2010-04-01`.
//! - `resend`, `sendgrid`: mail under `/resend` and `/sendgrid/v3`; `email`: what they share.
//! - `openai`: a chat API as OpenAI's, under `/openai/v1`.
//! - `faults`: what a test may break; `webhooks`: signed deliveries with retries; `messages`: what channels delivered.
//! - `control`: the `/_/…` endpoints.
//!
//! Deliberately absent: anything of Mainstay's own domain. The simulators know their provider only, so that what
//! works here works there. Also absent: a guard against production; the binary refuses to start them there.

// Stripe's objects are long; `json!` recurses once per field.
#![recursion_limit = "256"]

mod clock;
mod control;
mod core;
mod door;
mod email;
mod faults;
mod idempotency;
mod ids;
mod journal;
mod messages;
mod openai;
mod resend;
mod sendgrid;
mod shown;
mod store;
mod stripe;
mod time;
mod twilio;
mod urlencoded;
mod webhooks;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;

pub use crate::messages::DeliveredMessage;

/// How a set of simulators is opened.
#[derive(Clone, Debug, Default)]
pub struct SandboxConfig {
    /// Where the journal lives; `None` keeps everything in memory.
    pub data_dir: Option<PathBuf>,
    /// The one Stripe key that is accepted; `None` accepts any `sk_test_…` or `rk_test_…`.
    pub stripe_secret_key: Option<String>,
}

/// Why simulators could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// Another process has the journal open.
    #[error(
        "the simulators' data in {path} is in use by another process; stop it or choose another directory"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("cannot {what} the simulators' journal at {path}")]
    Journal {
        /// What was being done.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A line before the last one is unreadable.
    #[error(
        "the simulators' journal {path} is damaged at line {line}; move it away to start afresh"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The client that sends webhooks could not be built.
    #[error("cannot build the client that sends webhooks")]
    Client(#[source] reqwest::Error),
}

/// A handle on running simulators; clones share them. When the last one goes, the background work ends.
#[derive(Clone, Debug)]
pub struct Sandbox {
    core: Arc<core::Core>,
    // Only held: the background tasks end when the last sender is gone or says so.
    stop: watch::Sender<bool>,
}

impl Sandbox {
    /// Replays the journal and starts the background work: webhook deliveries and what falls due by the clock.
    pub async fn open(config: SandboxConfig) -> Result<Sandbox, SandboxError> {
        // Webhooks may go to https addresses; whoever else installed a provider first is fine too.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let core = Arc::new(core::Core::open(config)?);
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(webhooks::deliver(Arc::clone(&core), stopped.clone()));
        tokio::spawn(time::keep(Arc::clone(&core), stopped));
        Ok(Sandbox { core, stop })
    }

    /// All simulators and their control endpoints.
    pub fn router(&self) -> axum::Router {
        axum::Router::new()
            .nest("/stripe", stripe::router())
            .nest("/twilio", twilio::router())
            .nest("/resend", resend::router())
            .nest("/openai", openai::router())
            .nest("/sendgrid", sendgrid::router())
            .nest("/_", control::router())
            .route("/healthz", axum::routing::get(|| async { "ok" }))
            .fallback(control::not_found)
            .layer(axum::extract::DefaultBodyLimit::max(door::LARGEST_BODY))
            .with_state(Arc::clone(&self.core))
    }

    /// Records a message as delivered by a simulated channel.
    pub fn record_message(&self, message: &DeliveredMessage) -> std::io::Result<()> {
        self.core.commit(|world| {
            let mut tx = store::Tx::new(world, world.now(), store::Origin::default());
            messages::deliver(&mut tx, message);
            (tx.into_record(), ())
        })
    }

    /// Serves until `shutdown` resolves, then lets go of held connections, answers what is being worked on and stops.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        let core = Arc::clone(&self.core);
        let served = axum::serve(listener, self.router()).with_graceful_shutdown(async move {
            shutdown.await;
            core.faults.clear();
        });
        let result = served.await;
        let _ = self.stop.send(true);
        self.core.close();
        result
    }
}
