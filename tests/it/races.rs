//! Fifty at once: with one Idempotency-Key, and without.

use std::collections::BTreeSet;

use anyhow::ensure;
use futures_util::future::try_join_all;
use mainstay_tests::{Platform, rest::Patient, world};
use serde_json::json;

const WIDE: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_identical_posts_make_one_subscription() -> anyhow::Result<()> {
    let platform = Platform::start("races").await?;
    let owner = platform.owner()?;
    let plan = owner
        .post("/v1/plans", &world::plan("races"))
        .await?
        .expect(201)?;
    let body = json!({"plan_id": plan["id"], "currency": "usd", "interval": "month", "payment_method_id": "pm_card_visa"});

    // With one key: one subscription, fifty equal answers.
    let keyed = owner
        .post("/v1/clients", &world::client("keyed"))
        .await?
        .expect(201)?;
    let path = format!("/v1/clients/{}/subscriptions", world::text(&keyed, "id")?);
    // Whoever is told to wait, or that nobody has time, says the same again.
    let clicks = Patient::new(platform.owner()?);
    let click = async |_| {
        world::until("a final answer", async || {
            let answer = clicks.ask(&path, &body, "one-click").await?;
            Ok((answer.status != 202).then_some(answer))
        })
        .await
    };
    let answers = try_join_all((0..WIDE).map(click)).await?;
    let distinct: BTreeSet<String> = answers
        .iter()
        .map(|a| format!("{} {}", a.status, a.body))
        .collect();
    ensure!(distinct.len() == 1, "{distinct:#?}");
    ensure!(answers[0].status == 201, "{:?}", answers[0]);
    let other = owner
        .post_once(
            &path,
            &json!({"plan_id": plan["id"], "currency": "usd", "interval": "year"}),
            "one-click",
        )
        .await?;
    ensure!(
        (other.status, other.code()) == (422, "idempotency_key_reused"),
        "{other:?}"
    );

    // Without a key: one subscription, forty-nine clear refusals; but for those that nobody had time for.
    let bare = owner
        .post("/v1/clients", &world::client("bare"))
        .await?
        .expect(201)?;
    let path = format!("/v1/clients/{}/subscriptions", world::text(&bare, "id")?);
    let answers = try_join_all((0..WIDE).map(|_| owner.post(&path, &body))).await?;
    let made = answers
        .iter()
        .filter(|a| matches!(a.status, 201 | 202))
        .count();
    let refused = answers
        .iter()
        .filter(|a| (a.status, a.code()) == (409, "subscription_exists"))
        .count();
    let turned_away = answers
        .iter()
        .filter(|a| matches!(a.status, 503 | 504))
        .count();
    ensure!(
        made <= 1 && made + refused + turned_away == WIDE && refused > 0,
        "{made} made, {refused} refused, {turned_away} turned away: {answers:#?}"
    );

    // Stripe saw two customers, two subscriptions, two charges.
    world::settled(&owner).await?;
    let ledger = platform.sandbox("/_/stripe/ledger").await?;
    for client in [&keyed, &bare] {
        let of_client = |kind: &str| {
            let all = ledger[kind].as_array().cloned().unwrap_or_default();
            all.into_iter()
                .filter(|object| object["metadata"]["mainstay_client_id"] == client["id"])
                .count()
        };
        ensure!(of_client("subscriptions") == 1, "{ledger:#}");
        ensure!(of_client("customers") == 1, "{ledger:#}");
    }
    let charges = ledger["charges"].as_array().map_or(0, Vec::len);
    ensure!(charges == 2, "two clients, two charges, not {charges}");
    Ok(())
}
