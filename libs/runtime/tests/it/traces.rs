//! Spans reach the file as one tree, across processes, and the file stays within its bound.
//!
//! Deliberately absent: a fake collector. What leaves over OTLP is shown by `collector.rs` with a real one.

use std::fs;
use std::path::PathBuf;

use mainstay_runtime::telemetry::{
    self, LogFormat, TelemetryConfig, TraceFile, TraceLine, current_trace_id, current_traceparent,
    set_parent,
};

fn config(file: PathBuf, max_bytes: u64) -> TelemetryConfig {
    TelemetryConfig {
        service_name: "mainstay-test".to_owned(),
        environment: "development".to_owned(),
        otlp_endpoint: None,
        traces_file: Some(file),
        traces_file_max_bytes: max_bytes,
        sample_ratio: 1.0,
        log_format: LogFormat::Json,
        log_filter: "off".to_owned(),
        log_file: None,
    }
}

fn scratch(name: &str) -> PathBuf {
    let dir =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a scratch directory");
    dir.join("traces.jsonl")
}

fn lines(file: &PathBuf) -> Vec<TraceLine> {
    let text = fs::read_to_string(file).expect("the trace file");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect()
}

#[tokio::test]
async fn a_story_is_one_tree_from_the_callers_span_to_the_last() {
    let file = scratch("tree");
    let (subscriber, guard) = telemetry::build(&config(file.clone(), 1 << 20)).expect("telemetry");
    let caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let inner_parent = tracing::subscriber::with_default(subscriber, || {
        let outer = tracing::info_span!(
            target: "mainstay_test",
            "request",
            otel.name = "POST /v1/plans",
            otel.kind = "server",
            mainstay.role = "gateway"
        );
        set_parent(&outer, caller);
        let _in_outer = outer.entered();
        assert_eq!(
            current_trace_id().as_deref(),
            Some("4bf92f3577b34da6a3ce929d0e0e4736")
        );
        let sent = current_traceparent().expect("a trace");
        // As another process would: only the text goes along.
        let inner = tracing::info_span!(target: "mainstay_test", parent: None, "call", otel.status_code = "ERROR", mainstay.role = "billing");
        set_parent(&inner, &sent);
        inner.in_scope(|| tracing::warn!(target: "mainstay_test", "the plan is archived"));
        sent
    });
    guard.shutdown().await;

    let lines = lines(&file);
    let outer = lines
        .iter()
        .find(|line| line.name == "POST /v1/plans")
        .expect("the outer span");
    let inner = lines
        .iter()
        .find(|line| line.name == "call")
        .expect("the inner span");
    assert_eq!(lines.len(), 2);
    assert_eq!(outer.trace_id, "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(outer.parent_span_id.as_deref(), Some("00f067aa0ba902b7"));
    assert_eq!(
        (outer.service.as_str(), outer.kind.as_str()),
        ("gateway", "server")
    );
    assert_eq!(inner.trace_id, outer.trace_id);
    assert_eq!(inner.parent_span_id.as_ref(), Some(&outer.span_id));
    assert_eq!(
        (inner.service.as_str(), inner.status.as_str()),
        ("billing", "error")
    );
    assert_eq!(inner.events, ["the plan is archived"]);
    assert!(inner_parent.contains(&outer.span_id));
    assert!(outer.end_unix_nanos >= inner.end_unix_nanos);
}

#[tokio::test]
async fn the_trace_file_stays_within_its_bound() {
    let file = scratch("bound");
    let (subscriber, guard) = telemetry::build(&config(file.clone(), 8_192)).expect("telemetry");
    tracing::subscriber::with_default(subscriber, || {
        for turn in 0..200 {
            tracing::info_span!(target: "mainstay_test", "turn", turn).in_scope(|| {});
        }
    });
    guard.shutdown().await;
    let older = TraceFile::older(&file);
    for file in [&file, &older] {
        let size = fs::metadata(file).expect("both files").len();
        assert!(
            size > 0 && size <= 8_192,
            "{} has {size} bytes",
            file.display()
        );
    }
    let last = lines(&file).pop().expect("the newest span");
    assert_eq!(last.attributes["turn"], 199);
}
