//! The settings that only escalation reads: what links are signed with, how often the auditor looks, and who hears of the platform.
//! Deliberately absent: who is called. That is a client's ladder.

use std::time::Duration;

use mainstay_runtime::config::{Config, Group, Kind, Setting, common};
use mainstay_types::AgencyId;
use secrecy::{ExposeSecret as _, SecretString};

use crate::link::Links;

/// The key that claim links are signed with.
pub const LINK_KEY: Setting = Setting::new(
    "MAINSTAY_ESCALATION_LINK_KEY",
    "signs the links by which people take escalations; what another key made no longer verifies",
    Kind::HexKey { bytes: 32 },
)
.secret();

/// How often the auditor looks.
const AUDIT_EVERY: Setting = Setting::new(
    "MAINSTAY_ESCALATION_AUDIT_SECONDS",
    "how often all open escalations are looked at for those that nobody would come back to",
    Kind::Seconds { min: 1, max: 3600 },
)
.default("60");

/// Who hears of the platform itself.
pub const OPERATOR_AGENCY: Setting = Setting::new(
    "MAINSTAY_ESCALATION_OPERATOR_AGENCY",
    "the agency whose people hear of the platform itself: services that are down, queues that are late; without it, that stands in health and in the log alone",
    Kind::Custom {
        shape: "an agency's id",
        check: agency,
    },
)
.optional();

/// How often the services are asked how they stand.
const HEALTH_EVERY: Setting = Setting::new(
    "MAINSTAY_ESCALATION_HEALTH_SECONDS",
    "how often the services are asked how they stand; what is found twice in a row is an alert",
    Kind::Seconds { min: 1, max: 3600 },
)
.default("30");

fn agency(text: &str) -> Result<(), String> {
    let parsed = AgencyId::parse(text);
    parsed.map(drop).map_err(|error| error.to_string())
}

/// These settings.
pub static GROUP: Group = Group {
    name: "escalation",
    about: "What only escalation needs to know.",
    settings: &[LINK_KEY, AUDIT_EVERY, OPERATOR_AGENCY, HEALTH_EVERY],
};

/// The settings of escalation, read.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What the links in notices are made with.
    pub links: Links,
    /// How often the auditor looks.
    pub audit_every: Duration,
    /// Who hears of the platform itself.
    pub operators: Option<AgencyId>,
    /// How often the services are asked how they stand.
    pub health_every: Duration,
}

impl Settings {
    /// Reads them from a configuration that selected [`GROUP`].
    ///
    /// # Panics
    /// When it did not: a mistake of the program.
    pub fn read(config: &Config) -> Self {
        let key: SecretString = config.get(&LINK_KEY);
        let mut bytes = [0; 32];
        hex::decode_to_slice(key.expose_secret(), &mut bytes)
            .expect("validated as 64 hexadecimal digits");
        let public: String = config.get(&common::BASE_URL);
        let operators: Option<String> = config.get(&OPERATOR_AGENCY);
        Settings {
            links: Links::new(&bytes, &public),
            audit_every: config.get(&AUDIT_EVERY),
            operators: operators.and_then(|text| AgencyId::parse(&text).ok()),
            health_every: config.get(&HEALTH_EVERY),
        }
    }
}
