//! The binary `mainstay`: parses the command line and hands over; one file a command.
//! Deliberately absent: domain rules. Commands start roles, or speak to running ones as any client would.
//!
//! Reading order: [`up`] and [`serve`] start roles through [`role`], whose settings [`settings`] lists; [`migrate`], [`agency`],
//! [`config`] and [`doctor`] are for whoever runs them; [`demo`], [`trace`], [`saga`], [`webhook`], [`dead_letter`] and
//! [`reconcile`] are clients.

mod agency;
mod api;
mod config;
mod data_dir;
mod dead_letter;
mod demo;
mod dev_file;
mod doctor;
mod failure;
mod migrate;
mod migrations;
mod output;
mod ports;
mod reconcile;
mod role;
mod saga;
mod secrets;
mod serve;
mod settings;
mod trace;
mod up;
mod webhook;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The backend that an agency runs so that no lead is dropped and no customer is charged twice.
#[derive(Parser, Debug)]
#[command(
    name = "mainstay",
    version,
    propagate_version = true,
    max_term_width = 120,
    after_help = "Examples:
  mainstay up                     everything on this machine
  mainstay demo                   the whole story, against what `up` started
  mainstay trace TRACE_ID         one story as a tree
  mainstay serve billing          one role, for deployment
  mainstay COMMAND --help         more about a command, with examples

Exit status is 0 only on success; errors on standard error name the cause and the next step."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Up(up::UpArgs),
    Serve(serve::ServeArgs),
    Migrate(migrate::MigrateArgs),
    Agency(agency::AgencyArgs),
    Config(config::ConfigArgs),
    Doctor(doctor::DoctorArgs),
    Demo(demo::DemoArgs),
    Trace(trace::TraceArgs),
    Saga(saga::SagaArgs),
    Reconcile(reconcile::ReconcileArgs),
    Webhook(webhook::WebhookArgs),
    DeadLetter(dead_letter::DeadLetterArgs),
}

/// So many tasks of `up` run before it looks what has arrived, as long as any are ready (ADR 0027).
const TASKS_BETWEEN_LOOKS: u32 = 256;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // The one cryptography of the process; a second attempt would only say that there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    // All others have their machine, or their share of one, to themselves.
    if let Command::Up(args) = &cli.command {
        runtime
            .worker_threads(args.threads())
            .event_interval(TASKS_BETWEEN_LOOKS);
    }
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::note(format!(
                "error: the operating system gives no threads: {error}"
            ));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(Box::pin(run(cli.command))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::note(failure::text(&error));
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Up(args) => Box::pin(up::run(&args)).await,
        Command::Serve(args) => Box::pin(serve::run(&args)).await,
        Command::Migrate(args) => Box::pin(migrate::run(&args)).await,
        Command::Agency(args) => Box::pin(agency::run(&args)).await,
        Command::Config(args) => config::run(&args),
        Command::Doctor(args) => doctor::run(&args).await,
        Command::Demo(args) => Box::pin(demo::run(&args)).await,
        Command::Trace(args) => trace::run(&args),
        Command::Saga(args) => saga::run(&args).await,
        Command::Reconcile(args) => reconcile::run(&args).await,
        Command::Webhook(args) => webhook::run(&args).await,
        Command::DeadLetter(args) => dead_letter::run(&args).await,
    }
}
