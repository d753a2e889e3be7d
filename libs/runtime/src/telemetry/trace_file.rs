//! Spans as lines of JSON in one bounded file, for `mainstay trace` on a machine without a collector.
//!
//! Deliberately absent: reading it back. The command that prints a story reads [`TraceLine`]s itself.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry::Value;
use opentelemetry::trace::{SpanId, SpanKind, Status};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use serde::{Deserialize, Serialize};

/// One span, as a line of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TraceLine {
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// 16 hexadecimal digits.
    pub span_id: String,
    /// The span this one is part of; none for the root.
    pub parent_span_id: Option<String>,
    /// What was done: `POST /v1/plans`, `mainstay.billing.v1.PlanService/CreatePlan`, `job close_billing_period`.
    pub name: String,
    /// The role it ran in, else the process's service name.
    pub service: String,
    /// internal, server, client, producer or consumer.
    pub kind: String,
    /// Nanoseconds since 1970.
    pub start_unix_nanos: u64,
    /// Nanoseconds since 1970.
    pub end_unix_nanos: u64,
    /// unset, ok or error.
    pub status: String,
    /// What went wrong, for an error that says so.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub status_message: String,
    /// Facts about it; never personal data or secrets.
    pub attributes: BTreeMap<String, serde_json::Value>,
    /// Warnings and errors that were logged while it ran.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
    /// Spans of other traces that it continues: `trace_id-span_id`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<String>,
}

/// Writes spans to a file that never grows beyond its bound: full, it becomes `<name>.1` and a new one starts.
#[derive(Debug)]
pub struct TraceFile {
    path: PathBuf,
    max_bytes: u64,
    service: String,
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    file: BufWriter<File>,
    bytes: u64,
}

impl TraceFile {
    /// Opens the file for appending; what an earlier run wrote stays.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: PathBuf, max_bytes: u64) -> io::Result<Self> {
        let open = append(&path)?;
        Ok(TraceFile {
            path,
            max_bytes,
            service: String::new(),
            open: Mutex::new(open),
        })
    }

    /// Where the older lines are.
    pub fn older(path: &Path) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        name.push(".1");
        PathBuf::from(name)
    }

    fn write(&self, batch: Vec<SpanData>) -> io::Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for span in batch {
            let mut line = serde_json::to_vec(&self.line(span))?;
            line.push(b'\n');
            if open.bytes + line.len() as u64 > self.max_bytes && open.bytes > 0 {
                open.file.flush()?;
                fs::rename(&self.path, Self::older(&self.path))?;
                *open = append(&self.path)?;
            }
            open.file.write_all(&line)?;
            open.bytes += line.len() as u64;
        }
        open.file.flush()
    }

    fn line(&self, span: SpanData) -> TraceLine {
        let attributes: BTreeMap<String, serde_json::Value> = span
            .attributes
            .into_iter()
            .map(|kv| (kv.key.to_string(), json(kv.value)))
            .collect();
        let service = attributes
            .get("mainstay.role")
            .and_then(|role| role.as_str())
            .unwrap_or(&self.service)
            .to_owned();
        let (status, status_message) = match span.status {
            Status::Unset => ("unset", String::new()),
            Status::Ok => ("ok", String::new()),
            Status::Error { description } => ("error", description.into_owned()),
        };
        TraceLine {
            trace_id: span.span_context.trace_id().to_string(),
            span_id: span.span_context.span_id().to_string(),
            parent_span_id: (span.parent_span_id != SpanId::INVALID)
                .then(|| span.parent_span_id.to_string()),
            name: span.name.into_owned(),
            service,
            kind: kind(&span.span_kind).to_owned(),
            start_unix_nanos: unix_nanos(span.start_time),
            end_unix_nanos: unix_nanos(span.end_time),
            status: status.to_owned(),
            status_message,
            attributes,
            events: span
                .events
                .iter()
                .map(|event| event.name.to_string())
                .collect(),
            links: span
                .links
                .iter()
                .map(|link| {
                    format!(
                        "{}-{}",
                        link.span_context.trace_id(),
                        link.span_context.span_id()
                    )
                })
                .collect(),
        }
    }
}

impl SpanExporter for TraceFile {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.write(batch).map_err(|error| {
            OTelSdkError::InternalFailure(format!("{}: {error}", self.path.display()))
        })
    }

    fn set_resource(&mut self, resource: &Resource) {
        let name = resource.get(&opentelemetry::Key::from_static_str("service.name"));
        self.service = name.map(|name| name.to_string()).unwrap_or_default();
    }
}

fn append(path: &Path) -> io::Result<Open> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    // Traces say what an installation does: not for other users of the machine.
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    let bytes = file.metadata()?.len();
    Ok(Open {
        file: BufWriter::new(file),
        bytes,
    })
}

fn unix_nanos(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
}

fn kind(kind: &SpanKind) -> &'static str {
    match kind {
        SpanKind::Client => "client",
        SpanKind::Server => "server",
        SpanKind::Producer => "producer",
        SpanKind::Consumer => "consumer",
        SpanKind::Internal => "internal",
    }
}

fn json(value: Value) -> serde_json::Value {
    match value {
        Value::Bool(value) => value.into(),
        Value::I64(value) => value.into(),
        Value::F64(value) => value.into(),
        Value::String(value) => value.as_str().into(),
        other => other.to_string().into(),
    }
}
