//! The whole story as a user plays it, again and again, killed in between, and its traces as trees.

use std::time::Duration;

use anyhow::ensure;
use mainstay_tests::{Platform, story, world};
use serde_json::Value;

fn printed(output: &std::process::Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_story_plays_again_and_again_also_when_killed_and_its_traces_are_trees()
-> anyhow::Result<()> {
    let mut platform = Platform::start("journeys").await?;
    let first = story::play(&mut platform, |_| None).await?;
    // In the middle of the sale, of the months and of the claims.
    let killed = story::play(&mut platform, |step| {
        [4, 12, 17].contains(&step).then_some(Duration::ZERO)
    })
    .await?;
    ensure!(killed.kills == 3, "{killed:?}");
    ensure!(
        killed.proved == first.proved,
        "{:#?} instead of {:#?}",
        killed.proved,
        first.proved
    );
    let played = platform.command(&["demo", "--json"]).await?;
    ensure!(played.status.success(), "{}", printed(&played));
    let told: Value = serde_json::from_slice(&played.stdout)?;
    // From REST through gRPC and the saga to Stripe; from the webhook through the inbox to the entitlement.
    let sale = [
        "/v1/clients/{client_id}/subscriptions",
        "CreateSubscription",
        "/v1/subscriptions",
        "/webhooks/stripe",
        "StoreWebhooks",
        "HandleStripeEvent",
        "PutEntitlements",
    ];
    one_tree(&platform, &world::text(&told, "trace_id")?, &sale).await?;
    // From a lead's text through the model to whoever took it.
    let talk = [
        "/webhooks/twilio",
        "StoreWebhooks",
        "chat.completions",
        "escalation claimed",
    ];
    one_tree(&platform, &world::text(&told, "claim_trace_id")?, &talk).await?;

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

/// Until a trace is one tree with all these parts. A span is written when it ends, so one that is still open leaves what it holds
/// without a parent for a moment.
async fn one_tree(platform: &Platform, trace_id: &str, parts: &[&str]) -> anyhow::Result<()> {
    world::until(&format!("{trace_id} is one tree"), async || {
        let shown = platform.command(&["trace", trace_id]).await?;
        let tree = String::from_utf8_lossy(&shown.stdout).into_owned();
        let whole = shown.status.success() && parts.iter().all(|part| tree.contains(part));
        let json = platform.command(&["trace", trace_id, "--json"]).await?;
        let spans: Value = serde_json::from_slice(&json.stdout)?;
        let roots = spans["spans"].as_array().map_or(0, Vec::len);
        Ok((whole && roots == 1).then_some(()))
    })
    .await
}
