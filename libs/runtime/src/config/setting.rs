//! What a setting is: its name, purpose, type, default and rules, as constant data.
//!
//! Deliberately absent: values.

use super::Environment;
use super::value;

/// The settings of one role, or of one part that several roles share.
#[derive(Debug)]
pub struct Group {
    /// The heading in the reference: `billing`, `telemetry`.
    pub name: &'static str,
    /// What the group is about, one sentence.
    pub about: &'static str,
    /// Its settings.
    pub settings: &'static [Setting],
}

/// One setting. Build it in a `const`: `Setting::new("STRIPE_API_BASE", "where …", Kind::HttpUrl).default("…")`.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The environment variable's name; in the file it is lower case without `MAINSTAY_`, tables joined by `_`.
    pub name: &'static str,
    /// What it is for, to be read after "is missing:".
    pub about: &'static str,
    /// What a value looks like.
    pub kind: Kind,
    /// The value when nobody sets one.
    pub default: Option<&'static str>,
    /// Whether a value must be there.
    pub required: bool,
    /// Never shown; takes no default.
    pub secret: bool,
    /// Required only when another setting has one of these values.
    pub only_when: Option<OnlyWhen>,
    /// What production allows.
    pub production: Production,
}

impl Setting {
    /// A required setting without a default.
    pub const fn new(name: &'static str, about: &'static str, kind: Kind) -> Self {
        Setting {
            name,
            about,
            kind,
            default: None,
            required: true,
            secret: false,
            only_when: None,
            production: Production::Allowed,
        }
    }

    /// The value when nobody sets one.
    pub const fn default(mut self, value: &'static str) -> Self {
        assert!(!self.secret, "a secret has no default");
        self.default = Some(value);
        self
    }

    /// It may be left out; read it as an `Option`.
    pub const fn optional(mut self) -> Self {
        self.required = false;
        self
    }

    /// Never shown.
    pub const fn secret(mut self) -> Self {
        assert!(self.default.is_none(), "a secret has no default");
        self.secret = true;
        self
    }

    /// Required only when `setting` has one of `values` (none given: when it is set at all). Read it as an `Option`.
    pub const fn only_when(
        mut self,
        setting: &'static str,
        values: &'static [&'static str],
    ) -> Self {
        self.only_when = Some(OnlyWhen { setting, values });
        self
    }

    /// Refused in production unless it has this value (or none).
    pub const fn refused_in_production(mut self, except: &'static str) -> Self {
        self.production = Production::Only(except);
        self
    }

    /// In production it must be an `https` address elsewhere than on this machine: no simulator, no plain text.
    pub const fn real_provider_in_production(mut self) -> Self {
        self.production = Production::RealProvider;
        self
    }

    /// Its key in the configuration file.
    pub fn file_key(&self) -> String {
        self.name
            .strip_prefix("MAINSTAY_")
            .unwrap_or(self.name)
            .to_ascii_lowercase()
    }
}

/// When a setting must be there.
#[derive(Clone, Copy, Debug)]
pub struct OnlyWhen {
    /// The other setting.
    pub setting: &'static str,
    /// The values that count; empty: any.
    pub values: &'static [&'static str],
}

impl OnlyWhen {
    pub(super) fn holds(self, value: &str) -> bool {
        !value.is_empty() && (self.values.is_empty() || self.values.contains(&value))
    }
}

/// What production allows of a setting.
#[derive(Clone, Copy, Debug)]
pub enum Production {
    /// What its kind allows.
    Allowed,
    /// Only this value.
    Only(&'static str),
    /// Only an https address of another machine.
    RealProvider,
}

impl Production {
    pub(super) fn check(self, text: &str, environment: Environment) -> Result<(), String> {
        if environment != Environment::Production {
            return Ok(());
        }
        match self {
            Production::Allowed => Ok(()),
            Production::Only(except) if text == except => Ok(()),
            Production::Only("") => Err("may not be set in production".to_owned()),
            Production::Only(except) => Err(format!("may only be {except} in production")),
            Production::RealProvider
                if text.starts_with("https://") && !value::is_loopback_url(text) =>
            {
                Ok(())
            }
            Production::RealProvider => Err(
                "must be the real provider's https address in production, never a simulator"
                    .to_owned(),
            ),
        }
    }
}

/// What a value looks like.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Any text up to 1000 characters.
    Text,
    /// A secret text of at least so many characters.
    Secret {
        /// The least length.
        min_len: usize,
    },
    /// So many bytes in hexadecimal digits.
    HexKey {
        /// How many bytes.
        bytes: usize,
    },
    /// `http://` or `https://`, host, no query.
    HttpUrl,
    /// `postgres://user:password@host/database`.
    PostgresUrl,
    /// A whole number between these, both included.
    Integer {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// A decimal number between 0 and 1.
    Ratio,
    /// A number of seconds between these, both included.
    Seconds {
        /// The least.
        min: u64,
        /// The greatest.
        max: u64,
    },
    /// true or false.
    Bool,
    /// Texts separated by commas (in the file, also a list).
    List,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// A path.
    Path,
    /// An address and port: `127.0.0.1:8080`.
    SocketAddress,
    /// Whatever the function accepts; it answers with what would be right.
    Custom {
        /// What it looks like, for the reference.
        shape: &'static str,
        /// Judges a text.
        check: fn(&str) -> Result<(), String>,
    },
}
