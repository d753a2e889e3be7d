//! Runs the files of `migrations/`: `_core` first, then the service's own, up and down, each schema with its own version
//! tables, one runner at a time. The files come in as text (from a directory, or embedded by the binary), so
//! that editing one does not rebuild the services.
//! Deliberately absent: role and schema names in the files; the runner becomes the schema's owner and sets `search_path`.

mod files;
mod lint;

use std::str::FromStr;

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row,
    postgres::{PgConnectOptions, PgSslMode},
};

pub use files::{FileError, Migration, Migrations};
pub use lint::{Danger, lint};

/// What went wrong, and where.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The server, the credentials or the lock.
    #[error("cannot migrate {service}: {source}")]
    Database {
        /// The service.
        service: String,
        /// The driver's error: here it is meant for the person at the terminal.
        #[source]
        source: sqlx::Error,
    },
    /// A file failed; its transaction was rolled back.
    #[error("{file}: {source}")]
    File {
        /// The file.
        file: String,
        /// What PostgreSQL said.
        #[source]
        source: sqlx::Error,
    },
    /// The schema is not there.
    #[error("schema {0} does not exist: `mainstay migrate bootstrap` makes it")]
    NoSchema(String),
    /// An applied file has been edited, or is unknown to this release.
    #[error("schema {service} does not match the files: {}", .what.join("; "))]
    Drift {
        /// The service.
        service: String,
        /// Each difference.
        what: Vec<String>,
    },
    /// No migrations for a service of that name.
    #[error("there are no migrations for a service {0}")]
    NoService(String),
}

/// `_core` or the service's own files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Set {
    /// `migrations/_core`.
    Core,
    /// `migrations/<service>`.
    Service,
}

impl Set {
    const fn table(self) -> &'static str {
        match self {
            Set::Core => "core_migration",
            Set::Service => "service_migration",
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Set::Core => "_core",
            Set::Service => "service",
        }
    }
}

/// One file run, or that would be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Of which set.
    pub set: Set,
    /// Its timestamp.
    pub version: i64,
    /// Its name.
    pub name: String,
}

/// How a schema stands against the files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Applied, in order.
    pub applied: Vec<Step>,
    /// To be applied, in order.
    pub pending: Vec<Step>,
    /// Applied files that have changed since, or that are not among the files.
    pub drift: Vec<String>,
}

/// How far down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Down {
    /// So many of the service's own files.
    Steps(usize),
    /// All of them and `_core`: an empty schema.
    Everything,
}

/// Applies what is pending. With `dry_run` only says what that is.
///
/// # Errors
/// The first file that fails; those before it stay applied.
pub async fn up(
    url: &str,
    service: &str,
    migrations: &Migrations,
    dry_run: bool,
) -> Result<Vec<Step>, MigrateError> {
    let mut session = Session::open(url, service, migrations).await?;
    let status = session.status().await?;
    if !status.drift.is_empty() {
        return Err(MigrateError::Drift {
            service: service.to_owned(),
            what: status.drift,
        });
    }
    if !dry_run {
        for step in &status.pending {
            session.apply(step).await?;
        }
    }
    session.close().await;
    Ok(status.pending)
}

/// Takes files back, the newest first. With `dry_run` only says which.
///
/// # Errors
/// The first file that fails; those before it stay undone.
pub async fn down(
    url: &str,
    service: &str,
    migrations: &Migrations,
    how_far: Down,
    dry_run: bool,
) -> Result<Vec<Step>, MigrateError> {
    let mut session = Session::open(url, service, migrations).await?;
    let status = session.status().await?;
    if !status.drift.is_empty() {
        return Err(MigrateError::Drift {
            service: service.to_owned(),
            what: status.drift,
        });
    }
    let newest_first = status.applied.into_iter().rev();
    let steps: Vec<Step> = match how_far {
        Down::Everything => newest_first.collect(),
        Down::Steps(n) => newest_first
            .filter(|step| step.set == Set::Service)
            .take(n)
            .collect(),
    };
    if !dry_run {
        for step in &steps {
            session.undo(step).await?;
        }
        if how_far == Down::Everything {
            session.drop_version_tables().await?;
        }
    }
    session.close().await;
    Ok(steps)
}

/// How the schema stands.
///
/// # Errors
/// When the server or the schema cannot be reached.
pub async fn status(
    url: &str,
    service: &str,
    migrations: &Migrations,
) -> Result<Status, MigrateError> {
    let mut session = Session::open(url, service, migrations).await?;
    let status = session.status().await?;
    session.close().await;
    Ok(status)
}

/// A connection that is the schema's owner and alone at it.
struct Session<'a> {
    connection: PgConnection,
    service: &'a str,
    migrations: &'a Migrations,
}

impl<'a> Session<'a> {
    async fn open(
        url: &str,
        service: &'a str,
        migrations: &'a Migrations,
    ) -> Result<Self, MigrateError> {
        if migrations.of(Set::Service, service).is_none() {
            return Err(MigrateError::NoService(service.to_owned()));
        }
        let wrap = |source| MigrateError::Database {
            service: service.to_owned(),
            source,
        };
        let mut connection = connect(url).await.map_err(wrap)?;
        let owner: Option<String> = sqlx::query_scalar(
            "select nspowner::regrole::text from pg_namespace where nspname = $1",
        )
        .bind(service)
        .fetch_optional(&mut connection)
        .await
        .map_err(wrap)?;
        let Some(owner) = owner else {
            return Err(MigrateError::NoSchema(service.to_owned()));
        };
        // `regrole` has quoted the owner where needed; the service is one we have files for. A migration waits briefly
        // for a lock rather than queue the whole service behind itself.
        sqlx::raw_sql(AssertSqlSafe(format!(
            "set role {owner}; set search_path = {}; set lock_timeout = '10s'; set client_min_messages = warning;",
            quoted(service)
        )))
        .execute(&mut connection)
        .await
        .map_err(wrap)?;
        // Replicas that migrate at start take turns. Waiting is bounded by the server's own statement time.
        sqlx::query("select set_config('statement_timeout', '600s', false), pg_advisory_lock(hashtext('mainstay.migrate'), hashtext($1))")
            .bind(service)
            .execute(&mut connection)
            .await
            .map_err(wrap)?;
        let mut session = Self {
            connection,
            service,
            migrations,
        };
        session.create_version_tables().await.map_err(wrap)?;
        Ok(session)
    }

    async fn create_version_tables(&mut self) -> Result<(), sqlx::Error> {
        for set in [Set::Core, Set::Service] {
            let table = set.table();
            sqlx::raw_sql(AssertSqlSafe(format!(
                "create table if not exists {table} (
                   version bigint not null, name text not null, checksum text not null,
                   applied_at timestamptz not null default now(),
                   constraint {table}_pkey primary key (version));
                 do $$ begin
                   execute format('grant select on {table} to %I', replace(current_user, '_owner_', '_worker_'));
                 end $$"
            )))
            .execute(&mut self.connection)
            .await?;
        }
        Ok(())
    }

    async fn drop_version_tables(&mut self) -> Result<(), MigrateError> {
        sqlx::raw_sql("drop table service_migration; drop table core_migration")
            .execute(&mut self.connection)
            .await
            .map_err(|source| MigrateError::Database {
                service: self.service.to_owned(),
                source,
            })?;
        Ok(())
    }

    async fn status(&mut self) -> Result<Status, MigrateError> {
        let mut status = Status::default();
        for set in [Set::Core, Set::Service] {
            let rows = sqlx::query(AssertSqlSafe(format!(
                "select version, name, checksum from {} order by version",
                set.table()
            )))
            .fetch_all(&mut self.connection)
            .await
            .and_then(|rows| {
                rows.iter()
                    .map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)))
                    .collect::<Result<Vec<(i64, String, String)>, sqlx::Error>>()
            })
            .map_err(|source| MigrateError::Database {
                service: self.service.to_owned(),
                source,
            })?;
            let files = self.migrations.of(set, self.service).unwrap_or_default();
            for (version, name, checksum) in &rows {
                match files.iter().find(|file| file.version == *version) {
                    None => status.drift.push(format!(
                        "{}/{version}_{name} is applied but not among the files",
                        set.label()
                    )),
                    Some(file) if file.checksum() != *checksum => status.drift.push(format!(
                        "{}/{version}_{name} was edited after it was applied",
                        set.label()
                    )),
                    Some(_) => {}
                }
                status.applied.push(Step {
                    set,
                    version: *version,
                    name: name.clone(),
                });
            }
            status.pending.extend(
                files
                    .iter()
                    .filter(|file| !rows.iter().any(|row| row.0 == file.version))
                    .map(|file| Step {
                        set,
                        version: file.version,
                        name: file.name.clone(),
                    }),
            );
        }
        Ok(status)
    }

    fn file(&self, step: &Step) -> Result<&'a Migration, MigrateError> {
        self.migrations
            .of(step.set, self.service)
            .and_then(|files| files.iter().find(|file| file.version == step.version))
            .ok_or_else(|| MigrateError::Drift {
                service: self.service.to_owned(),
                what: vec![format!("{}_{} has no file", step.version, step.name)],
            })
    }

    async fn apply(&mut self, step: &Step) -> Result<(), MigrateError> {
        let file = self.file(step)?;
        let record = format!(
            "insert into {} (version, name, checksum) values ({}, '{}', '{}')",
            step.set.table(),
            file.version,
            file.name,
            file.checksum()
        );
        tracing::info!(service = self.service, migration = %file.file_name("up"), "applying");
        self.run(step, "up", &file.up, &record).await
    }

    async fn undo(&mut self, step: &Step) -> Result<(), MigrateError> {
        let file = self.file(step)?;
        let record = format!(
            "delete from {} where version = {}",
            step.set.table(),
            file.version
        );
        tracing::info!(service = self.service, migration = %file.file_name("down"), "undoing");
        self.run(step, "down", &file.down, &record).await
    }

    /// The file and its record, in one transaction unless the file asked for none.
    async fn run(
        &mut self,
        step: &Step,
        direction: &str,
        sql: &str,
        record: &str,
    ) -> Result<(), MigrateError> {
        let transaction = !sql.starts_with(files::NO_TRANSACTION);
        let script: Vec<String> = if transaction {
            // A role a file switched to must not outlive it; `search_path` is set again for the same reason.
            vec![format!("begin;\n{sql}\n;{record};\ncommit;")]
        } else {
            vec![sql.to_owned(), record.to_owned()]
        };
        for part in script {
            if let Err(source) = sqlx::raw_sql(AssertSqlSafe(part))
                .execute(&mut self.connection)
                .await
            {
                // The connection is closed with the session; a failed transaction dies with it.
                return Err(MigrateError::File {
                    file: format!(
                        "migrations/{}/{}_{}.{direction}.sql",
                        match step.set {
                            Set::Core => "_core",
                            Set::Service => self.service,
                        },
                        step.version,
                        step.name
                    ),
                    source,
                });
            }
        }
        Ok(())
    }

    /// Closing gives the advisory lock back at once.
    async fn close(self) {
        if let Err(error) = self.connection.close().await {
            tracing::debug!(%error, "closing the migrator's connection");
        }
    }
}

async fn connect(url: &str) -> Result<PgConnection, sqlx::Error> {
    PgConnectOptions::from_str(url)?
        .application_name("mainstay-migrate")
        .connect()
        .await
}

pub(crate) fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// Rebuilds a URL with another user, password or database, keeping host, port and TLS.
pub(crate) fn url_with(
    base: &PgConnectOptions,
    database: &str,
    user: &str,
    password: &str,
) -> String {
    // Users, passwords and databases here are ours: letters, digits and underscores.
    let tls = match base.get_ssl_mode() {
        PgSslMode::Disable => "disable",
        PgSslMode::Allow => "allow",
        PgSslMode::Prefer => "prefer",
        PgSslMode::Require => "require",
        PgSslMode::VerifyCa => "verify-ca",
        PgSslMode::VerifyFull => "verify-full",
    };
    format!(
        "postgres://{user}:{password}@{}:{}/{database}?sslmode={tls}",
        base.get_host(),
        base.get_port()
    )
}
