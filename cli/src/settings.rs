//! The settings that the binary itself reads: databases of all services alike, and what only `up`, `migrate` and
//! `serve sandbox` need; and the catalogue of every setting there is.
//! Deliberately absent: settings of one service. Those stand in that service's `config.rs`.

use std::collections::HashSet;

use mainstay_runtime::config::{Config, Group, Kind, Setting, Sources, common};
use mainstay_types::ServiceName;

/// Where one service finds its database.
#[derive(Debug)]
pub struct DatabaseSettings {
    /// As the app role: requests.
    pub app_url: Setting,
    /// As the worker role: jobs, events, sagas.
    pub worker_url: Setting,
    /// Connections of the app role.
    pub app_connections: Setting,
    /// Connections of the worker role.
    pub worker_connections: Setting,
    /// As the migrator role: `mainstay migrate`.
    pub migrator_url: Setting,
}

macro_rules! databases {
    ($($service:ident, $settings:ident, $group:ident, $migrator:ident, $name:literal, $app:literal, $worker:literal, $app_connections:literal, $worker_connections:literal, $migrator_url:literal;)*) => {
        $(
            static $settings: DatabaseSettings = DatabaseSettings {
                app_url: Setting::new($app, concat!("where ", $name, " finds its database, as its app role"), Kind::PostgresUrl),
                worker_url: Setting::new($worker, concat!("where ", $name, " finds its database, as its worker role"), Kind::PostgresUrl),
                app_connections: Setting::new($app_connections, concat!("connections that requests to ", $name, " share; all replicas together must fit the server's max_connections"), Kind::Integer { min: 1, max: 500 }).default("12"),
                worker_connections: Setting::new($worker_connections, concat!("connections that the jobs, events and sagas of ", $name, " share"), Kind::Integer { min: 1, max: 500 }).default("8"),
                migrator_url: Setting::new($migrator_url, concat!("where `mainstay migrate` finds the schema of ", $name, ", as its migrator role"), Kind::PostgresUrl),
            };
            static $group: Group = Group {
                name: concat!($name, " (database)"),
                about: concat!("Where ", $name, " keeps its rows. `mainstay migrate bootstrap` makes the roles."),
                settings: &[$settings.app_url, $settings.worker_url, $settings.app_connections, $settings.worker_connections],
            };
            static $migrator: Group = Group {
                name: concat!($name, " (migrations)"),
                about: "Read by `mainstay migrate` only.",
                settings: &[$settings.migrator_url],
            };
        )*
        /// The database settings of a service; none of the gateway, which has no database.
        pub fn database(service: ServiceName) -> Option<(&'static DatabaseSettings, &'static Group, &'static Group)> {
            match service {
                $(ServiceName::$service => Some((&$settings, &$group, &$migrator)),)*
                ServiceName::Gateway => None,
            }
        }
    };
}
databases! {
    Identity, IDENTITY, IDENTITY_GROUP, IDENTITY_MIGRATOR, "identity", "MAINSTAY_IDENTITY_DATABASE_URL", "MAINSTAY_IDENTITY_WORKER_DATABASE_URL", "MAINSTAY_IDENTITY_DATABASE_CONNECTIONS", "MAINSTAY_IDENTITY_WORKER_DATABASE_CONNECTIONS", "MAINSTAY_IDENTITY_MIGRATOR_DATABASE_URL";
    Billing, BILLING, BILLING_GROUP, BILLING_MIGRATOR, "billing", "MAINSTAY_BILLING_DATABASE_URL", "MAINSTAY_BILLING_WORKER_DATABASE_URL", "MAINSTAY_BILLING_DATABASE_CONNECTIONS", "MAINSTAY_BILLING_WORKER_DATABASE_CONNECTIONS", "MAINSTAY_BILLING_MIGRATOR_DATABASE_URL";
    Messaging, MESSAGING, MESSAGING_GROUP, MESSAGING_MIGRATOR, "messaging", "MAINSTAY_MESSAGING_DATABASE_URL", "MAINSTAY_MESSAGING_WORKER_DATABASE_URL", "MAINSTAY_MESSAGING_DATABASE_CONNECTIONS", "MAINSTAY_MESSAGING_WORKER_DATABASE_CONNECTIONS", "MAINSTAY_MESSAGING_MIGRATOR_DATABASE_URL";
    Escalation, ESCALATION, ESCALATION_GROUP, ESCALATION_MIGRATOR, "escalation", "MAINSTAY_ESCALATION_DATABASE_URL", "MAINSTAY_ESCALATION_WORKER_DATABASE_URL", "MAINSTAY_ESCALATION_DATABASE_CONNECTIONS", "MAINSTAY_ESCALATION_WORKER_DATABASE_CONNECTIONS", "MAINSTAY_ESCALATION_MIGRATOR_DATABASE_URL";
    Integrations, INTEGRATIONS, INTEGRATIONS_GROUP, INTEGRATIONS_MIGRATOR, "integrations", "MAINSTAY_INTEGRATIONS_DATABASE_URL", "MAINSTAY_INTEGRATIONS_WORKER_DATABASE_URL", "MAINSTAY_INTEGRATIONS_DATABASE_CONNECTIONS", "MAINSTAY_INTEGRATIONS_WORKER_DATABASE_CONNECTIONS", "MAINSTAY_INTEGRATIONS_MIGRATOR_DATABASE_URL";
}

/// The server that `up` uses instead of a private one.
pub const DATABASE_URL: Setting = Setting::new(
    "DATABASE_URL",
    "a database for `mainstay up` to use instead of a private PostgreSQL, as its superuser",
    Kind::PostgresUrl,
)
.optional();

/// Simulators that run elsewhere.
pub const SANDBOX_URL: Setting = Setting::new(
    "SANDBOX_URL",
    "simulators for `mainstay up` to use instead of its own, as `mainstay serve sandbox` serves them",
    Kind::HttpUrl,
)
.optional()
.refused_in_production("");

/// What `up` alone reads.
pub static UP: Group = Group {
    name: "up",
    about: "Read by `mainstay up` only.",
    settings: &[DATABASE_URL, SANDBOX_URL],
};

/// Where the simulators listen.
pub const SANDBOX_LISTEN: Setting = Setting::new(
    "MAINSTAY_SANDBOX_LISTEN",
    "where the simulators listen",
    Kind::SocketAddress,
)
.default("127.0.0.1:12111");

/// Where the simulators keep their journal.
pub const SANDBOX_DATA_DIR: Setting = Setting::new(
    "MAINSTAY_SANDBOX_DATA_DIR",
    "where the simulators keep what they were told; in memory only when not set",
    Kind::Path,
)
.optional();

/// The simulators' settings.
pub static SANDBOX: Group = Group {
    name: "sandbox",
    about: "Read by `mainstay serve sandbox` only, which production refuses.",
    settings: &[SANDBOX_LISTEN, SANDBOX_DATA_DIR],
};

/// The superuser, for the one step that needs it.
pub const ADMIN_URL: Setting = Setting::new(
    "MAINSTAY_ADMIN_DATABASE_URL",
    "the database as its superuser, for `mainstay migrate bootstrap` only",
    Kind::PostgresUrl,
);

/// What the roles' passwords follow from.
pub const ROLE_SECRET: Setting = Setting::new(
    "MAINSTAY_DATABASE_ROLE_SECRET",
    "what the passwords of all database roles are derived from, by `mainstay migrate bootstrap`",
    Kind::HexKey { bytes: 32 },
)
.secret();

/// The settings of the superuser's step.
pub static BOOTSTRAP: Group = Group {
    name: "bootstrap",
    about: "Read by `mainstay migrate bootstrap` only.",
    settings: &[ADMIN_URL, ROLE_SECRET],
};

/// Names that scripts and tests of this repository read, and the binary does not.
const OTHERS: &[&str] = &["MAINSTAY_PY_ENV", "MAINSTAY_TEST_DATABASE_URL"];

/// Every group of settings there is.
pub fn catalogue() -> Vec<&'static Group> {
    let mut groups = vec![&common::GROUP, &mainstay_rpc::config::PEERS];
    for service in ServiceName::ALL {
        groups.push(mainstay_rpc::config::role(service).1);
        groups.extend(crate::role::own_groups(service));
        if let Some((_, database, migrator)) = database(service) {
            groups.extend([database, migrator]);
        }
    }
    groups.extend([&UP, &SANDBOX, &BOOTSTRAP]);
    // Some are read by several roles.
    let mut seen = HashSet::new();
    groups.retain(|group| seen.insert(group.name));
    groups
}

/// The process's environment and file, with the names that are not ours to refuse.
pub fn sources(file: Option<&std::path::Path>) -> Sources {
    Sources::process(file).known_elsewhere(OTHERS)
}

/// Loads some groups from some sources.
///
/// # Errors
/// With everything that is wrong at once.
pub fn load(selected: &[&'static Group], sources: Sources) -> anyhow::Result<Config> {
    Ok(Config::load(&catalogue(), selected, sources)?)
}
