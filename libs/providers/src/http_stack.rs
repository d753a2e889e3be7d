//! One call to a provider, and what is certain about it afterwards.
//!
//! Deliberately absent: bodies in spans and logs, redirects, cookies, and idempotency keys of its own making.

mod attempt;

use std::fmt;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use mainstay_runtime::health::{Finding, Probe, Probing, Provider, Status, Window};
use mainstay_runtime::telemetry;
use opentelemetry::trace::Status as SpanStatus;
use thiserror::Error;
use tokio::sync::Semaphore;
use tracing::{Instrument, Span, field::Empty, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::breaker::{Breaker, State};
use crate::budget::Budget;

/// How a provider is called.
#[derive(Clone, Debug)]
pub struct ProviderSettings {
    /// Its name in spans and health: `stripe`.
    pub provider: &'static str,
    /// The role that calls, for spans.
    pub role: &'static str,
    /// Where it answers, without a slash at the end.
    pub base: String,
    /// The longest one attempt may take, the body included.
    pub attempt: Duration,
    /// The longest a call may take with all its attempts and pauses.
    pub total: Duration,
    /// Attempts at most, the first one included.
    pub attempts: u32,
    /// Calls at once; more wait for their turn within their time.
    pub concurrent: usize,
    /// The largest answer read.
    pub answer_bytes: usize,
    /// What the provider itself says about trying again, if it does.
    pub retry_hint: fn(&Answer) -> Option<bool>,
}

impl ProviderSettings {
    /// The usual limits.
    pub fn new(provider: &'static str, role: &'static str, base: impl Into<String>) -> Self {
        let base: String = base.into();
        ProviderSettings {
            provider,
            role,
            base: base.trim_end_matches('/').to_owned(),
            attempt: Duration::from_secs(8),
            total: Duration::from_secs(20),
            attempts: 3,
            concurrent: 64,
            answer_bytes: 4 * 1024 * 1024,
            retry_hint: |_| None,
        }
    }
}

/// What to ask.
#[derive(Clone, Debug)]
pub struct Call {
    /// The verb.
    pub method: Method,
    /// Path and query, below the base.
    pub path: String,
    /// The path without ids, for the span's name.
    pub route: String,
    /// Headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Whether it may be sent again.
    pub repeat: Repeat,
    /// When whoever asks stops waiting, if before the provider's own limit.
    pub deadline: Option<Instant>,
}

/// Whether sending a call again is harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// A read, or the provider knows a repeat by its key.
    Harmless,
    /// It could have its effect twice.
    Never,
}

/// What is certain about a call.
#[derive(Debug)]
pub enum Outcome {
    /// The provider answered.
    Answer(Answer),
    /// It certainly had no effect: it was not sent.
    NotSent(NotSent),
    /// It may have had its effect.
    Unknown(Unknown),
}

/// The provider's answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, whole.
    pub body: Bytes,
    /// An attempt before this one got no answer, so a refusal here does not prove that nothing happened.
    pub after_unknown: bool,
}

/// Why a call was not sent.
#[derive(Clone, Debug, Error)]
#[error("{cause}")]
pub struct NotSent {
    /// Why, for operators.
    pub cause: String,
    /// When trying again may help.
    pub retry_after: Option<Duration>,
}

/// Why an outcome is unknown.
#[derive(Clone, Debug, Error)]
#[error("{cause}")]
pub struct Unknown {
    /// Why, for operators.
    pub cause: String,
}

/// Why a stack cannot be made.
#[derive(Debug, Error)]
#[error("the HTTP client for {provider} cannot be made: {source}")]
pub struct StackError {
    provider: &'static str,
    source: reqwest::Error,
}

/// Calls one provider. Clones share connections, breaker, budget and bulkhead.
#[derive(Clone)]
pub struct HttpStack(Arc<Inner>);

struct Inner {
    settings: ProviderSettings,
    client: reqwest::Client,
    turns: Semaphore,
    breaker: Mutex<Breaker>,
    budget: Mutex<Budget>,
    calls: Window,
    last_success: Mutex<Option<Instant>>,
}

impl fmt::Debug for HttpStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "HttpStack({} at {})",
            self.0.settings.provider, self.0.settings.base
        )
    }
}

impl HttpStack {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// When the TLS roots of the machine cannot be read.
    pub fn new(settings: ProviderSettings) -> Result<Self, StackError> {
        static RING: Once = Once::new();
        RING.call_once(|| {
            // Fails only when one is installed already, and ours is the only one there is.
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let client = reqwest::Client::builder()
            .user_agent(concat!("Mainstay/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(3))
            .redirect(reqwest::redirect::Policy::none())
            .pool_idle_timeout(Duration::from_secs(30))
            .tcp_nodelay(true)
            .build()
            .map_err(|source| StackError {
                provider: settings.provider,
                source,
            })?;
        Ok(HttpStack(Arc::new(Inner {
            client,
            turns: Semaphore::new(settings.concurrent),
            breaker: Mutex::new(Breaker::new()),
            budget: Mutex::new(Budget::new(Instant::now())),
            calls: Window::default(),
            last_success: Mutex::default(),
            settings,
        })))
    }

    /// Its settings.
    pub fn settings(&self) -> &ProviderSettings {
        &self.0.settings
    }

    /// How the breaker stands, for health.
    pub fn breaker(&self) -> State {
        self.0
            .breaker
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .state(Instant::now())
    }

    /// Makes a call: one span, as many attempts as are harmless and affordable.
    pub async fn call(&self, call: Call) -> Outcome {
        let settings = &self.0.settings;
        let span = info_span!(
            "provider call",
            otel.name = format!("{} {} {}", settings.provider, call.method, call.route),
            otel.kind = "client",
            mainstay.role = settings.role,
            peer.service = settings.provider,
            http.request.method = call.method.as_str(),
            http.response.status_code = Empty,
            mainstay.attempts = Empty,
            mainstay.outcome = Empty,
        );
        let outcome = self.attempt_all(call).instrument(span.clone()).await;
        match &outcome {
            Outcome::Answer(answer) => {
                span.record(
                    "http.response.status_code",
                    i64::from(answer.status.as_u16()),
                );
                if answer.status.is_client_error() || answer.status.is_server_error() {
                    span.set_status(SpanStatus::error(answer.status.to_string()));
                }
            }
            Outcome::NotSent(not_sent) => {
                span.record("mainstay.outcome", "not_sent");
                span.set_status(SpanStatus::error(not_sent.cause.clone()));
            }
            Outcome::Unknown(unknown) => {
                span.record("mainstay.outcome", "unknown");
                span.set_status(SpanStatus::error(unknown.cause.clone()));
            }
        }
        outcome
    }

    async fn attempt_all(&self, mut call: Call) -> Outcome {
        let Inner {
            settings, turns, ..
        } = &*self.0;
        let deadline = Instant::now() + settings.total;
        let deadline = call.deadline.map_or(deadline, |asked| asked.min(deadline));
        if let Some(Ok(value)) = telemetry::current_traceparent().map(http::HeaderValue::try_from) {
            call.headers.insert("traceparent", value);
        }
        // The bulkhead: a slow provider holds its own turns, not the process.
        let Ok(Ok(_turn)) = tokio::time::timeout_at(deadline.into(), turns.acquire()).await else {
            return not_sent(
                "too many calls to the provider are in hand",
                Some(Duration::from_secs(1)),
            );
        };
        self.with_budget(|budget, _| budget.called());

        let mut unknown: Option<Unknown> = None;
        for attempt in 1_u32.. {
            if let Err(wait) = self.with_breaker(Breaker::admit) {
                let refused = not_sent(
                    "the provider has failed too often and is left alone for now",
                    Some(wait),
                );
                return settle(refused, unknown);
            }
            let started = Instant::now();
            let outcome = attempt::once(&self.0.client, settings, &call, deadline).await;
            let failed = match &outcome {
                Outcome::Answer(answer) => answer.status.is_server_error(),
                Outcome::NotSent(_) | Outcome::Unknown(_) => true,
            };
            self.with_breaker(|breaker, now| breaker.ended(failed, now, rand::random()));
            self.note(failed, started.elapsed());
            let pause = self.pause(&call, &outcome, attempt);
            match &outcome {
                Outcome::Unknown(now) => unknown = Some(now.clone()),
                // What a failing server had done before it failed, nobody knows.
                Outcome::Answer(answer) if answer.status.is_server_error() => {
                    unknown = Some(Unknown {
                        cause: format!("the provider answered {}", answer.status),
                    });
                }
                Outcome::Answer(_) | Outcome::NotSent(_) => {}
            }
            let again = pause.filter(|pause| {
                attempt < settings.attempts
                    && Instant::now() + *pause < deadline
                    && self.with_budget(Budget::take)
            });
            let Some(pause) = again else {
                Span::current().record("mainstay.attempts", i64::from(attempt));
                return settle(outcome, unknown);
            };
            tokio::time::sleep(pause).await;
        }
        unreachable!("attempts are counted and the last one returns")
    }

    /// An attempt ended, for health: each counts, because a call that succeeds at the third tells that two failed.
    fn note(&self, failed: bool, took: Duration) {
        self.0.calls.count(failed, took);
        if !failed {
            let mut last = self
                .0
                .last_success
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *last = Some(Instant::now());
        }
    }

    /// How long to wait before this call is sent again; none when it must not be.
    fn pause(&self, call: &Call, outcome: &Outcome, attempt: u32) -> Option<Duration> {
        // Doubling from 100 ms, with full jitter, so that callers who failed together do not return together.
        let doubled =
            Duration::from_millis(100 << attempt.min(6)).mul_f64(rand::random_range(0.5..1.0));
        match outcome {
            Outcome::NotSent(not_sent) => Some(not_sent.retry_after.unwrap_or(doubled)),
            Outcome::Unknown(_) => (call.repeat == Repeat::Harmless).then_some(doubled),
            Outcome::Answer(answer) => {
                let hinted = (self.0.settings.retry_hint)(answer);
                let worth = hinted
                    .unwrap_or_else(|| matches!(answer.status.as_u16(), 429 | 500 | 502..=504));
                let asked = answer
                    .headers
                    .get(http::header::RETRY_AFTER)
                    .and_then(|value| value.to_str().ok()?.parse().ok());
                (worth && call.repeat == Repeat::Harmless)
                    .then(|| asked.map_or(doubled, Duration::from_secs).max(doubled))
            }
        }
    }

    fn with_breaker<T>(&self, with: impl FnOnce(&mut Breaker, Instant) -> T) -> T {
        with(
            &mut self
                .0
                .breaker
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
            Instant::now(),
        )
    }

    fn with_budget<T>(&self, with: impl FnOnce(&mut Budget, Instant) -> T) -> T {
        with(
            &mut self.0.budget.lock().unwrap_or_else(PoisonError::into_inner),
            Instant::now(),
        )
    }
}

/// What its calls tell; the provider itself is not asked.
impl Probe for HttpStack {
    fn name(&self) -> &'static str {
        self.0.settings.provider
    }

    fn probe(&self) -> Probing<'_> {
        let status = match self.breaker() {
            State::Closed => Status::Healthy,
            State::HalfOpen => Status::Degraded,
            State::Open => Status::Unhealthy,
        };
        let last = *self
            .0
            .last_success
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let found = Finding::Provider(Provider {
            name: self.0.settings.provider,
            status,
            calls: self.0.calls.summary(),
            last_success: last.map(|at| at.elapsed()),
        });
        Box::pin(std::future::ready(vec![found]))
    }
}

fn not_sent(cause: &str, retry_after: Option<Duration>) -> Outcome {
    Outcome::NotSent(NotSent {
        cause: cause.to_owned(),
        retry_after,
    })
}

/// The last attempt's outcome, in the light of those before it: once an attempt's outcome is unknown, a later one that
/// was not sent proves nothing.
fn settle(last: Outcome, unknown: Option<Unknown>) -> Outcome {
    match (last, unknown) {
        (Outcome::NotSent(_), Some(unknown)) => Outcome::Unknown(unknown),
        (Outcome::Answer(answer), Some(_)) => Outcome::Answer(Answer {
            after_unknown: true,
            ..answer
        }),
        (last, _) => last,
    }
}
