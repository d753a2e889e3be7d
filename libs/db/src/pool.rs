//! The one pool, and who may ask it: the two roles of a service, inspected before they serve.
//! Deliberately absent: a way to get a bare connection of the app role. Work starts from a transaction.

use std::{
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sqlx::{
    ConnectOptions, PgPool, Row,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{
    Error, Result,
    transaction::{self, AgencyTx, DirectoryTx, TenantTx, Worker},
    warm::WarmPool,
};
use mainstay_types::{AgencyScope, Tenant};

/// How a service reaches its database.
#[derive(Clone)]
pub struct DatabaseConfig {
    /// The service, which is its schema.
    pub service: String,
    /// Connection URL of the app role: requests.
    pub app_url: String,
    /// Connection URL of the worker role: jobs, events, sagas.
    pub worker_url: String,
    /// Connections of the app pool.
    pub app_connections: u32,
    /// Connections of the worker pool.
    pub worker_connections: u32,
    /// How long a request waits for a connection before it is told the service is unavailable.
    pub acquire_timeout: Duration,
    /// How long one statement may run.
    pub statement_timeout: Duration,
    /// How long a statement waits for a lock.
    pub lock_timeout: Duration,
    /// From how long on a statement is logged as slow.
    pub slow_statement: Duration,
    /// For how long a connection is lent again at once before the pool tests it, and ends it if it is old or too many.
    pub rest: Duration,
}

impl DatabaseConfig {
    /// The settings of a service with the limits every service starts from.
    pub fn new(service: &str, app_url: &str, worker_url: &str) -> Self {
        Self {
            service: service.to_owned(),
            app_url: app_url.to_owned(),
            worker_url: worker_url.to_owned(),
            app_connections: 12,
            worker_connections: 8,
            acquire_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(5),
            slow_statement: Duration::from_millis(500),
            rest: Duration::from_secs(60),
        }
    }
}

impl fmt::Debug for DatabaseConfig {
    // The URLs hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseConfig")
            .field("service", &self.service)
            .field("app_connections", &self.app_connections)
            .field("worker_connections", &self.worker_connections)
            .finish_non_exhaustive()
    }
}

/// How full a pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolStatus {
    /// `app` or `worker`, or who has it apart.
    pub role: &'static str,
    /// Connections open.
    pub open: u32,
    /// Of those, waiting for work.
    pub idle: u32,
    /// Of those, lent before any other.
    pub warm: u32,
    /// The most there may be.
    pub limit: u32,
}

/// A service's database: the app role for requests, the worker role for machinery.
#[derive(Clone)]
pub struct Database {
    app: WarmPool,
    worker: Worker,
    /// Whoever has connections of the worker role for itself.
    apart: Arc<Mutex<Vec<(&'static str, WarmPool)>>>,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("app", &self.app.pool().size())
            .finish_non_exhaustive()
    }
}

impl Database {
    /// Connects both roles and refuses those that could look over a wall: superusers, roles that bypass row security,
    /// owners, members of owners, roles that reach another schema.
    ///
    /// # Errors
    /// [`Error::Refused`] with every problem of both roles; [`Error::Unavailable`] when the server cannot be reached.
    pub async fn connect(config: &DatabaseConfig) -> Result<Self> {
        let mut problems = Vec::new();
        let app_options = connect_options(config, &config.app_url, "app", &mut problems);
        let worker_options = connect_options(config, &config.worker_url, "worker", &mut problems);
        let (Some(app_options), Some(worker_options)) = (app_options, worker_options) else {
            return Err(Error::Refused(problems));
        };
        let pool = |options, max| pool(bounds(config, max), options, config.rest);
        let app = pool(app_options, config.app_connections);
        let worker = pool(worker_options, config.worker_connections);
        inspect(app.pool(), "app", &config.service, &mut problems).await?;
        inspect(worker.pool(), "worker", &config.service, &mut problems).await?;
        if !problems.is_empty() {
            return Err(Error::Refused(problems));
        }
        Ok(Self {
            app,
            worker: Worker::new(worker),
            apart: Arc::default(),
        })
    }

    /// A transaction for one client of one agency. One round trip.
    pub async fn tenant(&self, tenant: Tenant) -> Result<TenantTx> {
        TenantTx::begin(&self.app, tenant).await
    }

    /// A transaction for one agency: its own tables, and for reading those of its visible clients. One round trip.
    pub async fn agency(&self, scope: &AgencyScope) -> Result<AgencyTx> {
        AgencyTx::begin(&self.app, scope).await
    }

    /// A transaction for nobody yet: only directory tables can be seen. One round trip.
    pub async fn directory(&self) -> Result<DirectoryTx> {
        DirectoryTx::begin(&self.app).await
    }

    /// The machinery's door.
    pub fn worker(&self) -> Worker {
        self.worker.clone()
    }

    /// The machinery's door with so many connections of its own, which nothing else can use up. Must run inside a tokio
    /// runtime.
    pub fn apart(&self, name: &'static str, connections: u32) -> Worker {
        let pool = apart(self.worker.pool(), connections);
        self.all_apart().push((name, pool.clone()));
        Worker::new(pool)
    }

    fn all_apart(&self) -> MutexGuard<'_, Vec<(&'static str, WarmPool)>> {
        self.apart.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether whoever has connections gets an answer. For readiness.
    pub async fn ping(&self) -> Result<()> {
        transaction::ping(&self.app).await?;
        transaction::ping(self.worker.pool()).await?;
        let apart = self.all_apart().clone();
        for (_, pool) in apart {
            transaction::ping(&pool).await?;
        }
        Ok(())
    }

    /// How full the pools are. For metrics.
    pub fn status(&self) -> Vec<PoolStatus> {
        let roles = [("app", &self.app), ("worker", self.worker.pool())];
        let roles = roles.into_iter().map(|(name, pool)| status(name, pool));
        let apart = self.all_apart();
        roles
            .chain(apart.iter().map(|(name, pool)| status(name, pool)))
            .collect()
    }

    /// Closes all pools, waiting for what is borrowed.
    pub async fn close(&self) {
        self.app.close().await;
        self.worker.pool().close().await;
        let apart = self.all_apart().clone();
        for (_, pool) in apart {
            pool.close().await;
        }
    }
}

fn status(role: &'static str, pool: &WarmPool) -> PoolStatus {
    let count = |connections| u32::try_from(connections).unwrap_or(u32::MAX);
    let (warm, pool) = (pool.warm(), pool.pool());
    PoolStatus {
        role,
        open: pool.size(),
        idle: count(pool.num_idle() + warm),
        warm: count(warm),
        limit: pool.options().get_max_connections(),
    }
}

fn connect_options(
    config: &DatabaseConfig,
    url: &str,
    role: &str,
    problems: &mut Vec<String>,
) -> Option<PgConnectOptions> {
    // What machinery asks is by key and in the order of an index: one plan serves every value. Left to itself PostgreSQL
    // would plan each access to a partitioned table anew, which costs more than the access. And a plan that was made while
    // a table was small must not read all of it when it has grown. What people list is filtered.
    let (plan_cache_mode, seqscan) = match role {
        "worker" => ("force_generic_plan", "off"),
        _ => ("auto", "on"),
    };
    match PgConnectOptions::from_str(url) {
        Ok(options) => Some(
            options
                .application_name(&format!("mainstay-{}-{role}", config.service))
                .options([
                    ("search_path", config.service.clone()),
                    (
                        "statement_timeout",
                        config.statement_timeout.as_millis().to_string(),
                    ),
                    ("lock_timeout", config.lock_timeout.as_millis().to_string()),
                    ("idle_in_transaction_session_timeout", "60000".to_owned()),
                    // Statements here are short; compiling one would take longer than a thousand of them.
                    ("jit", "off".to_owned()),
                    ("plan_cache_mode", plan_cache_mode.to_owned()),
                    ("enable_seqscan", seqscan.to_owned()),
                    // ROLLBACK is said also where nothing may be open, which PostgreSQL would remark on each time.
                    ("client_min_messages", "error".to_owned()),
                ])
                .log_statements(level("off"))
                .log_slow_statements(level("warn"), config.slow_statement),
        ),
        // The error may repeat the text, and with it the password.
        Err(_) => {
            problems.push(format!("the {role} URL is not a PostgreSQL URL"));
            None
        }
    }
}

/// `sqlx` takes the level filters of the `log` crate; their names spare us the dependency.
fn level<L: FromStr>(name: &str) -> L
where
    L::Err: fmt::Debug,
{
    name.parse().expect("a level the log crate documents")
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one pool; the lint exists so that there is no second past the doors"
)]
fn pool(bounds: PgPoolOptions, options: PgConnectOptions, rest: Duration) -> WarmPool {
    WarmPool::new(bounds.connect_lazy_with(options), rest)
}

fn bounds(config: &DatabaseConfig, max: u32) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(max)
        .min_connections(0)
        .acquire_timeout(config.acquire_timeout)
        .idle_timeout(Duration::from_secs(300))
        .max_lifetime(Duration::from_secs(1800))
        .test_before_acquire(false) // a broken one surfaces as Unavailable
}

/// Connections like those of `from`, and beside them.
fn apart(from: &WarmPool, max: u32) -> WarmPool {
    let bounds = from.pool().options().clone().max_connections(max);
    let options = PgConnectOptions::clone(&from.pool().connect_options());
    pool(bounds, options, from.rests_for())
}

const INSPECT: &str = "
select current_user::text as role,
       coalesce(current_schema()::text, '') as current_schema,
       exists (select from pg_namespace where nspname = $1) as schema_exists,
       array(select x.rolname::text from pg_roles x
             where pg_has_role(current_user, x.oid, 'member') and x.rolsuper order by 1) as superusers,
       array(select x.rolname::text from pg_roles x
             where pg_has_role(current_user, x.oid, 'member') and x.rolbypassrls order by 1) as bypassing,
       array(select distinct o.rolname::text
             from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_roles o on o.oid = c.relowner
             where n.nspname = $1 and pg_has_role(current_user, o.oid, 'member') order by 1) as owners,
       array(select n.nspname::text from pg_namespace n
             where n.nspname not in ('pg_catalog', 'information_schema', 'public', $1)
               and n.nspname not like 'pg\\_%' and has_schema_privilege(n.oid, 'usage') order by 1) as other_schemas,
       coalesce((select has_table_privilege(c.oid, 'select') from pg_class c join pg_namespace n on n.oid = c.relnamespace
             where n.nspname = $1 and c.relname = 'job_lease'), false) as reads_leases
";

/// Asks the catalogue what the role could do, now or by `set role`.
async fn inspect(
    pool: &PgPool,
    kind: &str,
    service: &str,
    problems: &mut Vec<String>,
) -> Result<()> {
    let row = sqlx::query(INSPECT).bind(service).fetch_one(pool).await?;
    let role: String = row.try_get("role")?;
    let list = |column: &str| -> Result<Vec<String>> { Ok(row.try_get(column)?) };
    let mut refuse = |what: String| problems.push(format!("the {kind} role {role} {what}"));
    let superusers = list("superusers")?;
    if superusers.is_empty() {
        // A superuser has every privilege below; one sentence says enough.
        if !list("bypassing")?.is_empty() {
            refuse("can bypass row security".to_owned());
        }
        let owners = list("owners")?;
        if !owners.is_empty() {
            refuse(format!(
                "owns tables of schema {service} or is a member of their owner {}",
                owners.join(", ")
            ));
        }
        let other = list("other_schemas")?;
        if !other.is_empty() {
            refuse(format!(
                "can reach the schemas of others: {}",
                other.join(", ")
            ));
        }
        if !row.try_get::<bool, _>("schema_exists")? {
            refuse(format!(
                "finds no schema {service}: run `mainstay migrate` first"
            ));
        } else if row.try_get::<String, _>("current_schema")? != service {
            refuse(format!("may not use schema {service}"));
        }
        if kind == "app" && row.try_get::<bool, _>("reads_leases")? {
            refuse("is a worker role: requests would see the machinery of all agencies".to_owned());
        }
    } else {
        refuse("is a superuser or can become one, so no wall would hold".to_owned());
    }
    Ok(())
}
