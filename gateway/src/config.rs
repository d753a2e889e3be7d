//! The gateway's settings: limits and who may call from where. Deliberately absent: addresses of services
//! and keys; those belong to every role that calls a service and are read by `mainstay_rpc`.

use std::time::Duration;

use mainstay_proto::options::v1::RateClass;
use mainstay_runtime::config::{Config, Group, Kind, Setting, common};

use crate::source::TrustedProxies;

const CONCURRENCY: Setting = Setting::new(
    "MAINSTAY_GATEWAY_CONCURRENCY",
    "how many requests may be in hand at once; more get 503",
    Kind::Integer {
        min: 1,
        max: 100_000,
    },
)
.default("512");
const WEBHOOK_CONCURRENCY: Setting = Setting::new(
    "MAINSTAY_GATEWAY_WEBHOOK_CONCURRENCY",
    "how many webhooks may be in hand at once; more get 503, and their senders try again",
    Kind::Integer {
        min: 1,
        max: 100_000,
    },
)
.default("1024");
const CONNECTIONS: Setting = Setting::new(
    "MAINSTAY_GATEWAY_CONNECTIONS",
    "how many connections may be open at once; more wait to be accepted",
    Kind::Integer {
        min: 1,
        max: 1_000_000,
    },
)
.default("10000");
const BODY_MAX: Setting = Setting::new(
    "MAINSTAY_GATEWAY_BODY_MAX_BYTES",
    "the largest request body; larger ones get 413",
    Kind::Integer {
        min: 1024,
        max: 16_777_216,
    },
)
.default("1048576");
const REQUEST_TIMEOUT: Setting = Setting::new(
    "MAINSTAY_GATEWAY_REQUEST_TIMEOUT_SECONDS",
    "how long a request may take before it is answered 504",
    Kind::Seconds { min: 1, max: 30 },
)
.default("30");
const CORS_ORIGINS: Setting = Setting::new(
    "MAINSTAY_GATEWAY_CORS_ORIGINS",
    "the origins of web pages that may call the API from a browser",
    Kind::Custom {
        shape: "origins such as https://app.acme.test separated by commas",
        check: check_origins,
    },
)
.default("");
const TRUSTED_PROXIES: Setting = Setting::new(
    "MAINSTAY_GATEWAY_TRUSTED_PROXIES",
    "the proxies in front whose X-Forwarded-For is believed",
    Kind::Custom {
        shape: "addresses or networks such as 10.0.0.0/8 separated by commas",
        check: TrustedProxies::check,
    },
)
.default("");
const RATE_READ: Setting = Setting::new(
    "MAINSTAY_GATEWAY_RATE_READ_PER_SECOND",
    "reads a second that one credential may make",
    RATE,
)
.default("4000");
const RATE_WRITE: Setting = Setting::new(
    "MAINSTAY_GATEWAY_RATE_WRITE_PER_SECOND",
    "writes a second that one credential may make",
    RATE,
)
.default("2000");
const RATE_AUTH: Setting = Setting::new(
    "MAINSTAY_GATEWAY_RATE_AUTH_PER_SECOND",
    "sign-ins and other anonymous calls, and refused credentials, a second from one address",
    RATE,
)
.default("20");
const RATE_ADDRESS: Setting = Setting::new(
    "MAINSTAY_GATEWAY_RATE_ADDRESS_PER_SECOND",
    "requests a second from one address, of all kinds but webhooks",
    RATE,
)
.default("8000");

const RATE_WEBHOOK: Setting = Setting::new(
    "MAINSTAY_GATEWAY_RATE_WEBHOOK_PER_SECOND",
    "webhooks a second from one address; more get 429, and their senders try again",
    RATE,
)
.default("20000");

const RATE: Kind = Kind::Integer {
    min: 1,
    max: 1_000_000,
};

/// The gateway's settings.
pub static GROUP: Group = Group {
    name: "gateway",
    about: "Limits of the gateway, and who may call from where.",
    settings: &[
        CONCURRENCY,
        WEBHOOK_CONCURRENCY,
        CONNECTIONS,
        BODY_MAX,
        REQUEST_TIMEOUT,
        CORS_ORIGINS,
        TRUSTED_PROXIES,
        RATE_READ,
        RATE_WRITE,
        RATE_AUTH,
        RATE_ADDRESS,
        RATE_WEBHOOK,
    ],
};

/// The settings, read.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The public address, without a slash at its end.
    pub base_url: String,
    /// Requests in hand at once.
    pub concurrency: usize,
    /// Webhooks in hand at once.
    pub webhook_concurrency: usize,
    /// Connections open at once.
    pub connections: usize,
    /// The largest body.
    pub body_max_bytes: usize,
    /// How long a request may take.
    pub request_timeout: Duration,
    /// Origins of web pages that may call.
    pub cors_origins: Vec<String>,
    /// Proxies that are believed.
    pub trusted_proxies: TrustedProxies,
    /// How much each may ask.
    pub rates: Rates,
}

/// Requests a second.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    /// Reads of one credential.
    pub read: u32,
    /// Writes of one credential.
    pub write: u32,
    /// Anonymous calls and refused credentials of one address.
    pub auth: u32,
    /// All requests of one address, but for webhooks.
    pub address: u32,
    /// Webhooks of one address.
    pub webhook: u32,
}

impl Rates {
    /// What one credential may ask of a class.
    pub fn of(&self, class: RateClass) -> u32 {
        match class {
            RateClass::Read => self.read,
            RateClass::Write | RateClass::Internal | RateClass::Unspecified => self.write,
            RateClass::Auth => self.auth,
        }
    }
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            read: 4000,
            write: 2000,
            auth: 20,
            address: 8000,
            webhook: 20_000,
        }
    }
}

impl Settings {
    /// Reads the gateway's group and the public address.
    pub fn read(config: &Config) -> Self {
        let cors: Vec<String> = config.get(&CORS_ORIGINS);
        let proxies: Vec<String> = config.get(&TRUSTED_PROXIES);
        Self {
            base_url: config
                .get::<String>(&common::BASE_URL)
                .trim_end_matches('/')
                .to_owned(),
            concurrency: config.get(&CONCURRENCY),
            webhook_concurrency: config.get(&WEBHOOK_CONCURRENCY),
            connections: config.get(&CONNECTIONS),
            body_max_bytes: config.get(&BODY_MAX),
            request_timeout: config.get(&REQUEST_TIMEOUT),
            cors_origins: cors,
            trusted_proxies: TrustedProxies::of(&proxies),
            rates: Rates {
                read: config.get(&RATE_READ),
                write: config.get(&RATE_WRITE),
                auth: config.get(&RATE_AUTH),
                address: config.get(&RATE_ADDRESS),
                webhook: config.get(&RATE_WEBHOOK),
            },
        }
    }

    /// The defaults, for a gateway at `base_url`.
    pub fn at(base_url: &str) -> Self {
        Self {
            base_url: base_url.trim_end_matches('/').to_owned(),
            concurrency: 512,
            webhook_concurrency: 1024,
            connections: 10_000,
            body_max_bytes: 1_048_576,
            request_timeout: Duration::from_secs(30),
            cors_origins: Vec::new(),
            trusted_proxies: TrustedProxies::default(),
            rates: Rates::default(),
        }
    }
}

fn check_origins(text: &str) -> Result<(), String> {
    let wrong = text
        .split(',')
        .map(str::trim)
        .filter(|origin| !origin.is_empty())
        .find(|origin| !is_origin(origin));
    match wrong {
        None => Ok(()),
        Some(origin) => Err(format!(
            "must be origins such as https://app.acme.test, and {origin:?} is none (a `*` is never taken)"
        )),
    }
}

// Scheme, host and port only: a path would never match what a browser sends.
fn is_origin(text: &str) -> bool {
    let host = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| {
        !host.is_empty()
            && host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-.:[]".contains(&b))
    })
}
