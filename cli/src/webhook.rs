//! `mainstay webhook`: the webhook inbox of a running instance, through its public API.
//! Deliberately absent: replay. The API does not offer it yet.

use clap::{Args, Subcommand};

use crate::api::Api;
use crate::data_dir::DataDirArg;
use crate::output::{self, Format};
use crate::saga::{more, query_value, rows};

/// Shows received webhooks
#[derive(Args, Debug)]
pub struct WebhookArgs {
    #[command(subcommand)]
    command: WebhookCommand,
}

#[derive(Subcommand, Debug)]
enum WebhookCommand {
    /// Lists received webhooks, newest first
    #[command(after_help = "Examples:
  mainstay webhook list
  mainstay webhook list --state dead
  mainstay webhook list --type invoice.paid --json")]
    List {
        /// Only this provider's
        #[arg(long)]
        provider: Option<String>,
        /// Only those that are received, processed, failed or dead
        #[arg(long)]
        state: Option<String>,
        /// Only this type of event
        #[arg(long = "type", value_name = "TYPE")]
        kind: Option<String>,
        /// At most so many, up to 100
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u8).range(1..=100))]
        limit: u8,
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
pub async fn run(args: &WebhookArgs) -> anyhow::Result<()> {
    let WebhookCommand::List {
        provider,
        state,
        kind,
        limit,
        data_dir,
        format,
    } = &args.command;
    let mut path = format!("/v1/webhook_events?page_size={limit}");
    for (name, value) in [("provider", provider), ("state", state), ("type", kind)] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", query_value(value)));
        }
    }
    let answer = Api::of(data_dir)?.get(&path).await?.expect(&[200])?;
    if format.json {
        return output::json(&answer.body);
    }
    let fields = [
        "id",
        "provider",
        "type",
        "state",
        "attempts",
        "received_at",
        "trace_id",
        "error",
    ];
    output::table(&fields, &rows(&answer.body, "data", &fields), "no webhooks");
    more(&answer.body);
    Ok(())
}
