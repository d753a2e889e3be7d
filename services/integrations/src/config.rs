//! The settings that only integrations reads (INT-02, INT-16): what webhooks of the platform's own accounts are signed with,
//! and the keys above all agencies' keys.
//! Deliberately absent: a default or a placeholder for any of them. Without its secret a provider's webhooks could be
//! anybody's, so their absence stops the start in every environment.

use std::time::Duration;

use mainstay_providers::twilio;
use mainstay_runtime::config::{Config, Environment, Group, Kind, Setting};
use secrecy::{ExposeSecret as _, SecretString};

use crate::vault::{self, MasterKeys};

/// What Stripe signs with.
pub const STRIPE_WEBHOOK_SECRETS: Setting = Setting::new(
    "STRIPE_WEBHOOK_SECRETS",
    "what Stripe signs webhooks to /webhooks/stripe with; several while one replaces another",
    Kind::Custom {
        shape: "1 to 8 webhook signing secrets (whsec_…) of at least 16 characters, separated by commas",
        check: signing_secrets,
    },
)
.secret();

/// What agencies' keys are sealed under.
pub const MASTER_KEYS: Setting = Setting::new(
    "MAINSTAY_INTEGRATIONS_MASTER_KEYS",
    "what the keys are sealed under that providers' credentials are sealed under; the first seals, the others still open",
    Kind::Custom {
        shape: "1 to 8 keys separated by commas, each a name, a colon and 64 hexadecimal digits (32 random bytes)",
        check: vault::check,
    },
)
.secret();

const SECRETS: Kind = Kind::Custom {
    shape: "1 to 8 secrets of at least 16 characters, separated by commas",
    check: signing_secrets,
};

/// What Twilio signs with.
pub const TWILIO_AUTH_TOKENS: Setting = Setting::new(
    "TWILIO_AUTH_TOKENS",
    "what Twilio signs webhooks to /webhooks/twilio/sms and beside it with: auth tokens of an account of the platform's own; agencies' accounts have theirs",
    SECRETS,
)
.secret()
.optional();

/// What webhooks are stored by.
pub const INBOX_CONNECTIONS: Setting = Setting::new(
    "MAINSTAY_INTEGRATIONS_INBOX_DATABASE_CONNECTIONS",
    "connections that storing webhooks has for itself, beside those that the jobs and events of integrations share",
    Kind::Integer { min: 1, max: 500 },
)
.default("4");

/// When it is looked for webhooks that never came.
pub const RECOVER_AFTER: Setting = Setting::new(
    "MAINSTAY_INTEGRATIONS_RECOVER_AFTER_SECONDS",
    "how often Twilio is asked who wrote and rang, and how long their webhooks may be on their way before they are taken for lost",
    Kind::Seconds {
        min: 1,
        max: 86_400,
    },
)
.default("300");

/// The settings of integrations.
pub static GROUPS: &[&Group] = &[&GROUP, &twilio::GROUP];

/// These settings.
pub static GROUP: Group = Group {
    name: "integrations",
    about: "What integrations needs to know of the outside.",
    settings: &[
        STRIPE_WEBHOOK_SECRETS,
        MASTER_KEYS,
        TWILIO_AUTH_TOKENS,
        INBOX_CONNECTIONS,
        RECOVER_AFTER,
    ],
};

/// The settings of integrations, read.
#[derive(Debug)]
pub struct Settings {
    /// What webhooks may be signed with.
    pub verification: VerificationSecrets,
    /// What agencies' keys are sealed under.
    pub master_keys: MasterKeys,
    /// How many connections storing webhooks has for itself.
    pub inbox_connections: u32,
    /// Where Twilio answers.
    pub twilio: String,
    /// How often Twilio is asked who wrote, and how long a webhook may be on its way.
    pub recover_after: Duration,
    /// Whether an account may name an address without encryption.
    pub plain_http_allowed: bool,
}

/// What webhooks may be signed with, by provider. Any one of a provider's verifies.
#[derive(Debug, Default)]
pub struct VerificationSecrets {
    /// Stripe's, for the platform's own endpoint.
    pub stripe: Vec<SecretString>,
    /// Twilio's, for an account of the platform's own.
    pub twilio: Vec<SecretString>,
}

impl Settings {
    /// Reads them from a configuration that selected [`GROUPS`].
    ///
    /// # Panics
    /// When it did not: a mistake of the program.
    pub fn read(config: &Config) -> Self {
        let stripe: Vec<String> = config.get(&STRIPE_WEBHOOK_SECRETS);
        let twilio: Option<String> = config.get(&TWILIO_AUTH_TOKENS);
        let keys = SecretString::from(config.get::<String>(&MASTER_KEYS));
        Settings {
            verification: VerificationSecrets {
                stripe: stripe.into_iter().map(SecretString::from).collect(),
                twilio: separate(twilio.as_deref()),
            },
            master_keys: MasterKeys::parse(keys.expose_secret())
                .unwrap_or_else(|reason| panic!("{} {reason}", MASTER_KEYS.name)),
            inbox_connections: config.get(&INBOX_CONNECTIONS),
            twilio: config.get(&twilio::API_BASE),
            recover_after: config.get(&RECOVER_AFTER),
            plain_http_allowed: config.environment() != Environment::Production,
        }
    }
}

fn separate(text: Option<&str>) -> Vec<SecretString> {
    text.into_iter()
        .flat_map(|text| text.split(','))
        .map(str::trim)
        .filter(|secret| !secret.is_empty())
        .map(SecretString::from)
        .collect()
}

fn signing_secrets(text: &str) -> Result<(), String> {
    let secrets: Vec<&str> = text
        .split(',')
        .map(str::trim)
        .filter(|secret| !secret.is_empty())
        .collect();
    if secrets.is_empty() || secrets.len() > 8 {
        return Err("must be 1 to 8 secrets separated by commas".to_owned());
    }
    for (place, secret) in secrets.iter().enumerate() {
        let place = place + 1;
        if ["sk_", "rk_", "pk_"]
            .iter()
            .any(|prefix| secret.starts_with(prefix))
        {
            return Err(format!(
                "its secret no. {place} is an API key; a webhook signing secret starts with whsec_"
            ));
        }
        let placeholder = ["changeme", "placeholder", "example", "xxxx", "<", "..."];
        if secret.len() < 16
            || placeholder
                .iter()
                .any(|word| secret.to_ascii_lowercase().contains(word))
        {
            return Err(format!(
                "its secret no. {place} is shorter than 16 characters or a placeholder"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_real_signing_secrets_are_taken() {
        for right in [
            "whsec_kT8vQ2mZ1aB9xW",
            "whsec_kT8vQ2mZ1aB9xW, whsec_Zm2Qv8Tk9Ba1Wx",
            "kT8vQ2mZ1aB9xWq7",
        ] {
            assert_eq!(signing_secrets(right), Ok(()), "{right}");
        }
        for wrong in [
            "",
            " , ",
            "whsec_short",
            "sk_live_kT8vQ2mZ1aB9xW",
            "whsec_changeme_later",
            "whsec_kT8vQ2mZ1aB9xW,whsec_xxxxxxxxxxxxxxxx",
        ] {
            let reason = signing_secrets(wrong).expect_err(wrong);
            assert!(
                !reason.contains("kT8v"),
                "a secret is never repeated: {reason}"
            );
        }
        assert!(signing_secrets(&["whsec_kT8vQ2mZ1aB9xW"; 9].join(",")).is_err());
    }
}
