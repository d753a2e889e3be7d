//! `cargo xtask bench`: the timed lines. They are printed beside their aims, never asserted: machines differ, and a test
//! that fails on a slow one teaches people to ignore it. Where it can, a figure is a ratio against a reference that ran
//! interleaved with it in the same minute.

mod intake;
mod processor;

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use mainstay_rpc::{Claims, Schema, ServiceName, authorise};
use mainstay_tests::{Platform, grpc, sample, world};
use mainstay_types::ClientId;
use serde_json::json;

const CALLS: usize = 3_000;
const CHECKS: u32 = 200_000;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let mut platform = Platform::start("bench").await?;
    // `mainstay-bench intake`: that line alone, for whoever works on it.
    if std::env::args().nth(1).as_deref() == Some("intake") {
        intake::webhooks_against_pgbench(&platform).await?;
        platform.stop().await?;
        return Ok(());
    }
    line(
        "start on an empty data directory",
        &seconds(platform.started_in),
        "<10 s",
    );
    platform.stop().await?;
    platform.restart().await?;
    line(
        "start on an existing data directory",
        &seconds(platform.started_in),
        "<3 s",
    );
    tokio::time::sleep(Duration::from_secs(5)).await;
    let memory = resident_mib(platform.pid().context("it runs")?)?;
    line(
        "idle resident memory, all roles, without PostgreSQL",
        &format!("{memory:.1} MiB"),
        "≤80 MB",
    );
    gateway_against_direct(&platform).await?;
    intake::webhooks_against_pgbench(&platform).await?;
    permission_checks()?;
    platform.stop().await?;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "printing is what the bench is for")]
fn line(what: &str, figure: &str, aim: &str) {
    println!("{what:<60} {figure:>14}   (aim {aim})");
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn resident_mib(pid: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .context("VmRSS")?;
    let kib: f64 = line
        .split_whitespace()
        .nth(1)
        .context("its figure")?
        .parse()?;
    Ok(kib / 1024.0)
}

/// The same read, through REST and directly over gRPC, in turn, one at a time.
async fn gateway_against_direct(platform: &Platform) -> anyhow::Result<()> {
    let owner = platform.owner()?;
    let client = owner
        .post("/v1/clients", &world::client("bench"))
        .await?
        .expect(201)?;
    let path = format!("/v1/clients/{}", world::text(&client, "id")?);
    let gateway = grpc::channels(platform, ServiceName::Gateway)?;
    let request = sample::Sample {
        verb: "GET".into(),
        path: path.clone(),
        body: None,
    };
    let (method, message) = grpc::message(&request)?;
    let (mut rest, mut direct) = (Vec::with_capacity(CALLS), Vec::with_capacity(CALLS));
    let mut token = String::new();
    for turn in 0..CALLS + 200 {
        if turn % 500 == 0 {
            token = grpc::actor_token(&gateway, platform.dev_text("/owner/api_key")?).await?;
        }
        let began = Instant::now();
        owner.get(&path).await?.expect(200)?;
        let through = began.elapsed();
        let began = Instant::now();
        let ended = grpc::call(&gateway, method, &message, Some(&token)).await?;
        let past = began.elapsed();
        anyhow::ensure!(ended.code == tonic::Code::Ok, "{ended:?}");
        // The first rounds open connections and fill caches.
        if turn >= 200 {
            rest.push(through);
            direct.push(past);
        }
    }
    let (rest_p50, rest_p99) = percentiles(rest);
    let (direct_p50, direct_p99) = percentiles(direct);
    line(
        "unary read through the gateway, p50 / p99",
        &format!("{rest_p50:.0} / {rest_p99:.0} µs"),
        "none",
    );
    line(
        "the same directly over gRPC, p50 / p99",
        &format!("{direct_p50:.0} / {direct_p99:.0} µs"),
        "none",
    );
    line(
        "gateway p50 against direct gRPC",
        &format!("{:.2}×", rest_p50 / direct_p50),
        "≤1.5×",
    );
    Ok(())
}

fn percentiles(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort_unstable();
    let at = |share: f64| {
        let place = ((times.len() - 1) as f64 * share) as usize;
        times[place].as_secs_f64() * 1e6
    };
    (at(0.5), at(0.99))
}

/// The pure check, for somebody with every permission in each of three grants, the last for a hundred clients.
fn permission_checks() -> anyhow::Result<()> {
    let method = Schema::mainstay()
        .method("/mainstay.billing.v1.SubscriptionService/CreateSubscription")
        .context("the method")?;
    let permissions: Vec<&str> = Schema::mainstay()
        .methods()
        .iter()
        .map(|method| method.access.permission.as_str())
        .filter(|permission| !permission.is_empty())
        .collect();
    let clients: Vec<ClientId> = (0..100).map(|_| ClientId::generate()).collect();
    let claims: Claims = serde_json::from_value(json!({
        "iss": "identity", "aud": "mainstay-internal", "iat": 0, "exp": 4_000_000_000_i64, "jti": "bench",
        "sub": mainstay_types::ApiKeyId::generate(), "agy": mainstay_types::AgencyId::generate(), "epoch": 0,
        "grants": [
            {"permissions": ["identity.clients.read"], "clients": []},
            {"permissions": permissions, "clients": [ClientId::generate()]},
            {"permissions": permissions, "clients": clients},
        ],
    }))?;
    let last = clients.last().copied();
    anyhow::ensure!(
        authorise(&claims, method, last).is_ok(),
        "the check says no"
    );
    let began = Instant::now();
    for _ in 0..CHECKS {
        black_box(authorise(black_box(&claims), method, black_box(last))).ok();
    }
    let each = began.elapsed().as_secs_f64() / f64::from(CHECKS) * 1e6;
    line(
        "permission check, 100 clients bound one by one",
        &format!("{each:.2} µs"),
        "≤20 µs",
    );
    Ok(())
}
