//! What `up` supplies to the settings where neither the environment nor the file says otherwise: addresses it has picked,
//! secrets it has made, simulators instead of providers.
//! Deliberately absent: a way around validation. The roles read these as they would read an operator's.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use mainstay_db::bootstrap::ServiceCredentials;
use mainstay_escalation::config as escalation;
use mainstay_integrations::config::{MASTER_KEYS, STRIPE_WEBHOOK_SECRETS};
use mainstay_messaging::config as messaging;
use mainstay_providers::{stripe, twilio};
use mainstay_rpc::ServiceKey;
use mainstay_rpc::config::{TRUSTED_KEYS, role, url};
use mainstay_runtime::config::{Setting, Sources, common};
use mainstay_types::ServiceName;

use super::instance::StripeSecrets;
use crate::config::everything;
use crate::data_dir::DataDir;
use crate::secrets::Secrets;
use crate::settings;

/// Who says so, as `config check` shows it.
const UP: &str = "mainstay up";

/// Values for settings, by nobody but `up`.
pub struct Supplied(Vec<(&'static Setting, String)>);

impl Supplied {
    /// What all roles share: development, the data directory's files, the public address.
    pub fn new(data_dir: &DataDir, base_url: &str) -> Self {
        let path = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
        Supplied(vec![
            (&common::ENVIRONMENT, "development".to_owned()),
            (&common::BASE_URL, base_url.to_owned()),
            (&common::TRACES_FILE, path(data_dir.traces())),
            (&common::LOG_FILE, path(data_dir.log())),
            (&common::LOG_FORMAT, "pretty".to_owned()),
        ])
    }

    /// The simulated Stripe, and what it and we know each other by.
    pub fn simulated_stripe(mut self, api_base: &str, secrets: &StripeSecrets) -> Self {
        self.0.extend([
            (&stripe::API_BASE, api_base.to_owned()),
            (&stripe::SECRET_KEY, secrets.secret_key.clone()),
            (&STRIPE_WEBHOOK_SECRETS, secrets.webhook_secret.clone()),
        ]);
        self
    }

    /// The simulated carriers of messages, whose accounts are integrations' to know, and the simulated model.
    pub fn simulated_carriers(mut self, sandbox_url: &str, model_key: &str) -> Self {
        self.0.extend([
            (&twilio::API_BASE, format!("{sandbox_url}/twilio")),
            (&messaging::RESEND_API_BASE, format!("{sandbox_url}/resend")),
            (
                &messaging::SENDGRID_API_BASE,
                format!("{sandbox_url}/sendgrid"),
            ),
            (
                &messaging::OPENAI_API_BASE,
                format!("{sandbox_url}/openai/v1"),
            ),
            (&messaging::OPENAI_API_KEY, model_key.to_owned()),
        ]);
        self
    }

    /// Whose people hear of the platform itself.
    pub fn operated_by(mut self, agency: &str) -> Self {
        self.0
            .push((&escalation::OPERATOR_AGENCY, agency.to_owned()));
        self
    }

    /// Whether somebody gave a key of Stripe's without saying where it is for: then it is for the real one.
    ///
    /// # Errors
    /// When the settings are not valid.
    pub fn real_stripe_key_given(&self, file: Option<&Path>) -> anyhow::Result<bool> {
        let config = settings::load(&[&common::GROUP, &stripe::GROUP], self.sources(file))?;
        let ours = |setting: &Setting| {
            let effective = config.effective();
            effective
                .iter()
                .any(|found| found.name == setting.name && found.source == UP)
        };
        Ok(!ours(&stripe::SECRET_KEY) && ours(&stripe::API_BASE))
    }

    /// What the roles find each other and their databases by, and keys for everything that needs one.
    ///
    /// # Errors
    /// When a kept secret is not what it should be.
    pub fn roles(
        mut self,
        addresses: &BTreeMap<ServiceName, String>,
        databases: &[ServiceCredentials],
        secrets: &mut Secrets,
    ) -> anyhow::Result<Self> {
        let located = addresses
            .iter()
            .filter_map(|(service, address)| Some((url(*service)?, address.clone())));
        self.0.extend(located);
        for credentials in databases {
            let service = credentials.service.parse()?;
            let (settings, ..) =
                settings::database(service).context("bootstrap made roles for the gateway")?;
            self.0
                .push((&settings.app_url, credentials.app_url.clone()));
            self.0
                .push((&settings.worker_url, credentials.worker_url.clone()));
        }
        let mut trusted = Vec::new();
        for service in ServiceName::ALL {
            let (own, _) = role(service);
            let key = ServiceKey::from_hex(service, &secrets.hex(own.key.name))?;
            trusted.push(format!("{service}={}", key.public_hex()));
            // Nobody balances between us and ourselves: there is no one to notice a drain.
            self.0.push((&own.drain, "0".to_owned()));
        }
        self.0.push((&TRUSTED_KEYS, trusted.join(",")));
        let master = format!("first:{}", secrets.hex(MASTER_KEYS.name));
        self.0.push((&MASTER_KEYS, master));
        let known: Vec<&str> = self.0.iter().map(|(setting, _)| setting.name).collect();
        let unknown = |setting: &&'static Setting| !known.contains(&setting.name);
        let made = secrets.for_settings(
            everything()
                .into_iter()
                .flat_map(|group| group.settings)
                .filter(unknown),
        )?;
        self.0.extend(made);
        Ok(self)
    }

    /// As sources of a configuration, below the file and the environment.
    pub fn sources(&self, file: Option<&Path>) -> Sources {
        let supply = |sources: Sources, (setting, value): &(&'static Setting, String)| {
            sources.supply(setting, value, UP)
        };
        self.0.iter().fold(settings::sources(file), supply)
    }

    /// As a configuration file, with which a role can be served beside this instance.
    pub fn file(&self) -> String {
        let mut text = String::from(
            "# Made by `mainstay up` at each start, from its secrets and ports: do not edit, do not share.\n\
             # A role can be served beside it: mainstay serve ROLE --listen 127.0.0.1:0 --config THIS_FILE\n\n",
        );
        for (setting, value) in &self.0 {
            // A TOML basic string is escaped as a JSON string is.
            text.push_str(&format!(
                "{} = {}\n",
                setting.file_key(),
                serde_json::Value::from(value.as_str())
            ));
        }
        text
    }
}
