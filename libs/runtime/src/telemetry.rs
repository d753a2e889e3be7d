//! Traces and logs (PLT-07): one subscriber for the process, spans out over OTLP and to `traces.jsonl`.
//!
//! Deliberately absent: what is worth a span. The stacks (`rpc`, `jobs`, `providers`, gateway) decide that; this
//! exports only spans of our own crates, so that the exporter's own calls cannot feed themselves.

mod log_file;
mod log_format;
mod propagation;
mod trace_file;

use std::path::PathBuf;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, SpanExporter, SpanLimits,
};
use thiserror::Error;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{EnvFilter, FilterExt, Targets, filter_fn};
use tracing_subscriber::fmt::writer::MakeWriterExt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

pub use log_format::LogFormat;
pub use propagation::{current_trace_id, current_traceparent, set_parent, trace_id_of};
pub use trace_file::{TraceFile, TraceLine};

/// What to record, and where it goes.
#[derive(Clone, Debug)]
pub struct TelemetryConfig {
    /// `service.name` of everything exported: `mainstay` for all roles together, `mainstay-billing` for one.
    pub service_name: String,
    /// `deployment.environment.name`.
    pub environment: String,
    /// An OTLP gRPC collector (`http://host:4317`), if any.
    pub otlp_endpoint: Option<String>,
    /// Where to keep spans as lines of JSON, if anywhere; `mainstay trace` reads it.
    pub traces_file: Option<PathBuf>,
    /// The greatest size of that file; one older file of the same size is kept beside it.
    pub traces_file_max_bytes: u64,
    /// The share of traces that we start which is recorded, 0 to 1; a caller's own decision is honoured.
    pub sample_ratio: f64,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines are written (`tracing` directives).
    pub log_filter: String,
    /// A file that gets the log lines, if any; standard error then gets only warnings and errors.
    pub log_file: Option<PathBuf>,
}

/// Why telemetry could not start.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The filter cannot be read.
    #[error("the log filter {filter:?} cannot be read: {reason}")]
    Filter {
        /// The filter as given.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The OTLP exporter cannot be built.
    #[error("the OTLP exporter cannot be built: {0}")]
    Otlp(String),
    /// The trace file cannot be opened.
    #[error("the trace file {path} cannot be opened: {source}")]
    TraceFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The log file cannot be opened.
    #[error("the log file {path} cannot be opened: {source}")]
    LogFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A subscriber is installed already.
    #[error("telemetry is initialised already")]
    Twice,
}

/// Keeps telemetry running. Shut it down last: spans that end later are lost.
#[derive(Debug)]
pub struct TelemetryGuard {
    provider: SdkTracerProvider,
}

impl TelemetryGuard {
    /// Sends what is still held. Bounded to ten seconds.
    pub async fn shutdown(self) {
        // The exporters block; on a worker thread they could wait for a task that this very thread would have to run.
        let ended = tokio::task::spawn_blocking(move || {
            self.provider.shutdown_with_timeout(Duration::from_secs(10))
        });
        if let Ok(Err(error)) = ended.await {
            tracing::warn!(%error, "spans were lost at shutdown");
        }
    }

    /// Sends what is held so far and goes on.
    pub async fn flush(&self) {
        let provider = self.provider.clone();
        let flushed = tokio::task::spawn_blocking(move || provider.force_flush());
        if let Ok(Err(error)) = flushed.await {
            tracing::warn!(%error, "spans could not be flushed");
        }
    }
}

/// Installs the subscriber of this process. With an OTLP endpoint it must run inside a tokio runtime.
///
/// # Errors
/// When the filter cannot be read, an exporter cannot be built, or it was called before.
pub fn init(config: &TelemetryConfig) -> Result<TelemetryGuard, TelemetryError> {
    let (subscriber, guard) = build(config)?;
    subscriber.try_init().map_err(|_| TelemetryError::Twice)?;
    Ok(guard)
}

type Subscriber = Box<dyn tracing::Subscriber + Send + Sync>;

/// The subscriber without installing it, for tests that need one of their own.
///
/// # Errors
/// As [`init`].
pub fn build(config: &TelemetryConfig) -> Result<(Subscriber, TelemetryGuard), TelemetryError> {
    let filter = EnvFilter::builder()
        .parse(&config.log_filter)
        .map_err(|error| TelemetryError::Filter {
            filter: config.log_filter.clone(),
            reason: error.to_string(),
        })?;
    let file = config.log_file.as_deref().map(log_file::open).transpose()?;
    let provider = provider(config)?;

    // Spans of our own crates only; of events, warnings and errors join their span.
    let ours = Targets::new()
        .with_target("mainstay", LevelFilter::TRACE)
        .with_target("otel::tracing", LevelFilter::TRACE);
    let worth_keeping =
        filter_fn(|metadata| metadata.is_span() || *metadata.level() <= tracing::Level::WARN);
    let traces = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("mainstay"))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_context_activation(false)
        .with_error_events_to_status(false)
        .with_filter(ours.and(worth_keeping));

    // Lines tell nothing of spans: what writes them need not be told of each, and format it for nobody.
    let lines = filter_fn(|metadata| metadata.is_event()).and(filter);
    let logs = match file {
        // One layer for both: each is asked about every span that is entered.
        Some(file) => log_format::layer(
            config.log_format,
            file.and(std::io::stderr.with_max_level(tracing::Level::WARN)),
        )
        .with_filter(lines)
        .boxed(),
        None => log_format::layer(config.log_format, std::io::stderr)
            .with_filter(lines)
            .boxed(),
    };
    // The logs come after the traces, so that a line can tell the trace it belongs to.
    let subscriber = Registry::default().with(traces).with(logs);
    Ok((Box::new(subscriber), TelemetryGuard { provider }))
}

fn provider(config: &TelemetryConfig) -> Result<SdkTracerProvider, TelemetryError> {
    let resource = Resource::builder()
        .with_service_name(config.service_name.clone())
        .with_attribute(KeyValue::new("service.namespace", "mainstay"))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new(
            "deployment.environment.name",
            config.environment.clone(),
        ))
        .build();
    let limits = SpanLimits {
        max_events_per_span: 32,
        max_attributes_per_span: 64,
        max_links_per_span: 8,
        ..SpanLimits::default()
    };
    let mut builder = SdkTracerProvider::builder()
        .with_resource(resource)
        .with_span_limits(limits)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(
            config.sample_ratio,
        ))));
    if let Some(endpoint) = &config.otlp_endpoint {
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(Duration::from_secs(5))
            .build()
            .map_err(|error| TelemetryError::Otlp(error.to_string()))?;
        builder = builder.with_span_processor(batch(exporter, Duration::from_secs(1)));
    }
    if let Some(path) = &config.traces_file {
        let exporter =
            TraceFile::open(path.clone(), config.traces_file_max_bytes).map_err(|source| {
                TelemetryError::TraceFile {
                    path: path.clone(),
                    source,
                }
            })?;
        // Short: whoever runs `mainstay trace` after a call expects to find it.
        builder = builder.with_span_processor(batch(exporter, Duration::from_millis(200)));
    }
    Ok(builder.build())
}

/// A queue before each exporter that drops rather than grows when the exporter is slow.
fn batch(exporter: impl SpanExporter + 'static, delay: Duration) -> BatchSpanProcessor {
    let limits = BatchConfigBuilder::default()
        .with_max_queue_size(8192)
        .with_max_export_batch_size(512)
        .with_scheduled_delay(delay)
        .build();
    BatchSpanProcessor::builder(exporter)
        .with_batch_config(limits)
        .build()
}
