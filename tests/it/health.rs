//! Health of the whole, as a monitor without any credential sees it.

use anyhow::{Context as _, ensure};
use mainstay_tests::{Platform, rest};
use serde_json::Value;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anyone_can_see_how_every_service_stands_and_nothing_else() -> anyhow::Result<()> {
    let platform = Platform::start("health").await?;
    let url = format!("{}/v1/health", platform.dev_text("/gateway_url")?);
    let answer = rest::http()?.get(url).send().await?;
    let (status, text) = (answer.status().as_u16(), answer.text().await?);
    let health: Value = serde_json::from_str(&text)?;
    ensure!(status == 200 && health["status"] != "unhealthy", "{text}");
    let services = health["services"].as_array().context("services")?;
    let names: Vec<&str> = services
        .iter()
        .filter_map(|service| service["name"].as_str())
        .collect();
    ensure!(
        names
            == [
                "gateway",
                "identity",
                "billing",
                "messaging",
                "escalation",
                "integrations"
            ],
        "{names:?}"
    );
    let queues = |of: &Value| -> Vec<String> {
        let queues = of["components"]["queues"].as_array();
        let names = queues.into_iter().flatten().map(|queue| &queue["name"]);
        names.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    for service in &services[1..] {
        let pools = service["components"]["database"]["pools"].as_array();
        let roles: Vec<&Value> = pools.into_iter().flatten().map(|p| &p["role"]).collect();
        // Storing webhooks has connections of its own.
        let named: &[&str] = match service["name"] == "integrations" {
            true => &["app", "worker", "inbox"],
            false => &["app", "worker"],
        };
        ensure!(roles == named, "{service}");
        ensure!(
            queues(service).starts_with(&["jobs", "events", "audit"].map(str::to_owned)),
            "{service}"
        );
    }
    ensure!(
        queues(&services[2])
            .last()
            .is_some_and(|last| last == "sagas"),
        "{text}"
    );
    ensure!(
        services[2]["components"]["providers"][0]["name"] == "stripe",
        "{text}"
    );
    ensure!(
        queues(&services[5])
            .last()
            .is_some_and(|last| last == "webhooks"),
        "{text}"
    );
    let agency = platform.dev_text("/agency_id")?;
    for inside in [agency, "127.0.0.1", "localhost", "postgres", "@"] {
        ensure!(!text.contains(inside), "{inside} is told to anyone: {text}");
    }
    Ok(())
}
