//! `mainstay up`: everything on this machine in one process: a private PostgreSQL, the five services, the gateway, the
//! simulators, a demo agency with accounts at them. The roles are started as `serve` starts them, each behind its own loopback port.
//! Deliberately absent: production. Here secrets are made up and providers are simulated; `serve` does neither.

mod announce;
mod demo_accounts;
mod demo_data;
mod instance;
mod postgres;
mod simulators;
mod sources;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use mainstay_runtime::config::Environment;
use mainstay_runtime::config::common::{self, Common};
use mainstay_runtime::{Shutdown, telemetry};

use crate::data_dir::{DataDir, DataDirArg};
use crate::failure::refuse;
use crate::settings;
use instance::{Instance, Listening};

/// Runs everything on this machine
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  mainstay up
  mainstay up --data-dir /tmp/second --listen 127.0.0.1:0
  DATABASE_URL=postgres://postgres:secret@127.0.0.1/mainstay mainstay up

Ctrl-C stops it cleanly; killed any other way, it recovers at the next start on the same data directory.
Once everything answers, DIR/dev.json tells clients where, and how to sign in.")]
pub struct UpArgs {
    #[command(flatten)]
    data_dir: DataDirArg,
    /// Where the gateway listens; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Only the demo agency and its owner, no demo client
    #[arg(long)]
    no_demo: bool,
    /// The configuration file, instead of the one MAINSTAY_CONFIG names
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How many threads work [default: half of the processors, since PostgreSQL does as much]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
}

impl UpArgs {
    /// How many threads work (ADR 0027).
    pub fn threads(&self) -> usize {
        let half = || thread::available_parallelism().map_or(1, |all| all.get().div_ceil(2));
        self.threads.map_or_else(half, NonZeroUsize::get)
    }
}

/// Runs the command until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start, or a part breaks while it runs.
pub async fn run(args: &UpArgs) -> anyhow::Result<()> {
    let started = Instant::now();
    let data_dir = DataDir::at(&args.data_dir)?;
    data_dir.create()?;
    let _lock = data_dir.lock()?;
    // What the last start wrote may name other ports; nobody shall read it while this one is on its way.
    let stale = data_dir.dev_file();
    if stale.exists() {
        std::fs::remove_file(&stale)
            .with_context(|| format!("{} cannot be removed", stale.display()))?;
    }
    let own = [&common::GROUP, &settings::UP];
    // The public address is not known yet, and nothing that reads it has started.
    let supplied = sources::Supplied::new(&data_dir, "http://127.0.0.1");
    let config = settings::load(&own, supplied.sources(args.config.as_deref()))?;
    if config.environment() == Environment::Production {
        return Err(refuse(
            "`mainstay up` is refused where MAINSTAY_ENVIRONMENT is production: its secrets are made up and its providers simulated",
            "run each role with `mainstay serve`, or unset MAINSTAY_ENVIRONMENT",
        ));
    }
    let telemetry = telemetry::init(&Common::read(&config, "mainstay").telemetry)?;
    let shutdown = Shutdown::new();
    shutdown.on_signal().context("signals cannot be received")?;

    // A port that is taken is told before anything takes its time.
    let listening = Listening::on(&data_dir, args.listen).await?;
    let database = postgres::Server::start(&data_dir, &config).await?;
    let mut instance = Instance::default();
    let outcome = tokio::select! {
        outcome = instance.run(args, &data_dir, &config, &database, listening, started) => outcome,
        () = shutdown.triggered() => Ok(()),
    };
    instance.stop().await;
    // The last spans and log lines tell of the stop itself.
    tracing::info!("stopping PostgreSQL");
    let stopped = database.stop().await;
    telemetry.shutdown().await;
    outcome.and(stopped)
}
