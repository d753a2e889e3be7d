//! The transactions, each carrying in its type in whose name it works. Opening one is a single round trip.
//! Deliberately absent: a transaction of the app role without a name (a directory transaction sees only directory
//! tables), and any way to change the name of one that is open.

use sqlx::{AssertSqlSafe, PgConnection};

use mainstay_types::{AgencyId, AgencyScope, ClientId, Tenant, Visible};

use crate::{Error, Result, borrowed::Borrowed, warm::WarmPool};

/// A connection with a transaction open.
#[derive(Debug)]
struct Open {
    connection: Borrowed,
}

impl Open {
    async fn begin(pool: &WarmPool, name: Name<'_>) -> Result<Self> {
        Self::begin_by(pool, name.begin_statement()).await
    }

    /// Simple protocol: all of the statement goes out in one packet. Only ids are interpolated, and those print as hex.
    async fn begin_by(pool: &WarmPool, statement: String) -> Result<Self> {
        // Borrowed before it begins: whoever is dropped while it does leaves a transaction too.
        let mut connection = Borrowed::from(pool).await?;
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(connection.conn())
            .await?;
        Ok(Self { connection })
    }

    /// PostgreSQL answers COMMIT of a failed transaction with a quiet ROLLBACK; the select makes that an error.
    async fn commit(self) -> Result<()> {
        self.end("select 1; commit").await
    }

    async fn rollback(self) -> Result<()> {
        self.end("rollback").await
    }

    async fn end(mut self, statement: &'static str) -> Result<()> {
        sqlx::raw_sql(statement)
            .execute(self.connection.conn())
            .await?;
        self.connection.has_ended();
        Ok(())
    }
}

/// In whose name a transaction works: what the policies of `migrations/_core` read.
enum Name<'a> {
    Nobody,
    Agency(AgencyId, &'a Visible),
    Tenant(Tenant),
}

impl Name<'_> {
    fn begin_statement(&self) -> String {
        // All three are always set: an earlier `set` in the session can never shine through.
        let (agency, tenant, visible) = match self {
            Name::Nobody => (String::new(), String::new(), String::new()),
            Name::Agency(agency, visible) => {
                (agency.uuid().to_string(), String::new(), list(visible))
            }
            Name::Tenant(tenant) => (
                tenant.agency.uuid().to_string(),
                tenant.client.uuid().to_string(),
                String::new(),
            ),
        };
        format!(
            "begin; select set_config('mainstay.agency_id', '{agency}', true), \
             set_config('mainstay.tenant_id', '{tenant}', true), \
             set_config('mainstay.visible', '{visible}', true)"
        )
    }
}

fn list(visible: &Visible) -> String {
    match visible {
        Visible::All => "*".to_owned(),
        Visible::Only(clients) => {
            let ids: Vec<String> = clients.iter().map(|c| c.uuid().to_string()).collect();
            format!("{{{}}}", ids.join(","))
        }
    }
}

macro_rules! transaction {
    ($(#[$doc:meta])* $name:ident { $($field:ident : $kind:ty),* }) => {
        $(#[$doc])*
        #[derive(Debug)]
        #[must_use = "a transaction that is dropped is rolled back"]
        pub struct $name {
            open: Open,
            $($field: $kind,)*
        }

        impl $name {
            /// What `query!(…).execute(tx.conn())` takes.
            pub fn conn(&mut self) -> &mut PgConnection {
                self.open.connection.conn()
            }

            /// Makes it durable.
            ///
            /// # Errors
            /// Also when a statement had failed and its error was passed over: nothing was written then.
            /// After [`Error::Unavailable`] it is unknown whether it was committed.
            pub async fn commit(self) -> Result<()> {
                self.open.commit().await
            }

            /// Undoes it now instead of when the connection is released.
            pub async fn rollback(self) -> Result<()> {
                self.open.rollback().await
            }
        }
    };
}

transaction! {
    /// Work for one client of one agency: reads and writes that client's rows and its agency's tables.
    TenantTx { tenant: Tenant }
}

transaction! {
    /// Work for one agency: reads and writes agency tables, and only reads the tables of the clients it may see.
    AgencyTx { scope: AgencyScope }
}

transaction! {
    /// Work before anyone is authenticated: directory tables alone.
    DirectoryTx {}
}

transaction! {
    /// Machinery's work: queue, outbox, inbox, sagas. Domain tables stay closed; see [`Worker::tenant`].
    WorkerTx {}
}

impl TenantTx {
    pub(crate) async fn begin(pool: &WarmPool, tenant: Tenant) -> Result<Self> {
        let open = Open::begin(pool, Name::Tenant(tenant)).await?;
        Ok(Self { open, tenant })
    }

    /// In whose name.
    pub fn tenant(&self) -> Tenant {
        self.tenant
    }

    /// The agency.
    pub fn agency(&self) -> AgencyId {
        self.tenant.agency
    }

    /// The client.
    pub fn client(&self) -> ClientId {
        self.tenant.client
    }
}

impl AgencyTx {
    pub(crate) async fn begin(pool: &WarmPool, scope: &AgencyScope) -> Result<Self> {
        let open = Open::begin(pool, Name::Agency(scope.agency, &scope.visible)).await?;
        Ok(Self {
            open,
            scope: scope.clone(),
        })
    }

    /// In whose name.
    pub fn scope(&self) -> &AgencyScope {
        &self.scope
    }

    /// The agency.
    pub fn agency(&self) -> AgencyId {
        self.scope.agency
    }
}

impl DirectoryTx {
    pub(crate) async fn begin(pool: &WarmPool) -> Result<Self> {
        let open = Open::begin(pool, Name::Nobody).await?;
        Ok(Self { open })
    }
}

/// Asks for an answer.
pub(crate) async fn ping(pool: &WarmPool) -> Result<()> {
    let mut connection = Borrowed::from(pool).await?;
    sqlx::raw_sql("select 1").execute(connection.conn()).await?;
    connection.has_ended();
    Ok(())
}

/// The worker role: machinery's tables freely, domain tables only under a tenant or agency as for everyone.
#[derive(Debug, Clone)]
pub struct Worker {
    pool: WarmPool,
}

impl Worker {
    pub(crate) fn new(pool: WarmPool) -> Self {
        Self { pool }
    }

    pub(crate) fn pool(&self) -> &WarmPool {
        &self.pool
    }

    /// A transaction over machinery's tables.
    pub async fn tx(&self) -> Result<WorkerTx> {
        let open = Open::begin(&self.pool, Name::Nobody).await?;
        Ok(WorkerTx { open })
    }

    /// A transaction that claims from a queue: it walks the queue's index in its order and stops at the limit, whatever
    /// the statistics say. Those of a queue are wrong when it matters: taken while it was empty, they make a plan that
    /// sorts all that waits for each claim.
    pub async fn claim(&self) -> Result<WorkerTx> {
        let statement = "begin; set local enable_seqscan = off; set local enable_bitmapscan = off; set local enable_sort = off";
        let open = Open::begin_by(&self.pool, statement.to_owned()).await?;
        Ok(WorkerTx { open })
    }

    /// A transaction for one client, in which machinery's tables can be written as well.
    pub async fn tenant(&self, tenant: Tenant) -> Result<TenantTx> {
        TenantTx::begin(&self.pool, tenant).await
    }

    /// A transaction for one agency, in which machinery's tables can be written as well.
    pub async fn agency(&self, scope: &AgencyScope) -> Result<AgencyTx> {
        AgencyTx::begin(&self.pool, scope).await
    }

    /// A connection for single statements on machinery's tables, each its own transaction.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no connection is free in time.
    pub async fn connection(&self) -> Result<WorkerConnection> {
        Ok(WorkerConnection {
            connection: Borrowed::from(&self.pool).await?,
        })
    }
}

/// See [`Worker::connection`].
#[derive(Debug)]
pub struct WorkerConnection {
    connection: Borrowed,
}

impl WorkerConnection {
    /// What `query!(…).execute(…)` takes.
    pub fn conn(&mut self) -> &mut PgConnection {
        self.connection.conn()
    }

    /// Gives it back after statements that have all been answered. Dropped, it is rolled back first, as if one had not:
    /// a round trip more, which matters only where there are thousands a second.
    pub fn give_back(mut self) {
        self.connection.has_ended();
    }
}

/// Lets generic machinery (jobs, events) hand any open transaction on.
impl AsMut<PgConnection> for TenantTx {
    fn as_mut(&mut self) -> &mut PgConnection {
        self.conn()
    }
}

impl AsMut<PgConnection> for AgencyTx {
    fn as_mut(&mut self) -> &mut PgConnection {
        self.conn()
    }
}

impl AsMut<PgConnection> for WorkerTx {
    fn as_mut(&mut self) -> &mut PgConnection {
        self.conn()
    }
}

const _: fn() = || {
    fn send<T: Send>() {}
    send::<TenantTx>();
    send::<Error>();
};
