//! Tasks for the people who build Mainstay: the development database and the metadata of checked queries.
//! Deliberately absent: anything a running installation needs; that is the binary's.
#![expect(clippy::print_stdout, reason = "these are commands at a terminal")]

mod database;
mod long;
mod sqlx_metadata;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    bin_name = "cargo xtask",
    about = "Tasks for the people who build Mainstay"
)]
struct Arguments {
    /// Where the development cluster lives.
    #[arg(long, global = true, default_value_os_t = database::default_dir())]
    data_dir: PathBuf,
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Starts the development cluster, migrates every schema, prints `export …` lines. A schema whose applied files were
    /// edited is rebuilt from nothing.
    Db {
        /// Stop it instead.
        #[arg(long)]
        stop: bool,
    },
    /// Writes `<crate>/.sqlx` for crates with checked queries.
    Sqlx {
        /// Only these crates.
        #[arg(short, long)]
        package: Vec<String>,
        /// Compare instead of writing.
        #[arg(long)]
        check: bool,
    },
    /// Migrates the development cluster.
    Migrate {
        #[command(subcommand)]
        direction: database::Direction,
    },
    /// Prints the timed lines, each beside its aim.
    Bench,
    /// Makes 20,000 and more requests from the OpenAPI document and writes docs/reports/openapi-fuzz.md.
    Fuzz {
        /// Replays a run.
        #[arg(long, default_value_t = 20_261_121)]
        seed: u64,
        /// Generated requests for each route and phase.
        #[arg(long, default_value_t = 60)]
        examples: u32,
    },
    /// Kills coordinators while clients subscribe, change their mind and cancel, and writes docs/reports/chaos.md.
    Chaos {
        /// Replays what was left to chance.
        #[arg(long, default_value_t = 20_261_121)]
        seed: u64,
        /// Clients that live through it.
        #[arg(long, default_value_t = 500)]
        clients: u64,
        /// Processes to kill, at least.
        #[arg(long, default_value_t = 100)]
        kills: u64,
    },
    /// Kills dispatchers while scheduled messages leave, and writes docs/reports/messages.md.
    Messages {
        /// Replays what was left to chance.
        #[arg(long, default_value_t = 20_261_121)]
        seed: u64,
        /// Messages to schedule.
        #[arg(long, default_value_t = 10_000)]
        messages: u64,
        /// Processes to kill while they leave, at least.
        #[arg(long, default_value_t = 30)]
        kills: u64,
    },
    /// Plays the demo's whole story again and again, once with a kill -9 in each step, and writes docs/reports/story.md.
    Story {
        /// Replays what was left to chance.
        #[arg(long, default_value_t = 20_261_122)]
        seed: u64,
        /// How often.
        #[arg(long, default_value_t = 20)]
        runs: u64,
    },
    /// Delivers 100,000 generated events of Stripe's thrice and shuffled, loses some and recovers them, compares with the
    /// simulated Stripe, and writes docs/reports/stripe-events.md.
    StripeEvents {
        /// Events at Stripe.
        #[arg(long, default_value_t = 100_000)]
        events: u64,
        /// Clients, each with a subscription.
        #[arg(long, default_value_t = 2_000)]
        clients: u64,
        /// Replays a run.
        #[arg(long, default_value_t = 20_261_121)]
        seed: u64,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match arguments.task {
        Task::Db { stop: true } => database::stop(&arguments.data_dir).await,
        Task::Db { stop: false } => database::print_exports(&arguments.data_dir).await,
        Task::Sqlx { package, check } => {
            sqlx_metadata::write(&arguments.data_dir, &package, check).await
        }
        Task::Migrate { direction } => database::migrate(&arguments.data_dir, direction).await,
        Task::Bench => long::bench().await,
        Task::Fuzz { seed, examples } => long::fuzz(seed, examples),
        Task::Chaos {
            seed,
            clients,
            kills,
        } => long::chaos(seed, clients, kills),
        Task::Messages {
            seed,
            messages,
            kills,
        } => long::messages(seed, messages, kills),
        Task::Story { seed, runs } => long::story(seed, runs),
        Task::StripeEvents {
            events,
            clients,
            seed,
        } => long::stripe_events(events, clients, seed),
    }
}
