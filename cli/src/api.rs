//! A client of the public REST API, for the commands that work on a running instance.
//! Deliberately absent: a typed model of the answers. Commands read the JSON fields they print, as any script would.

use std::time::Duration;

use anyhow::Context;
use reqwest::Method;
use serde_json::Value;

use crate::data_dir::{DataDir, DataDirArg};
use crate::dev_file::DevFile;
use crate::failure::{Advise, refuse};

/// A running instance, and the owner's key to it.
pub struct Api {
    http: reqwest::Client,
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
        Ok(Api { http, dev })
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

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> anyhow::Result<Answer> {
        let asked = format!("{method} {path}");
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.dev.gateway_url))
            .bearer_auth(&self.dev.owner.api_key);
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
        let url = format!("{}{path}", self.dev.sandbox_url);
        let response = self.http.get(&url).send().await.advise(
            format!("the simulators at {url} do not answer"),
            "see `mainstay doctor`",
        )?;
        let response = response.error_for_status()?;
        response
            .json()
            .await
            .with_context(|| format!("{url} is not JSON"))
    }
}

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
