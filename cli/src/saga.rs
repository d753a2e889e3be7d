//! `mainstay saga`: the saga log of a running instance and what an operator decides on it, through its public API.
//! Deliberately absent: a way round the API's checks. What is said of a step is verified there.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::api::{Answer, Api};
use crate::data_dir::DataDirArg;
use crate::output::{self, Format};

/// Shows sagas, and decides on parked ones
#[derive(Args, Debug)]
pub struct SagaArgs {
    #[command(subcommand)]
    command: SagaCommand,
}

#[derive(Subcommand, Debug)]
enum SagaCommand {
    /// Lists sagas, newest first
    #[command(after_help = "Examples:
  mainstay saga list
  mainstay saga list --state parked --json")]
    List {
        /// Only those that are running, waiting, compensating, parked, completed, compensated or abandoned
        #[arg(long)]
        state: Option<String>,
        /// At most so many, up to 100
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u8).range(1..=100))]
        limit: u8,
        #[command(flatten)]
        data_dir: DataDirArg,
        #[command(flatten)]
        format: Format,
    },
    /// Shows one saga with its steps
    #[command(after_help = "Example:
  mainstay saga show saga_01hzy3v7q8e5n9c2m4k6t8w0xz")]
    Show {
        /// Its id: `saga_…`
        saga_id: String,
        #[command(flatten)]
        data_dir: DataDirArg,
        #[command(flatten)]
        format: Format,
    },
    /// Has a parked saga try its step again
    #[command(after_help = "Example:
  mainstay saga retry saga_01hzy3v7q8e5n9c2m4k6t8w0xz --note 'Stripe is well again'")]
    Retry(Deciding),
    /// Says what came of the step at which a saga is parked; it is verified
    #[command(after_help = "Examples:
  mainstay saga resolve saga_01hzy3v7q8e5n9c2m4k6t8w0xz --done --evidence sub_1PqRsT --note 'seen in the dashboard'
  mainstay saga resolve saga_01hzy3v7q8e5n9c2m4k6t8w0xz --not-done --note 'Stripe has no such subscription'")]
    Resolve {
        #[command(flatten)]
        deciding: Deciding,
        /// It was done
        #[arg(
            long,
            required_unless_present = "not_done",
            conflicts_with = "not_done"
        )]
        done: bool,
        /// It was not done, and what stands before it is to be undone
        #[arg(long)]
        not_done: bool,
        /// The id of what the step left at the provider
        #[arg(long, value_name = "ID")]
        evidence: Option<String>,
    },
    /// Ends a parked saga; what is left at the provider is settled by hand
    #[command(after_help = "Example:
  mainstay saga abandon saga_01hzy3v7q8e5n9c2m4k6t8w0xz --note 'refunded by hand, ticket 4711'")]
    Abandon(Deciding),
}

/// A decision, and why.
#[derive(Args, Debug)]
struct Deciding {
    /// Its id: `saga_…`
    saga_id: String,
    /// Why, for the audit log
    #[arg(long)]
    note: String,
    #[command(flatten)]
    data_dir: DataDirArg,
    #[command(flatten)]
    format: Format,
}

impl Deciding {
    async fn decide(&self, verb: &str, mut body: Map<String, Value>) -> anyhow::Result<()> {
        body.insert("note".to_owned(), json!(self.note));
        let path = format!("/v1/sagas/{}/{verb}", query_value(&self.saga_id));
        let api = Api::of(&self.data_dir)?;
        let answer = api.write(&path, &Value::Object(body)).await?;
        show(&answer.expect(&[200])?, self.format)
    }
}

/// Runs the command.
///
/// # Errors
/// When the instance does not answer, or says no.
pub async fn run(args: &SagaArgs) -> anyhow::Result<()> {
    match &args.command {
        SagaCommand::List {
            state,
            limit,
            data_dir,
            format,
        } => {
            let mut path = format!("/v1/sagas?page_size={limit}");
            if let Some(state) = state {
                path.push_str(&format!("&state={}", query_value(state)));
            }
            let answer = Api::of(data_dir)?.get(&path).await?.expect(&[200])?;
            list(&answer, *format)
        }
        SagaCommand::Show {
            saga_id,
            data_dir,
            format,
        } => {
            let path = format!("/v1/sagas/{}", query_value(saga_id));
            let answer = Api::of(data_dir)?.get(&path).await?.expect(&[200])?;
            show(&answer, *format)
        }
        SagaCommand::Retry(deciding) => deciding.decide("retry", Map::new()).await,
        SagaCommand::Abandon(deciding) => deciding.decide("abandon", Map::new()).await,
        SagaCommand::Resolve {
            deciding,
            done,
            evidence,
            ..
        } => {
            let outcome = if *done { "done" } else { "not_done" };
            let mut body = Map::from_iter([("outcome".to_owned(), json!(outcome))]);
            if let Some(evidence) = evidence {
                body.insert("evidence".to_owned(), json!(evidence));
            }
            deciding.decide("resolve", body).await
        }
    }
}

fn list(answer: &Answer, format: Format) -> anyhow::Result<()> {
    if format.json {
        return output::json(&answer.body);
    }
    let fields = [
        "id",
        "definition",
        "state",
        "step",
        "attempt",
        "client_id",
        "created_at",
        "error",
    ];
    output::table(&fields, &rows(&answer.body, "data", &fields), "no sagas");
    more(&answer.body);
    Ok(())
}

fn show(answer: &Answer, format: Format) -> anyhow::Result<()> {
    if format.json {
        return output::json(&answer.body);
    }
    for field in [
        "id",
        "definition",
        "state",
        "step",
        "attempt",
        "error",
        "client_id",
        "trace_id",
        "created_at",
        "next_run_at",
        "decision",
        "decided_by",
        "decided_at",
    ] {
        output::line(format!("{field:12} {}", cell(&answer.body, field)));
    }
    output::line("");
    let fields = [
        "name",
        "direction",
        "outcome",
        "attempt",
        "started_at",
        "ended_at",
        "error",
    ];
    output::table(
        &fields,
        &rows(&answer.body, "steps", &fields),
        "no steps yet",
    );
    Ok(())
}

/// The objects of a list as rows.
pub fn rows(body: &Value, list: &str, fields: &[&str]) -> Vec<Vec<String>> {
    let items = body.get(list).and_then(Value::as_array);
    let items = items.into_iter().flatten();
    items
        .map(|item| fields.iter().map(|field| cell(item, field)).collect())
        .collect()
}

/// Says that there is more than was shown.
pub fn more(body: &Value) {
    if body.get("next_page_token").is_some_and(Value::is_string) {
        output::line("… and older ones; see more with --limit");
    }
}

fn cell(item: &Value, field: &str) -> String {
    match item.get(field) {
        None | Some(Value::Null) => "–".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// A text as part of a URL.
pub fn query_value(text: &str) -> String {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'~');
    let spelled = text.bytes().map(|byte| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    spelled.collect()
}
