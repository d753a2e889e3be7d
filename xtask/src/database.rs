//! The development cluster: one server, one database, every schema. Deliberately absent: data worth keeping.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use mainstay_db::{
    bootstrap::{self, BootstrapOptions},
    local::{LocalOptions, LocalPostgres},
    migrate::{self, Down, Migrations},
};

const DATABASE: &str = "mainstay";

/// `cargo xtask migrate …`
#[derive(Subcommand)]
pub(crate) enum Direction {
    /// Apply what is pending.
    Up {
        /// Only this service.
        #[arg(long)]
        service: Option<String>,
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
    },
    /// Take a service's newest files back.
    Down {
        /// The service.
        #[arg(long)]
        service: String,
        /// How many.
        #[arg(long, default_value_t = 1)]
        steps: usize,
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
    },
    /// Applied, pending, edited.
    Status {
        /// Only this service.
        #[arg(long)]
        service: Option<String>,
    },
}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

pub(crate) fn default_dir() -> PathBuf {
    root().join("target/dev")
}

/// A crate with checked queries.
pub(crate) struct CheckedCrate {
    pub(crate) dir: PathBuf,
    pub(crate) package: String,
    /// The environment variable its macros read.
    pub(crate) variable: String,
    /// The schema its queries are checked against.
    pub(crate) schema: String,
}

/// The crates that have a `sqlx.toml`.
pub(crate) fn checked_crates(migrations: &Migrations) -> Result<Vec<CheckedCrate>> {
    let mut found = Vec::new();
    for group in ["libs", "services"] {
        for entry in fs::read_dir(root().join(group))? {
            let dir = entry?.path();
            let Ok(settings) = fs::read_to_string(dir.join("sqlx.toml")) else {
                continue;
            };
            let variable = quoted_value(&settings, "database-url-var").with_context(|| {
                format!("{}/sqlx.toml names no database-url-var", dir.display())
            })?;
            let manifest = fs::read_to_string(dir.join("Cargo.toml"))?;
            let package = quoted_value(&manifest, "name").context("a package has a name")?;
            let owner = variable.trim_end_matches("_DATABASE_URL").to_lowercase();
            // A library's queries are on `_core`, which is in every schema.
            let schema = migrations
                .services()
                .find(|service| *service == owner)
                .or_else(|| migrations.services().next())
                .context("no service has a schema")?
                .to_owned();
            found.push(CheckedCrate {
                dir,
                package,
                variable,
                schema,
            });
        }
    }
    found.sort_by(|a, b| a.package.cmp(&b.package));
    Ok(found)
}

fn quoted_value(text: &str, key: &str) -> Option<String> {
    text.lines()
        .find_map(|line| {
            line.trim()
                .strip_prefix(key)?
                .trim_start()
                .strip_prefix('=')
        })
        .map(|value| value.trim().trim_matches('"').to_owned())
}

pub(crate) fn migrations() -> Result<Migrations> {
    Ok(Migrations::from_dir(&root().join("migrations"))?)
}

pub(crate) struct Dev {
    server: LocalPostgres,
    options: BootstrapOptions,
}

impl Dev {
    /// Starts the cluster and makes roles and schemas.
    pub(crate) async fn open(data_dir: &Path, migrations: &Migrations) -> Result<Self> {
        let server = LocalPostgres::start(&LocalOptions {
            exclusive: false,
            durable: false,
            ..LocalOptions::new(data_dir)
        })
        .await?;
        server.create_database(DATABASE).await?;
        let options = BootstrapOptions::for_database(
            DATABASE,
            migrations.services(),
            server.secret().as_bytes(),
        );
        bootstrap::bootstrap(&server.admin_url(DATABASE), &options).await?;
        Ok(Self { server, options })
    }

    pub(crate) fn admin_url(&self) -> String {
        self.server.admin_url(DATABASE)
    }

    /// A URL whose unqualified names are those of the schema.
    pub(crate) fn schema_url(&self, schema: &str) -> String {
        format!("{}&options=-csearch_path%3D{schema}", self.admin_url())
    }

    /// Brings every schema to the files as they are now. One that fails does not keep the others from it.
    pub(crate) async fn migrate_all(&self, migrations: &Migrations) -> Result<()> {
        let url = self.admin_url();
        let mut failures = Vec::new();
        for service in migrations.services() {
            if let Err(error) = self.migrate_one(&url, service, migrations).await {
                failures.push(format!("{error:#}"));
            }
        }
        if failures.is_empty() {
            return Ok(());
        }
        bail!("{}", failures.join("\n"))
    }

    async fn migrate_one(&self, url: &str, service: &str, migrations: &Migrations) -> Result<()> {
        let status = migrate::status(url, service, migrations).await?;
        if !status.drift.is_empty() {
            bootstrap::drop_schema(url, service).await?;
            bootstrap::bootstrap(url, &self.options).await?;
        }
        migrate::up(url, service, migrations, false).await?;
        Ok(())
    }
}

/// Builders run this side by side: the whole of it in turn.
fn turn(data_dir: &Path) -> Result<fs::File> {
    fs::create_dir_all(data_dir)?;
    let file = fs::File::create(data_dir.join("xtask.lock"))?;
    file.lock()?;
    Ok(file)
}

pub(crate) async fn print_exports(data_dir: &Path) -> Result<()> {
    let _turn = turn(data_dir)?;
    let migrations = migrations()?;
    let dev = Dev::open(data_dir, &migrations).await?;
    let migrated = dev.migrate_all(&migrations).await;
    println!("export SQLX_OFFLINE=false");
    for service in migrations.services() {
        let variable = format!("{}_DATABASE_URL", service.to_uppercase());
        println!("export {variable}='{}'", dev.schema_url(service));
    }
    for checked in checked_crates(&migrations)? {
        println!(
            "export {}='{}'",
            checked.variable,
            dev.schema_url(&checked.schema)
        );
    }
    println!("export DATABASE_URL='{}'", dev.admin_url());
    migrated
}

pub(crate) async fn stop(data_dir: &Path) -> Result<()> {
    let _turn = turn(data_dir)?;
    // Stopping needs the handle, and taking the handle starts what is not running: cheap, and right in both cases.
    let dev = Dev::open(data_dir, &migrations()?).await?;
    Ok(dev.server.stop().await?)
}

pub(crate) async fn migrate(data_dir: &Path, direction: Direction) -> Result<()> {
    let _turn = turn(data_dir)?;
    let migrations = migrations()?;
    let dev = Dev::open(data_dir, &migrations).await?;
    let url = dev.admin_url();
    let chosen = |service: &Option<String>| -> Result<Vec<String>> {
        match service {
            Some(name) if migrations.services().any(|service| service == name) => {
                Ok(vec![name.clone()])
            }
            Some(name) => bail!("no service {name} has migrations"),
            None => Ok(migrations.services().map(str::to_owned).collect()),
        }
    };
    match direction {
        Direction::Up { service, dry_run } => {
            for service in chosen(&service)? {
                for step in migrate::up(&url, &service, &migrations, dry_run).await? {
                    println!(
                        "{service}: {}_{} up{}",
                        step.version,
                        step.name,
                        if dry_run { " (dry run)" } else { "" }
                    );
                }
            }
        }
        Direction::Down {
            service,
            steps,
            dry_run,
        } => {
            let steps =
                migrate::down(&url, &service, &migrations, Down::Steps(steps), dry_run).await?;
            for step in steps {
                println!(
                    "{service}: {}_{} down{}",
                    step.version,
                    step.name,
                    if dry_run { " (dry run)" } else { "" }
                );
            }
        }
        Direction::Status { service } => {
            for service in chosen(&service)? {
                let status = migrate::status(&url, &service, &migrations).await?;
                println!("{service}: {} applied", status.applied.len());
                for step in status.pending {
                    println!("{service}: {}_{} pending", step.version, step.name);
                }
                for drift in status.drift {
                    println!("{service}: {drift}");
                }
            }
        }
    }
    Ok(())
}
