//! The settings of identity alone.
//! Deliberately absent: its service key, address and limits, which `mainstay_rpc::config` declares for every role. Actor
//! tokens are signed with that same service key: only identity's is believed for them.

use mainstay_db::DatabaseConfig;
use mainstay_runtime::config::{Config, Group, Kind, Setting};
use secrecy::{ExposeSecret, SecretString};

use crate::keys::LookupKey;

/// Requests' database role.
pub const DATABASE_URL: Setting = Setting::new(
    "MAINSTAY_IDENTITY_DATABASE_URL",
    "identity's database, as its app role",
    Kind::PostgresUrl,
)
.secret();

/// Machinery's database role.
pub const WORKER_DATABASE_URL: Setting = Setting::new(
    "MAINSTAY_IDENTITY_WORKER_DATABASE_URL",
    "identity's database, as its worker role: events and jobs",
    Kind::PostgresUrl,
)
.secret();

/// Connections.
pub const DATABASE_CONNECTIONS: Setting = Setting::new(
    "MAINSTAY_IDENTITY_DATABASE_CONNECTIONS",
    "connections that identity's requests may hold at once",
    Kind::Integer { min: 2, max: 500 },
)
.default("12");

/// The key of lookup hashes.
pub const LOOKUP_KEY: Setting = Setting::new(
    "MAINSTAY_IDENTITY_LOOKUP_KEY",
    "keys the hashes of API keys and email addresses; changing it makes every API key unknown",
    Kind::HexKey { bytes: 32 },
)
.secret();

/// These settings.
pub static GROUP: Group = Group {
    name: "identity",
    about: "People, clients, keys and what everybody may do.",
    settings: &[
        DATABASE_URL,
        WORKER_DATABASE_URL,
        DATABASE_CONNECTIONS,
        LOOKUP_KEY,
    ],
};

/// The settings, read.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The database.
    pub database: DatabaseConfig,
    /// The key of lookup hashes.
    pub lookup: LookupKey,
}

impl Settings {
    /// Reads them from a configuration that selected [`GROUP`].
    ///
    /// # Panics
    /// When it did not: a mistake of the program.
    pub fn read(config: &Config) -> Self {
        let app: SecretString = config.get(&DATABASE_URL);
        let worker: SecretString = config.get(&WORKER_DATABASE_URL);
        let key: SecretString = config.get(&LOOKUP_KEY);
        let connections: i64 = config.get(&DATABASE_CONNECTIONS);
        let mut bytes = [0; 32];
        hex::decode_to_slice(key.expose_secret(), &mut bytes)
            .expect("validated as 64 hexadecimal digits");
        let database = DatabaseConfig {
            app_connections: u32::try_from(connections).expect("validated as 2 to 500"),
            ..DatabaseConfig::new("identity", app.expose_secret(), worker.expose_secret())
        };
        Settings {
            database,
            lookup: LookupKey::new(&bytes),
        }
    }
}
