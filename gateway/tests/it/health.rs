//! `/v1/health`: what everybody may know of how the services stand, and what nobody may.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use mainstay_runtime::health::{
    Database, Finding, Pool, Probe, Probing, Provider, Queue, Severity, Status, Summary,
};
use mainstay_types::ServiceName;
use serde_json::{Value, json};

use crate::{
    backend::CLIENT,
    harness::{send, start, start_whole},
};

/// Finds what it is told to, and counts how often it was asked.
struct Found(Vec<Finding>, Arc<AtomicUsize>);

impl Found {
    fn new(findings: impl Into<Vec<Finding>>) -> Self {
        Found(findings.into(), Arc::default())
    }
}

impl Probe for Found {
    fn name(&self) -> &'static str {
        "found"
    }

    fn probe(&self) -> Probing<'_> {
        self.1.fetch_add(1, Ordering::SeqCst);
        Box::pin(std::future::ready(self.0.clone()))
    }
}

fn database(answered: bool) -> Finding {
    let pool = |role| Pool {
        role,
        open: 3,
        idle: 2,
        limit: 12,
    };
    let latency = Duration::from_micros(1230);
    let pools = vec![pool("app"), pool("worker")];
    Finding::Database(Database::judged(answered, latency, pools))
}

fn sagas(dead: u32) -> Finding {
    Finding::Queue(Queue {
        name: "sagas",
        ready: 4,
        oldest_ready: Some(Duration::from_secs(7)),
        running: 1,
        dead,
        late_after: Duration::from_secs(60),
        dead_is: Severity::Critical,
    })
}

fn stripe(status: Status) -> Finding {
    Finding::Provider(Provider {
        name: "stripe",
        status,
        calls: Summary {
            requests: 4,
            failures: 1,
            took: Duration::from_millis(400),
        },
        last_success: Some(Duration::from_secs(3)),
    })
}

fn service<'a>(report: &'a Value, name: &str) -> &'a Value {
    let services = report["services"].as_array().expect("services");
    let named = services.iter().find(|service| service["name"] == name);
    named.unwrap_or_else(|| panic!("no {name} in {report}"))
}

/// Whether a value is as its schema says, as far as this document's schemas go.
fn conforms(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        return conforms(
            document,
            document.pointer(&reference[1..]).ok_or(reference)?,
            value,
        );
    }
    if let Some(any) = schema["anyOf"].as_array() {
        let fits = any.iter().any(|one| conforms(document, one, value).is_ok());
        return fits.then_some(()).ok_or_else(|| format!("{value}: none"));
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let said = match &schema["type"] {
        Value::Array(kinds) => kinds.clone(),
        one => vec![one.clone()],
    };
    if !said
        .iter()
        .any(|one| one == kind || (one == "number" && kind == "integer"))
    {
        return Err(format!("{value} is {kind}, not {said:?}"));
    }
    if let Some(values) = schema["enum"].as_array()
        && !values.contains(value)
    {
        return Err(format!("{value} is not in {values:?}"));
    }
    for item in value.as_array().into_iter().flatten() {
        conforms(document, &schema["items"], item)?;
    }
    let Some(fields) = value.as_object() else {
        return Ok(());
    };
    let mut named: Vec<&str> = schema["required"]
        .as_array()
        .ok_or_else(|| format!("no fields for {value}"))?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    named.sort_unstable();
    let mut there: Vec<&str> = fields.keys().map(String::as_str).collect();
    there.sort_unstable();
    if named != there {
        return Err(format!("{there:?} is not {named:?}"));
    }
    fields
        .iter()
        .try_for_each(|(name, field)| conforms(document, &schema["properties"][name], field))
}

#[tokio::test]
async fn a_service_that_cannot_be_reached_makes_the_whole_unhealthy_and_is_named() {
    let gateway = start().await;
    let answer = send(gateway.anonymous("GET", "/v1/health")).await;
    // Two of the five are not started here.
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.json["status"], "unhealthy");
    assert_eq!(service(&answer.json, "billing")["status"], "healthy");
    let missing = service(&answer.json, "messaging");
    assert_eq!(
        (&missing["status"], &missing["calls"], &missing["version"]),
        (&json!("unhealthy"), &Value::Null, &Value::Null)
    );
    let alerts = answer.json["active_alerts"].as_array().expect("alerts");
    let of: Vec<&Value> = alerts.iter().map(|alert| &alert["service"]).collect();
    assert_eq!(of, ["messaging", "escalation"]);
    assert!(
        alerts
            .iter()
            .all(|alert| alert["code"] == "service_unreachable" && alert["severity"] == "critical")
    );
}

#[tokio::test]
async fn the_report_tells_databases_queues_providers_and_what_to_look_at() {
    let gateway = start_whole().await;
    let billing = &gateway.healths[&ServiceName::Billing];
    billing.probe(Found::new([database(true), sagas(2)]));
    billing.probe(Found::new([stripe(Status::Unhealthy)]));
    let answer = send(gateway.anonymous("GET", "/v1/health")).await;
    // Stripe is left alone for now: less than there should be, but everything answers.
    assert_eq!(
        (answer.status, &answer.json["status"]),
        (200, &json!("degraded")),
        "{answer:?}"
    );
    let billing = service(&answer.json, "billing");
    assert_eq!(
        billing["components"]["database"],
        json!({"status": "healthy", "latency_ms": 1.23, "pools": [
            {"role": "app", "open": 3, "idle": 2, "limit": 12},
            {"role": "worker", "open": 3, "idle": 2, "limit": 12},
        ]})
    );
    assert_eq!(
        billing["components"]["queues"],
        json!([{"name": "sagas", "ready": 4, "oldest_ready_seconds": 7.0, "running": 1, "dead": 2}])
    );
    assert_eq!(
        billing["components"]["providers"],
        json!([{
            "name": "stripe",
            "status": "unhealthy",
            "calls": {"requests": 4, "error_rate": 0.25, "mean_latency_ms": 100.0},
            "last_success_seconds_ago": 3.0,
        }])
    );
    let alerts = answer.json["active_alerts"].as_array().expect("alerts");
    let told: Vec<(&Value, &Value, &Value)> = alerts
        .iter()
        .map(|alert| (&alert["code"], &alert["severity"], &alert["service"]))
        .collect();
    let critical = |code: &str| (json!(code), json!("critical"), json!("billing"));
    let expected = [critical("sagas_dead"), critical("provider_unavailable")];
    let expected: Vec<_> = expected.iter().map(|(a, b, c)| (a, b, c)).collect();
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_service_without_its_database_is_unhealthy_and_so_is_the_whole() {
    let gateway = start_whole().await;
    gateway.healths[&ServiceName::Identity].probe(Found::new([database(false)]));
    let answer = send(gateway.anonymous("GET", "/v1/health")).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(service(&answer.json, "identity")["status"], "unhealthy");
    assert_eq!(
        answer.json["active_alerts"][0]["code"],
        "database_unavailable"
    );
}

#[tokio::test]
async fn the_documentation_says_of_the_report_what_it_is() {
    // Once with everything in it, once with as little as there can be.
    let whole = start_whole().await;
    whole.healths[&ServiceName::Billing].probe(Found::new([
        database(true),
        sagas(1),
        stripe(Status::Healthy),
    ]));
    for (gateway, status) in [(whole, "200"), (start().await, "503")] {
        let document = send(gateway.anonymous("GET", "/openapi.json")).await.json;
        let answer = send(gateway.anonymous("GET", "/v1/health")).await;
        assert_eq!(answer.status.to_string(), status);
        let schema = &document["paths"]["/v1/health"]["get"]["responses"][status]["content"]["application/json"]
            ["schema"];
        assert_eq!(conforms(&document, schema, &answer.json), Ok(()));
        let mut more = answer.json.clone();
        more["address"] = json!("10.0.0.7");
        assert!(
            conforms(&document, schema, &more).is_err(),
            "the test can see a difference"
        );
    }
}

#[tokio::test]
async fn requests_are_counted_and_questions_about_health_are_not() {
    let gateway = start_whole().await;
    for _ in 0..3 {
        send(gateway.anonymous("GET", "/healthz")).await;
        let path = format!("/v1/clients/{CLIENT}");
        assert_eq!(send(gateway.owner("GET", &path)).await.status, 200);
    }
    send(gateway.anonymous("GET", "/v1/nothing")).await;
    let answer = send(gateway.anonymous("GET", "/v1/health")).await;
    let calls = &service(&answer.json, "gateway")["calls"];
    assert_eq!(
        (&calls["requests"], &calls["error_rate"]),
        (&json!(4), &json!(0.0))
    );
    assert!(calls["mean_latency_ms"].is_number());
    let caches = &service(&answer.json, "gateway")["components"]["caches"];
    assert_eq!(
        (&caches[0]["name"], &caches[0]["lookups"]),
        (&json!("credentials"), &json!(3))
    );
    let identity = service(&answer.json, "identity");
    assert!(
        identity["calls"]["requests"].as_u64() >= Some(4),
        "{identity}"
    );
    assert_eq!(
        service(&answer.json, "billing")["calls"]["requests"],
        0,
        "nobody asked billing but about its health"
    );
}

#[tokio::test]
async fn asking_often_costs_the_services_nothing() {
    let gateway = start_whole().await;
    let found = Found::new([database(true)]);
    let asked = Arc::clone(&found.1);
    gateway.healths[&ServiceName::Billing].probe(found);
    let since = Instant::now();
    let answers = join_all((0..40).map(|_| send(gateway.anonymous("GET", "/v1/health")))).await;
    let rounds = 1 + since.elapsed().as_secs();
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert!(asked.load(Ordering::SeqCst) as u64 <= rounds);
}

#[tokio::test]
async fn the_words_of_a_failure_stay_inside() {
    let gateway = start_whole().await;
    gateway.healths[&ServiceName::Billing].set(
        "database",
        Status::Unhealthy,
        "postgres://billing:hunter2@10.0.0.7 refused",
    );
    let answer = send(gateway.anonymous("GET", "/v1/health")).await;
    assert_eq!(answer.status, 503);
    assert_eq!(
        service(&answer.json, "billing")["components"]["parts"],
        json!([{"name": "database", "status": "unhealthy"}, {"name": "test", "status": "healthy"}])
    );
    assert_eq!(answer.json["active_alerts"][0]["code"], "not_ready");
    for secret in ["hunter2", "10.0.0.7", "127.0.0.1", "postgres"] {
        assert!(!answer.text.contains(secret), "{secret}");
    }
}
