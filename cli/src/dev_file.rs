//! `dev.json`: what a running instance tells its clients. Written by `up` once everything answers.
//! Deliberately absent: secrets that only the instance itself needs; those are in `secrets.json`.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use serde::{Deserialize, Serialize};

use crate::data_dir::{DataDir, write_private};
use crate::failure::{Advise, refuse};

/// The file. Other people's clients read it: fields may be added, not renamed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DevFile {
    /// REST and webhooks.
    pub gateway_url: String,
    /// The operator's console; none while there is none.
    pub console_url: Option<String>,
    /// The API's documentation.
    pub docs_url: String,
    /// The simulators.
    pub sandbox_url: String,
    /// The database, as its superuser.
    pub database_url: String,
    /// Each service's gRPC address.
    pub grpc: BTreeMap<String, String>,
    /// The demo agency.
    pub agency_id: String,
    /// Its demo clients.
    pub clients: Vec<DevClient>,
    /// Its owner.
    pub owner: DevOwner,
    /// What Stripe's webhooks are signed with.
    pub stripe_webhook_secret: String,
    /// The simulated Twilio account; none while there is none.
    pub twilio: Option<serde_json::Value>,
}

/// A demo client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DevClient {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// The demo agency's owner.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DevOwner {
    /// Where they would get mail.
    pub email: String,
    /// A key that may do everything in the agency.
    pub api_key: String,
}

impl DevFile {
    /// Reads the file of an instance.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn read(data_dir: &DataDir) -> anyhow::Result<Self> {
        let path = data_dir.dev_file();
        let up = format!(
            "start one with `mainstay up --data-dir {0}`, or name a running one's directory with --data-dir",
            data_dir.root().display()
        );
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let cause = format!("no instance is running on {}", data_dir.root().display());
                return Err(refuse(cause, up));
            }
            Err(error) => {
                return Err(error).advise(format!("{} cannot be read", path.display()), up);
            }
        };
        serde_json::from_str(&text).advise(format!("{} cannot be read", path.display()), up)
    }

    /// Writes the file.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, data_dir: &DataDir) -> anyhow::Result<()> {
        write_private(&data_dir.dev_file(), &serde_json::to_string_pretty(self)?)
    }
}
