//! The files: names, order, checksums. Deliberately absent: SQL parsing.

use std::{collections::BTreeMap, fs, path::Path};

use sha2::{Digest, Sha256};

use mainstay_types::ServiceName;

use super::Set;

/// First line of a file that must not run in a transaction.
pub(super) const NO_TRANSACTION: &str = "-- mainstay:no-transaction";

/// The migrations folder is not in order.
#[derive(Debug, thiserror::Error)]
#[error("migrations: {0}")]
pub struct FileError(String);

/// One migration: both directions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// The timestamp it is named by.
    pub version: i64,
    /// What it brings.
    pub name: String,
    /// Forward.
    pub up: String,
    /// Back.
    pub down: String,
}

impl Migration {
    /// What is kept to notice an edit. Of the way up only: mending a way back is allowed.
    pub fn checksum(&self) -> String {
        hex::encode(&Sha256::digest(self.up.as_bytes())[..16])
    }

    /// Its file name.
    pub fn file_name(&self, direction: &str) -> String {
        format!("{}_{}.{direction}.sql", self.version, self.name)
    }
}

/// All migrations.
#[derive(Debug, Clone, Default)]
pub struct Migrations {
    core: Vec<Migration>,
    services: BTreeMap<String, Vec<Migration>>,
}

impl Migrations {
    /// Reads `migrations/`.
    ///
    /// # Errors
    /// An unreadable folder, a misnamed file, a missing direction, a version given twice.
    pub fn from_dir(dir: &Path) -> Result<Self, FileError> {
        let unreadable = |path: &Path, error| FileError(format!("{}: {error}", path.display()));
        let mut files = Vec::new();
        for folder in fs::read_dir(dir).map_err(|e| unreadable(dir, e))? {
            let folder = folder.map_err(|e| unreadable(dir, e))?.path();
            if !folder.is_dir() {
                continue;
            }
            let set = file_name(&folder);
            for file in fs::read_dir(&folder).map_err(|e| unreadable(&folder, e))? {
                let file = file.map_err(|e| unreadable(&folder, e))?.path();
                if file.extension().is_some_and(|extension| extension == "sql") {
                    let text = fs::read_to_string(&file).map_err(|e| unreadable(&file, e))?;
                    files.push((format!("{set}/{}", file_name(&file)), text));
                }
            }
        }
        Self::from_files(files)
    }

    /// Takes `(folder/file name, text)`.
    ///
    /// # Errors
    /// A misnamed file, a missing direction, a version given twice.
    pub fn from_files(
        files: impl IntoIterator<Item = (impl AsRef<str>, impl Into<String>)>,
    ) -> Result<Self, FileError> {
        type Halves = BTreeMap<i64, (String, Option<String>, Option<String>)>;
        let mut sets: BTreeMap<String, Halves> = BTreeMap::new();
        for (path, text) in files {
            let path = path.as_ref();
            let misnamed = || {
                FileError(format!(
                    "{path}: expected folder/YYYYMMDDhhmmss_name.up.sql or .down.sql"
                ))
            };
            let (set, file) = path.split_once('/').ok_or_else(misnamed)?;
            let halves = sets.entry(set.to_owned()).or_default();
            let stem = file.strip_suffix(".sql").ok_or_else(misnamed)?;
            let (stem, direction) = stem.rsplit_once('.').ok_or_else(misnamed)?;
            let (version, name) = stem.split_once('_').ok_or_else(misnamed)?;
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if version.len() != 14 || name.is_empty() || !name.chars().all(plain) {
                return Err(misnamed());
            }
            let version = version.parse().map_err(|_| misnamed())?;
            let entry = halves
                .entry(version)
                .or_insert_with(|| (name.to_owned(), None, None));
            if entry.0 != name {
                return Err(FileError(format!(
                    "{path}: version {version} is also {}",
                    entry.0
                )));
            }
            match direction {
                "up" => entry.1 = Some(text.into()),
                "down" => entry.2 = Some(text.into()),
                _ => return Err(misnamed()),
            }
        }
        let mut migrations = Self::default();
        // A service without tables of its own still has `_core`.
        for service in ServiceName::CONTEXTS {
            migrations
                .services
                .insert(service.as_str().to_owned(), Vec::new());
        }
        for (set, halves) in sets {
            let list = halves
                .into_iter()
                .map(|(version, (name, up, down))| match (up, down) {
                    (Some(up), Some(down)) => Ok(Migration {
                        version,
                        name,
                        up,
                        down,
                    }),
                    _ => Err(FileError(format!(
                        "{set}/{version}_{name}: both .up.sql and .down.sql are needed"
                    ))),
                })
                .collect::<Result<_, _>>()?;
            if set == "_core" {
                migrations.core = list;
            } else {
                migrations.services.insert(set, list);
            }
        }
        Ok(migrations)
    }

    /// The services that have a schema.
    pub fn services(&self) -> impl Iterator<Item = &str> {
        self.services.keys().map(String::as_str)
    }

    /// The files of a set, oldest first; none if there is no such service.
    pub fn of(&self, set: Set, service: &str) -> Option<&[Migration]> {
        match set {
            Set::Core => Some(&self.core),
            Set::Service => self.services.get(service).map(Vec::as_slice),
        }
    }

    /// Changes when any file does. Names the template database of the tests.
    pub fn digest(&self) -> String {
        let mut digest = Sha256::new();
        let sets = std::iter::once(("_core", &self.core)).chain(
            self.services
                .iter()
                .map(|(name, list)| (name.as_str(), list)),
        );
        for (set, list) in sets {
            digest.update(set);
            for migration in list {
                digest.update(migration.version.to_be_bytes());
                for text in [&migration.up, &migration.down] {
                    digest.update((text.len() as u64).to_be_bytes());
                    digest.update(text);
                }
            }
        }
        hex::encode(&digest.finalize()[..8])
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_ordered_by_time_and_need_both_directions() {
        let ok = Migrations::from_files([
            ("billing/20260102000000_b.up.sql", "b"),
            ("billing/20260102000000_b.down.sql", "-b"),
            ("billing/20260101000000_a.up.sql", "a"),
            ("billing/20260101000000_a.down.sql", "-a"),
        ])
        .expect("in order");
        let names: Vec<_> = ok
            .of(Set::Service, "billing")
            .expect("listed")
            .iter()
            .map(|m| &m.name)
            .collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(ok.of(Set::Service, "identity").map(<[_]>::len), Some(0));
        assert!(ok.of(Set::Service, "unknown").is_none());

        for bad in [
            "billing/20260101000000_a.up.sql", // no way back
            "billing/1_a.up.sql",
            "billing/20260101000000_A.up.sql",
            "billing/20260101000000_a.sql",
            "20260101000000_a.up.sql",
        ] {
            assert!(Migrations::from_files([(bad, "x")]).is_err(), "{bad}");
        }
    }
}
