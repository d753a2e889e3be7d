//! Stripe's webhooks at the gateway: forged ones leave nothing, real ones have one effect however often they come.

use anyhow::{Context as _, ensure};
use futures_util::future::try_join_all;
use mainstay_tests::{Answer, Platform, rest, stripe, world};
use serde_json::{Value, json};

const STORED: &str = "select count(*) from integrations.webhook_event";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_or_unreadable_webhook_leaves_nothing() -> anyhow::Result<()> {
    let platform = Platform::start("webhooks").await?;
    let owner = platform.owner()?;
    let url = format!("{}/webhooks/stripe", owner.base());
    let body = json!({"id": "evt_forged", "object": "event", "type": "invoice.paid", "data": {"object": {"id": "in_1"}}}).to_string();
    let post = async |signature: Option<String>, body: String| -> anyhow::Result<Answer> {
        let mut request = rest::http()?
            .post(&url)
            .body(body)
            .header("content-type", "application/json");
        if let Some(signature) = signature {
            request = request.header("stripe-signature", signature);
        }
        Answer::of(request.send().await?).await
    };
    let forged = [
        None,
        Some("t=1,v1=00".to_owned()),
        Some("nonsense".to_owned()),
        Some(format!("t={},v1={}", 4_000_000_000u64, "ab".repeat(32))),
    ];
    for signature in forged {
        let answer = post(signature.clone(), body.clone()).await?;
        ensure!(
            (answer.status, answer.code()) == (401, "signature_invalid"),
            "{signature:?}: {answer:?}"
        );
    }
    // Only the store can say: one that is matched to nobody is seen by no agency. Stripe's own word of the demo client's
    // customer may have come meanwhile.
    for table in ["webhook_event", "webhook_dedup"] {
        let forged =
            format!("select count(*) from integrations.{table} where event_key = 'evt_forged'");
        ensure!(
            platform.count(&forged).await? == 0,
            "a forgery is in {table}"
        );
    }

    // The simulator sends everything three times: one row and one effect each.
    platform.sandbox_post("/_/faults", &json!({"provider": "stripe", "operation": "*", "kind": "duplicate_webhook", "value": 2, "rate": 1.0})).await?;
    let plan = owner
        .post("/v1/plans", &world::plan("webhooks"))
        .await?
        .expect(201)?;
    let plan_id = world::text(&plan, "id")?;
    let clients = try_join_all((0..3).map(|turn| {
        let owner = owner.clone();
        let plan_id = plan_id.clone();
        async move {
            let client = owner
                .post("/v1/clients", &world::client(&format!("doubled{turn}")))
                .await?
                .expect(201)?;
            let client_id = world::text(&client, "id")?;
            world::subscribe(&owner, &client_id, &plan_id).await?;
            anyhow::Ok(client_id)
        }
    }))
    .await?;
    world::settled(&owner).await?;
    for client_id in &clients {
        let invoices = world::until("the invoice is paid here too", async || {
            let invoices = owner
                .get(&format!("/v1/clients/{client_id}/invoices"))
                .await?
                .expect(200)?;
            // What Stripe says first may be that it is finalized, and only then that it is paid.
            Ok((invoices["data"][0]["status"] == "paid").then_some(invoices))
        })
        .await?;
        ensure!(
            invoices["data"]
                .as_array()
                .is_some_and(|all| all.len() == 1),
            "{invoices}"
        );
        ensure!(
            invoices["data"][0]["amount_paid"]["amount_minor"] == 99700,
            "{invoices}"
        );
    }
    let events = owner
        .get("/v1/webhook_events?page_size=100")
        .await?
        .expect(200)?;
    let ids: Vec<_> = events["data"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|event| event["event_id"].as_str())
        .collect();
    let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
    ensure!(
        distinct.len() == ids.len() && !ids.is_empty(),
        "an event was stored twice: {ids:?}"
    );
    Ok(())
}

/// What a client's paid invoice is called at Stripe, once its subscription is active. Stripe's own word of it is held
/// back, so that the test is the one that says so.
async fn paid_invoice(platform: &Platform, name: &str) -> anyhow::Result<(String, Value)> {
    let held = json!({"provider": "stripe", "operation": "*", "kind": "never_webhook", "value": 0, "rate": 1.0});
    platform.sandbox_post("/_/faults", &held).await?;
    let owner = platform.owner()?;
    let plan = owner
        .post("/v1/plans", &world::plan(name))
        .await?
        .expect(201)?;
    let client = owner
        .post("/v1/clients", &world::client(name))
        .await?
        .expect(201)?;
    let client_id = world::text(&client, "id")?;
    world::subscribe(&owner, &client_id, &world::text(&plan, "id")?).await?;
    let ledger = platform.sandbox("/_/stripe/ledger").await?;
    let subscriptions = ledger["subscriptions"].as_array().context("ledger")?;
    let ours = subscriptions
        .iter()
        .find(|one| one["metadata"]["mainstay_client_id"] == client["id"])
        .context("the client's subscription at Stripe")?;
    let invoices = ledger["invoices"].as_array().context("invoices")?;
    let invoice = invoices
        .iter()
        .find(|invoice| invoice["customer"] == ours["customer"])
        .context("the client's invoice at Stripe")?;
    Ok((
        client_id,
        json!({"id": invoice["id"], "object": "invoice", "customer": ours["customer"]}),
    ))
}

/// How often an event was stored, how often it was handed on, and how often it had its effect.
async fn traces_of(platform: &Platform, event: &str) -> anyhow::Result<(i64, i64, i64)> {
    let of_event = |what: &str| {
        format!("select {what} from integrations.webhook_event where event_key = '{event}'")
    };
    let effects = format!(
        "select count(*) from billing.stripe_event_inbox where stripe_event_id = '{event}'"
    );
    Ok((
        platform.count(&of_event("count(*)")).await?,
        platform
            .count(&of_event("coalesce(sum(attempts), 0)"))
            .await?,
        platform.count(&effects).await?,
    ))
}

async fn processed(platform: &Platform, event: &str) -> anyhow::Result<()> {
    let done = format!("{STORED} where event_key = '{event}' and state = 'processed'");
    world::until("the webhook is processed", async || {
        Ok((platform.count(&done).await? == 1).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_often_and_whatever_dies_a_webhook_has_one_row_and_one_effect() -> anyhow::Result<()>
{
    let platform = Platform::start("webhook-store").await?;
    let secret = platform.dev_text("/stripe_webhook_secret")?.to_owned();
    let http = rest::http()?;
    let (client_id, invoice) = paid_invoice(&platform, "once").await?;

    // A hundred times in parallel.
    let body = stripe::event("evt_hundredfold", "invoice.paid", invoice.clone());
    let deliveries = (0..100).map(|_| stripe::deliver(&http, &platform, &secret, &body));
    for answer in try_join_all(deliveries).await? {
        ensure!(
            answer.status == 200 && answer.body == json!({"received": true}),
            "{answer:?}"
        );
    }
    processed(&platform, "evt_hundredfold").await?;
    let traces = traces_of(&platform, "evt_hundredfold").await?;
    ensure!(traces == (1, 1, 1), "{traces:?}");

    // Without a database nothing is taken in, and nobody is told otherwise.
    let postgres = platform.postgres().await?;
    postgres.stop().await?;
    let body = stripe::event("evt_outage", "invoice.paid", invoice);
    for _ in 0..3 {
        let answer = stripe::deliver(&http, &platform, &secret, &body).await?;
        let retry_after = answer.headers.iter().any(|(name, _)| name == "retry-after");
        ensure!(
            (answer.status, answer.code(), retry_after) == (503, "unavailable", true),
            "{answer:?}"
        );
    }
    let postgres = platform.postgres().await?;
    ensure!(
        format!("{}", postgres.port()) == port(platform.dev_text("/database_url")?),
        "it came back elsewhere"
    );
    // Stripe sends it again until it is told 200, and then once more.
    world::until("the database is back", async || {
        let answer = stripe::deliver(&http, &platform, &secret, &body).await?;
        ensure!(matches!(answer.status, 200 | 503), "{answer:?}");
        Ok((answer.status == 200).then_some(()))
    })
    .await?;
    let again = stripe::deliver(&http, &platform, &secret, &body).await?;
    ensure!(again.status == 200, "{again:?}");
    processed(&platform, "evt_outage").await?;
    let (rows, _, effects) = traces_of(&platform, "evt_outage").await?;
    ensure!((rows, effects) == (1, 1), "{rows} rows, {effects} effects");
    let owner = platform.owner()?;
    let invoices = owner
        .get(&format!("/v1/clients/{client_id}/invoices"))
        .await?
        .expect(200)?;
    ensure!(
        invoices["data"]
            .as_array()
            .is_some_and(|all| all.len() == 1),
        "{invoices}"
    );

    // Two replays at once of what had its effect: it is handed on again, and has no second one.
    let found = owner
        .get("/v1/webhook_events?type=invoice.paid")
        .await?
        .expect(200)?;
    let event = found["data"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|event| event["event_id"] == "evt_hundredfold")
        .context("the agency sees its webhook")?;
    let path = format!("/v1/webhook_events/{}/replay", world::text(event, "id")?);
    let body_of_nothing = json!({});
    let replays = (0..2).map(|_| owner.post(&path, &body_of_nothing));
    for answer in try_join_all(replays).await? {
        ensure!(answer.status == 202, "{answer:?}");
    }
    processed(&platform, "evt_hundredfold").await?;
    let replayed = format!(
        "{STORED} where event_key = 'evt_hundredfold' and replays between 1 and 2 and outcome like 'had its effect before%'"
    );
    ensure!(
        platform.count(&replayed).await? == 1,
        "its row does not say so"
    );
    let (rows, _, effects) = traces_of(&platform, "evt_hundredfold").await?;
    ensure!((rows, effects) == (1, 1), "{rows} rows, {effects} effects");
    Ok(())
}

fn port(url: &str) -> String {
    let after_host = url.rsplit_once(':').map_or("", |(_, rest)| rest);
    after_host
        .chars()
        .take_while(char::is_ascii_digit)
        .collect()
}
