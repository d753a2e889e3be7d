//! `mainstay doctor`: what is wrong with this installation, and how to mend it.
//! Deliberately absent: mending. A person decides.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use clap::Args;
use mainstay_db::local;
use mainstay_db::migrate;
use mainstay_types::ServiceName;
use serde::Serialize;

use crate::api::Api;
use crate::data_dir::{DataDir, DataDirArg};
use crate::dev_file::DevFile;
use crate::failure::{self, refuse};
use crate::output::{self, Format};

/// Says what is wrong with this installation, and how to mend it
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  mainstay doctor
  mainstay doctor --data-dir /tmp/other --json

Exit status is 0 when nothing is wrong.")]
pub struct DoctorArgs {
    #[command(flatten)]
    data_dir: DataDirArg,
    #[command(flatten)]
    format: Format,
}

/// What was looked at, and what was found.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    well: bool,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn well(&mut self, check: &'static str, found: impl Into<String>) {
        self.0.push(Finding {
            check,
            well: true,
            found: found.into(),
            mend: None,
        });
    }

    fn wrong(&mut self, check: &'static str, found: impl Into<String>, mend: impl Into<String>) {
        self.0.push(Finding {
            check,
            well: false,
            found: found.into(),
            mend: Some(mend.into()),
        });
    }

    fn failed(&mut self, check: &'static str, error: &anyhow::Error, mend: impl Into<String>) {
        let text = failure::text(error);
        let cause = text
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches("error: ")
            .to_owned();
        self.wrong(check, cause, mend);
    }
}

/// Runs the command.
///
/// # Errors
/// When something is wrong, after telling all of it.
pub async fn run(args: &DoctorArgs) -> anyhow::Result<()> {
    let data_dir = DataDir::at(&args.data_dir)?;
    let mut findings = Findings::default();
    installation(&data_dir, &mut findings);
    match data_dir.running_process() {
        None => findings.well(
            "instance",
            format!("none runs on {}", data_dir.root().display()),
        ),
        Some(process) => {
            findings.well(
                "instance",
                format!("process {process} runs on {}", data_dir.root().display()),
            );
            instance(&data_dir, &mut findings).await;
        }
    }
    let wrong = findings.0.iter().filter(|finding| !finding.well).count();
    if args.format.json {
        output::json(&serde_json::json!({"well": wrong == 0, "findings": findings.0}))?;
    } else {
        for finding in &findings.0 {
            output::line(format!(
                "{} {:12} {}",
                if finding.well { "ok   " } else { "WRONG" },
                finding.check,
                finding.found
            ));
            if let Some(mend) = &finding.mend {
                output::line(format!("      mend: {mend}"));
            }
        }
    }
    match wrong {
        0 => Ok(()),
        1 => Err(refuse("one thing is wrong", "mend it as said above")),
        wrong => Err(refuse(
            format!("{wrong} things are wrong"),
            "mend them as said above, from the top",
        )),
    }
}

fn installation(data_dir: &DataDir, findings: &mut Findings) {
    match local::installed() {
        Ok(programs) => findings.well("postgresql", format!("in {}", programs.display())),
        Err(error) => findings.wrong(
            "postgresql",
            error.to_string(),
            "`make up` installs it, or set DATABASE_URL to a server of your own",
        ),
    }
    match fs::metadata(data_dir.root()) {
        Err(_) => findings.well(
            "data",
            format!("{} does not exist yet", data_dir.root().display()),
        ),
        Ok(found) if !found.is_dir() => findings.wrong(
            "data",
            format!("{} is no directory", data_dir.root().display()),
            "choose another --data-dir",
        ),
        Ok(_) => findings.well("data", data_dir.root().display().to_string()),
    }
    for path in [data_dir.secrets(), data_dir.dev_file(), data_dir.settings()] {
        let mode = fs::metadata(&path).map(|found| found.permissions().mode() & 0o077);
        if mode.is_ok_and(|others| others != 0) {
            findings.wrong(
                "data",
                format!("{} holds secrets and can be read by others", path.display()),
                format!("chmod 600 {}", path.display()),
            );
        }
    }
}

async fn instance(data_dir: &DataDir, findings: &mut Findings) {
    let log = format!("see {}", data_dir.log().display());
    let dev = match DevFile::read(data_dir) {
        Ok(dev) => dev,
        Err(_) => {
            return findings.wrong(
                "dev.json",
                "is not written yet: the instance is starting, or cannot",
                log,
            );
        }
    };
    let api = match Api::with(dev) {
        Ok(api) => api,
        Err(error) => return findings.failed("client", &error, log),
    };
    match api.get("/v1/health").await {
        Ok(health) if health.status == 200 => {
            findings.well("gateway", format!("answers at {}", api.dev.gateway_url))
        }
        Ok(health) => findings.wrong(
            "gateway",
            format!("says of itself: {}", health.body),
            log.clone(),
        ),
        Err(error) => findings.failed("gateway", &error, log.clone()),
    }
    match api.get("/v1/me").await.and_then(|me| me.expect(&[200])) {
        Ok(_) => findings.well("owner", format!("{} may sign in", api.dev.owner.email)),
        Err(error) => findings.failed(
            "owner",
            &error,
            "start `mainstay up` again: it makes a new key when the old one is lost",
        ),
    }
    match api.sandbox("/_/stripe/ledger").await {
        Ok(_) => findings.well("simulators", format!("answer at {}", api.dev.sandbox_url)),
        Err(error) => findings.failed("simulators", &error, "start them again with `mainstay up`, or with `mainstay serve sandbox` if SANDBOX_URL is set"),
    }
    schemas(&api, findings).await;
    let stuck = [
        (
            "sagas",
            "/v1/sagas?state=parked&page_size=100",
            "parked sagas",
            "mainstay saga list --state parked",
        ),
        (
            "webhooks",
            "/v1/webhook_events?state=dead&page_size=100",
            "dead webhooks",
            "mainstay webhook list --state dead",
        ),
    ];
    for (check, path, what, command) in stuck {
        match api.get(path).await.and_then(|answer| answer.expect(&[200])) {
            Ok(answer) => match answer.body["data"].as_array().map_or(0, Vec::len) {
                0 => findings.well(check, format!("no {what}")),
                count => findings.wrong(
                    check,
                    format!("{count} {what}"),
                    format!("a person must look: {command}"),
                ),
            },
            Err(error) => findings.failed(check, &error, log.clone()),
        }
    }
}

async fn schemas(api: &Api, findings: &mut Findings) {
    let migrations = crate::migrations::all();
    for service in ServiceName::CONTEXTS {
        let status = migrate::status(&api.dev.database_url, service.as_str(), &migrations).await;
        match status {
            Err(error) => findings.wrong("schema", error.to_string(), "is the database up? Start `mainstay up` again"),
            Ok(status) if !status.drift.is_empty() => findings.wrong(
                "schema",
                format!("{service}: {}", status.drift.join("; ")),
                "this program and the database are of different versions: start the version that wrote it",
            ),
            Ok(status) if !status.pending.is_empty() => findings.wrong(
                "schema",
                format!("{service}: {} migrations are pending", status.pending.len()),
                "start `mainstay up` again, or run `mainstay migrate up`",
            ),
            Ok(_) => findings.well("schema", format!("{service} is up to date")),
        }
    }
}
