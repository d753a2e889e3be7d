//! `mainstay saga`: the saga log of a running instance, through its public API.
//! Deliberately absent: retry, resolve and abandon. The API does not offer them yet.

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::api::{Answer, Api};
use crate::data_dir::DataDirArg;
use crate::output::{self, Format};

/// Shows sagas
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
        /// Only those that are running, waiting, compensating, parked, completed or compensated
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
