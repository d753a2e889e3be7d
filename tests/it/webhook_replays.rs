//! An operator replays what was given up, from the command line, and a kill in the middle loses and repeats nothing.

use anyhow::{Context as _, ensure};
use mainstay_tests::{Platform, world};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

const ALL: i64 = 450;

/// Webhooks of the agency that were given up, of a type that has no effect here.
fn dead_webhooks(agency: &str) -> anyhow::Result<String> {
    let agency: mainstay_types::AgencyId = agency.parse()?;
    let mut rows = Vec::new();
    for _ in 0..ALL {
        rows.push(format!(
            "('{}'::uuid)",
            mainstay_types::WebhookEventId::generate().uuid()
        ));
    }
    Ok(format!(
        "insert into integrations.webhook_event (id, slot, agency_id, provider, account, event_key, type, state, error,
           attempts, content_type, body, received_at)
         select i, integrations.webhook_slot(i), '{}', 'stripe', 'default', 'evt_' || i, 'product.updated', 'dead',
           'given up', 40, 'application/json', '{{\"data\":{{\"object\":{{\"id\":\"prod_1\"}}}}}}', now()
         from (values {}) as made (i)",
        agency.uuid(),
        rows.join(",")
    ))
}

async fn command(platform: &Platform, words: &[&str]) -> anyhow::Result<String> {
    let output = platform.command(words).await?;
    ensure!(
        output.status.success(),
        "{words:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_of_a_range_that_is_killed_half_way_goes_on_and_takes_each_once()
-> anyhow::Result<()> {
    let mut platform = Platform::start("webhook-replays").await?;
    platform
        .execute(&dead_webhooks(platform.dev_text("/agency_id")?)?)
        .await?;
    // Whoever has done a page waits for a lock that the test has, so that the kill falls between two.
    platform
        .execute(
            "create function integrations.wait_a_while() returns trigger language plpgsql as
               $$begin if old.replayed > 0 then perform pg_advisory_xact_lock(1); end if; return new; end$$;
             create trigger wait_a_while before update on integrations.webhook_replay
               for each row execute function integrations.wait_a_while()",
        )
        .await?;
    let mut held = PgConnection::connect(platform.dev_text("/database_url")?).await?;
    sqlx::raw_sql("select pg_advisory_lock(1)")
        .execute(&mut held)
        .await?;

    let counted = command(
        &platform,
        &["webhook", "replay", "--state", "dead", "--dry-run"],
    )
    .await?;
    ensure!(counted.contains(&ALL.to_string()), "{counted}");
    let started = command(
        &platform,
        &[
            "webhook",
            "replay",
            "--state",
            "dead",
            "--type",
            "product.updated",
            "--json",
        ],
    )
    .await?;
    let started: Value = serde_json::from_str(&started)?;
    ensure!(
        started["matched"] == ALL && started["state"] == "running",
        "{started}"
    );
    let replay = world::text(&started, "id")?;
    let path = format!("/v1/webhook_replays/{replay}");
    let owner = platform.owner()?;
    world::until("a page is done", async || {
        let now = owner.get(&path).await?.expect(200)?;
        Ok((now["replayed"].as_i64() > Some(0)).then_some(()))
    })
    .await?;
    platform.kill().await?;
    // Its PostgreSQL lives on, with whatever was committed.
    let halfway = platform
        .count("select replayed from integrations.webhook_replay where state = 'running'")
        .await
        .context("it was still running when it was killed")?;
    ensure!((1..ALL).contains(&halfway), "{halfway}");
    held.close().await?;

    platform.restart().await?;
    let owner = platform.owner()?;
    let ended = world::until("the replay is completed", async || {
        let now = owner.get(&path).await?.expect(200)?;
        Ok((now["state"] == "completed").then_some(now))
    })
    .await?;
    ensure!(
        ended["replayed"] == ALL && ended["passed_over"] == 0,
        "{ended}"
    );
    let once = "select count(*) from integrations.webhook_event where type = 'product.updated' and replays = 1";
    ensure!(platform.count(once).await? == ALL, "each once");
    world::until("all of them are processed", async || {
        let processed = format!("{once} and state = 'processed'");
        Ok((platform.count(&processed).await? == ALL).then_some(()))
    })
    .await?;
    let shown = command(&platform, &["webhook", "progress", &replay]).await?;
    ensure!(shown.contains("completed"), "{shown}");

    // What the operator sees of one of them, and of jobs that were given up.
    let listed = command(
        &platform,
        &["webhook", "list", "--type", "product.updated", "--json"],
    )
    .await?;
    let listed: Value = serde_json::from_str(&listed)?;
    let one = world::text(&listed["data"][0], "id")?;
    let shown = command(&platform, &["webhook", "show", &one]).await?;
    ensure!(shown.contains("has no effect here"), "{shown}");
    let replayed = command(&platform, &["webhook", "replay", &one, "--json"]).await?;
    let replayed: Value = serde_json::from_str(&replayed)?;
    ensure!(replayed["replays"] == 2, "{replayed}");
    for refused in [
        &["webhook", "replay"][..],
        &["webhook", "replay", "--state", "odd"],
    ] {
        let output = platform.command(refused).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(1) && said.contains("next:"),
            "{refused:?}: {said}"
        );
    }
    dead_letters(&platform).await
}

/// A job that a service gave up is found by asking all of them, and queued again.
async fn dead_letters(platform: &Platform) -> anyhow::Result<()> {
    let agency: mainstay_types::AgencyId = platform.dev_text("/agency_id")?.parse()?;
    let id = mainstay_types::JobId::generate();
    for (service, id) in [
        ("billing", id),
        ("messaging", mainstay_types::JobId::generate()),
    ] {
        platform
            .execute(&format!(
                "insert into {service}.job_dead_letter (id, kind, priority, payload, agency_id, attempt, max_attempts,
                   last_error, enqueued_at)
                 values ('{}', 'forgotten_work', 1, '{{}}', '{}', 20, 20, 'it failed', now())",
                id.uuid(),
                agency.uuid()
            ))
            .await?;
    }
    let listed = command(platform, &["dead-letter", "list", "--json"]).await?;
    let listed: Value = serde_json::from_str(&listed)?;
    let services: Vec<&Value> = listed["data"]
        .as_array()
        .context("a list")?
        .iter()
        .map(|letter| &letter["service"])
        .collect();
    ensure!(
        services == [&json!("messaging"), &json!("billing")],
        "{listed}"
    );
    let replayed = command(platform, &["dead-letter", "replay", &id.to_string()]).await?;
    ensure!(replayed.contains("billing"), "{replayed}");
    let summary = command(platform, &["dead-letter", "summary", "--json"]).await?;
    let summary: Value = serde_json::from_str(&summary)?;
    let of = |service: &str| {
        let all = summary["data"].as_array().into_iter().flatten();
        let mut ours = all.filter(|kind| kind["kind"] == "forgotten_work");
        ours.find(|kind| kind["service"] == service).cloned()
    };
    let (billing, messaging) = (
        of("billing").context("billing's")?,
        of("messaging").context("messaging's")?,
    );
    ensure!(billing["ready"] == 1 && billing["dead"] == 0, "{billing}");
    ensure!(
        messaging["ready"] == 0 && messaging["dead"] == 1,
        "{messaging}"
    );
    Ok(())
}
