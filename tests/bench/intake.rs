//! Durable webhook intake against `pgbench`: the same number of connections, the same bytes a row, the same server, turn
//! and turn about. A webhook is signed by its sender, verified by the gateway, handed to integrations, deduplicated and
//! queued before it is answered; pgbench inserts a row.
//! Deliberately absent: a pause in between. What was taken in is handed on meanwhile, as it would be on any day.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use mainstay_tests::{Platform, stripe};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::Command,
};

use crate::{line, percentiles, processor::Spent};

const CONNECTIONS: usize = 32;
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(6);
/// More than can be taken in in a round.
const READY: usize = 200_000;
/// What most of Stripe's events have.
const BODY_BYTES: usize = 2048;

/// Prints the lines.
pub async fn webhooks_against_pgbench(platform: &Platform) -> anyhow::Result<()> {
    let pgbench = pgbench()?;
    platform
        .execute(
            "create table if not exists public.bench_webhook (
               id uuid primary key default gen_random_uuid(), provider text not null, account text not null,
               event_key text not null, type text not null, content_type text not null, body bytea not null,
               received_at timestamptz not null)",
        )
        .await?;
    let script = platform.data_dir().join("bench.sql");
    // The body is a parameter: it is sent with each row, as a webhook's is.
    std::fs::write(
        &script,
        "\\set n random(1, 9000000000000)\n\
         insert into public.bench_webhook (provider, account, event_key, type, content_type, body, received_at) \
         values ('stripe', 'default', 'evt_' || :n, 'product.updated', 'application/json', :body::text::bytea, now());\n",
    )?;
    let (mut inserted, mut stored, mut times) = (0.0, 0.0, Vec::new());
    let mut spent = Spent::default();
    for round in 0..=ROUNDS {
        let inserts = inserts(&pgbench, platform, &script).await?;
        let requests = signed(platform, round).await?;
        let before = Spent::by(platform)?;
        let (webhooks, took) = intake(platform, requests).await?;
        // The first round opens connections and fills caches.
        if round > 0 {
            inserted += inserts / ROUNDS as f64;
            stored += webhooks / ROUNDS as f64;
            times.extend(took);
            spent = Spent::by(platform)?.since(before, spent);
        }
    }
    let each = spent.each(times.len() as f64);
    let waiting = platform
        .count("select count(*) from integrations.webhook_event where due_at is not null")
        .await?;
    let (p50, p99) = percentiles(times);
    line(
        "pgbench, single-row inserts of 2 KiB, 32 connections",
        &format!("{inserted:.0}/s"),
        "none",
    );
    line(
        "durable webhook intake, 2 KiB bodies, 32 connections",
        &format!("{stored:.0}/s"),
        "none",
    );
    line(
        "webhook intake against pgbench",
        &format!("{:.2}×", stored / inserted),
        "≥1.0×, not below 0.8×",
    );
    line(
        "webhook intake, p50 / p99",
        &format!("{:.1} / {:.1} ms", p50 / 1000.0, p99 / 1000.0),
        "p99 ≤25 ms",
    );
    line("processor time of each webhook", &each, "none");
    line(
        "webhooks taken in and not yet handed on after that",
        &waiting.to_string(),
        "none",
    );
    platform.execute("drop table public.bench_webhook").await
}

/// Comes with the server programs, wherever distributions put those.
fn pgbench() -> anyhow::Result<PathBuf> {
    let beside = mainstay_db::local::installed()?.join("pgbench");
    ensure!(
        beside.is_file(),
        "no pgbench in {}: `make bench` installs it where apt-get is, else install PostgreSQL's contributed programs",
        beside.parent().unwrap_or(&beside).display()
    );
    Ok(beside)
}

/// Inserts a second.
async fn inserts(
    pgbench: &std::path::Path,
    platform: &Platform,
    script: &std::path::Path,
) -> anyhow::Result<f64> {
    let output = Command::new(pgbench)
        .args(["-n", "-M", "prepared", "-j", "2", "-D"])
        .arg(format!("body={}", "x".repeat(BODY_BYTES)))
        .args(["-c", &CONNECTIONS.to_string()])
        .args(["-T", &ROUND.as_secs().to_string()])
        .arg("-f")
        .arg(script)
        .arg(platform.dev_text("/database_url")?)
        .output()
        .await?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "pgbench: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let figure = said
        .lines()
        .find_map(|line| line.strip_prefix("tps = "))
        .and_then(|rest| rest.split_whitespace().next())
        .with_context(|| format!("pgbench gave no figure: {said}"))?;
    Ok(figure.parse()?)
}

/// Signing is the sender's work, and is done before: as pgbench's row stands ready.
async fn signed(platform: &Platform, round: usize) -> anyhow::Result<Vec<Vec<u8>>> {
    let address = address(platform)?.to_owned();
    let secret = platform.dev_text("/stripe_webhook_secret")?.to_owned();
    let requests = tokio::task::spawn_blocking(move || {
        (0..READY)
            .map(|nth| request(&address, &secret, &format!("evt_bench_{round}_{nth}")))
            .collect()
    });
    requests.await?
}

fn address(platform: &Platform) -> anyhow::Result<&str> {
    let url = platform.dev_text("/gateway_url")?;
    Ok(url.trim_start_matches("http://"))
}

/// Webhooks a second that were answered 200, and how long each took.
async fn intake(
    platform: &Platform,
    requests: Vec<Vec<u8>>,
) -> anyhow::Result<(f64, Vec<Duration>)> {
    let address = address(platform)?.to_owned();
    let (ready, next) = (Arc::new(requests), Arc::new(AtomicUsize::new(0)));
    let began = Instant::now();
    let senders = (0..CONNECTIONS).map(|_| {
        let (address, ready, next) = (address.clone(), Arc::clone(&ready), Arc::clone(&next));
        tokio::spawn(async move {
            let mut connection = BufReader::new(TcpStream::connect(&address).await?);
            connection.get_ref().set_nodelay(true)?;
            let mut times = Vec::new();
            while began.elapsed() < ROUND {
                let nth = next.fetch_add(1, Ordering::Relaxed);
                let request = ready.get(nth).context("more than were signed")?;
                let sent = Instant::now();
                connection.get_mut().write_all(request).await?;
                let status = read_status(&mut connection).await?;
                ensure!(status == 200, "a webhook was answered {status}");
                times.push(sent.elapsed());
            }
            Ok(times)
        })
    });
    let mut times = Vec::new();
    for sender in futures_util::future::join_all(senders).await {
        times.extend(sender??);
    }
    let figure = times.len() as f64 / began.elapsed().as_secs_f64();
    Ok((figure, times))
}

/// A signed webhook as the bytes of an HTTP request.
fn request(address: &str, secret: &str, event: &str) -> anyhow::Result<Vec<u8>> {
    let object = json!({"id": "prod_bench", "object": "product", "description": ""});
    let mut body = stripe::event(event, "product.updated", object);
    let filling = BODY_BYTES.saturating_sub(body.len());
    body = body.replace(
        "\"description\":\"\"",
        &format!("\"description\":\"{}\"", "x".repeat(filling)),
    );
    let signature = stripe::signature(secret, body.as_bytes())?;
    let head = format!(
        "POST /webhooks/stripe HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         stripe-signature: {signature}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    Ok([head.into_bytes(), body.into_bytes()].concat())
}

/// Reads one answer off a connection that is kept: a client of a few lines, so that the cores are left to what is timed.
async fn read_status(connection: &mut BufReader<TcpStream>) -> anyhow::Result<u16> {
    use tokio::io::AsyncBufReadExt as _;
    let (mut status, mut length) = (None, 0);
    let mut text = String::new();
    loop {
        text.clear();
        connection.read_line(&mut text).await?;
        let text = text.trim_end();
        if text.is_empty() {
            break;
        }
        match text.split_once(": ") {
            None => status = text.split(' ').nth(1).and_then(|code| code.parse().ok()),
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse()?;
            }
            Some(_) => {}
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).await?;
    status.context("an answer without a status")
}
