//! A REST client that keeps everything of an answer, also of a refusal.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use mainstay_testkit::PATIENCE;
use serde_json::Value;
use tokio::sync::Mutex;

/// Requests with one credential.
#[derive(Clone)]
pub struct Rest {
    base: String,
    key: String,
    http: reqwest::Client,
}

/// All of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Its headers, lower case, in order of name.
    pub headers: Vec<(String, String)>,
    /// Its body; `Null` when it is not JSON.
    pub body: Value,
}

/// An HTTP client, with the one TLS provider.
pub fn http() -> anyhow::Result<reqwest::Client> {
    static PROVIDER: OnceLock<()> = OnceLock::new();
    PROVIDER.get_or_init(|| {
        // A second installation in one process is refused; the first stands.
        drop(rustls::crypto::ring::default_provider().install_default());
    });
    reqwest::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .build()
        .context("an HTTP client")
}

impl Rest {
    /// Requests to a gateway with a key.
    pub fn new(base: &str, key: &str) -> anyhow::Result<Self> {
        Ok(Self {
            base: base.trim_end_matches('/').to_owned(),
            key: key.to_owned(),
            http: http()?,
        })
    }

    /// The gateway's address.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// GET.
    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send("GET", path, None, None).await
    }

    /// POST with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send("POST", path, Some(body), None).await
    }

    /// POST with a JSON body and an Idempotency-Key.
    pub async fn post_once(&self, path: &str, body: &Value, key: &str) -> anyhow::Result<Answer> {
        self.send("POST", path, Some(body), Some(key)).await
    }

    /// Any request.
    pub async fn send(
        &self,
        verb: &str,
        path: &str,
        body: Option<&Value>,
        idempotency_key: Option<&str>,
    ) -> anyhow::Result<Answer> {
        let mut request = self
            .http
            .request(verb.parse()?, format!("{}{path}", self.base))
            .bearer_auth(&self.key);
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        Answer::of(request.send().await?).await
    }

    /// A request of which only the sending matters; the caller may drop it at any time.
    pub fn raw(&self, verb: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.http
            .request(verb, format!("{}{path}", self.base))
            .bearer_auth(&self.key)
    }
}

/// A client that asks until it knows what was done, under one key, whoever dies meanwhile.
pub struct Patient {
    gateway: Mutex<Rest>,
    requests: AtomicU64,
    repeats: AtomicU64,
}

impl Patient {
    /// At this gateway.
    pub fn new(gateway: Rest) -> Self {
        Self {
            gateway: Mutex::new(gateway),
            requests: AtomicU64::new(0),
            repeats: AtomicU64::new(0),
        }
    }

    /// The gateway was started anew, perhaps elsewhere.
    pub async fn turn_to(&self, gateway: Rest) {
        *self.gateway.lock().await = gateway;
    }

    /// Requests so far, and how many of them were repeats.
    pub fn told(&self) -> (u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.requests), read(&self.repeats))
    }

    /// Asks until there is an answer that says what was done.
    pub async fn ask(&self, path: &str, body: &Value, key: &str) -> anyhow::Result<Answer> {
        let until = Instant::now() + PATIENCE;
        let mut pace = tokio::time::interval(Duration::from_millis(300));
        loop {
            pace.tick().await;
            let gateway = self.gateway.lock().await.clone();
            self.requests.fetch_add(1, Ordering::Relaxed);
            match gateway.post_once(path, body, key).await {
                Ok(answer)
                    if answer.status < 500
                        && answer.status != 429
                        && answer.code() != "idempotency_in_flight" =>
                {
                    return Ok(answer);
                }
                last => {
                    ensure!(Instant::now() < until, "no answer to {path}: {last:?}");
                    self.repeats.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

impl Answer {
    /// Reads a response whole.
    pub async fn of(response: reqwest::Response) -> anyhow::Result<Self> {
        let status = response.status().as_u16();
        let mut headers: Vec<(String, String)> = response
            .headers()
            .iter()
            .map(|(name, value)| {
                (
                    name.to_string(),
                    String::from_utf8_lossy(value.as_bytes()).into_owned(),
                )
            })
            .collect();
        headers.sort();
        let bytes = response.bytes().await?;
        Ok(Self {
            status,
            headers,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        })
    }

    /// The body, when the status is the one wanted; else an error that shows both.
    pub fn expect(self, status: u16) -> anyhow::Result<Value> {
        anyhow::ensure!(
            self.status == status,
            "expected {status}, got {}: {}",
            self.status,
            self.body
        );
        Ok(self.body)
    }

    /// The problem's code.
    pub fn code(&self) -> &str {
        self.body
            .get("code")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// A text of the body, by JSON pointer.
    pub fn text(&self, pointer: &str) -> &str {
        self.body
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// The same answer without what differs between any two requests: trace, request id, date, and the
    /// ids given, so that two refusals can be held against each other byte by byte.
    pub fn without(&self, ids: &[&str]) -> Self {
        let mut text = self.body.to_string();
        for id in ids {
            text = text.replace(id, "<id>");
        }
        let mut body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if let Some(object) = body.as_object_mut() {
            object.remove("trace_id");
        }
        let headers = self
            .headers
            .iter()
            .filter(|(name, _)| {
                !matches!(name.as_str(), "traceparent" | "x-request-id" | "date")
                    && !name.starts_with("ratelimit")
                    && !name.starts_with("x-ratelimit")
            })
            .cloned()
            .collect();
        Self {
            status: self.status,
            headers,
            body,
        }
    }
}
