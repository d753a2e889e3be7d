//! `mainstay webhook`: the webhook inbox of a running instance, through its public API.
//! Deliberately absent: webhooks that are matched to no agency. The API shows them to nobody; they are tried again by
//! themselves.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::api::{Answer, Api};
use crate::data_dir::DataDirArg;
use crate::failure::refuse;
use crate::output::{self, Format};
use crate::saga::{more, query_value, rows};

/// Shows received webhooks, and has them handed on again
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
    /// Shows one webhook
    #[command(after_help = "Example:
  mainstay webhook show whe_01hzy3v7q8e5n9c2m4k6t8w0xz")]
    Show {
        /// Its id: `whe_…`
        webhook_event_id: String,
        #[command(flatten)]
        data_dir: DataDirArg,
        #[command(flatten)]
        format: Format,
    },
    /// Hands one webhook on again, or all of a range; what has had its effect does not have it twice
    #[command(after_help = "Examples:
  mainstay webhook replay whe_01hzy3v7q8e5n9c2m4k6t8w0xz
  mainstay webhook replay --state dead --dry-run
  mainstay webhook replay --type invoice.paid --from 2026-11-20T00:00:00Z --to 2026-11-21T00:00:00Z
  mainstay webhook replay --provider stripe --state processed --json

A range without --state means those that are failed or dead. It is replayed in the background, oldest first;
`mainstay webhook progress` says how far it has come.")]
    Replay(Box<ReplayArgs>),
    /// Shows how far the replay of a range has come
    #[command(after_help = "Example:
  mainstay webhook progress whr_01hzy3v7q8e5n9c2m4k6t8w0xz")]
    Progress {
        /// Its id: `whr_…`
        webhook_replay_id: String,
        #[command(flatten)]
        data_dir: DataDirArg,
        #[command(flatten)]
        format: Format,
    },
}

#[derive(Args, Debug)]
struct ReplayArgs {
    /// One webhook: `whe_…`
    #[arg(conflicts_with_all = ["provider", "kind", "state", "from", "to", "dry_run"])]
    webhook_event_id: Option<String>,
    /// Only this provider's
    #[arg(long)]
    provider: Option<String>,
    /// Only this type of event
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Only those that are failed, dead or processed
    #[arg(long)]
    state: Option<String>,
    /// Only those received at this time or later: 2026-11-21T00:00:00Z
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only those received before this time
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Only say how many there are
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    data_dir: DataDirArg,
    #[command(flatten)]
    format: Format,
}

const WEBHOOK: [&str; 12] = [
    "id",
    "provider",
    "event_id",
    "type",
    "state",
    "attempts",
    "received_at",
    "processed_at",
    "replays",
    "trace_id",
    "outcome",
    "error",
];
const REPLAY: [&str; 7] = [
    "id",
    "state",
    "matched",
    "replayed",
    "passed_over",
    "created_at",
    "ended_at",
];

/// Runs the command.
///
/// # Errors
/// When the instance does not answer, or says no.
pub async fn run(args: &WebhookArgs) -> anyhow::Result<()> {
    match &args.command {
        WebhookCommand::List {
            provider,
            state,
            kind,
            limit,
            data_dir,
            format,
        } => {
            let mut path = format!("/v1/webhook_events?page_size={limit}");
            for (name, value) in [("provider", provider), ("state", state), ("type", kind)] {
                if let Some(value) = value {
                    path.push_str(&format!("&{name}={}", query_value(value)));
                }
            }
            let answer = Api::of(data_dir)?.get(&path).await?.expect(&[200])?;
            list(&answer, *format)
        }
        WebhookCommand::Show {
            webhook_event_id,
            data_dir,
            format,
        } => {
            let path = format!("/v1/webhook_events/{}", query_value(webhook_event_id));
            let answer = Api::of(data_dir)?.get(&path).await?.expect(&[200])?;
            show(&answer, &WEBHOOK, *format)
        }
        WebhookCommand::Replay(args) => replay(args).await,
        WebhookCommand::Progress {
            webhook_replay_id,
            data_dir,
            format,
        } => {
            let path = format!("/v1/webhook_replays/{}", query_value(webhook_replay_id));
            let answer = Api::of(data_dir)?.get(&path).await?.expect(&[200])?;
            show(&answer, &REPLAY, *format)
        }
    }
}

async fn replay(args: &ReplayArgs) -> anyhow::Result<()> {
    let api = Api::of(&args.data_dir)?;
    if let Some(id) = &args.webhook_event_id {
        let path = format!("/v1/webhook_events/{}/replay", query_value(id));
        let answer = api.write(&path, &json!({})).await?.expect(&[202])?;
        return show(&answer, &WEBHOOK, args.format);
    }
    let range = range(args)?;
    let answer = api
        .write("/v1/webhook_replays", &range)
        .await?
        .expect(&[200, 202])?;
    if args.format.json {
        return output::json(&answer.body);
    }
    let matched = answer.body.get("matched").unwrap_or(&Value::Null);
    match answer.body.get("id").and_then(Value::as_str) {
        None => output::line(format!("{matched} webhooks would be replayed")),
        Some(id) => output::line(format!(
            "{matched} webhooks are being replayed; `mainstay webhook progress {id}` says how far"
        )),
    }
    Ok(())
}

/// The range as the API takes it. One that names nothing is more likely a slip than a wish.
fn range(args: &ReplayArgs) -> anyhow::Result<Value> {
    let given = [
        ("provider", &args.provider),
        ("type", &args.kind),
        ("state", &args.state),
        ("received_from_at", &args.from),
        ("received_to_at", &args.to),
    ];
    let mut range: Map<String, Value> = given
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), json!(value.as_ref()?))))
        .collect();
    if range.is_empty() {
        return Err(refuse(
            "neither a webhook nor a range is named",
            "name one (`whe_…`), or say which: --state dead, --type, --provider, --from, --to",
        ));
    }
    if args.dry_run {
        range.insert("dry_run".to_owned(), json!(true));
    }
    Ok(Value::Object(range))
}

fn list(answer: &Answer, format: Format) -> anyhow::Result<()> {
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

fn show(answer: &Answer, fields: &[&str], format: Format) -> anyhow::Result<()> {
    if format.json {
        return output::json(&answer.body);
    }
    let one = json!({"one": [answer.body]});
    let values = rows(&one, "one", fields).into_iter().flatten();
    for (field, value) in fields.iter().zip(values) {
        output::line(format!("{field:12} {value}"));
    }
    Ok(())
}
