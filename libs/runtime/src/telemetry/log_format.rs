//! How a log line looks: one JSON object for machines, one line of text for a terminal, both with the trace id.
//!
//! Deliberately absent: the fields of enclosing spans. Spans are in the trace, which the line names; repeating
//! them in every line is how personal data ends up in logs.

use std::fmt;

use opentelemetry::trace::TraceContextExt;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use crate::clock::Clock;

/// The two formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// One line of text, for people.
    Pretty,
}

/// The layer that writes lines: to standard error (standard output belongs to commands' answers), or to a file.
pub(super) fn layer<S, W>(format: LogFormat, writer: W) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    // Wall time, not the platform's: logs are compared with other machines' logs.
    let line = Line {
        format,
        wall: Clock::system(0),
    };
    tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(false)
        .event_format(line)
}

struct Line {
    format: LogFormat,
    wall: Clock,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let at = self
            .wall
            .now()
            .to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        let metadata = event.metadata();
        let context = opentelemetry::Context::current();
        let span = context.span();
        let span = span.span_context();
        match self.format {
            LogFormat::Json => {
                let mut line = Map::new();
                line.insert("at".into(), at.into());
                line.insert("level".into(), metadata.level().as_str().into());
                line.insert("message".into(), fields.message.into());
                line.insert("target".into(), metadata.target().into());
                if span.is_valid() {
                    line.insert("trace_id".into(), span.trace_id().to_string().into());
                    line.insert("span_id".into(), span.span_id().to_string().into());
                }
                for (name, value) in fields.others {
                    line.entry(name).or_insert(value);
                }
                writeln!(writer, "{}", Value::Object(line))
            }
            LogFormat::Pretty => {
                write!(
                    writer,
                    "{at} {:<5} {}",
                    level_name(metadata.level()),
                    fields.message
                )?;
                for (name, value) in &fields.others {
                    write!(writer, " {name}={value}")?;
                }
                write!(writer, " ({}", metadata.target())?;
                if span.is_valid() {
                    write!(writer, ", trace {}", span.trace_id())?;
                }
                writeln!(writer, ")")
            }
        }
    }
}

fn level_name(level: &Level) -> &'static str {
    level.as_str()
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        if field.name() == "message" {
            self.message = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
        } else {
            self.others.insert(field.name().to_owned(), value);
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
}
