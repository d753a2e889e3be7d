//! Settings (PLT-01): declared as data, read from defaults < launcher < file < environment < command line, validated
//! as a whole before anything starts, and able to say where each value came from.
//!
//! Deliberately absent: re-reading while running. A changed setting is a restart, which drops nothing (PLT-12).

pub mod common;
mod problem;
mod reference;
mod setting;
mod sources;
mod value;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

pub use common::Environment;
pub use problem::{ConfigError, Problem};
pub use reference::render_reference;
pub use setting::{Group, Kind, OnlyWhen, Production, Setting};
pub use sources::Sources;
pub use value::FromSetting;

/// The settings of a process, all valid.
#[derive(Debug)]
pub struct Config {
    values: BTreeMap<&'static str, Entry>,
    environment: Environment,
}

#[derive(Debug)]
struct Entry {
    setting: &'static Setting,
    value: Option<SecretString>,
    origin: String,
    read: AtomicBool,
}

/// One setting as it stands, for `mainstay config check`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Effective {
    /// Its name.
    pub name: &'static str,
    /// Its value; `(secret)` for secrets, none when not set.
    pub value: Option<String>,
    /// Where it came from: `default`, `environment`, a file and key, a command line option …
    pub source: String,
    /// What it is for.
    pub about: &'static str,
}

impl Config {
    /// Validates the settings of `selected` as a whole. `catalogue` holds every group of the binary, so that a name
    /// that belongs to another role is known, and one that belongs to none is refused.
    ///
    /// # Errors
    /// Every problem at once: missing, malformed, out of range, unknown, forbidden in production.
    pub fn load(
        catalogue: &[&'static Group],
        selected: &[&'static Group],
        sources: Sources,
    ) -> Result<Config, ConfigError> {
        let mut problems = Vec::new();
        let mut found = sources.resolve(catalogue, &mut problems);
        // The environment first: other settings are judged by it. Production when in doubt.
        let environment = found
            .get(common::ENVIRONMENT.name)
            .and_then(|found| Environment::from_text(&found.value))
            .unwrap_or(Environment::Production);

        let mut values = BTreeMap::new();
        for setting in selected.iter().flat_map(|group| group.settings.iter()) {
            let (value, origin) = match found.remove(setting.name) {
                Some(found) => (Some(found.value), found.origin),
                None => (setting.default.map(str::to_owned), "default".to_owned()),
            };
            let entry = Entry {
                setting,
                value: value.map(SecretString::from),
                origin,
                read: AtomicBool::new(false),
            };
            values.insert(setting.name, entry);
        }
        for entry in values.values() {
            if let Some(problem) = judge(entry, &values, environment) {
                problems.push(problem);
            }
        }
        if problems.is_empty() {
            Ok(Config {
                values,
                environment,
            })
        } else {
            Err(ConfigError::new(problems))
        }
    }

    /// The value of a setting.
    ///
    /// # Panics
    /// When the setting is not in a selected group, has no value and is asked for as if it always had one, or `T`
    /// is not its type: mistakes in the program, which the first start of the role in a test shows.
    pub fn get<T: FromSetting>(&self, setting: &'static Setting) -> T {
        let entry = self.values.get(setting.name);
        let entry = entry.unwrap_or_else(|| {
            panic!(
                "{} is read by a role that does not declare it",
                setting.name
            )
        });
        entry.read.store(true, Ordering::Relaxed);
        let text = entry
            .value
            .as_ref()
            .map(ExposeSecret::expose_secret)
            .filter(|text| !text.is_empty());
        T::from_setting(text)
            .unwrap_or_else(|reason| panic!("{} is read as what it is not: {reason}", setting.name))
    }

    /// Where this process runs.
    pub fn environment(&self) -> Environment {
        self.environment
    }

    /// Whether somebody set it (anything but its default).
    pub fn is_set(&self, setting: &'static Setting) -> bool {
        self.values
            .get(setting.name)
            .is_some_and(|entry| entry.value.is_some() && entry.origin != "default")
    }

    /// Every setting with its value and provenance; secrets are named, not shown.
    pub fn effective(&self) -> Vec<Effective> {
        let show = |entry: &Entry| {
            let value = entry
                .value
                .as_ref()
                .map(ExposeSecret::expose_secret)
                .filter(|text| !text.is_empty())?;
            Some(if entry.setting.secret {
                "(secret)".to_owned()
            } else {
                without_password(value)
            })
        };
        self.values
            .values()
            .map(|entry| Effective {
                name: entry.setting.name,
                value: show(entry),
                source: entry.origin.clone(),
                about: entry.setting.about,
            })
            .collect()
    }

    /// Declared settings that nothing has read. A role that has built all its parts leaves none.
    pub fn unread(&self) -> Vec<&'static str> {
        let unread = self
            .values
            .values()
            .filter(|entry| !entry.read.load(Ordering::Relaxed));
        unread.map(|entry| entry.setting.name).collect()
    }
}

/// What is wrong with one setting, given all others.
fn judge(
    entry: &Entry,
    all: &BTreeMap<&'static str, Entry>,
    environment: Environment,
) -> Option<Problem> {
    let setting = entry.setting;
    let text = entry
        .value
        .as_ref()
        .map(ExposeSecret::expose_secret)
        .filter(|text| !text.is_empty());
    let applies = setting.only_when.is_none_or(|condition| {
        let other = all
            .get(condition.setting)
            .and_then(|other| other.value.as_ref());
        other.is_some_and(|value| condition.holds(value.expose_secret()))
    });
    let wrong = match text {
        None if applies && setting.required && setting.default.is_none() => "is missing".to_owned(),
        None => return None,
        Some(text) => match setting
            .kind
            .check(text)
            .and_then(|()| setting.production.check(text, environment))
        {
            Ok(()) => return None,
            // A secret's text stays out of the message, wherever it came from.
            Err(reason) if setting.secret => format!("{reason} (from {})", entry.origin),
            Err(reason) => format!(
                "{reason}, but is {:?} (from {})",
                without_password(text),
                entry.origin
            ),
        },
    };
    Some(Problem::of(setting, wrong))
}

/// A URL may carry a password; it is shown as `***`.
fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let authority_end = rest.find('/').unwrap_or(rest.len());
    let Some(at) = rest[..authority_end].rfind('@') else {
        return text.to_owned();
    };
    match rest[..at].split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:***{}", &rest[at..]),
        None => text.to_owned(),
    }
}
