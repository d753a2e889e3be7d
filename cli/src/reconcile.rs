//! `mainstay reconcile`: starts a comparison of a payment provider with our rows, follows it, and shows what it found.
//! Deliberately absent: repairing by hand. What is safe the run repairs; the runbook says what to do about the rest.

use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::api::{Answer, Api};
use crate::data_dir::DataDirArg;
use crate::failure::refuse;
use crate::output::{self, Format};
use crate::saga::{query_value, rows};

/// Between two looks at a run.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Pages of differences that are shown; a hundred each.
const MOST_PAGES: usize = 50;

/// Compares a payment provider with our rows, and repairs what is safe
#[derive(Args, Debug)]
pub struct ReconcileArgs {
    #[command(subcommand)]
    command: ReconcileCommand,
}

#[derive(Subcommand, Debug)]
enum ReconcileCommand {
    /// Compares Stripe with our rows, both ways; exit status 0 only if nothing is left to a person
    #[command(after_help = "Examples:
  mainstay reconcile stripe --dry-run     tell what differs, change nothing
  mainstay reconcile stripe               repair what is safe, record the rest
  mainstay reconcile stripe --json")]
    Stripe {
        /// Only tell; exit status 0 only if nothing differs
        #[arg(long)]
        dry_run: bool,
        /// Stop following after so many seconds; the run goes on
        #[arg(long, default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
        timeout: u64,
        #[command(flatten)]
        data_dir: DataDirArg,
        #[command(flatten)]
        format: Format,
    },
}

/// Runs the command.
///
/// # Errors
/// When the instance does not answer or says no, the run fails, or something is left to a person.
pub async fn run(args: &ReconcileArgs) -> anyhow::Result<()> {
    let ReconcileCommand::Stripe {
        dry_run,
        timeout,
        data_dir,
        format,
    } = &args.command;
    let api = Api::of(data_dir)?;
    let body = json!({ "provider": "stripe", "dry_run": dry_run });
    let key = format!("cli-reconcile-{}", uuid::Uuid::new_v4());
    let started = api.post("/v1/reconciliations", &body, &key).await?;
    if started.code() == Some("reconciliation_running") {
        let running = started.text("existing_id").unwrap_or_else(|_| "–".into());
        return Err(refuse(
            format!("a reconciliation is under way: {running}"),
            "wait until it has ended; its differences are recorded all the same",
        ));
    }
    let id = started.expect(&[202])?.text("id")?;
    if !format.json {
        output::note(format!("{id} started"));
    }
    let ended = tokio::time::timeout(Duration::from_secs(*timeout), follow(&api, &id)).await;
    let Ok(ended) = ended else {
        return Err(refuse(
            format!("{id} is still under way after {timeout} s"),
            "it goes on without this command; see the log in the data directory",
        ));
    };
    let run = ended?;
    let found = differences(&api, &id).await?;
    match format.json {
        true => output::json(&json!({ "reconciliation": run.body, "discrepancies": found }))?,
        false => show(&run, &found)?,
    }
    judge(&run, &id, *dry_run)
}

/// Reads the run until it has ended.
async fn follow(api: &Api, id: &str) -> anyhow::Result<Answer> {
    let path = format!("/v1/reconciliations/{}", query_value(id));
    loop {
        let run = api.get(&path).await?.expect(&[200])?;
        if run.text("state")? != "running" {
            return Ok(run);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// What the run met, newest first.
async fn differences(api: &Api, id: &str) -> anyhow::Result<Vec<Value>> {
    let mut found = Vec::new();
    let mut token: Option<String> = None;
    for _ in 0..MOST_PAGES {
        let mut path = format!(
            "/v1/discrepancies?page_size=100&reconciliation_id={}",
            query_value(id)
        );
        if let Some(token) = &token {
            path.push_str(&format!("&page_token={}", query_value(token)));
        }
        let page = api.get(&path).await?.expect(&[200])?;
        let data = page.body.get("data").and_then(Value::as_array);
        found.extend(data.context("a list without data")?.iter().cloned());
        let next = page.body.get("next_page_token").and_then(Value::as_str);
        token = next.map(str::to_owned);
        if token.is_none() {
            return Ok(found);
        }
    }
    output::note("… and more; see GET /v1/discrepancies");
    Ok(found)
}

fn show(run: &Answer, found: &[Value]) -> anyhow::Result<()> {
    let fields = ["kind", "state", "client_id", "stripe_id", "cause", "action"];
    let listed = json!({ "data": found });
    output::table(&fields, &rows(&listed, "data", &fields), "nothing differs");
    output::line("");
    output::line(format!(
        "{} objects compared: {} differences, {} repaired, {} left to a person; {} left alone because a saga works on them",
        count(run, "objects_count")?,
        count(run, "found_count")?,
        count(run, "repaired_count")?,
        count(run, "open_count")?,
        count(run, "in_flight_count")?,
    ));
    Ok(())
}

/// A count of the run. One that is missing must not pass for none.
fn count(run: &Answer, field: &str) -> anyhow::Result<i64> {
    let value = run.body.get(field).and_then(Value::as_i64);
    value.with_context(|| format!("{} answered without {field}", run.asked))
}

/// Success is that nothing is left.
fn judge(run: &Answer, id: &str, dry_run: bool) -> anyhow::Result<()> {
    if run.text("state")? != "completed" {
        let error = run.text("error").unwrap_or_else(|_| "–".into());
        return Err(refuse(
            format!("{id} failed: {error}"),
            "what it had repaired until then stands; start another run when the cause is mended",
        ));
    }
    let (left, what) = match dry_run {
        true => (count(run, "found_count")?, "differences were found"),
        false => (
            count(run, "open_count")?,
            "differences are left to a person",
        ),
    };
    match left {
        0 => Ok(()),
        left => Err(refuse(
            format!("{left} {what}"),
            "see docs/runbooks/discrepancies.md, kind by kind",
        )),
    }
}
