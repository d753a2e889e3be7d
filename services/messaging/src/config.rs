//! The settings that only messaging reads: what permits are signed with, and where the providers answer.
//! Deliberately absent: credentials of providers. Integrations keeps those, for each account.

use std::time::Duration;

use mainstay_providers::{StackError, twilio};
use mainstay_runtime::config::{Config, Group, Kind, Setting, common};
use secrecy::{ExposeSecret as _, SecretString};

use crate::carrier::{Bases, Carriers};
use crate::gate::PermitKey;
use crate::model::{Model, ModelSettings};
use crate::sending::Pace;
use crate::unsubscribe::Links;

/// The key that send permits are signed with.
pub const PERMIT_KEY: Setting = Setting::new(
    "MAINSTAY_MESSAGING_PERMIT_KEY",
    "signs the permits without which no message leaves, and the links that end mail; what another key made no longer verifies",
    Kind::HexKey { bytes: 32 },
)
.secret();

/// Where Resend answers.
pub const RESEND_API_BASE: Setting = Setting::new(
    "RESEND_API_BASE",
    "where Resend's API answers; `/emails` is added",
    Kind::HttpUrl,
)
.default("https://api.resend.com")
.real_provider_in_production();

/// Where SendGrid answers.
pub const SENDGRID_API_BASE: Setting = Setting::new(
    "SENDGRID_API_BASE",
    "where SendGrid's API answers; `/v3` is added",
    Kind::HttpUrl,
)
.default("https://api.sendgrid.com")
.real_provider_in_production();

/// How long one call of a provider may take.
const PATIENCE: Setting = Setting::new(
    "MAINSTAY_MESSAGING_PROVIDER_TIMEOUT_SECONDS",
    "how long a provider may take to answer; after that nobody knows whether it took the message, and it is asked",
    Kind::Seconds { min: 1, max: 30 },
)
.default("10");

/// How long a claim on messages holds.
const LEASE: Setting = Setting::new(
    "MAINSTAY_MESSAGING_LEASE_SECONDS",
    "how long messages stay with a dispatcher that was killed before another takes them up",
    Kind::Seconds { min: 5, max: 600 },
)
.default("60");

/// When a doubtful try is asked about.
const PROBE_AFTER: Setting = Setting::new(
    "MAINSTAY_MESSAGING_PROBE_AFTER_SECONDS",
    "how long after a try without an answer the provider is first asked about it",
    Kind::Seconds { min: 1, max: 3600 },
)
.default("60");

/// When a provider that tells nothing is asked.
const ASK_AFTER: Setting = Setting::new(
    "MAINSTAY_MESSAGING_ASK_AFTER_SECONDS",
    "how long after a message was taken its provider is first asked what became of it, if no webhook has said so; then after 4, 24 \
     and 96 times as long",
    Kind::Seconds { min: 1, max: 3600 },
)
.default("900");

/// How many messages are in hand at once.
const AT_ONCE: Setting = Setting::new(
    "MAINSTAY_MESSAGING_SENDING_CONCURRENCY",
    "how many messages one dispatcher hands over at once",
    Kind::Integer { min: 1, max: 1000 },
)
.default("512");

/// Where the language model answers.
pub const OPENAI_API_BASE: Setting = Setting::new(
    "OPENAI_API_BASE",
    "where a language model answers as OpenAI's does; `/chat/completions` is added",
    Kind::HttpUrl,
)
.default("https://api.openai.com/v1")
.real_provider_in_production();

/// What opens the model's door.
pub const OPENAI_API_KEY: Setting = Setting::new(
    "OPENAI_API_KEY",
    "the key of the language model; without one a person is called instead of an answer",
    Kind::Text,
)
.secret()
.optional();

/// Which model.
const MODEL: Setting = Setting::new(
    "MAINSTAY_MESSAGING_MODEL",
    "the name of the language model that answers",
    Kind::Text,
)
.default("gpt-5-mini");

/// How long the model may take.
const MODEL_PATIENCE: Setting = Setting::new(
    "MAINSTAY_MESSAGING_MODEL_TIMEOUT_SECONDS",
    "how long one try of the language model may take; there are three, then a person is called",
    Kind::Seconds { min: 1, max: 60 },
)
.default("10");

/// What reading costs.
const MODEL_PRICE_IN: Setting = Setting::new(
    "MAINSTAY_MESSAGING_MODEL_PRICE_IN_MICROS",
    "what a million tokens cost that the model reads, in millionths of a dollar",
    Kind::Integer {
        min: 0,
        max: 1_000_000_000,
    },
)
.default("250000");

/// What writing costs.
const MODEL_PRICE_OUT: Setting = Setting::new(
    "MAINSTAY_MESSAGING_MODEL_PRICE_OUT_MICROS",
    "what a million tokens cost that the model writes, in millionths of a dollar",
    Kind::Integer {
        min: 0,
        max: 1_000_000_000,
    },
)
.default("2000000");

/// How many answers a client may have.
const ANSWERS_PER_DAY: Setting = Setting::new(
    "MAINSTAY_MESSAGING_ANSWERS_PER_DAY",
    "how many answers of the model a client may have within a day; after that a person is called",
    Kind::Integer {
        min: 0,
        max: 1_000_000,
    },
)
.default("1000");

/// How long a burst of texts waits for more.
const BURST: Setting = Setting::new(
    "MAINSTAY_MESSAGING_BURST_SECONDS",
    "how long after a text the next one still belongs to it, before both are answered",
    Kind::Seconds { min: 1, max: 300 },
)
.default("8");

/// The settings of messaging.
pub static GROUPS: &[&Group] = &[&GROUP, &twilio::GROUP];

/// These settings.
pub static GROUP: Group = Group {
    name: "messaging",
    about: "What messages leave with, and where to.",
    settings: &[
        PERMIT_KEY,
        RESEND_API_BASE,
        SENDGRID_API_BASE,
        PATIENCE,
        LEASE,
        PROBE_AFTER,
        ASK_AFTER,
        AT_ONCE,
        OPENAI_API_BASE,
        OPENAI_API_KEY,
        MODEL,
        MODEL_PATIENCE,
        MODEL_PRICE_IN,
        MODEL_PRICE_OUT,
        ANSWERS_PER_DAY,
        BURST,
    ],
};

/// The settings of messaging, read.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What permits are signed with.
    pub key: PermitKey,
    /// What the links in mail are made with.
    pub links: Links,
    /// The providers.
    pub carriers: Carriers,
    /// How messages are sent.
    pub pace: Pace,
    /// Who writes answers.
    pub(crate) model: Model,
    /// How many answers a client may have within a day.
    pub answers_per_day: i64,
    /// How long a burst of texts waits for more.
    pub burst_window: Duration,
}

impl Settings {
    /// Reads them from a configuration that selected [`GROUPS`].
    ///
    /// # Errors
    /// When the HTTP clients cannot be made.
    ///
    /// # Panics
    /// When it did not: a mistake of the program.
    pub fn read(config: &Config) -> Result<Self, StackError> {
        let key: SecretString = config.get(&PERMIT_KEY);
        let mut bytes = [0; 32];
        hex::decode_to_slice(key.expose_secret(), &mut bytes)
            .expect("validated as 64 hexadecimal digits");
        let pace = Pace {
            at_once: config.get(&AT_ONCE),
            lease: config.get(&LEASE),
            probe_after: config.get(&PROBE_AFTER),
            ask_after: config.get(&ASK_AFTER),
            patience: config.get(&PATIENCE),
            ..Pace::default()
        };
        let bases = Bases {
            twilio: config.get(&twilio::API_BASE),
            resend: config.get(&RESEND_API_BASE),
            sendgrid: config.get(&SENDGRID_API_BASE),
            public: config.get(&common::BASE_URL),
        };
        let model = ModelSettings {
            base: config.get(&OPENAI_API_BASE),
            key: config.get(&OPENAI_API_KEY),
            name: config.get(&MODEL),
            patience: config.get(&MODEL_PATIENCE),
            price_in: config.get(&MODEL_PRICE_IN),
            price_out: config.get(&MODEL_PRICE_OUT),
        };
        Ok(Settings {
            answers_per_day: config.get(&ANSWERS_PER_DAY),
            burst_window: config.get(&BURST),
            ..Self::new(&bytes, &bases, pace, model)?
        })
    }

    /// With these.
    ///
    /// # Errors
    /// When the HTTP clients cannot be made.
    pub fn new(
        key: &[u8; 32],
        bases: &Bases,
        pace: Pace,
        model: ModelSettings,
    ) -> Result<Self, StackError> {
        let links = Links::new(key, &bases.public);
        let key = PermitKey::new(key);
        Ok(Settings {
            carriers: Carriers::new(key.clone(), bases, pace.patience)?,
            key,
            links,
            pace: Pace {
                // A call that ends after its claim would be doubtful although it was answered.
                lease: pace.lease.max(pace.patience * 2 + Duration::from_secs(1)),
                ..pace
            },
            model: Model::new(model)?,
            answers_per_day: 1000,
            burst_window: Duration::from_secs(8),
        })
    }
}
