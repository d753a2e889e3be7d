//! Killed with -9 in the middle of the main job and started again: it recovers and goes on.

use anyhow::{Context as _, ensure};
use mainstay_tests::{Platform, Starting, world};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_platform_recovers_and_finishes_what_it_accepted() -> anyhow::Result<()> {
    let mut platform = Platform::start("kills").await?;
    let owner = platform.owner()?;
    let plan = owner
        .post("/v1/plans", &world::plan("kills"))
        .await?
        .expect(201)?;
    let mut clients = Vec::new();
    for round in 0..4 {
        // Stripe is slow to answer after it took effect, so that the kill falls into the middle of a saga step.
        let fault = json!({"provider": "stripe", "operation": "subscriptions.create", "kind": "timeout_after_effect", "value": 5, "count": 1});
        if round > 0 {
            platform.sandbox_post("/_/faults", &fault).await?;
        }
        let owner = platform.owner()?;
        let client = owner
            .post("/v1/clients", &world::client(&format!("killed{round}")))
            .await?
            .expect(201)?;
        let path = format!("/v1/clients/{}/subscriptions", world::text(&client, "id")?);
        let body = json!({"plan_id": plan["id"], "currency": "usd", "interval": "month", "payment_method_id": "pm_card_visa"});
        let posting = tokio::spawn({
            let owner = owner.clone();
            async move { owner.post(&path, &body).await }
        });
        // The signal to kill: the saga of this client stands in the log (round 0: at once; later: it is at Stripe).
        let client_id = client["id"].clone();
        world::until("the saga was accepted", async || {
            let sagas = owner.get("/v1/sagas?state=running").await?.expect(200)?;
            let ours = |saga: &Value| {
                saga["client_id"] == client_id
                    && (round < 2
                        || saga["step"]
                            .as_str()
                            .is_some_and(|step| step.contains("subscription")))
            };
            let sagas = sagas["data"].as_array().cloned().unwrap_or_default();
            // A saga that ended already is past killing in its middle; the round still proves the recovery.
            let ended = posting.is_finished();
            Ok((ended || sagas.iter().any(ours)).then_some(()))
        })
        .await?;
        platform.kill().await?;
        posting.abort();
        platform
            .restart()
            .await
            .with_context(|| format!("round {round}"))?;
        clients.push(client);
    }

    let owner = platform.owner()?;
    for client in &clients {
        let client_id = world::text(client, "id")?;
        let subscription = world::until("the accepted subscription is active", async || {
            let list = owner
                .get(&format!("/v1/clients/{client_id}/subscriptions"))
                .await?
                .expect(200)?;
            let found = list["data"].as_array().and_then(|all| all.first().cloned());
            Ok(found.filter(|subscription| subscription["status"] == "active"))
        })
        .await?;
        let entitled = world::until("its entitlements stand", async || {
            let now = owner
                .get(&format!("/v1/clients/{client_id}/entitlements"))
                .await?
                .expect(200)?;
            Ok(
                (now["subscription_status"] == "active" && !now["paid_through_at"].is_null())
                    .then_some(now),
            )
        })
        .await?;
        ensure!(
            entitled["subscription_id"] == subscription["id"],
            "{entitled}"
        );
        ensure!(
            entitled["entitlements"]["features"][0] == "ai_replies",
            "{entitled}"
        );
    }
    world::settled(&owner).await?;

    // Whatever died: one subscription and one charge a client at Stripe.
    let ledger = platform.sandbox("/_/stripe/ledger").await?;
    for client in &clients {
        let all = ledger["subscriptions"]
            .as_array()
            .context("subscriptions")?;
        let ours: Vec<_> = all
            .iter()
            .filter(|s| s["metadata"]["mainstay_client_id"] == client["id"])
            .collect();
        ensure!(
            ours.len() == 1,
            "{} has {} subscriptions at Stripe",
            client["id"],
            ours.len()
        );
        let charges = ledger["charges"].as_array().context("charges")?;
        let paid = charges
            .iter()
            .filter(|charge| charge["customer"] == ours[0]["customer"])
            .count();
        ensure!(paid == 1, "{} was charged {paid} times", client["id"]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_run_side_by_side_and_one_directory_has_one_master() -> anyhow::Result<()> {
    let (left, right) =
        tokio::try_join!(Platform::start("side-left"), Platform::start("side-right"))?;
    for platform in [&left, &right] {
        let me = platform.owner()?.get("/v1/me").await?.expect(200)?;
        ensure!(me["agency"]["id"] == platform.dev()["agency_id"], "{me}");
    }
    let stranger = right
        .with_key(left.dev_text("/owner/api_key")?)?
        .get("/v1/me")
        .await?;
    ensure!(
        stranger.status == 401,
        "a key of one instance opens nothing in another: {stranger:?}"
    );

    let second = left.command(&["up", "--listen", "127.0.0.1:0"]).await?;
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    ensure!(
        !second.status.success() && said.contains("in use"),
        "a second `up` on one directory is refused: {said}"
    );
    left.owner()?.get("/v1/me").await?.expect(200)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ordinary_user_needs_no_rights() -> anyhow::Result<()> {
    let starting = Starting {
        ordinary_user: true,
        ..Starting::default()
    };
    let mut platform = Platform::start_with("ordinary", starting).await?;
    ensure!(platform.user()? != 0, "it runs as root");
    platform.kill().await?;
    platform.restart().await?;
    let me = platform.owner()?.get("/v1/me").await?.expect(200)?;
    ensure!(me["agency"]["id"] == platform.dev()["agency_id"], "{me}");
    ensure!(platform.stop().await?.success(), "it stops cleanly");
    let folder = platform
        .data_dir()
        .parent()
        .context("its folder")?
        .to_owned();
    drop(platform);
    std::fs::remove_dir_all(folder)?;
    Ok(())
}
