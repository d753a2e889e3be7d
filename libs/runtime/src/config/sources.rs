//! Where settings come from, in rising order: defaults, what the launcher supplies, the file, the environment, the
//! command line. The one place that reads the process's environment.
//!
//! Deliberately absent: judging values. That needs them all, and happens in `Config::load`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::problem::Problem;
use super::setting::{Group, Setting};

/// The places that values come from.
#[derive(Debug, Default)]
pub struct Sources {
    supplied: Vec<(String, Found)>,
    file: Option<(PathBuf, Result<String, String>)>,
    environment: BTreeMap<String, Result<String, String>>,
    given: Vec<(String, Found)>,
    known_elsewhere: &'static [&'static str],
}

/// A value and where it came from.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) value: String,
    pub(super) origin: String,
}

impl Sources {
    /// Nothing but defaults; for tests, which add an explicit map with [`with_environment`](Self::with_environment).
    pub fn none() -> Self {
        Self::default()
    }

    /// The process's environment, and the file that `file` or else `MAINSTAY_CONFIG` names.
    pub fn process(file: Option<&Path>) -> Self {
        let text = |value: OsString| value.into_string().map_err(|_| "is not UTF-8".to_owned());
        let environment: BTreeMap<String, Result<String, String>> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, text(value))))
            .collect();
        let from_environment = environment
            .get("MAINSTAY_CONFIG")
            .and_then(|value| value.as_ref().ok());
        let path = file
            .map(Path::to_owned)
            .or_else(|| from_environment.map(PathBuf::from));
        let mut sources = Sources {
            environment,
            ..Self::default()
        };
        if let Some(path) = path {
            let text = std::fs::read_to_string(&path).map_err(|error| error.to_string());
            sources.file = Some((path, text));
        }
        sources
    }

    /// An environment given as a map instead of the process's.
    pub fn with_environment<N: Into<String>, V: Into<String>>(
        mut self,
        map: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        self.environment = map
            .into_iter()
            .map(|(name, value)| (name.into(), Ok(value.into())))
            .collect();
        self
    }

    /// A file given as text.
    pub fn with_file(mut self, path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        self.file = Some((path.into(), Ok(text.into())));
        self
    }

    /// A value that the launcher supplies when neither file nor environment does (`mainstay up` and its simulators).
    pub fn supply(mut self, setting: &Setting, value: impl Into<String>, by: &str) -> Self {
        self.supplied.push((
            setting.name.to_owned(),
            Found {
                value: value.into(),
                origin: by.to_owned(),
            },
        ));
        self
    }

    /// A value that stands above all others: a command line option.
    pub fn give(mut self, setting: &Setting, value: impl Into<String>, by: &str) -> Self {
        self.given.push((
            setting.name.to_owned(),
            Found {
                value: value.into(),
                origin: by.to_owned(),
            },
        ));
        self
    }

    /// `MAINSTAY_*` names that other tools read (test and build scripts): not refused as unknown.
    pub fn known_elsewhere(mut self, names: &'static [&'static str]) -> Self {
        self.known_elsewhere = names;
        self
    }

    /// Every value that is set, by the setting's name; what cannot be read or is unknown goes to `problems`.
    pub(super) fn resolve(
        self,
        catalogue: &[&'static Group],
        problems: &mut Vec<Problem>,
    ) -> BTreeMap<String, Found> {
        let settings: Vec<&'static Setting> = catalogue
            .iter()
            .flat_map(|group| group.settings.iter())
            .collect();
        let mut found: BTreeMap<String, Found> = self.supplied.into_iter().collect();
        if let Some((path, text)) = self.file {
            match text {
                Ok(text) => read_file(&path, &text, &settings, &mut found, problems),
                Err(error) => {
                    problems.push(Problem::of_file(&path, format!("cannot be read: {error}")))
                }
            }
        }
        for (name, value) in self.environment {
            let declared = settings.iter().find(|setting| setting.name == name);
            match (declared, value) {
                // An empty variable is how shells and manifests say "not set".
                (Some(_), Ok(value)) if value.is_empty() => {}
                (Some(_), Ok(value)) => {
                    found.insert(
                        name,
                        Found {
                            value,
                            origin: "environment".to_owned(),
                        },
                    );
                }
                (Some(setting), Err(reason)) => problems.push(Problem::of(setting, reason)),
                (None, _)
                    if name == "MAINSTAY_CONFIG"
                        || self.known_elsewhere.contains(&name.as_str()) => {}
                (None, _) if name.starts_with("MAINSTAY_") => {
                    problems.push(Problem::unknown(
                        &name,
                        "environment",
                        nearest(&name, settings.iter().map(|s| s.name)),
                    ));
                }
                (None, _) => {}
            }
        }
        found.extend(self.given);
        found
    }
}

fn read_file(
    path: &Path,
    text: &str,
    settings: &[&'static Setting],
    found: &mut BTreeMap<String, Found>,
    problems: &mut Vec<Problem>,
) {
    let table = match text.parse::<toml::Table>() {
        Ok(table) => table,
        Err(error) => {
            // The message without the excerpt of the file, which may show a secret.
            problems.push(Problem::of_file(
                path,
                format!("is not TOML: {}", error.message()),
            ));
            return;
        }
    };
    let mut leaves = Vec::new();
    flatten(String::new(), String::new(), &table, &mut leaves);
    let mut seen: BTreeMap<&'static str, String> = BTreeMap::new();
    for (spelled, key, value) in leaves {
        let origin = format!("{}: {spelled}", path.display());
        let Some(setting) = settings.iter().find(|setting| setting.file_key() == key) else {
            let keys: Vec<String> = settings.iter().map(|setting| setting.file_key()).collect();
            problems.push(Problem::unknown(
                &spelled,
                &path.display().to_string(),
                nearest(&key, keys.iter().map(String::as_str)),
            ));
            continue;
        };
        if let Some(before) = seen.insert(setting.name, spelled.clone()) {
            problems.push(Problem::of(
                setting,
                format!(
                    "is set twice in {}: as {before} and as {spelled}",
                    path.display()
                ),
            ));
        }
        match value_text(value) {
            Some(value) if value.is_empty() => {}
            Some(value) => {
                found.insert(setting.name.to_owned(), Found { value, origin });
            }
            None => problems.push(Problem::of(
                setting,
                format!("has a value of the wrong type (from {origin})"),
            )),
        }
    }
}

/// `[stripe] api_base = …` is the key `stripe_api_base`, spelled `stripe.api_base`.
fn flatten<'a>(
    spelled: String,
    key: String,
    table: &'a toml::Table,
    into: &mut Vec<(String, String, &'a toml::Value)>,
) {
    for (name, value) in table {
        let (spelled, key) = match key.is_empty() {
            true => (name.clone(), name.clone()),
            false => (format!("{spelled}.{name}"), format!("{key}_{name}")),
        };
        match value {
            toml::Value::Table(inner) => flatten(spelled, key, inner, into),
            leaf => into.push((spelled, key, leaf)),
        }
    }
}

fn value_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Array(items) => {
            let texts: Option<Vec<&str>> = items
                .iter()
                .map(|item| item.as_str().filter(|t| !t.contains(',')))
                .collect();
            texts.map(|texts| texts.join(","))
        }
        toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

/// The name that was probably meant: fewest differing letters, if few.
fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let (distance, best) = names.map(|other| (distance(name, other), other)).min()?;
    (distance <= 3 || distance * 4 <= name.len()).then(|| best.to_owned())
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replace = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
