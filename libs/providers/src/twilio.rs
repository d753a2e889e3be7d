//! What all roles that call Twilio share: where it answers, and how it knows who asks.
//! Deliberately absent: what they ask.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use mainstay_runtime::config::{Group, Kind, Setting};

/// Where Twilio answers.
pub const API_BASE: Setting = Setting::new(
    "TWILIO_API_BASE",
    "where Twilio's API answers; `/2010-04-01` is added",
    Kind::HttpUrl,
)
.default("https://api.twilio.com")
.real_provider_in_production();

/// These settings.
pub static GROUP: Group = Group {
    name: "twilio",
    about: "Calling Twilio.",
    settings: &[API_BASE],
};

/// The `Authorization` of an account's request (https://www.twilio.com/docs/usage/requests-to-twilio).
pub fn authorization(account_sid: &str, auth_token: &str) -> HeaderValue {
    let pair = STANDARD.encode(format!("{account_sid}:{auth_token}"));
    // Base64 is ASCII.
    let mut value = HeaderValue::try_from(format!("Basic {pair}"))
        .unwrap_or_else(|_| HeaderValue::from_static("Basic"));
    value.set_sensitive(true);
    value
}
