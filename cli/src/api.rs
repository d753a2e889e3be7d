//! A client of the public REST API, for the commands that work on a running instance.
//! Deliberately absent: a typed model of the answers. Commands read the JSON fields they print, as any script would.

use std::time::{Duration, Instant};

use anyhow::Context;
use reqwest::Method;
use serde_json::Value;

use crate::data_dir::{DataDir, DataDirArg};
use crate::dev_file::DevFile;
use crate::failure::{Advise, refuse};

/// A running instance, and a credential for it: the owner's key, unless another was given.
#[derive(Clone)]
pub struct Api {
    http: reqwest::Client,
    credential: Option<String>,
    traceparent: Option<String>,
    patience: Duration,
    /// What the instance says of itself.
    pub dev: DevFile,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Answer {
    /// `POST /v1/plans`, for messages.
    pub asked: String,
    /// The status.
    pub status: u16,
    /// The trace it belongs to.
    pub trace_id: Option<String>,
    /// The body; null when there was none.
    pub body: Value,
}

impl Api {
    /// The instance on this data directory.
    ///
    /// # Errors
    /// When none runs there.
    pub fn of(arg: &DataDirArg) -> anyhow::Result<Self> {
        Self::with(DevFile::read(&DataDir::at(arg)?)?)
    }

    /// The instance that this file describes.
    ///
    /// # Errors
    /// When no HTTP client can be built.
    pub fn with(dev: DevFile) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(40))
            .build()
            .context("the HTTP client cannot be built")?;
        Ok(Api {
            http,
            credential: Some(dev.owner.api_key.clone()),
            traceparent: None,
            patience: Duration::ZERO,
            dev,
        })
    }

    /// The same, asking again for so long while the instance is away: what is asked has to bear being asked twice.
    #[must_use]
    pub fn patient(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The same with another credential, or with none.
    #[must_use]
    pub fn with_credential(&self, credential: Option<&str>) -> Self {
        Api {
            credential: credential.map(str::to_owned),
            ..self.clone()
        }
    }

    /// The same, under this trace.
    #[must_use]
    pub fn under(&self, trace_id: &str) -> Self {
        Api {
            traceparent: Some(format!("00-{trace_id}-{}-01", &trace_id[..16])),
            ..self.clone()
        }
    }

    /// Reads.
    ///
    /// # Errors
    /// When the instance does not answer.
    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(Method::GET, path, None, None).await
    }

    /// Writes, with an `Idempotency-Key`.
    ///
    /// # Errors
    /// When the instance does not answer.
    pub async fn post(&self, path: &str, body: &Value, key: &str) -> anyhow::Result<Answer> {
        self.send(Method::POST, path, Some(body), Some(key)).await
    }

    /// Writes what may be written twice without harm.
    ///
    /// # Errors
    /// When the instance does not answer.
    pub async fn write(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send(Method::POST, path, Some(body), None).await
    }

    /// Replaces.
    ///
    /// # Errors
    /// When the instance does not answer.
    pub async fn put(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send(Method::PUT, path, Some(body), None).await
    }

    /// Ends something.
    ///
    /// # Errors
    /// When the instance does not answer.
    pub async fn delete(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(Method::DELETE, path, None, None).await
    }

    /// A page as a browser gets it: its status, and what it shows.
    ///
    /// # Errors
    /// When the instance does not answer.
    pub async fn page(&self, method: Method, path: &str) -> anyhow::Result<(u16, String)> {
        let url = format!("{}{path}", self.dev.gateway_url);
        self.again(async || {
            let page = self.http.request(method.clone(), &url).send().await?;
            Ok((page.status().as_u16(), page.text().await?))
        })
        .await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> anyhow::Result<Answer> {
        let deadline = Instant::now() + self.patience;
        loop {
            let outcome = self.ask(method.clone(), path, body, key).await;
            let passes = match &outcome {
                Err(_) => true,
                Ok(answer) => answer.passes(),
            };
            if !passes || Instant::now() >= deadline {
                return outcome;
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    /// Asks again while there is no answer, as long as there is patience.
    async fn again<T>(&self, mut ask: impl AsyncFnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let deadline = Instant::now() + self.patience;
        loop {
            match ask().await {
                Err(_) if Instant::now() < deadline => tokio::time::sleep(AGAIN_AFTER).await,
                outcome => return outcome,
            }
        }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> anyhow::Result<Answer> {
        let asked = format!("{method} {path}");
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.dev.gateway_url));
        if let Some(credential) = &self.credential {
            request = request.bearer_auth(credential);
        }
        if let Some(traceparent) = &self.traceparent {
            request = request.header("traceparent", traceparent);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let response = request.send().await.advise(
            format!("the instance at {} does not answer", self.dev.gateway_url),
            "is it running? Start it with `mainstay up`, or see `mainstay doctor`",
        )?;
        let trace_id = response
            .headers()
            .get("traceparent")
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split('-').nth(1))
            .map(str::to_owned);
        let status = response.status().as_u16();
        let bytes = response
            .bytes()
            .await
            .context(format!("{asked} broke off"))?;
        let body = match bytes.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&bytes).with_context(|| {
                format!("{asked} answered {status} with something that is not JSON")
            })?,
        };
        Ok(Answer {
            asked,
            status,
            trace_id,
            body,
        })
    }

    /// Reads the simulators' public side.
    ///
    /// # Errors
    /// When they do not answer with JSON.
    pub async fn sandbox(&self, path: &str) -> anyhow::Result<Value> {
        self.simulators(self.http.get(self.at_simulators(path)))
            .await
    }

    /// Does something on the simulators' public side: what people and banks do.
    ///
    /// # Errors
    /// When they do not answer, or refuse.
    pub async fn sandbox_post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let mut request = self.http.post(self.at_simulators(path)).json(body);
        if let Some(traceparent) = &self.traceparent {
            request = request.header("traceparent", traceparent);
        }
        self.simulators(request).await
    }

    /// The same where doing it twice is not doing it once: whoever asks looks for themselves what came of it.
    pub async fn sandbox_post_once(&self, path: &str, body: &Value) {
        let request = self.http.post(self.at_simulators(path)).json(body);
        if let Err(error) = request.send().await {
            tracing::debug!(%error, path, "the simulators did not answer");
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    /// Undoes what was done there.
    ///
    /// # Errors
    /// When they do not answer, or refuse.
    pub async fn sandbox_delete(&self, path: &str) -> anyhow::Result<Value> {
        self.simulators(self.http.delete(self.at_simulators(path)))
            .await
    }

    /// A form to the simulated Twilio, as its account.
    ///
    /// # Errors
    /// When it does not answer, or refuses.
    pub async fn twilio(
        &self,
        (sid, token): (&str, &str),
        resource: &str,
        form: &[(&str, &str)],
    ) -> anyhow::Result<Value> {
        let path = format!("/twilio/2010-04-01/Accounts/{sid}/{resource}");
        let request = self.http.post(self.at_simulators(&path));
        self.simulators(request.basic_auth(sid, Some(token)).form(form))
            .await
    }

    fn at_simulators(&self, path: &str) -> String {
        format!("{}{path}", self.dev.sandbox_url)
    }

    async fn simulators(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
        let (status, url, text) = self
            .again(async || {
                let request = request.try_clone().context("a request without a stream")?;
                let response = request.send().await.advise(
                    format!("the simulators at {} do not answer", self.dev.sandbox_url),
                    "see `mainstay doctor`",
                )?;
                let (status, url) = (response.status(), response.url().clone());
                Ok((status, url, response.text().await?))
            })
            .await?;
        if !status.is_success() {
            return Err(refuse(
                format!("{url} answered {status}: {text}"),
                "see what the simulators take in docs/simulators.md",
            ));
        }
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).with_context(|| format!("{url} is not JSON: {text}"))
    }
}

/// How long whoever is patient waits before asking again.
const AGAIN_AFTER: Duration = Duration::from_millis(250);

impl Answer {
    /// The answer, if its status is one of these.
    ///
    /// # Errors
    /// When it is another, with what the problem document says.
    pub fn expect(self, statuses: &[u16]) -> anyhow::Result<Answer> {
        if statuses.contains(&self.status) {
            return Ok(self);
        }
        Err(self.unexpected(
            &statuses
                .iter()
                .map(u16::to_string)
                .collect::<Vec<_>>()
                .join(" or "),
        ))
    }

    /// A field of the body as text.
    ///
    /// # Errors
    /// When it is not there.
    pub fn text(&self, field: &str) -> anyhow::Result<String> {
        let value = self.body.get(field).and_then(Value::as_str);
        value
            .map(str::to_owned)
            .with_context(|| format!("{} answered without {field}: {}", self.asked, self.body))
    }

    /// Whether it may be another one a moment later: the instance is on its way, or at work on the same request.
    fn passes(&self) -> bool {
        matches!(self.status, 503 | 504) || self.code() == Some("idempotency_in_flight")
    }

    /// The problem's code, if it is one.
    pub fn code(&self) -> Option<&str> {
        self.body.get("code").and_then(Value::as_str)
    }

    /// That this is not what was expected.
    pub fn unexpected(&self, expected: &str) -> anyhow::Error {
        let part = |name: &str| self.body.get(name).and_then(Value::as_str).unwrap_or("–");
        let mut cause = format!(
            "{} answered {} {} where {expected} was expected: {}",
            self.asked,
            self.status,
            part("code"),
            part("detail")
        );
        let errors = self.body.get("errors").and_then(Value::as_array);
        for error in errors.into_iter().flatten() {
            let part = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or("–");
            cause.push_str(&format!("\n  {}: {}", part("field"), part("message")));
        }
        let next = match &self.trace_id {
            _ if self.status == 400 => "mend what is named".to_owned(),
            _ if self.status == 404 => {
                "check the id: it may be of another agency, or of another kind".to_owned()
            }
            Some(trace) => format!("see what happened with `mainstay trace {trace}`"),
            None => "see the log in the data directory".to_owned(),
        };
        refuse(cause, next)
    }
}
