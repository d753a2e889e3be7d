//! `mainstay migrate`: brings schemas to this release and back, and makes the roles they need.
//! Deliberately absent: running by itself. `serve` never migrates; `up` calls the same library.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use mainstay_db::bootstrap::{BootstrapOptions, ServiceCredentials, bootstrap};
use mainstay_db::migrate::{self, Down, Migrations, Set, Step};
use mainstay_runtime::config::Config;
use mainstay_types::ServiceName;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::data_dir::{DataDir, DataDirArg};
use crate::dev_file::DevFile;
use crate::failure::Advise;
use crate::output::{self, Format};
use crate::settings;

/// Brings schemas to this release, or back
#[derive(Args, Debug)]
pub struct MigrateArgs {
    #[command(subcommand)]
    command: MigrateCommand,
}

#[derive(Subcommand, Debug)]
enum MigrateCommand {
    /// Applies what is pending
    #[command(after_help = "Examples:
  mainstay migrate up
  mainstay migrate up --service billing --dry-run
  mainstay migrate up --data-dir .mainstay")]
    Up {
        #[command(flatten)]
        target: Target,
        /// Only says what would be applied
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        format: Format,
    },
    /// Takes migrations back, the newest first
    #[command(after_help = "Examples:
  mainstay migrate down --service billing --steps 1
  mainstay migrate down --service billing --all --dry-run")]
    Down {
        #[command(flatten)]
        target: Target,
        /// So many of the service's own
        #[arg(long, default_value_t = 1, conflicts_with = "all")]
        steps: usize,
        /// All of them: an empty schema, all rows lost
        #[arg(long)]
        all: bool,
        /// Only says what would be taken back
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        format: Format,
    },
    /// Says what is applied and what is pending
    #[command(after_help = "Examples:
  mainstay migrate status
  mainstay migrate status --service billing --json")]
    Status {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        format: Format,
    },
    /// Makes the roles and schemas of all services, as the database's superuser, and prints how the roles log in
    #[command(after_help = "Example:
  MAINSTAY_ADMIN_DATABASE_URL=postgres://postgres:…@db/mainstay \\
  MAINSTAY_DATABASE_ROLE_SECRET=$(openssl rand -hex 32) mainstay migrate bootstrap

What it prints are secrets: the settings that `migrate` and `serve` read. Run again with the same secret it changes
nothing; with another, it replaces all passwords.")]
    Bootstrap {
        /// The configuration file, instead of the one MAINSTAY_CONFIG names
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        format: Format,
    },
}

/// Which schemas, and where.
#[derive(Args, Debug)]
struct Target {
    /// Only this service's
    #[arg(long)]
    service: Option<ServiceName>,
    /// The database of the instance that runs on this data directory, instead of the one the settings name
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The configuration file, instead of the one MAINSTAY_CONFIG names
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Target {
    /// The schemas and how to reach each.
    fn urls(&self) -> anyhow::Result<Vec<(ServiceName, String)>> {
        let wanted = |service: &ServiceName| self.service.is_none_or(|only| only == *service);
        let services: Vec<ServiceName> = ServiceName::CONTEXTS.into_iter().filter(wanted).collect();
        anyhow::ensure!(!services.is_empty(), "the gateway has no database");
        if let Some(data_dir) = &self.data_dir {
            let arg = DataDirArg {
                data_dir: data_dir.clone(),
            };
            let dev = DevFile::read(&DataDir::at(&arg)?)?;
            return Ok(services
                .into_iter()
                .map(|service| (service, dev.database_url.clone()))
                .collect());
        }
        let groups: Vec<_> = services
            .iter()
            .filter_map(|service| Some(settings::database(*service)?.2))
            .collect();
        let config = settings::load(&groups, settings::sources(self.config.as_deref()))?;
        services
            .into_iter()
            .map(|service| {
                let (settings, ..) =
                    settings::database(service).context("contexts have databases")?;
                Ok((service, config.get(&settings.migrator_url)))
            })
            .collect()
    }
}

/// Runs the command.
///
/// # Errors
/// When a database cannot be reached or a file fails; what was applied before stays.
pub async fn run(args: &MigrateArgs) -> anyhow::Result<()> {
    let migrations = crate::migrations::all();
    match &args.command {
        MigrateCommand::Up {
            target,
            dry_run,
            format,
        } => {
            let mut done = Vec::new();
            for (service, url) in target.urls()? {
                let steps = migrate::up(&url, service.as_str(), &migrations, *dry_run).await;
                done.push((service, steps.advise("the migration stopped", NEXT)?));
            }
            print(
                &done,
                if *dry_run { "would apply" } else { "applied" },
                *format,
            )
        }
        MigrateCommand::Down {
            target,
            steps,
            all,
            dry_run,
            format,
        } => {
            let how_far = if *all {
                Down::Everything
            } else {
                Down::Steps(*steps)
            };
            let mut done = Vec::new();
            for (service, url) in target.urls()? {
                let steps =
                    migrate::down(&url, service.as_str(), &migrations, how_far, *dry_run).await;
                done.push((service, steps.advise("the migration stopped", NEXT)?));
            }
            print(
                &done,
                if *dry_run {
                    "would take back"
                } else {
                    "took back"
                },
                *format,
            )
        }
        MigrateCommand::Status { target, format } => status(target, &migrations, *format).await,
        MigrateCommand::Bootstrap { config, format } => {
            let config = settings::load(
                &[&settings::BOOTSTRAP],
                settings::sources(config.as_deref()),
            )?;
            make_roles(&config, *format).await
        }
    }
}

const NEXT: &str =
    "see what stands with `mainstay migrate status`; what was applied before this stays applied";

fn describe(step: &Step, service: ServiceName) -> String {
    let set = match step.set {
        Set::Core => "_core",
        Set::Service => service.as_str(),
    };
    format!("{set}/{}_{}", step.version, step.name)
}

fn print(done: &[(ServiceName, Vec<Step>)], verb: &str, format: Format) -> anyhow::Result<()> {
    let names = |service: &ServiceName, steps: &[Step]| -> Vec<String> {
        steps.iter().map(|step| describe(step, *service)).collect()
    };
    if format.json {
        let data: Vec<Value> = done
            .iter()
            .map(
                |(service, steps)| json!({"service": service, "migrations": names(service, steps)}),
            )
            .collect();
        return output::json(&json!({"did": verb, "data": data}));
    }
    for (service, steps) in done {
        if steps.is_empty() {
            output::line(format!("{service}: nothing to do"));
        }
        for name in names(service, steps) {
            output::line(format!("{service}: {verb} {name}"));
        }
    }
    Ok(())
}

async fn status(target: &Target, migrations: &Migrations, format: Format) -> anyhow::Result<()> {
    let mut data = Vec::new();
    let mut rows = Vec::new();
    for (service, url) in target.urls()? {
        let status = migrate::status(&url, service.as_str(), migrations).await;
        let status = status.advise(
            "the schema cannot be looked at",
            "check that the database runs and the URL is right",
        )?;
        let names = |steps: &[Step]| -> Vec<String> {
            steps.iter().map(|step| describe(step, service)).collect()
        };
        rows.push(vec![
            service.to_string(),
            status.applied.len().to_string(),
            status.pending.len().to_string(),
            if status.drift.is_empty() {
                "–".to_owned()
            } else {
                status.drift.join("; ")
            },
        ]);
        data.push(json!({
            "service": service,
            "applied": names(&status.applied),
            "pending": names(&status.pending),
            "drift": status.drift,
        }));
    }
    if format.json {
        return output::json(&json!({"data": data}));
    }
    output::table(
        &["service", "applied", "pending", "drift"],
        &rows,
        "no schemas",
    );
    Ok(())
}

async fn make_roles(config: &Config, format: Format) -> anyhow::Result<()> {
    let url: String = config.get(&settings::ADMIN_URL);
    let secret: SecretString = config.get(&settings::ROLE_SECRET);
    let database = database_name(&url);
    let options = BootstrapOptions::for_database(
        &database,
        ServiceName::CONTEXTS.map(ServiceName::as_str),
        secret.expose_secret().as_bytes(),
    );
    let credentials = bootstrap(&url, &options).await.advise(
        "the roles and schemas were not made",
        "check that the URL is a superuser's and that its database exists",
    )?;
    let lines = environment(&credentials);
    if format.json {
        let map: serde_json::Map<String, Value> = lines
            .into_iter()
            .map(|(name, url)| (name, url.into()))
            .collect();
        return output::json(&map);
    }
    for (name, url) in lines {
        output::line(format!("{name}={url}"));
    }
    Ok(())
}

/// The settings that these credentials are.
fn environment(credentials: &[ServiceCredentials]) -> Vec<(String, String)> {
    let of = |role: &ServiceCredentials| -> Option<[(String, String); 3]> {
        let (settings, ..) = settings::database(role.service.parse().ok()?)?;
        Some([
            (settings.app_url.name.to_owned(), role.app_url.clone()),
            (settings.worker_url.name.to_owned(), role.worker_url.clone()),
            (
                settings.migrator_url.name.to_owned(),
                role.migrator_url.clone(),
            ),
        ])
    };
    credentials.iter().filter_map(of).flatten().collect()
}

/// The database that a URL names; PostgreSQL's own default otherwise.
pub fn database_name(url: &str) -> String {
    let after_authority = url
        .split_once("://")
        .and_then(|(_, rest)| rest.split_once('/'));
    let path = after_authority.map_or("", |(_, path)| path);
    match path.split(['?', '#']).next() {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => "postgres".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::database_name;

    #[test]
    fn the_database_is_the_path_of_the_url() {
        assert_eq!(
            database_name("postgres://u:p@h:1/mainstay?sslmode=disable"),
            "mainstay"
        );
        assert_eq!(database_name("postgres://u@h"), "postgres");
        assert_eq!(database_name("postgres://u@h/"), "postgres");
    }
}
