//! Stripe's webhooks at the gateway: forged ones leave nothing, real ones have one effect however often they come.

use anyhow::ensure;
use futures_util::future::try_join_all;
use mainstay_tests::{Answer, Platform, rest, world};
use serde_json::json;

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
    let seen = owner.get("/v1/webhook_events").await?.expect(200)?;
    ensure!(seen["data"].as_array().is_some_and(Vec::is_empty), "{seen}");

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
            Ok(invoices["data"]
                .as_array()
                .is_some_and(|all| !all.is_empty())
                .then_some(invoices))
        })
        .await?;
        ensure!(
            invoices["data"]
                .as_array()
                .is_some_and(|all| all.len() == 1),
            "{invoices}"
        );
        ensure!(
            invoices["data"][0]["status"] == "paid"
                && invoices["data"][0]["amount_paid"]["amount_minor"] == 99700,
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
