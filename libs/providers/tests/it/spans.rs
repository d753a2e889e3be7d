//! A provider call is one span of the caller's trace, and the provider is told of it.

use std::fs;
use std::path::PathBuf;

use mainstay_providers::stripe::StripeApi;
use mainstay_runtime::telemetry::{self, LogFormat, TelemetryConfig, TraceLine};
use secrecy::SecretString;
use serde_json::Value;
use tracing::Instrument;

use crate::server::{Server, say};

#[tokio::test]
async fn a_call_to_stripe_is_one_span_in_the_callers_trace_without_ids_or_bodies() {
    let dir =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("spans-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a directory");
    let file = dir.join("traces.jsonl");
    let config = TelemetryConfig {
        service_name: "mainstay-test".to_owned(),
        environment: "development".to_owned(),
        otlp_endpoint: None,
        traces_file: Some(file.clone()),
        traces_file_max_bytes: 1 << 20,
        sample_ratio: 1.0,
        log_format: LogFormat::Json,
        log_filter: "off".to_owned(),
        log_file: None,
    };
    let (subscriber, guard) = telemetry::build(&config).expect("telemetry");
    let server = Server::start([say(
        404,
        r#"{"error":{"type":"invalid_request_error","message":"No such customer: Mike"}}"#,
    )])
    .await;
    {
        // One thread runs this test, so its subscriber is the thread's.
        let _default = tracing::subscriber::set_default(subscriber);
        let api = StripeApi::new(
            "billing",
            &server.base,
            &SecretString::from("sk_test_1234567890"),
        )
        .expect("an api");
        let step = tracing::info_span!(target: "mainstay_test", "saga step");
        let _ = api
            .get::<Value>("/customers/cus_Q1x", &[])
            .instrument(step)
            .await;
    }
    guard.shutdown().await;

    let text = fs::read_to_string(&file).expect("traces");
    assert!(
        !text.contains("Mike") && !text.contains("cus_Q1x") && !text.contains("sk_test"),
        "{text}"
    );
    let lines: Vec<TraceLine> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let step = lines
        .iter()
        .find(|line| line.name == "saga step")
        .expect("the step");
    let call = lines
        .iter()
        .find(|line| line.name == "stripe GET /v1/customers/{id}")
        .expect("the call");
    assert_eq!(call.parent_span_id.as_ref(), Some(&step.span_id));
    assert_eq!(
        (
            call.service.as_str(),
            call.kind.as_str(),
            call.status.as_str()
        ),
        ("billing", "client", "error")
    );
    assert_eq!(call.attributes["http.response.status_code"], 404);
    let told = format!("traceparent: 00-{}-{}-01", call.trace_id, call.span_id);
    assert!(server.asked()[0].contains(&told), "{told}");
}
