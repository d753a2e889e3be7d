//! Caller and callee are one tree, and a refused call is marked where it was refused.

use std::fs;
use std::path::PathBuf;

use mainstay_runtime::telemetry::{self, LogFormat, TelemetryConfig, TraceLine};
use mainstay_types::{AgencyId, ClientId};
use tracing::Instrument;

use crate::harness::{House, as_actor, get, update};

#[tokio::test]
async fn a_call_between_services_is_one_tree_and_a_refused_one_is_marked() {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("rpc-spans-{}", std::process::id()));
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
    {
        // One thread runs this test and its server, so the thread's subscriber sees both sides.
        let _default = tracing::subscriber::set_default(subscriber);
        let house = House::build().await;
        let agency = AgencyId::generate();
        let (client, token) = (house.clients.make(agency), house.owner(agency));
        let story = tracing::info_span!(target: "mainstay_test", "story");
        async {
            house
                .client()
                .get_client(as_actor(&token, get(client)))
                .await
                .expect("there");
            house
                .client()
                .get_client(as_actor(&token, get(ClientId::generate())))
                .await
                .expect_err("not there");
            house
                .client()
                .update_client(as_actor(&token, update(client, "bug")))
                .await
                .expect_err("a bug");
        }
        .instrument(story)
        .await;
        house.shutdown.trigger();
        house.served.await.expect("ended");
    }
    guard.shutdown().await;

    let text = fs::read_to_string(&file).expect("traces");
    let lines: Vec<TraceLine> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let story = lines
        .iter()
        .find(|line| line.name == "story")
        .expect("the story");
    assert!(
        lines.iter().all(|line| line.trace_id == story.trace_id),
        "one trace"
    );
    let of = |kind: &str, method: &str, status: &str| {
        let name = format!("mainstay.identity.v1.ClientService/{method}");
        let found = lines
            .iter()
            .find(|line| line.name == name && line.kind == kind && line.status == status);
        found
            .unwrap_or_else(|| panic!("no {status} {kind} span of {method} in {lines:#?}"))
            .clone()
    };
    for (method, status) in [
        ("GetClient", "unset"),
        ("GetClient", "error"),
        ("UpdateClient", "error"),
    ] {
        let (caller, callee) = (of("client", method, status), of("server", method, status));
        assert_eq!(caller.parent_span_id.as_ref(), Some(&story.span_id));
        assert_eq!(callee.parent_span_id.as_ref(), Some(&caller.span_id));
        assert_eq!(
            (caller.service.as_str(), callee.service.as_str()),
            ("gateway", "identity")
        );
    }
    assert_eq!(
        of("server", "GetClient", "error").attributes["mainstay.error"],
        "NOT_FOUND"
    );
    // The bug is logged once, inside the span where it happened.
    assert_eq!(
        of("server", "UpdateClient", "error").events,
        ["internal error"]
    );
    assert_eq!(lines.iter().flat_map(|line| &line.events).count(), 1);
}
