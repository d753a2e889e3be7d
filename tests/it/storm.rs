//! Ten thousand requests dropped at every point of their way leak no transaction and no tenant.

use std::{pin::pin, time::Duration};

use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, stream};
use mainstay_tests::{Platform, World, world};
use sqlx::{Connection as _, PgConnection};

const CANCELED: u64 = 10_000;
const AT_ONCE: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_canceled_requests_leak_no_transaction() -> anyhow::Result<()> {
    let platform = Platform::start("storm").await?;
    let here = World::build(
        &platform,
        platform.dev_text("/agency_id")?,
        platform.owner()?,
        "here",
    )
    .await?;
    let (agency, owner) = world::second_agency(&platform, "there").await?;
    let there = World::build(&platform, &agency, owner, "there").await?;

    // Each request is dropped after a different time, from before it is sent until after it is answered.
    let dropped = stream::iter(0..CANCELED)
        .map(|turn| {
            let (world, other) = if turn % 2 == 0 {
                (&here, &there)
            } else {
                (&there, &here)
            };
            let paths = [
                format!("/v1/clients/{}/subscriptions", world.first["client"]),
                "/v1/clients".to_owned(),
                "/v1/plans".to_owned(),
                format!("/v1/clients/{}/entitlements", world.first["client"]),
                format!("/v1/clients/{}", other.first["client"]),
            ];
            let request = world.owner.raw(
                reqwest::Method::GET,
                &paths[(turn as usize / 2) % paths.len()],
            );
            async move {
                let patience = Duration::from_micros((turn * 7919) % 12_000);
                let mut sending = pin!(request.send());
                tokio::time::timeout(patience, &mut sending).await.is_err()
            }
        })
        .buffer_unordered(AT_ONCE)
        .filter(|dropped| std::future::ready(*dropped))
        .count()
        .await;
    ensure!(
        dropped as u64 > CANCELED / 3,
        "only {dropped} were dropped in flight: the storm was mild"
    );

    // Nothing is left open in the database.
    let url = platform.dev_text("/database_url")?.to_owned();
    let mut connection = PgConnection::connect(&url).await?;
    world::until("no transaction is left open", async || {
        let open: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
               and state in ('idle in transaction', 'idle in transaction (aborted)')",
        )
        .fetch_one(&mut connection)
        .await?;
        Ok((open == 0).then_some(()))
    })
    .await?;

    // And no connection remembers a tenant: each agency sees its own and nothing else.
    for turn in 0..200 {
        let (world, other) = if turn % 2 == 0 {
            (&here, &there)
        } else {
            (&there, &here)
        };
        let clients = world
            .owner
            .get("/v1/clients?page_size=100")
            .await?
            .expect(200)?;
        let ids: Vec<_> = clients["data"]
            .as_array()
            .context("clients")?
            .iter()
            .filter_map(|c| c["id"].as_str())
            .collect();
        ensure!(ids.contains(&world.first["client"].as_str()), "{clients}");
        ensure!(!ids.contains(&other.first["client"].as_str()), "{clients}");
        let foreign = world
            .owner
            .get(&format!("/v1/clients/{}", other.first["client"]))
            .await?;
        ensure!(foreign.status == 404, "{foreign:?}");
    }
    Ok(())
}
