//! `mainstay dead-letter`: jobs that any service gave up, of a running instance, through its public API.
//! Deliberately absent: dropping one. A dead letter that needs no replay expires by itself.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::api::Api;
use crate::data_dir::DataDirArg;
use crate::output::{self, Format};
use crate::saga::{more, query_value, rows};

/// Shows jobs that were given up, and queues them again
#[derive(Args, Debug)]
pub struct DeadLetterArgs {
    #[command(subcommand)]
    command: DeadLetterCommand,
}

#[derive(Subcommand, Debug)]
enum DeadLetterCommand {
    /// Lists jobs that were given up, the last first
    #[command(after_help = "Examples:
  mainstay dead-letter list
  mainstay dead-letter list --service billing --json
  mainstay dead-letter list --kind deliver_webhook")]
    List {
        /// Only this service's
        #[arg(long)]
        service: Option<String>,
        /// Only this kind of work
        #[arg(long)]
        kind: Option<String>,
        /// At most so many, up to 100
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u8).range(1..=100))]
        limit: u8,
        #[command(flatten)]
        data_dir: DataDirArg,
        #[command(flatten)]
        format: Format,
    },
    /// Queues one again, with all its tries
    #[command(after_help = "Example:
  mainstay dead-letter replay job_01hzy3v7q8e5n9c2m4k6t8w0xz")]
    Replay {
        /// Its id: `job_…`
        dead_letter_id: String,
        #[command(flatten)]
        data_dir: DataDirArg,
        #[command(flatten)]
        format: Format,
    },
    /// Counts the jobs of all services by kind
    #[command(after_help = "Examples:
  mainstay dead-letter summary
  mainstay dead-letter summary --service integrations --json")]
    Summary {
        /// Only this service's
        #[arg(long)]
        service: Option<String>,
        #[command(flatten)]
        data_dir: DataDirArg,
        #[command(flatten)]
        format: Format,
    },
}

/// Runs the command.
///
/// # Errors
/// When the instance does not answer, or says no.
pub async fn run(args: &DeadLetterArgs) -> anyhow::Result<()> {
    match &args.command {
        DeadLetterCommand::List {
            service,
            kind,
            limit,
            data_dir,
            format,
        } => {
            let mut path = format!("/v1/dead_letters?page_size={limit}");
            for (name, value) in [("service", service), ("kind", kind)] {
                if let Some(value) = value {
                    path.push_str(&format!("&{name}={}", query_value(value)));
                }
            }
            let fields = [
                "id",
                "service",
                "kind",
                "client_id",
                "attempts",
                "dead_at",
                "trace_id",
                "error",
            ];
            print(data_dir, &path, &fields, "no dead letters", *format).await
        }
        DeadLetterCommand::Replay {
            dead_letter_id,
            data_dir,
            format,
        } => {
            let path = format!("/v1/dead_letters/{}/replay", query_value(dead_letter_id));
            let answer = Api::of(data_dir)?.write(&path, &json!({})).await?;
            let answer = answer.expect(&[202])?;
            if format.json {
                return output::json(&answer.body);
            }
            output::line(format!(
                "{} waits again in {} as {}",
                answer.text("id")?,
                answer.text("service")?,
                answer.text("kind")?
            ));
            Ok(())
        }
        DeadLetterCommand::Summary {
            service,
            data_dir,
            format,
        } => {
            let mut path = "/v1/jobs/summary".to_owned();
            if let Some(service) = service {
                path.push_str(&format!("?service={}", query_value(service)));
            }
            let fields = [
                "service",
                "kind",
                "ready",
                "running",
                "scheduled",
                "retrying",
                "dead",
                "oldest_ready_seconds",
            ];
            print(data_dir, &path, &fields, "no jobs", *format).await
        }
    }
}

async fn print(
    data_dir: &DataDirArg,
    path: &str,
    fields: &[&str],
    none: &str,
    format: Format,
) -> anyhow::Result<()> {
    let answer = Api::of(data_dir)?.get(path).await?.expect(&[200])?;
    if format.json {
        return output::json(&answer.body);
    }
    output::table(fields, &rows(&answer.body, "data", fields), none);
    more(&answer.body);
    Ok(())
}
