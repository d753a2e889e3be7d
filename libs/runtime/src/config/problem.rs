//! What is wrong with a configuration: all of it at once, each by name, with what it is for and what would be right.
//!
//! Deliberately absent: values of secrets.

use std::fmt;
use std::path::Path;

use super::setting::Setting;

/// One thing wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The setting, key or file.
    pub name: String,
    /// What is wrong with it.
    pub wrong: String,
    /// What it is for.
    pub about: String,
    /// What would be right.
    pub right: String,
}

impl Problem {
    pub(super) fn of(setting: &Setting, wrong: String) -> Self {
        let also = format!("or {} in the file", setting.file_key());
        Problem {
            name: setting.name.to_owned(),
            wrong,
            about: setting.about.to_owned(),
            right: format!("set {} ({also}) to {}", setting.name, setting.kind.shape()),
        }
    }

    pub(super) fn of_file(path: &Path, wrong: String) -> Self {
        Problem {
            name: path.display().to_string(),
            wrong,
            about: "the configuration file".to_owned(),
            right: "mend the file, or name another with --config or MAINSTAY_CONFIG".to_owned(),
        }
    }

    pub(super) fn unknown(name: &str, origin: &str, meant: Option<String>) -> Self {
        let right = match meant {
            Some(meant) => format!("did you mean {meant}? Otherwise remove it"),
            None => "remove it, or see docs/configuration.md for the names there are".to_owned(),
        };
        Problem {
            name: name.to_owned(),
            wrong: format!("is unknown (in {origin})"),
            about: String::new(),
            right,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.wrong)?;
        if !self.about.is_empty() {
            write!(f, "\n      for:  {}", self.about)?;
        }
        write!(f, "\n      mend: {}", self.right)
    }
}

/// Why a configuration was refused: never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| a.name.cmp(&b.name));
        ConfigError { problems }
    }

    /// Everything that is wrong, by name.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        write!(
            f,
            "the configuration has {count} problem{}:",
            if count == 1 { "" } else { "s" }
        )?;
        for problem in &self.problems {
            write!(f, "\n  - {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
