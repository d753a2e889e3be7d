//! The settings of being one of several services: addresses, keys, limits.
//!
//! Deliberately absent: defaults for keys. Every installation has its own, made by `mainstay up` or by the operator.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mainstay_runtime::config::{Config, Group, Kind, Setting};
use mainstay_types::ServiceName;
use secrecy::{ExposeSecret, SecretString};

use crate::client::{AddressError, Channels};
use crate::server::Limits;
use crate::token::{ServiceKey, TrustedKeys};

/// Whose signatures are believed.
pub const TRUSTED_KEYS: Setting = Setting::new(
    "MAINSTAY_TRUSTED_KEYS",
    "the public key of each service; a service has two while one is replaced",
    Kind::Custom {
        shape: "service=key pairs separated by commas, each key 64 hexadecimal digits: identity=…,billing=…",
        check: |text| text.parse::<TrustedKeys>().map(|_| ()),
    },
);

macro_rules! contexts {
    ($($name:ident, $grpc_url:literal, $what:literal;)*) => {
        /// The addresses of the services and the keys they are known by, which every role reads.
        pub static PEERS: Group = Group {
            name: "services",
            about: "How the roles find and trust each other.",
            settings: &[TRUSTED_KEYS, $($name),*],
        };
        $(
            #[doc = concat!("Where ", $what, " answers.")]
            pub const $name: Setting = Setting::new($grpc_url, concat!("where ", $what, " answers gRPC"), Kind::HttpUrl);
        )*
    };
}
contexts! {
    IDENTITY_URL, "MAINSTAY_IDENTITY_GRPC_URL", "identity";
    BILLING_URL, "MAINSTAY_BILLING_GRPC_URL", "billing";
    MESSAGING_URL, "MAINSTAY_MESSAGING_GRPC_URL", "messaging";
    ESCALATION_URL, "MAINSTAY_ESCALATION_GRPC_URL", "escalation";
    INTEGRATIONS_URL, "MAINSTAY_INTEGRATIONS_GRPC_URL", "integrations";
}

/// The settings of one role's own end.
#[derive(Clone, Copy, Debug)]
pub struct RoleSettings {
    /// What it signs with.
    pub key: Setting,
    /// Where it listens.
    pub listen: Setting,
    /// Requests at once.
    pub concurrency: Setting,
    /// Time for balancers.
    pub drain: Setting,
}

macro_rules! roles {
    ($($service:ident, $name:literal, $prefix:literal, $listen:literal;)*) => {
        /// The settings of a role's own end, and the group that declares them.
        pub fn role(service: ServiceName) -> (&'static RoleSettings, &'static Group) {
            match service {
                $(ServiceName::$service => {
                    const SETTINGS: RoleSettings = RoleSettings {
                        key: Setting::new(
                            concat!($prefix, "_SERVICE_KEY"),
                            concat!("the secret key that ", $name, " proves itself with to the other services"),
                            Kind::HexKey { bytes: 32 },
                        )
                        .secret(),
                        listen: Setting::new(
                            concat!($prefix, "_LISTEN"),
                            concat!("where ", $name, " listens"),
                            Kind::SocketAddress,
                        )
                        .default($listen),
                        concurrency: Setting::new(
                            concat!($prefix, "_MAX_REQUESTS"),
                            concat!("requests that ", $name, " handles at once; more are answered 503"),
                            Kind::Integer { min: 1, max: 100_000 },
                        )
                        .default("512"),
                        drain: Setting::new(
                            concat!($prefix, "_DRAIN_SECONDS"),
                            concat!("how long ", $name, " still takes requests after it said that it stops"),
                            Kind::Seconds { min: 0, max: 120 },
                        )
                        .default("3"),
                    };
                    static GROUP: Group = Group {
                        name: concat!($name, ": server"),
                        about: concat!("How ", $name, " serves and proves itself."),
                        settings: &[SETTINGS.key, SETTINGS.listen, SETTINGS.concurrency, SETTINGS.drain],
                    };
                    (&SETTINGS, &GROUP)
                })*
            }
        }
    };
}
roles! {
    Identity, "identity", "MAINSTAY_IDENTITY", "0.0.0.0:7001";
    Billing, "billing", "MAINSTAY_BILLING", "0.0.0.0:7002";
    Messaging, "messaging", "MAINSTAY_MESSAGING", "0.0.0.0:7003";
    Escalation, "escalation", "MAINSTAY_ESCALATION", "0.0.0.0:7004";
    Integrations, "integrations", "MAINSTAY_INTEGRATIONS", "0.0.0.0:7005";
    Gateway, "gateway", "MAINSTAY_GATEWAY", "0.0.0.0:8080";
}

/// The setting that holds a service's address; the gateway has none, nobody calls it.
pub fn url(service: ServiceName) -> Option<&'static Setting> {
    match service {
        ServiceName::Identity => Some(&IDENTITY_URL),
        ServiceName::Billing => Some(&BILLING_URL),
        ServiceName::Messaging => Some(&MESSAGING_URL),
        ServiceName::Escalation => Some(&ESCALATION_URL),
        ServiceName::Integrations => Some(&INTEGRATIONS_URL),
        ServiceName::Gateway => None,
    }
}

/// A role's own end, read.
#[derive(Clone, Debug)]
pub struct Role {
    /// Which service it is.
    pub me: ServiceName,
    /// What it signs with.
    pub key: Arc<ServiceKey>,
    /// Whose signatures it believes.
    pub trusted: TrustedKeys,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where the others answer.
    pub addresses: BTreeMap<ServiceName, String>,
    /// What bounds it.
    pub limits: Limits,
}

impl Role {
    /// Reads it from a configuration that selected [`PEERS`] and the role's own group.
    ///
    /// # Panics
    /// When it did not: a mistake of the program.
    pub fn read(config: &Config, me: ServiceName, grace: Duration) -> Self {
        let (settings, _) = role(me);
        let key: SecretString = config.get(&settings.key);
        let trusted: String = config.get(&TRUSTED_KEYS);
        let addresses = ServiceName::CONTEXTS
            .into_iter()
            .filter_map(|service| Some((service, config.get(url(service)?))));
        Role {
            me,
            key: Arc::new(
                ServiceKey::from_hex(me, key.expose_secret()).expect("validated as a key"),
            ),
            trusted: trusted.parse().expect("validated as keys"),
            listen: config.get(&settings.listen),
            addresses: addresses.collect(),
            limits: Limits {
                concurrent_requests: config.get(&settings.concurrency),
                drain: config.get(&settings.drain),
                grace,
                ..Limits::default()
            },
        }
    }

    /// The ways to the other services. Within a tokio runtime.
    ///
    /// # Errors
    /// When an address is no URL.
    pub fn channels(&self) -> Result<Channels, AddressError> {
        Channels::new(Arc::clone(&self.key), self.addresses.clone())
    }
}
