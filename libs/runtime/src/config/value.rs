//! From text to types: what each kind accepts, and the types that settings are read as.
//!
//! Deliberately absent: anything that looks a name up. A value is judged alone.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::setting::Kind;

impl Kind {
    /// Whether the text is a value of this kind; the error says what would be right.
    pub(super) fn check(&self, text: &str) -> Result<(), String> {
        let right = match *self {
            Kind::Text | Kind::Path => text.chars().count() <= 1000 && !text.contains('\0'),
            Kind::Secret { min_len } => text.chars().count() >= min_len && !is_placeholder(text),
            Kind::HexKey { bytes } => {
                text.len() == bytes * 2 && text.bytes().all(|b| b.is_ascii_hexdigit())
            }
            Kind::HttpUrl => is_http_url(text),
            Kind::PostgresUrl => is_url_of(text, &["postgres", "postgresql"]),
            Kind::Integer { min, max } => {
                text.parse::<i64>().is_ok_and(|n| (min..=max).contains(&n))
            }
            Kind::Ratio => text.parse::<f64>().is_ok_and(|n| (0.0..=1.0).contains(&n)),
            Kind::Seconds { min, max } => {
                text.parse::<u64>().is_ok_and(|n| (min..=max).contains(&n))
            }
            Kind::Bool => matches!(text, "true" | "false"),
            Kind::List => text.len() <= 10_000,
            Kind::OneOf(values) => values.contains(&text),
            Kind::SocketAddress => text.parse::<SocketAddr>().is_ok(),
            Kind::Custom { check, .. } => return check(text),
        };
        if right {
            Ok(())
        } else {
            Err(format!("must be {}", self.shape()))
        }
    }

    /// What a value looks like, in words.
    pub(super) fn shape(&self) -> String {
        match *self {
            Kind::Text => "text of at most 1000 characters".to_owned(),
            Kind::Path => "a path".to_owned(),
            Kind::Secret { min_len } => {
                format!("a secret of at least {min_len} characters, not a placeholder")
            }
            Kind::HexKey { bytes } => {
                format!("{} hexadecimal digits ({bytes} random bytes)", bytes * 2)
            }
            Kind::HttpUrl => "an http:// or https:// address without a query".to_owned(),
            Kind::PostgresUrl => "a postgres://user:password@host:port/database address".to_owned(),
            Kind::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Kind::Ratio => "a number from 0 to 1".to_owned(),
            Kind::Seconds { min, max } => format!("a number of seconds from {min} to {max}"),
            Kind::Bool => "true or false".to_owned(),
            Kind::List => "texts separated by commas".to_owned(),
            Kind::OneOf(values) => format!("one of {}", values.join(", ")),
            Kind::SocketAddress => "an address and port such as 127.0.0.1:8080".to_owned(),
            Kind::Custom { shape, .. } => shape.to_owned(),
        }
    }
}

/// Words that stand in examples where a secret belongs.
fn is_placeholder(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    [
        "changeme",
        "change-me",
        "change_me",
        "placeholder",
        "your-secret",
        "your_secret",
        "<",
        "xxxx",
        "example",
    ]
    .iter()
    .any(|word| text.contains(word))
}

fn is_url_of(text: &str, schemes: &[&str]) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    schemes.contains(&scheme)
        && !host.is_empty()
        && !host.starts_with(':')
        && !text.chars().any(char::is_whitespace)
}

fn is_http_url(text: &str) -> bool {
    is_url_of(text, &["http", "https"]) && !text.contains(['?', '#'])
}

/// Whether a URL's host is this machine.
pub(super) fn is_loopback_url(text: &str) -> bool {
    let authority = text.split_once("://").map_or("", |(_, rest)| {
        rest.split(['/', '?']).next().unwrap_or_default()
    });
    let host = authority.rsplit('@').next().unwrap_or_default();
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let host = host.to_ascii_lowercase();
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost"
        || host.ends_with(".localhost")
        || address.is_ok_and(|a| a.is_loopback() || a.is_unspecified())
}

/// A type that a setting can be read as.
pub trait FromSetting: Sized {
    /// From the text, or from there being none.
    ///
    /// # Errors
    /// When the text is not of this type; validation has made that a mistake of the program.
    fn from_setting(text: Option<&str>) -> Result<Self, String>;
}

fn there(text: Option<&str>) -> Result<&str, String> {
    text.ok_or_else(|| "it has no value; read it as an Option".to_owned())
}

impl<T: FromSetting> FromSetting for Option<T> {
    fn from_setting(text: Option<&str>) -> Result<Self, String> {
        text.map(|text| T::from_setting(Some(text))).transpose()
    }
}

impl FromSetting for SecretString {
    fn from_setting(text: Option<&str>) -> Result<Self, String> {
        Ok(SecretString::from(there(text)?))
    }
}

impl FromSetting for Duration {
    fn from_setting(text: Option<&str>) -> Result<Self, String> {
        there(text)?
            .parse()
            .map(Duration::from_secs)
            .map_err(|e: std::num::ParseIntError| e.to_string())
    }
}

impl FromSetting for Vec<String> {
    fn from_setting(text: Option<&str>) -> Result<Self, String> {
        let items = text
            .unwrap_or_default()
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty());
        Ok(items.map(str::to_owned).collect())
    }
}

macro_rules! from_text {
    ($($ty:ty),*) => {$(
        impl FromSetting for $ty {
            fn from_setting(text: Option<&str>) -> Result<Self, String> {
                there(text)?.parse().map_err(|e| format!("{e}"))
            }
        }
    )*};
}
from_text!(
    String, PathBuf, SocketAddr, bool, f64, i64, i32, u16, u32, u64, usize
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_accepts_what_it_says_and_nothing_else() {
        let cases: &[(Kind, &[&str], &[&str])] = &[
            (
                Kind::HttpUrl,
                &["http://127.0.0.1:1/stripe", "https://api.stripe.com"],
                &["ftp://x", "https://", "https://a?b=1", "https://a b"],
            ),
            (
                Kind::PostgresUrl,
                &["postgres://u:p@h:1/d", "postgresql://h/d"],
                &["mysql://h/d", "postgres://", "postgres://:1/x"],
            ),
            (
                Kind::Integer { min: 1, max: 10 },
                &["1", "10"],
                &["0", "11", "1.5", "", "x"],
            ),
            (
                Kind::Seconds { min: 0, max: 60 },
                &["0", "60"],
                &["61", "-1", "1s"],
            ),
            (Kind::Bool, &["true", "false"], &["yes", "1", "TRUE"]),
            (Kind::Ratio, &["0", "0.5", "1"], &["1.1", "NaN", "-0.1"]),
            (Kind::OneOf(&["a", "b"]), &["a"], &["c", "A"]),
            (
                Kind::SocketAddress,
                &["127.0.0.1:0", "[::1]:80"],
                &["localhost", "127.0.0.1"],
            ),
            (
                Kind::HexKey { bytes: 2 },
                &["00ff", "ABCD"],
                &["0", "00fg", "00ff0"],
            ),
            (
                Kind::Secret { min_len: 8 },
                &["kT8vQ2mZ"],
                &["short", "changeme-please", "<your key here>"],
            ),
        ];
        for (kind, right, wrong) in cases {
            for text in *right {
                assert_eq!(kind.check(text), Ok(()), "{kind:?} {text}");
            }
            for text in *wrong {
                assert!(kind.check(text).is_err(), "{kind:?} {text}");
            }
        }
    }

    #[test]
    fn an_address_of_this_machine_is_known_in_all_its_spellings() {
        for url in [
            "http://localhost/x",
            "https://127.0.0.1:8",
            "https://u:p@[::1]:1/",
            "http://0.0.0.0",
            "https://A.LOCALHOST",
        ] {
            assert!(is_loopback_url(url), "{url}");
        }
        for url in [
            "https://api.stripe.com",
            "https://localhost.example",
            "https://10.0.0.1",
        ] {
            assert!(!is_loopback_url(url), "{url}");
        }
    }
}
