//! The main job as a user plays it, again and again, and its story as one tree.

use anyhow::{Context as _, ensure};
use mainstay_tests::{Platform, world};

fn printed(output: &std::process::Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_plays_again_and_again_and_its_trace_is_one_tree() -> anyhow::Result<()> {
    let mut platform = Platform::start("journeys").await?;
    for run in 1..=3 {
        let played = platform.command(&["demo"]).await?;
        ensure!(played.status.success(), "run {run}: {}", printed(&played));
    }
    let played = platform.command(&["demo", "--json"]).await?;
    ensure!(played.status.success(), "{}", printed(&played));
    let story: serde_json::Value = serde_json::from_slice(&played.stdout)?;
    let trace_id = story["trace_id"]
        .as_str()
        .context("the demo names its trace")?
        .to_owned();

    // From REST through gRPC and the saga to Stripe; from the webhook through the inbox to the entitlement. A span is written when it
    // ends, so one that is still open leaves what it holds without a parent for a moment.
    world::until("the whole story is one tree in the trace", async || {
        let shown = platform.command(&["trace", &trace_id]).await?;
        let tree = String::from_utf8_lossy(&shown.stdout).into_owned();
        let whole = [
            "/v1/clients/{client_id}/subscriptions",
            "CreateSubscription",
            "/v1/subscriptions",
            "/webhooks/stripe",
            "StoreWebhooks",
            "HandleStripeEvent",
            "PutEntitlements",
        ]
        .iter()
        .all(|part| tree.contains(part));
        let json = platform.command(&["trace", &trace_id, "--json"]).await?;
        let spans: serde_json::Value = serde_json::from_slice(&json.stdout)?;
        let roots = spans["spans"].as_array().context("spans")?;
        Ok((shown.status.success() && whole && roots.len() == 1).then_some(()))
    })
    .await?;

    let unknown = platform
        .command(&["trace", "00000000000000000000000000000001"])
        .await?;
    ensure!(!unknown.status.success(), "an unknown trace is an error");

    let stopped = platform.stop().await?;
    ensure!(
        stopped.success(),
        "a stop that was asked for is no failure: {stopped}"
    );
    Ok(())
}
