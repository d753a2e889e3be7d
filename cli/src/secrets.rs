//! The secrets of one instance of `up`: random, made at the first start, kept beside the data they protect.
//! Deliberately absent: anything for production. There, secrets come from the environment and are never written.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use mainstay_runtime::config::{Kind, Setting};
use serde::{Deserialize, Serialize};

use crate::data_dir::{DataDir, write_private};
use crate::dev_file::DevClient;
use crate::failure::Advise;

/// `secrets.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Secrets {
    /// Secret settings by name.
    settings: BTreeMap<String, String>,
    /// The demo owner's API key, which identity keeps only a hash of.
    pub owner_api_key: Option<String>,
    /// The demo client.
    pub demo_client: Option<DevClient>,
}

impl Secrets {
    /// Those of this data directory; none yet at the first start.
    ///
    /// # Errors
    /// When the file is there and cannot be read: making new ones would lock the instance out of its own data.
    pub fn open(data_dir: &DataDir) -> anyhow::Result<Self> {
        let path = data_dir.secrets();
        let next = "restore the file, or start afresh with another --data-dir";
        match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text)
                .advise(format!("{} cannot be read", path.display()), next),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).advise(format!("{} cannot be read", path.display()), next),
        }
    }

    /// Writes them, for the owner's eyes only.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn keep(&self, data_dir: &DataDir) -> anyhow::Result<()> {
        write_private(&data_dir.secrets(), &serde_json::to_string_pretty(self)?)
    }

    /// The value kept under a name, made by `make` the first time.
    pub fn get_or_make(&mut self, name: &str, make: impl FnOnce() -> String) -> String {
        self.settings
            .entry(name.to_owned())
            .or_insert_with(make)
            .clone()
    }

    /// Keeps a value under a name. Whether another one was kept there.
    pub fn replace(&mut self, name: &str, value: &str) -> bool {
        let before = self.settings.insert(name.to_owned(), value.to_owned());
        before.is_some_and(|before| before != value)
    }

    /// 32 random bytes in hexadecimal digits, kept under this name.
    pub fn hex(&mut self, name: &str) -> String {
        self.get_or_make(name, random_hex)
    }

    /// A value for each of these that is a secret that must be there and that nobody else can know: keys of random bytes.
    ///
    /// # Errors
    /// When one asks for a key beyond all measure.
    pub fn for_settings(
        &mut self,
        settings: impl IntoIterator<Item = &'static Setting>,
    ) -> anyhow::Result<Vec<(&'static Setting, String)>> {
        let mut values = Vec::new();
        for setting in settings
            .into_iter()
            .filter(|setting| setting.secret && setting.required)
        {
            let bytes = match setting.kind {
                Kind::HexKey { bytes } => bytes,
                Kind::Secret { min_len } => min_len.div_ceil(2).max(32),
                _ => continue,
            };
            anyhow::ensure!(bytes <= 1024, "{} asks for too long a key", setting.name);
            let value = self.get_or_make(setting.name, || hex::encode(random_bytes(bytes)));
            values.push((setting, value));
        }
        Ok(values)
    }
}

/// 32 random bytes in hexadecimal digits.
pub fn random_hex() -> String {
    hex::encode(random_bytes(32))
}

fn random_bytes(count: usize) -> Vec<u8> {
    (0..count).map(|_| rand::random::<u8>()).collect()
}
