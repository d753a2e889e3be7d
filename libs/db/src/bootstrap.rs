//! The one step that needs a superuser: for each service an owner without login, a migrator, an app and a worker role,
//! a schema, and nothing else. Run again it mends what differs; it never drops.
//! Deliberately absent: tables (the migrator's), and passwords of its own making: they follow from a secret the caller keeps.

use std::{str::FromStr, time::Duration};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};

use crate::{
    Result,
    migrate::{quoted, url_with},
};

/// What to make.
#[derive(Clone)]
pub struct BootstrapOptions {
    /// The services.
    pub services: Vec<String>,
    /// Ends the role names, since roles belong to the whole server: several databases on one server do not meet.
    pub suffix: String,
    /// At least 32 random bytes: passwords are derived from it, so nothing else has to be stored.
    pub secret: Vec<u8>,
}

impl BootstrapOptions {
    /// With a suffix derived from the database's name.
    pub fn for_database<S: AsRef<str>>(
        database: &str,
        services: impl IntoIterator<Item = S>,
        secret: &[u8],
    ) -> Self {
        Self {
            services: services
                .into_iter()
                .map(|s| s.as_ref().to_owned())
                .collect(),
            suffix: hex::encode(&Sha256::digest(database)[..4]),
            secret: secret.to_vec(),
        }
    }

    /// The role of a service: `kind` is owner, migrator, app or worker.
    pub fn role(&self, service: &str, kind: &str) -> String {
        format!("mainstay_{service}_{kind}_{}", self.suffix)
    }

    fn password(&self, role: &str) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.secret).expect("HMAC takes keys of any length");
        mac.update(role.as_bytes());
        hex::encode(mac.finalize().into_bytes())
    }

    /// How the roles log in to a database of the server that `admin_url` points at.
    ///
    /// # Errors
    /// When `admin_url` is no PostgreSQL URL.
    pub fn credentials(&self, admin_url: &str, database: &str) -> Result<Vec<ServiceCredentials>> {
        let admin = PgConnectOptions::from_str(admin_url)?;
        let url = |service: &str, kind: &str| {
            let role = self.role(service, kind);
            let password = self.password(&role);
            url_with(&admin, database, &role, &password)
        };
        Ok(self
            .services
            .iter()
            .map(|service| ServiceCredentials {
                service: service.clone(),
                migrator_url: url(service, "migrator"),
                app_url: url(service, "app"),
                worker_url: url(service, "worker"),
            })
            .collect())
    }
}

/// How a service's roles log in. The URLs hold passwords: no `Debug`.
#[derive(Clone)]
pub struct ServiceCredentials {
    /// The service.
    pub service: String,
    /// For `migrate`.
    pub migrator_url: String,
    /// For requests.
    pub app_url: String,
    /// For machinery.
    pub worker_url: String,
}

/// Makes roles and schemas in the database that `admin_url` names, which must exist.
///
/// # Errors
/// When the role in `admin_url` may not do this, or the server cannot be reached.
pub async fn bootstrap(
    admin_url: &str,
    options: &BootstrapOptions,
) -> Result<Vec<ServiceCredentials>> {
    let admin = PgConnectOptions::from_str(admin_url)?;
    let mut connection = admin
        .clone()
        .application_name("mainstay-bootstrap")
        .connect()
        .await?;
    let database: String = sqlx::query_scalar("select current_database()::text")
        .fetch_one(&mut connection)
        .await?;
    // Passwords stand in these statements: keep them out of the server's log, which only a superuser can ask for.
    sqlx::raw_sql(
        "set log_statement = 'none'; set log_min_duration_statement = -1; set log_min_error_statement = 'panic';
         set client_min_messages = warning; select pg_advisory_lock(hashtext('mainstay.bootstrap'))",
    )
    .execute(&mut connection)
    .await?;
    for service in &options.services {
        roles(&mut connection, options, service).await?;
        schema(&mut connection, options, service).await?;
    }
    connect_only_for_ours(&mut connection, &database, options).await?;
    connection.close().await?;
    options.credentials(admin_url, &database)
}

/// Roles are the server's, and two bootstraps of different databases may run at once: each statement may find its role
/// made a moment ago.
async fn roles(
    connection: &mut PgConnection,
    options: &BootstrapOptions,
    service: &str,
) -> Result<()> {
    let owner = options.role(service, "owner");
    let mut script = String::new();
    for kind in ["owner", "migrator", "app", "worker"] {
        let role = options.role(service, kind);
        let attributes = if kind == "owner" {
            "nologin".to_owned()
        } else {
            format!("login password '{}'", options.password(&role))
        };
        let name = quoted(&role);
        // ROLLBACK is said also where nothing may be open; PostgreSQL would note it each time.
        script.push_str(&format!(
            "do $$ begin create role {name}; exception when duplicate_object or unique_violation then null; end $$;
             alter role {name} with {attributes} nosuperuser nobypassrls nocreatedb nocreaterole noreplication;
             alter role {name} set search_path = {};
             alter role {name} set log_min_messages = 'error';",
            quoted(service)
        ));
    }
    script.push_str(&format!(
        "grant {} to {};",
        quoted(&owner),
        quoted(&options.role(service, "migrator"))
    ));
    let mut attempt = 1;
    loop {
        let done = sqlx::raw_sql(AssertSqlSafe(script.clone()))
            .execute(&mut *connection)
            .await;
        match done {
            Ok(_) => return Ok(()),
            Err(error) if is_catalogue_race(&error) && attempt < 10 => {
                let pause = Duration::from_millis(rand::random_range(5..=20 * attempt));
                tokio::time::sleep(pause).await;
                attempt += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// `tuple concurrently updated`: PostgreSQL does not queue those who change the same role.
fn is_catalogue_race(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(|e| e.code())
        .is_some_and(|code| code == "XX000")
}

async fn schema(
    connection: &mut PgConnection,
    options: &BootstrapOptions,
    service: &str,
) -> Result<()> {
    let schema = quoted(service);
    sqlx::raw_sql(AssertSqlSafe(format!(
        "create schema if not exists {schema} authorization {owner};
         revoke all on schema {schema} from public;
         grant usage on schema {schema} to {app}, {worker};",
        owner = quoted(&options.role(service, "owner")),
        app = quoted(&options.role(service, "app")),
        worker = quoted(&options.role(service, "worker")),
    )))
    .execute(connection)
    .await?;
    Ok(())
}

/// Only our roles may connect, and nobody may make objects outside the schemas. Also for a database copied from a
/// template, whose own privileges are not copied.
///
/// # Errors
/// When the connection's role may not do this.
pub async fn connect_only_for_ours(
    connection: &mut PgConnection,
    database: &str,
    options: &BootstrapOptions,
) -> Result<()> {
    let ours: Vec<String> = options
        .services
        .iter()
        .flat_map(|service| {
            ["migrator", "app", "worker"].map(|kind| quoted(&options.role(service, kind)))
        })
        .collect();
    let database = quoted(database);
    sqlx::raw_sql(AssertSqlSafe(format!(
        "revoke all on database {database} from public;
         revoke all on schema public from public;
         grant connect on database {database} to {};",
        ours.join(", ")
    )))
    .execute(connection)
    .await?;
    Ok(())
}

/// Drops a schema with all that is in it. For development and tests, where nothing is worth keeping.
///
/// # Errors
/// When the role may not.
pub async fn drop_schema(admin_url: &str, service: &str) -> Result<()> {
    let mut connection = PgConnectOptions::from_str(admin_url)?.connect().await?;
    sqlx::raw_sql(AssertSqlSafe(format!(
        "drop schema if exists {} cascade",
        quoted(service)
    )))
    .execute(&mut connection)
    .await?;
    connection.close().await?;
    Ok(())
}
