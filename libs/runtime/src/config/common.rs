//! Settings that every role has: where it runs, its public address, time, stopping, telemetry.
//!
//! Deliberately absent: settings of one service. Those stand in that service's `config.rs`.

use std::path::PathBuf;
use std::time::Duration;

use super::Config;
use super::setting::{Group, Kind, Setting};
use super::value::FromSetting;
use crate::clock::Clock;
use crate::telemetry::{LogFormat, TelemetryConfig};

/// Where the process runs.
pub const ENVIRONMENT: Setting = Setting::new(
    "MAINSTAY_ENVIRONMENT",
    "where this runs; production refuses simulators and a shifted clock",
    Kind::OneOf(&["production", "development"]),
)
.default("production");

/// The one public address.
pub const BASE_URL: Setting = Setting::new(
    "MAINSTAY_BASE_URL",
    "the public address of the gateway: problem pages, links in mail and webhook signatures are made from it",
    Kind::HttpUrl,
);

/// Shifts the platform's clock.
pub const CLOCK_OFFSET: Setting = Setting::new(
    "MAINSTAY_CLOCK_OFFSET_SECONDS",
    "shifts the platform's clock, to try what happens later",
    Kind::Integer {
        min: -3_155_760_000,
        max: 3_155_760_000,
    },
)
.default("0")
.refused_in_production("0");

/// How long a stop may take.
pub const SHUTDOWN_GRACE: Setting = Setting::new(
    "MAINSTAY_SHUTDOWN_GRACE_SECONDS",
    "how long requests and jobs in hand may take to finish after SIGTERM",
    Kind::Seconds { min: 1, max: 600 },
)
.default("25");

/// The collector.
pub const OTLP_ENDPOINT: Setting = Setting::new(
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "the OpenTelemetry collector (OTLP over gRPC) that gets the traces",
    Kind::HttpUrl,
)
.optional();

/// The trace file.
pub const TRACES_FILE: Setting = Setting::new(
    "MAINSTAY_TRACES_FILE",
    "a file that gets every span as a line of JSON, for `mainstay trace`",
    Kind::Path,
)
.optional();

/// The trace file's bound.
pub const TRACES_FILE_MAX_BYTES: Setting = Setting::new(
    "MAINSTAY_TRACES_FILE_MAX_BYTES",
    "the size at which the trace file is put aside (one older file is kept)",
    Kind::Integer {
        min: 65_536,
        max: 10_737_418_240,
    },
)
.default("134217728");

/// The sampling.
pub const TRACE_SAMPLE_RATIO: Setting = Setting::new(
    "MAINSTAY_TRACE_SAMPLE_RATIO",
    "the share of traces that is recorded; a caller's own decision is honoured",
    Kind::Ratio,
)
.default("1");

/// Log lines' shape.
pub const LOG_FORMAT: Setting = Setting::new(
    "MAINSTAY_LOG_FORMAT",
    "how log lines on standard error look",
    Kind::OneOf(&["json", "pretty"]),
)
.default("json");

/// Log lines' choice.
pub const LOG_FILTER: Setting = Setting::new(
    "MAINSTAY_LOG_FILTER",
    "which log lines are written: a level, or directives such as `warn,mainstay_billing=debug`",
    Kind::Text,
)
.default("info,h2=warn,hyper=warn,tonic=warn,tower=warn,sqlx=warn,rustls=warn");

/// The log file.
pub const LOG_FILE: Setting = Setting::new(
    "MAINSTAY_LOG_FILE",
    "a file that gets the log lines; standard error then gets only warnings and errors",
    Kind::Path,
)
.optional();

/// These settings.
pub static GROUP: Group = Group {
    name: "every role",
    about: "Read by each role, alone or all together.",
    settings: &[
        ENVIRONMENT,
        BASE_URL,
        CLOCK_OFFSET,
        SHUTDOWN_GRACE,
        OTLP_ENDPOINT,
        TRACES_FILE,
        TRACES_FILE_MAX_BYTES,
        TRACE_SAMPLE_RATIO,
        LOG_FORMAT,
        LOG_FILTER,
        LOG_FILE,
    ],
};

/// Where a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// For real: no simulators, no shifted clock, nothing missing.
    Production,
    /// A person's machine or a test.
    Development,
}

impl Environment {
    pub(super) fn from_text(text: &str) -> Option<Self> {
        match text {
            "production" => Some(Environment::Production),
            "development" => Some(Environment::Development),
            _ => None,
        }
    }

    /// As the setting spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Environment::Production => "production",
            Environment::Development => "development",
        }
    }
}

impl FromSetting for Environment {
    fn from_setting(text: Option<&str>) -> Result<Self, String> {
        text.and_then(Self::from_text)
            .ok_or_else(|| "it is no environment".to_owned())
    }
}

/// The common settings, read.
#[derive(Clone, Debug)]
pub struct Common {
    /// Where this runs.
    pub environment: Environment,
    /// The public address, without a slash at its end.
    pub base_url: String,
    /// The platform's clock.
    pub clock: Clock,
    /// How long a stop may take.
    pub shutdown_grace: Duration,
    /// What to record.
    pub telemetry: TelemetryConfig,
}

impl Common {
    /// Reads them; `service_name` is `mainstay` for all roles together, `mainstay-<role>` for one.
    pub fn read(config: &Config, service_name: &str) -> Self {
        let environment: Environment = config.get(&ENVIRONMENT);
        let log_format = match config.get::<String>(&LOG_FORMAT).as_str() {
            "pretty" => LogFormat::Pretty,
            _ => LogFormat::Json,
        };
        Common {
            environment,
            base_url: config
                .get::<String>(&BASE_URL)
                .trim_end_matches('/')
                .to_owned(),
            clock: Clock::system(config.get(&CLOCK_OFFSET)),
            shutdown_grace: config.get(&SHUTDOWN_GRACE),
            telemetry: TelemetryConfig {
                service_name: service_name.to_owned(),
                environment: environment.as_str().to_owned(),
                otlp_endpoint: config.get(&OTLP_ENDPOINT),
                traces_file: config.get::<Option<PathBuf>>(&TRACES_FILE),
                traces_file_max_bytes: config.get(&TRACES_FILE_MAX_BYTES),
                sample_ratio: config.get(&TRACE_SAMPLE_RATIO),
                log_format,
                log_filter: config.get(&LOG_FILTER),
                log_file: config.get::<Option<PathBuf>>(&LOG_FILE),
            },
        }
    }
}
