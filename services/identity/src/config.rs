//! The settings of identity alone.
//! Deliberately absent: what every service has: its database (the binary's), its service key, address and limits
//! (`mainstay_rpc::config`). Actor tokens are signed with that same service key: only identity's is believed for them. And
//! any default of a key.

use mainstay_rpc::token::access::{self, AccessKeys};
use mainstay_runtime::config::{Config, Group, Kind, Setting};
use secrecy::{ExposeSecret, SecretString};

use crate::keys::{LookupKey, SignInKey};
use crate::sign_in::rules::Limits;

/// The key of lookup hashes.
pub const LOOKUP_KEY: Setting = Setting::new(
    "MAINSTAY_IDENTITY_LOOKUP_KEY",
    "keys the hashes of API keys, email addresses, numbers and refresh tokens; changing it makes every one of them unknown",
    Kind::HexKey { bytes: 32 },
)
.secret();

/// What access tokens are signed with.
pub const SESSION_KEY: Setting = Setting::new(
    "MAINSTAY_IDENTITY_SESSION_KEY",
    "the secret key that access tokens of people who signed in are signed with",
    Kind::HexKey { bytes: 32 },
)
.secret();

/// What access tokens may be signed with besides.
pub const SESSION_OTHER_KEYS: Setting = Setting::new(
    "MAINSTAY_IDENTITY_SESSION_OTHER_KEYS",
    "public keys of access tokens that are believed beside the one that signs, while one replaces another",
    Kind::Custom {
        shape: "up to 4 public keys separated by commas, each 64 hexadecimal digits",
        check: access::check_others,
    },
)
.optional();

/// What codes follow from.
pub const SIGN_IN_KEY: Setting = Setting::new(
    "MAINSTAY_IDENTITY_SIGN_IN_KEY",
    "what codes to sign in with and refresh tokens follow from; changing it voids the codes that are on their way",
    Kind::HexKey { bytes: 32 },
)
.secret();

/// How many codes an address may ask for.
pub const CODES_PER_ADDRESS: Setting = Setting::new(
    "MAINSTAY_IDENTITY_CODES_PER_ADDRESS",
    "codes that may be asked for with one address in a quarter of an hour, at all replicas together",
    Kind::Integer { min: 1, max: 100 },
)
.default("3");

/// How many codes may be asked for.
pub const CODES_PER_MINUTE: Setting = Setting::new(
    "MAINSTAY_IDENTITY_CODES_PER_MINUTE",
    "codes that may be asked for in a minute, with all addresses and at all replicas together",
    Kind::Integer { min: 1, max: 5_000 },
)
.default("100");

/// These settings.
pub static GROUP: Group = Group {
    name: "identity",
    about: "People, clients, keys and what everybody may do.",
    settings: &[
        LOOKUP_KEY,
        SESSION_KEY,
        SESSION_OTHER_KEYS,
        SIGN_IN_KEY,
        CODES_PER_ADDRESS,
        CODES_PER_MINUTE,
    ],
};

/// The settings, read.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The key of lookup hashes.
    pub lookup: LookupKey,
    /// The keys of access tokens.
    pub access: AccessKeys,
    /// The key that codes and refresh tokens follow from.
    pub sign_in: SignInKey,
    /// How often codes may be asked for.
    pub limits: Limits,
}

impl Settings {
    /// Reads them from a configuration that selected [`GROUP`].
    ///
    /// # Panics
    /// When it did not: a mistake of the program.
    pub fn read(config: &Config) -> Self {
        let others: Option<String> = config.get(&SESSION_OTHER_KEYS);
        Settings {
            lookup: LookupKey::new(&key(config, &LOOKUP_KEY)),
            access: AccessKeys::new(&key(config, &SESSION_KEY))
                .and_others(&others.unwrap_or_default())
                .expect("validated as public keys"),
            sign_in: SignInKey::new(&key(config, &SIGN_IN_KEY)),
            limits: Limits {
                per_address: config.get(&CODES_PER_ADDRESS),
                per_minute: config.get(&CODES_PER_MINUTE),
            },
        }
    }
}

fn key(config: &Config, setting: &'static Setting) -> [u8; 32] {
    let text: SecretString = config.get(setting);
    let mut bytes = [0; 32];
    hex::decode_to_slice(text.expose_secret(), &mut bytes)
        .expect("validated as 64 hexadecimal digits");
    bytes
}
