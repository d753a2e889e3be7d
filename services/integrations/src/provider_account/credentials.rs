//! What each provider gives, held against what it looks like; sealed and opened as one text.
//! Deliberately absent: a way to print them. Whoever needs one asks for it by name.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mainstay_rpc::FieldViolation;
use mainstay_types::{AgencyId, ProviderAccountId};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};

use crate::vault::VaultError;

/// Who carries messages, or answers prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// Text messages and calls.
    Twilio,
    /// Mail.
    Resend,
    /// Mail.
    Sendgrid,
    /// Replies.
    Openai,
}

impl Provider {
    const ALL: [Provider; 4] = [
        Provider::Twilio,
        Provider::Resend,
        Provider::Sendgrid,
        Provider::Openai,
    ];

    /// As the database and REST spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Provider::Twilio => "twilio",
            Provider::Resend => "resend",
            Provider::Sendgrid => "sendgrid",
            Provider::Openai => "openai",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|provider| provider.as_str() == name)
    }

    /// Whether it sends webhooks.
    pub const fn has_webhooks(self) -> bool {
        !matches!(self, Provider::Openai)
    }

    /// What it gives: the field, whether it may be left out, and what it looks like.
    const fn fields(self) -> &'static [(&'static str, bool, Shape)] {
        match self {
            Provider::Twilio => &[
                ("account_sid", false, Shape::AccountSid),
                ("auth_token", false, Shape::Token),
            ],
            Provider::Resend => &[
                ("api_key", false, Shape::Token),
                ("webhook_secret", false, Shape::SvixSecret),
            ],
            Provider::Sendgrid => &[
                ("api_key", false, Shape::Token),
                ("webhook_public_key", false, Shape::P256Key),
            ],
            Provider::Openai => &[
                ("api_key", false, Shape::Token),
                ("base", true, Shape::Address),
            ],
        }
    }

    /// The field that its last four characters are told of.
    const fn told_by(self) -> &'static str {
        match self {
            Provider::Twilio => "auth_token",
            Provider::Resend | Provider::Sendgrid | Provider::Openai => "api_key",
        }
    }

    /// The field that webhooks are verified by.
    const fn verified_by(self) -> Option<&'static str> {
        match self {
            Provider::Twilio => Some("auth_token"),
            Provider::Resend => Some("webhook_secret"),
            Provider::Sendgrid => Some("webhook_public_key"),
            Provider::Openai => None,
        }
    }
}

/// What a field looks like.
#[derive(Debug, Clone, Copy)]
enum Shape {
    AccountSid,
    Token,
    SvixSecret,
    P256Key,
    Address,
}

/// What stands before the point in the DER of every P-256 public key (RFC 5480).
const P256_PREFIX: [u8; 27] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];
const P256_BYTES: usize = 91;

impl Shape {
    fn check(self, text: &str, plain_http_allowed: bool) -> Result<(), &'static str> {
        let right = match self {
            Shape::AccountSid => text.strip_prefix("AC").is_some_and(|rest| {
                rest.len() == 32 && rest.bytes().all(|b| b.is_ascii_hexdigit())
            }),
            Shape::Token => text.len() >= 8 && text.bytes().all(|b| b.is_ascii_graphic()),
            Shape::SvixSecret => text
                .strip_prefix("whsec_")
                .and_then(|rest| STANDARD.decode(rest).ok())
                .is_some_and(|bytes| bytes.len() >= 16),
            Shape::P256Key => STANDARD
                .decode(text)
                .is_ok_and(|der| der.len() == P256_BYTES && der.starts_with(&P256_PREFIX)),
            Shape::Address => is_address(text, plain_http_allowed),
        };
        right.then_some(()).ok_or(match self {
            Shape::AccountSid => "must be `AC` and 32 hexadecimal digits",
            Shape::Token => "must have at least 8 visible ASCII characters",
            Shape::SvixSecret => "must be `whsec_` and the base64 of at least 16 bytes",
            Shape::P256Key => "must be the base64 of a P-256 public key, as SendGrid shows it",
            Shape::Address => "must be an https:// address without a query",
        })
    }
}

/// Somebody else's address is not a way into our own network, at least not in the clear; a simulator is not encrypted.
fn is_address(text: &str, plain_http_allowed: bool) -> bool {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://").filter(|_| plain_http_allowed));
    rest.is_some_and(|rest| {
        let host = rest.split('/').next().unwrap_or_default();
        !host.is_empty()
            && rest
                .bytes()
                .all(|b| b.is_ascii_graphic() && !b"?#@\\\"".contains(&b))
    })
}

/// Fields as a request has them.
#[derive(Default)]
pub struct Given(pub Vec<(&'static str, SecretString)>);

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Given(…)")
    }
}

/// What a provider gave.
pub struct Credentials {
    hint: String,
    fields: BTreeMap<String, SecretString>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// Holds what was given against what the provider gives.
///
/// # Errors
/// Every field at fault, below `credentials`.
pub fn read(
    provider: Provider,
    given: &Given,
    plain_http_allowed: bool,
) -> Result<Credentials, Vec<FieldViolation>> {
    let mut faults = Vec::new();
    let mut fault = |field: &str, message: String| {
        faults.push(FieldViolation {
            field: format!("credentials.{field}"),
            message,
        });
    };
    let mut fields = BTreeMap::new();
    for &(field, optional, shape) in provider.fields() {
        let found = given.0.iter().find(|(known, _)| *known == field);
        match found {
            None if optional => {}
            None => fault(field, format!("is required for {}", provider.as_str())),
            Some((_, value)) => match shape.check(value.expose_secret(), plain_http_allowed) {
                Ok(()) => {
                    fields.insert(field.to_owned(), value.clone());
                }
                Err(wrong) => fault(field, wrong.to_owned()),
            },
        }
    }
    for (field, _) in &given.0 {
        if !provider.fields().iter().any(|(known, ..)| known == field) {
            fault(
                field,
                format!("is nothing that {} gives", provider.as_str()),
            );
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let hint = fields
        .get(provider.told_by())
        .map(|secret| last_four(secret.expose_secret()));
    Ok(Credentials {
        hint: hint.unwrap_or_default(),
        fields,
    })
}

/// Tokens are ASCII, and of at least eight characters.
fn last_four(text: &str) -> String {
    text.get(text.len().saturating_sub(4)..)
        .unwrap_or_default()
        .to_owned()
}

impl Credentials {
    /// The last four characters of what it is signed in with.
    pub fn hint(&self) -> String {
        self.hint.clone()
    }

    /// What webhooks are verified by.
    pub fn verifies_webhooks(&self, provider: Provider) -> Option<&str> {
        self.fields
            .get(provider.verified_by()?)
            .map(|secret| secret.expose_secret())
    }

    /// All of it, for whoever calls the provider.
    pub fn exposed(&self) -> BTreeMap<String, String> {
        let exposed = |(field, secret): (&String, &SecretString)| {
            (field.clone(), secret.expose_secret().to_owned())
        };
        self.fields.iter().map(exposed).collect()
    }

    /// As it is sealed.
    ///
    /// # Errors
    /// Never: texts by name are JSON.
    pub fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let plain: BTreeMap<&str, &str> = self
            .fields
            .iter()
            .map(|(field, secret)| (field.as_str(), secret.expose_secret()))
            .collect();
        serde_json::to_vec(&plain)
            .map(Zeroizing::new)
            .map_err(|_| VaultError::Broken)
    }

    /// As it was sealed.
    ///
    /// # Errors
    /// [`VaultError::Broken`].
    pub fn opened(bytes: &[u8]) -> Result<Self, VaultError> {
        let plain: BTreeMap<String, String> =
            serde_json::from_slice(bytes).map_err(|_| VaultError::Broken)?;
        Ok(Credentials {
            hint: String::new(),
            fields: plain
                .into_iter()
                .map(|(field, secret)| (field, SecretString::from(secret)))
                .collect(),
        })
    }
}

/// What credentials are sealed for: moved to another row they do not open.
pub fn about(agency: AgencyId, account: ProviderAccountId, revision: i64) -> Vec<u8> {
    format!("mainstay/provider-credential/1/{agency}/{account}/{revision}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(fields: &[(&'static str, &str)]) -> Given {
        let fields = fields.iter();
        Given(
            fields
                .map(|(field, text)| (*field, SecretString::from((*text).to_owned())))
                .collect(),
        )
    }

    fn public_key() -> String {
        let mut der = P256_PREFIX.to_vec();
        der.resize(P256_BYTES, 7);
        STANDARD.encode(der)
    }

    #[test]
    fn each_provider_has_its_own_fields_and_every_fault_is_named() {
        let sid = "AC5ef8732a3c49700934481addd5ce1659";
        let key = public_key();
        type Case<'a> = (Provider, &'a [(&'static str, &'a str)], &'a [&'a str]);
        let cases: [Case<'_>; 9] = [
            (
                Provider::Twilio,
                &[("account_sid", sid), ("auth_token", "b3a1f0c2d4e5")],
                &[],
            ),
            (
                Provider::Twilio,
                &[("account_sid", "AC1"), ("auth_token", "a b c d e f")],
                &["credentials.account_sid", "credentials.auth_token"],
            ),
            (
                Provider::Twilio,
                &[("api_key", "re_12345678")],
                &[
                    "credentials.account_sid",
                    "credentials.auth_token",
                    "credentials.api_key",
                ],
            ),
            (
                Provider::Resend,
                &[
                    ("api_key", "re_12345678"),
                    ("webhook_secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
                ],
                &[],
            ),
            (
                Provider::Resend,
                &[("api_key", "re_12345678"), ("webhook_secret", "whsec_%")],
                &["credentials.webhook_secret"],
            ),
            (
                Provider::Sendgrid,
                &[("api_key", "SG.12345678"), ("webhook_public_key", &key)],
                &[],
            ),
            (
                Provider::Sendgrid,
                &[("api_key", "SG.12345678"), ("webhook_public_key", "AAAA")],
                &["credentials.webhook_public_key"],
            ),
            (Provider::Openai, &[("api_key", "sk-12345678")], &[]),
            (
                Provider::Openai,
                &[
                    ("api_key", "sk-12345678"),
                    ("base", "http://169.254.169.254"),
                ],
                &["credentials.base"],
            ),
        ];
        for (provider, fields, wanted) in cases {
            let faults = match read(provider, &given(fields), false) {
                Ok(_) => Vec::new(),
                Err(faults) => faults.into_iter().map(|fault| fault.field).collect(),
            };
            assert_eq!(faults, wanted, "{provider:?} {fields:?}");
        }
    }

    #[test]
    fn nothing_but_the_last_four_characters_is_ever_shown() {
        let fields = given(&[
            ("account_sid", "AC5ef8732a3c49700934481addd5ce1659"),
            ("auth_token", "b3a1f0c2d4e59687"),
        ]);
        let read = read(Provider::Twilio, &fields, false).expect("right");
        assert_eq!(read.hint(), "9687");
        for shown in [format!("{fields:?}"), format!("{read:?}")] {
            assert!(
                !shown.contains("b3a1") && !shown.contains("AC5e"),
                "{shown}"
            );
        }
        let bytes = read.to_bytes().expect("JSON");
        let opened = Credentials::opened(&bytes).expect("opened");
        assert_eq!(opened.exposed(), read.exposed());
        assert_eq!(
            opened.verifies_webhooks(Provider::Twilio),
            Some("b3a1f0c2d4e59687")
        );
    }
}
