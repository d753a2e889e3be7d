//! The settings of identity alone.
//! Deliberately absent: what every service has: its database (the binary's), its service key, address and limits
//! (`mainstay_rpc::config`). Actor tokens are signed with that same service key: only identity's is believed for them.

use mainstay_runtime::config::{Config, Group, Kind, Setting};
use secrecy::{ExposeSecret, SecretString};

use crate::keys::LookupKey;

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
    settings: &[LOOKUP_KEY],
};

/// The settings, read.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The key of lookup hashes.
    pub lookup: LookupKey,
}

impl Settings {
    /// Reads them from a configuration that selected [`GROUP`].
    ///
    /// # Panics
    /// When it did not: a mistake of the program.
    pub fn read(config: &Config) -> Self {
        let key: SecretString = config.get(&LOOKUP_KEY);
        let mut bytes = [0; 32];
        hex::decode_to_slice(key.expose_secret(), &mut bytes)
            .expect("validated as 64 hexadecimal digits");
        Settings {
            lookup: LookupKey::new(&bytes),
        }
    }
}
