//! Bad input gets a problem document that names every field at fault, and what would be right.

use anyhow::{Context as _, ensure};
use mainstay_tests::{Answer, Platform, rest};
use serde_json::json;

fn fields(answer: &Answer) -> Vec<String> {
    let errors = answer.body["errors"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    errors
        .iter()
        .filter_map(|error| error["field"].as_str().map(str::to_owned))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_is_refused_by_name() -> anyhow::Result<()> {
    let platform = Platform::start("bad-input").await?;
    let owner = platform.owner()?;

    // All faults of a body at once, each by its path.
    let body = json!({
        "name": "",
        "prices": [{"currency": "USD", "interval": "weekly", "amount_minor": -1}, {"interval": "month", "amount_minor": 1.5}],
        "trial_days": 9999,
        "entitlements": {"limits": {"messages": {"beyond": "maybe"}}},
        "colour": "red",
    });
    let answer = owner.post("/v1/plans", &body).await?;
    ensure!(
        (answer.status, answer.code()) == (400, "invalid_request"),
        "{answer:?}"
    );
    let named = fields(&answer);
    for wanted in [
        "name",
        "prices[0].currency",
        "prices[0].interval",
        "prices[0].amount_minor",
        "prices[1].currency",
        "prices[1].amount_minor",
        "trial_days",
        "colour",
    ] {
        ensure!(
            named.iter().any(|field| field == wanted),
            "{wanted} is not named: {named:?}"
        );
    }
    ensure!(
        named
            .iter()
            .any(|field| field.starts_with("entitlements.limits")),
        "{named:?}"
    );

    // Wrong type of id: said so, with both prefixes.
    let plan_as_client = format!(
        "/v1/clients/{}",
        json!("plan_01jd0000000000000000000000")
            .as_str()
            .context("text")?
    );
    let answer = owner.get(&plan_as_client).await?;
    ensure!(
        answer.status == 400 && fields(&answer) == ["client_id"],
        "{answer:?}"
    );
    let message = answer.text("/errors/0/message");
    ensure!(
        message.contains("cli_") && message.contains("plan_"),
        "{message}"
    );

    // Absurd and unknown query parameters.
    for (query, field) in [
        ("page_size=0", "page_size"),
        ("page_size=101", "page_size"),
        ("page_size=many", "page_size"),
        ("page_token=%00", "page_token"),
        ("sort=up", "sort"),
    ] {
        let answer = owner.get(&format!("/v1/clients?{query}")).await?;
        ensure!(
            answer.status == 400 && fields(&answer) == [field],
            "{query}: {answer:?}"
        );
    }

    // Bodies that are no JSON, of another type, or too large.
    let send = async |body: Vec<u8>, content_type: &str| -> anyhow::Result<Answer> {
        let request = owner
            .raw(reqwest::Method::POST, "/v1/plans")
            .header("content-type", content_type)
            .body(body);
        Answer::of(request.send().await?).await
    };
    let broken = send(b"{\"name\": ".to_vec(), "application/json").await?;
    ensure!(
        broken.status == 400 && !broken.body["detail"].is_null(),
        "{broken:?}"
    );
    let other = send(b"name=x".to_vec(), "application/x-www-form-urlencoded").await?;
    ensure!(
        (other.status, other.code()) == (415, "unsupported_media_type"),
        "{other:?}"
    );
    let large = send(vec![b' '; 3 << 20], "application/json").await?;
    ensure!(
        (large.status, large.code()) == (413, "payload_too_large"),
        "{large:?}"
    );

    // Routes and credentials.
    let unknown = owner.get("/v1/nothing").await?;
    ensure!(
        (unknown.status, unknown.code()) == (404, "not_found"),
        "{unknown:?}"
    );
    let method = owner.send("DELETE", "/v1/plans", None, None).await?;
    ensure!(
        method.status == 405 && method.headers.iter().any(|(name, _)| name == "allow"),
        "{method:?}"
    );
    for key in [
        "",
        "nonsense",
        "msk_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ] {
        let stranger = platform.with_key(key)?.get("/v1/me").await?;
        ensure!(
            (stranger.status, stranger.code()) == (401, "unauthenticated"),
            "{key}: {stranger:?}"
        );
    }

    // Every problem names a page that the gateway serves, its trace, and keeps the trace it was given.
    let page = rest::http()?.get(answer.text("/type")).send().await?;
    ensure!(page.status() == 200, "{} has no page", answer.text("/type"));
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = owner
        .raw(reqwest::Method::GET, "/v1/nothing")
        .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
    let traced = Answer::of(request.send().await?).await?;
    ensure!(traced.text("/trace_id") == trace, "{traced:?}");
    for wanted in ["x-request-id", "traceparent"] {
        ensure!(
            traced.headers.iter().any(|(name, _)| name == wanted),
            "{wanted}: {traced:?}"
        );
    }
    Ok(())
}
