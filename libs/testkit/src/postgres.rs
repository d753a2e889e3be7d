//! A database of its own for every test, copied from a template that is migrated once per state of `migrations/`, on one
//! private server that all test processes share. Deliberately absent: sharing of rows between tests, and clean-up by hand:
//! a database goes when its test ends, the server when no test has run for half a minute.
#![expect(
    clippy::expect_used,
    reason = "a test without its database has failed, and the message is for its reader"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use mainstay_db::{
    Database, DatabaseConfig,
    bootstrap::{self, BootstrapOptions},
    local::{LocalOptions, LocalPostgres},
    migrate::{self, Migrations},
};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::OnceCell;

use crate::PATIENCE;

/// Roles are made once and shared by every test's database.
const ROLE_SUFFIX: &str = "test";

/// The server, and the template of this state of the migrations.
struct Server {
    /// The superuser's URL, without a database.
    base_url: String,
    secret: String,
    template: String,
    migrations: Migrations,
    /// Held while this process lives: the watchdog stops a server that nobody holds.
    _user: Option<fs::File>,
}

static SERVER: OnceCell<Server> = OnceCell::const_new();
static COUNTER: AtomicU32 = AtomicU32::new(0);

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("libs/testkit is two below the root")
        .to_owned()
}

/// The migrations as they are on disk now.
pub fn migrations() -> Migrations {
    Migrations::from_dir(&workspace().join("migrations")).expect("migrations are in order")
}

/// A PostgreSQL database with every service's schema, for one test.
pub struct TestDatabase {
    name: String,
    server: &'static Server,
    /// What was counted with last: a test that looks until something is so must not keep the server busy with connecting.
    counter: Mutex<Option<PgConnection>>,
}

impl TestDatabase {
    /// A copy of the migrated template.
    ///
    /// # Panics
    /// When there is no PostgreSQL 15 or newer, or a migration fails: the message says which.
    pub async fn new() -> Self {
        Self::create(true).await
    }

    /// A database with roles and empty schemas, for tests of the migrations themselves.
    ///
    /// # Panics
    /// As [`TestDatabase::new`].
    pub async fn unmigrated() -> Self {
        let database = Self::create(false).await;
        bootstrap::bootstrap(&database.admin_url(), &database.server.roles())
            .await
            .expect("bootstrap");
        database
    }

    /// As [`TestDatabase::new`], with what is asked of it counted in `pg_stat_statements`. Whoever is connected already is not.
    ///
    /// # Panics
    /// As [`TestDatabase::new`], and when a server that was given does not load that library.
    pub async fn counting() -> Self {
        let database = Self::new().await;
        let name = &database.name;
        let counted = format!(
            "create extension pg_stat_statements; alter database {name} set pg_stat_statements.track = 'top'"
        );
        database.execute(&counted).await;
        database
    }

    async fn create(from_template: bool) -> Self {
        let server = server().await;
        let name = format!(
            "test_{}_{}",
            std::process::id(),
            COUNTER.fetch_add(1, Ordering::Relaxed)
        );
        let template = if from_template {
            &server.template
        } else {
            "template0"
        };
        let mut connection = server.admin("postgres").await;
        run(
            &mut connection,
            &format!("drop database if exists {name} with (force)"),
        )
        .await;
        run(
            &mut connection,
            &format!("create database {name} template {template}"),
        )
        .await;
        bootstrap::connect_only_for_ours(
            &mut PgConnection::connect(&server.url(&name))
                .await
                .expect("the new database answers"),
            &name,
            &server.roles(),
        )
        .await
        .expect("grants");
        Self {
            name,
            server,
            counter: Mutex::new(None),
        }
    }

    /// The service's database as the service sees it: app and worker roles, walls up.
    ///
    /// # Panics
    /// When the roles are refused.
    pub async fn database(&self, service: &str) -> Database {
        Database::connect(&self.config(service))
            .await
            .unwrap_or_else(|error| panic!("{service}: {error:?}"))
    }

    /// The same as settings, for a service under test.
    ///
    /// # Panics
    /// When there is no such service.
    pub fn config(&self, service: &str) -> DatabaseConfig {
        let credentials = self
            .server
            .roles()
            .credentials(&self.server.base_url, &self.name)
            .expect("our own URL")
            .into_iter()
            .find(|c| c.service == service)
            .unwrap_or_else(|| panic!("no service {service}"));
        DatabaseConfig {
            app_connections: 8,
            worker_connections: 8,
            // Two cores shared by all tests: patience is not what is tested.
            acquire_timeout: PATIENCE,
            ..DatabaseConfig::new(service, &credentials.app_url, &credentials.worker_url)
        }
    }

    /// The migrator's URL of a service.
    ///
    /// # Panics
    /// When there is no such service.
    pub fn migrator_url(&self, service: &str) -> String {
        self.server
            .roles()
            .credentials(&self.server.base_url, &self.name)
            .expect("our own URL")
            .into_iter()
            .find(|c| c.service == service)
            .unwrap_or_else(|| panic!("no service {service}"))
            .migrator_url
    }

    /// The name of a role, for tests of privileges: `kind` is owner, migrator, app or worker.
    pub fn role(&self, service: &str, kind: &str) -> String {
        self.server.roles().role(service, kind)
    }

    /// The superuser's URL: sees over every wall.
    pub fn admin_url(&self) -> String {
        self.server.url(&self.name)
    }

    /// A superuser's connection: to look at what the test did, from outside the walls.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn admin(&self) -> PgConnection {
        self.server.admin(&self.name).await
    }

    /// Runs statements as the superuser.
    ///
    /// # Panics
    /// When one fails.
    pub async fn execute(&self, sql: &str) {
        run(&mut self.admin().await, sql).await;
    }

    /// One number, as the superuser: `select count(*) from billing.job`.
    ///
    /// # Panics
    /// When the query fails or gives no number.
    pub async fn count(&self, sql: &str) -> i64 {
        let kept = self.counter.lock().ok().and_then(|mut kept| kept.take());
        let mut connection = match kept {
            Some(kept) => kept,
            None => self.admin().await,
        };
        if connection.ping().await.is_err() {
            // It was cut, as those of a test often are.
            connection = self.admin().await;
        }
        let counted = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .persistent(false)
            .fetch_one(&mut connection)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        if let Ok(mut kept) = self.counter.lock() {
            *kept = Some(connection);
        }
        counted
    }

    /// Cuts every connection to this database, as a restart of the server would.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn cut_connections(&self) {
        let sql = format!(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{}' and pid <> pg_backend_pid()",
            self.name
        );
        run(&mut self.admin().await, &sql).await;
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let url = self.server.url("postgres");
        let sql = format!("drop database if exists {} with (force)", self.name);
        // A thread that nobody waits for. To drop a database PostgreSQL waits for every backend of the server, and for one whose
        // client is still to send its password until that does: whoever waited here would hold up the runtime in which it would.
        // A leftover is dropped by the next test process.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .ok()?;
            runtime.block_on(async {
                let mut connection = PgConnection::connect(&url).await.ok()?;
                let dropped = sqlx::raw_sql(AssertSqlSafe(sql));
                dropped.execute(&mut connection).await.ok()?;
                connection.close().await.ok()
            })
        });
    }
}

impl Server {
    fn url(&self, database: &str) -> String {
        let (server, query) = self
            .base_url
            .split_once('?')
            .unwrap_or((&self.base_url, ""));
        let server = server.rsplit_once('/').map_or(server, |(server, _)| server);
        format!("{server}/{database}?{query}")
    }

    async fn admin(&self, database: &str) -> PgConnection {
        PgConnection::connect(&self.url(database))
            .await
            .unwrap_or_else(|error| panic!("the test server does not answer: {error}"))
    }

    fn roles(&self) -> BootstrapOptions {
        BootstrapOptions {
            suffix: ROLE_SUFFIX.to_owned(),
            ..BootstrapOptions::for_database("", self.migrations.services(), self.secret.as_bytes())
        }
    }
}

async fn run(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
}

async fn server() -> &'static Server {
    SERVER.get_or_init(start).await
}

async fn start() -> Server {
    let migrations = migrations();
    let template = format!("template_{}", migrations.digest());
    let dir = workspace().join("target/test-postgres");
    fs::create_dir_all(&dir).expect("target is writable");
    let mut server = match given_server() {
        Some(base_url) => Server {
            secret: base_url.clone(),
            base_url,
            template,
            migrations,
            _user: None,
        },
        None => {
            // First the hold, then the start: the watchdog cannot stop in between.
            let user = open(&dir.join("users.lock"));
            user.lock_shared().expect("a lock in target");
            let postgres = LocalPostgres::start(&LocalOptions {
                durable: false,
                exclusive: false,
                max_connections: 500,
                ..LocalOptions::new(&dir)
            })
            .await
            .unwrap_or_else(|error| panic!("{error}"));
            watch(&dir, &postgres);
            Server {
                base_url: postgres.admin_url("postgres"),
                secret: postgres.secret().to_owned(),
                template,
                migrations,
                _user: Some(user),
            }
        }
    };
    prepare(&mut server, &dir).await;
    server
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests have no configuration of their own; this one says which server to use instead of a private one"
)]
fn given_server() -> Option<String> {
    std::env::var("MAINSTAY_TEST_DATABASE_URL").ok()
}

fn open(path: &Path) -> fs::File {
    fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Makes the template if this state of the migrations has none, and drops what dead processes left.
async fn prepare(server: &mut Server, dir: &Path) {
    let turn = open(&dir.join("template.lock"));
    turn.lock().expect("a lock in target");
    let mut connection = server.admin("postgres").await;
    let databases: Vec<String> =
        sqlx::query_scalar("select datname::text from pg_database order by 1")
            .fetch_all(&mut connection)
            .await
            .expect("the catalogue answers");
    for name in &databases {
        if is_left_over(name) {
            run(
                &mut connection,
                &format!("drop database if exists {name} with (force)"),
            )
            .await;
        }
    }
    if databases.contains(&server.template) {
        return;
    }
    // Kept: the template of one earlier state, for the other branch one may switch between.
    let earlier: Vec<&String> = databases
        .iter()
        .filter(|name| name.starts_with("template_"))
        .collect();
    for name in earlier.iter().rev().skip(3) {
        run(&mut connection, &format!("drop database if exists {name}")).await;
    }
    // Under another name until it is whole: a run that is killed in between leaves no half template.
    let unfinished = "unfinished_template";
    run(
        &mut connection,
        &format!("drop database if exists {unfinished} with (force)"),
    )
    .await;
    run(
        &mut connection,
        &format!("create database {unfinished} template template0"),
    )
    .await;
    let url = server.url(unfinished);
    bootstrap::bootstrap(&url, &server.roles())
        .await
        .expect("bootstrap");
    for service in server.migrations.services() {
        migrate::up(&url, service, &server.migrations, false)
            .await
            .unwrap_or_else(|error| panic!("{error}"));
    }
    run(
        &mut connection,
        &format!("alter database {unfinished} rename to {}", server.template),
    )
    .await;
}

/// `test_<pid>_<n>` of a process that is no more.
fn is_left_over(name: &str) -> bool {
    name.strip_prefix("test_")
        .and_then(|rest| rest.split_once('_'))
        .is_some_and(|(pid, _)| !Path::new("/proc").join(pid).exists())
}

/// A small shell that outlives us and stops the server once no test process has held it for a while.
fn watch(dir: &Path, postgres: &LocalPostgres) {
    let stop: Vec<String> = postgres
        .stop_command()
        .iter()
        .map(|word| format!("'{}'", word.replace('\'', r"'\''")))
        .collect();
    let script = format!(
        "while sleep 30; do flock -n -E 99 users.lock {}; test $? -eq 99 || exit 0; done",
        stop.join(" ")
    );
    // Without setsid or flock (not a Linux) the server just stays until it is stopped by hand.
    let _ = Command::new("setsid")
        .args(["flock", "-n", "watchdog.lock", "sh", "-c", &script])
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
}
