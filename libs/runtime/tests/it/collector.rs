//! Spans reach a real OpenTelemetry collector over OTLP: `rotel`, which prints each span that it gets.
//!
//! Deliberately absent: a collector of our own making, which would only show that we agree with ourselves.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use mainstay_runtime::telemetry::{self, LogFormat, TelemetryConfig};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdout, Command};

/// Far more than it takes; only a collector that never says what we wait for gets here.
const PATIENCE: Duration = Duration::from_secs(300);

struct Collector {
    endpoint: String,
    lines: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl Collector {
    async fn start() -> Collector {
        let program = installed().await;
        let (grpc, http) = (free_address().await, free_address().await);
        let pid_file = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("rotel-{}.pid", std::process::id()));
        let mut process = Command::new(program)
            .args([
                "start",
                "--otlp-grpc-endpoint",
                &grpc,
                "--otlp-http-endpoint",
                &http,
                "--exporter",
                "blackhole",
            ])
            .args([
                "--debug-log",
                "traces",
                "--debug-log-verbosity",
                "detailed",
                "--pid-file",
            ])
            .arg(pid_file)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the collector starts");
        let lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let listening = async {
            while TcpStream::connect(&grpc).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, listening)
            .await
            .expect("the collector listens");
        Collector {
            endpoint: format!("http://{grpc}"),
            lines,
            _process: process,
        }
    }

    /// Reads what the collector prints until all of `wanted` has been seen.
    async fn prints(&mut self, wanted: &[&str]) {
        let mut seen = String::new();
        let reading = async {
            while !wanted.iter().all(|text| seen.contains(text)) {
                let line = self
                    .lines
                    .next_line()
                    .await
                    .expect("text")
                    .expect("the collector runs");
                seen.push_str(&line);
                seen.push('\n');
            }
        };
        let found = tokio::time::timeout(PATIENCE, reading).await;
        assert!(found.is_ok(), "wanted {wanted:?} in:\n{seen}");
    }
}

/// The collector's program, from the Python environment of the tests.
async fn installed() -> PathBuf {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/python/venv.sh");
    let made = Command::new("sh")
        .arg(script)
        .output()
        .await
        .expect("sh runs");
    assert!(
        made.status.success(),
        "no Python environment: {}",
        String::from_utf8_lossy(&made.stderr)
    );
    let python = String::from_utf8(made.stdout).expect("a path");
    let find = "import pathlib, rotel; p = pathlib.Path(rotel.__file__).with_name('rotel-agent'); p.chmod(0o755); print(p)";
    let found = Command::new(python.trim())
        .args(["-c", find])
        .output()
        .await
        .expect("python runs");
    assert!(
        found.status.success(),
        "rotel is not installed: {}",
        String::from_utf8_lossy(&found.stderr)
    );
    PathBuf::from(String::from_utf8(found.stdout).expect("a path").trim())
}

async fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("an address").to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_collector_gets_our_spans_whole() {
    let mut collector = Collector::start().await;
    let config = TelemetryConfig {
        service_name: "mainstay-test".to_owned(),
        environment: "development".to_owned(),
        otlp_endpoint: Some(collector.endpoint.clone()),
        traces_file: None,
        traces_file_max_bytes: 0,
        sample_ratio: 1.0,
        log_format: LogFormat::Json,
        log_filter: "off".to_owned(),
        log_file: None,
    };
    let (subscriber, guard) = telemetry::build(&config).expect("telemetry");
    tracing::subscriber::with_default(subscriber, || {
        let span = tracing::info_span!(
            target: "mainstay_test",
            "request",
            otel.name = "POST /v1/plans",
            otel.kind = "server",
            mainstay.role = "gateway",
        );
        telemetry::set_parent(
            &span,
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        );
        span.in_scope(|| {});
    });
    guard.shutdown().await;
    let wanted = [
        "mainstay-test",
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "00f067aa0ba902b7",
        "POST /v1/plans",
        "gateway",
    ];
    collector.prints(&wanted).await;
}
