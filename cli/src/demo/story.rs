//! The main story, step by step: client, plan, subscription, charge, webhook, entitlements; then what must not happen.
//! Deliberately absent: sleeping for luck. Where something happens afterwards, it is polled for until a deadline.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::Told;
use super::ledger::Ledger;
use crate::api::{Answer, Api};
use crate::failure::refuse;

/// How long what happens afterwards (webhook, entitlements) may take. It takes a second; a slow machine gets its time.
const PATIENCE: Duration = Duration::from_secs(60);
const PRICE_MINOR: i64 = 99_700;

/// Plays it.
pub async fn play(api: &Api, told: &mut Told) -> anyhow::Result<()> {
    let run = uuid::Uuid::new_v4().simple().to_string();
    let key = |what: &str| format!("demo-{run}-{what}");
    who_am_i(api, told).await?;
    let client_id = client(api, told, "Acme Roofing", &run, &key("client")).await?;
    let plan_id = plan(api, told, &run, &key("plan")).await?;

    let path = format!("/v1/clients/{client_id}/subscriptions");
    let body = json!({"plan_id": plan_id, "currency": "usd", "interval": "month", "payment_method_id": "pm_card_visa"});
    let first = api
        .post(&path, &body, &key("subscribe"))
        .await?
        .expect(&[201, 202])?;
    let subscription_id = first.text("id")?;
    told.trace_id.clone_from(&first.trace_id);
    let active = until(
        api,
        &format!("{path}/{subscription_id}"),
        "the subscription to be active",
        |s| s["status"] == "active",
    )
    .await?;
    told.step(
        format!(
            "Subscribed the client: POST {path} answered {}; {subscription_id} is active",
            first.status
        ),
        format!(
            "the saga {} charged at Stripe and activated here",
            first.text("saga_id")?
        ),
    );

    charged_once(api, told, &client_id, &active).await?;
    webhook_came(api, told, first.trace_id.as_deref()).await?;
    entitled(api, told, &client_id, &subscription_id).await?;
    same_key_same_answer(api, told, &path, &body, &key("subscribe"), &first).await?;
    second_is_refused(api, told, &client_id, &path, &body, &key("again")).await?;
    declined_leaves_nothing(api, told, &plan_id, &run, &key("declined")).await
}

async fn who_am_i(api: &Api, told: &mut Told) -> anyhow::Result<()> {
    let me = api.get("/v1/me").await?.expect(&[200])?;
    let agency = me
        .body
        .pointer("/agency/id")
        .and_then(Value::as_str)
        .unwrap_or_default();
    ensure!(
        agency == api.dev.agency_id,
        "GET /v1/me speaks of agency {agency:?}, dev.json of {:?}",
        api.dev.agency_id
    );
    told.step(
        format!(
            "Signed in with the owner's key: {} of agency {agency}",
            me.text("principal")?
        ),
        "the key in dev.json is known to identity, through the gateway",
    );
    Ok(())
}

async fn client(
    api: &Api,
    told: &mut Told,
    name: &str,
    run: &str,
    key: &str,
) -> anyhow::Result<String> {
    let body = json!({
        "name": name,
        "email": format!("owner+{run}@{}.test", name.split(' ').next().unwrap_or("client").to_lowercase()),
        "phone": "+15125550100",
        "time_zone": "America/Chicago",
    });
    let client = api.post("/v1/clients", &body, key).await?.expect(&[201])?;
    let id = client.text("id")?;
    ensure!(
        client.text("state")? == "active",
        "the new client is not active: {}",
        client.body
    );
    let read = api
        .get(&format!("/v1/clients/{id}"))
        .await?
        .expect(&[200])?;
    ensure!(
        read.body == client.body,
        "the client reads back otherwise than it was made: {}",
        read.body
    );
    told.step(
        format!("Created the client {name}: {id}"),
        "it is active at once, and reads back as it was made",
    );
    Ok(id)
}

async fn plan(api: &Api, told: &mut Told, run: &str, key: &str) -> anyhow::Result<String> {
    let body = json!({
        "name": format!("Pro {}", &run[..8]),
        "prices": [{"currency": "usd", "interval": "month", "amount_minor": PRICE_MINOR}],
        "entitlements": {
            "features": ["ai_replies"],
            "limits": {
                "messages": {"included": 1000, "beyond": "block"},
                "users": {"beyond": "unlimited"},
                "storage_mb": {"included": 500, "beyond": "overage", "block_size": 100,
                               "price": {"amount_minor": 200, "currency": "usd"}},
            },
        },
    });
    let plan = api.post("/v1/plans", &body, key).await?.expect(&[201])?;
    let id = plan.text("id")?;
    let mut vague = body.clone();
    vague["entitlements"]["limits"]["messages"] = json!({"included": 1000});
    let refused = api
        .post("/v1/plans", &vague, &format!("{key}-vague"))
        .await?
        .expect(&[400])?;
    told.step(
        format!("Created a plan at 997.00 USD a month: {id}"),
        format!(
            "each of its limits says what happens beyond it; one that does not is refused, at {}",
            first_field(&refused)
        ),
    );
    Ok(id)
}

/// Where the first fault of a refused request is.
fn first_field(refused: &Answer) -> &str {
    refused
        .body
        .pointer("/errors/0/field")
        .and_then(Value::as_str)
        .unwrap_or("–")
}

async fn charged_once(
    api: &Api,
    told: &mut Told,
    client_id: &str,
    subscription: &Value,
) -> anyhow::Result<()> {
    let ledger = Ledger::of(api, client_id).await?;
    let stripe_id = subscription["stripe_subscription_id"]
        .as_str()
        .unwrap_or_default();
    ensure!(
        ledger.live() == [stripe_id],
        "Stripe has the live subscriptions {:?} for this client, where exactly {stripe_id:?} was expected",
        ledger.live()
    );
    ensure!(
        ledger.charges == [(PRICE_MINOR, "usd".to_owned())],
        "Stripe has the charges {:?} for this client, where exactly one of {PRICE_MINOR} usd was expected",
        ledger.charges
    );
    told.step(
        format!("Read Stripe's ledger: {stripe_id} and one charge of 997.00 USD"),
        "what Stripe says and what Mainstay says agree: one subscription, one charge",
    );
    Ok(())
}

async fn webhook_came(api: &Api, told: &mut Told, trace_id: Option<&str>) -> anyhow::Result<()> {
    let path = "/v1/webhook_events?provider=stripe&type=invoice.paid&page_size=100";
    let of_this_story = |event: &&Value| event["trace_id"].as_str() == trace_id;
    let page = until(api, path, "Stripe's invoice.paid to be processed", |page| {
        let events = page["data"].as_array().into_iter().flatten();
        events
            .into_iter()
            .filter(of_this_story)
            .any(|event| event["state"] == "processed")
    })
    .await?;
    let events = page["data"].as_array().into_iter().flatten();
    let event = events
        .into_iter()
        .find(of_this_story)
        .context("the event was there a moment ago")?;
    let event_id = event["event_id"].as_str().unwrap_or_default();
    let stored = page["data"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|other| other["event_id"] == event_id)
        .count();
    ensure!(stored == 1, "{event_id} stands {stored} times in the inbox");
    told.step(
        format!("Saw Stripe's signed webhook in the inbox: {event_id} is processed"),
        "the gateway verified it, integrations stored it once, billing gave it its effect, in the same trace",
    );
    Ok(())
}

async fn entitled(
    api: &Api,
    told: &mut Told,
    client_id: &str,
    subscription_id: &str,
) -> anyhow::Result<()> {
    let path = format!("/v1/clients/{client_id}/entitlements");
    let stands = until(
        api,
        &path,
        "the entitlements to stand with paid_through_at",
        |e| e["subscription_id"] == subscription_id && e["paid_through_at"].is_string(),
    )
    .await?;
    let features = &stands["entitlements"]["features"];
    let messages = &stands["entitlements"]["limits"]["messages"];
    ensure!(
        *features == json!(["ai_replies"])
            && messages["included"] == 1000
            && messages["beyond"] == "block",
        "the entitlements are not the plan's: {stands}"
    );
    told.step(
        format!(
            "Read the client's entitlements: paid through {}",
            stands["paid_through_at"].as_str().unwrap_or("–")
        ),
        format!(
            "identity, their one owner, has what the plan grants, as version {}",
            stands["version"]
        ),
    );
    Ok(())
}

async fn same_key_same_answer(
    api: &Api,
    told: &mut Told,
    path: &str,
    body: &Value,
    key: &str,
    first: &Answer,
) -> anyhow::Result<()> {
    let again = api.post(path, body, key).await?.expect(&[first.status])?;
    ensure!(
        again.body == first.body,
        "the same request with the same Idempotency-Key got another answer:\n{}\n{}",
        first.body,
        again.body
    );
    let mut other = body.clone();
    other["interval"] = json!("year");
    let mismatch = api.post(path, &other, key).await?.expect(&[422])?;
    told.step(
        "Sent the same request again with the same Idempotency-Key: the same answer, word for word",
        format!(
            "two clicks are one subscription; another body under that key is {} {}",
            mismatch.status,
            mismatch.code().unwrap_or("–")
        ),
    );
    Ok(())
}

async fn second_is_refused(
    api: &Api,
    told: &mut Told,
    client_id: &str,
    path: &str,
    body: &Value,
    key: &str,
) -> anyhow::Result<()> {
    let second = api.post(path, body, key).await?.expect(&[409])?;
    ensure!(
        second.code() == Some("subscription_exists"),
        "{}",
        second.unexpected("409 subscription_exists")
    );
    let ledger = Ledger::of(api, client_id).await?;
    ensure!(
        ledger.live().len() == 1 && ledger.charges.len() == 1,
        "the refused second subscription left something at Stripe: {ledger:?}"
    );
    told.step(
        "Asked for a second subscription: 409 subscription_exists",
        "a client has at most one live subscription, here and at Stripe",
    );
    Ok(())
}

async fn declined_leaves_nothing(
    api: &Api,
    told: &mut Told,
    plan_id: &str,
    run: &str,
    key: &str,
) -> anyhow::Result<()> {
    let client_id = client(api, told, "Unlucky Plumbing", run, &format!("{key}-client")).await?;
    let path = format!("/v1/clients/{client_id}/subscriptions");
    let body = json!({"plan_id": plan_id, "currency": "usd", "interval": "month", "payment_method_id": "pm_card_chargeDeclined"});
    let declined = api.post(&path, &body, key).await?.expect(&[409])?;
    ensure!(
        declined.code() == Some("payment_declined"),
        "{}",
        declined.unexpected("409 payment_declined")
    );
    let ledger = Ledger::of(api, &client_id).await?;
    ensure!(
        ledger.live().is_empty() && ledger.charges.is_empty(),
        "the declined subscription left something at Stripe: {ledger:?}"
    );
    told.step(
        "Subscribed it with a card that is declined: 409 payment_declined",
        "the saga took back what it had made: nothing at Stripe lives, nothing was charged",
    );
    Ok(())
}

/// Reads until the answer is as wanted, or the time is up.
async fn until(
    api: &Api,
    path: &str,
    what: &str,
    wanted: impl Fn(&Value) -> bool,
) -> anyhow::Result<Value> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(50);
    loop {
        let answer = api.get(path).await?.expect(&[200])?;
        if wanted(&answer.body) {
            return Ok(answer.body);
        }
        if Instant::now() > deadline {
            return Err(refuse(
                format!(
                    "waited {} s for {what}; GET {path} answers {}",
                    PATIENCE.as_secs(),
                    answer.body
                ),
                "see `mainstay saga list`, `mainstay webhook list`, and the log in the data directory",
            ));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}
