//! `mainstay config`: what is set, where it came from, and everything that is wrong, before anything starts.
//! Deliberately absent: connections. `doctor` tries them; this judges settings alone.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use mainstay_integrations::config::MASTER_KEYS;
use mainstay_rpc::ServiceKey;
use mainstay_rpc::config::{TRUSTED_KEYS, role};
use mainstay_runtime::config::{Group, Kind, render_reference};
use mainstay_types::ServiceName;

use crate::output::{self, Format};
use crate::secrets::random_hex;
use crate::serve::ServedRole;
use crate::settings;

/// Shows and checks settings
#[derive(Args, Debug)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Subcommand, Debug)]
enum ConfigCommand {
    /// Prints the settings in force and where each came from, or everything that is wrong with them
    #[command(after_help = "Examples:
  mainstay config check --role billing
  mainstay config check --config /etc/mainstay.toml --json
  mainstay config check --config .mainstay/settings.toml      (what `mainstay up` made up)

Secrets are never printed. Without a role, the settings of all roles are checked together.")]
    Check {
        /// Only what this role reads
        #[arg(long)]
        role: Option<ServedRole>,
        /// The configuration file, instead of the one MAINSTAY_CONFIG names
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        format: Format,
    },
    /// Prints every setting there is, as the page docs/configuration.md
    Reference,
    /// Makes every key that a new installation needs, and prints them as settings
    #[command(after_help = "Examples:
  mainstay config keys
  mainstay config keys --json

A role is given those that it reads, and no other; docs/configuration.md says what each is for. Each …_SERVICE_KEY is a secret of that role alone; MAINSTAY_TRUSTED_KEYS, the public halves, goes to every role. To
replace one role's key, let MAINSTAY_TRUSTED_KEYS name both of its keys until all of its replicas have the new one.")]
    Keys {
        #[command(flatten)]
        format: Format,
    },
}

/// Runs the command.
///
/// # Errors
/// When the settings are not valid: all reasons at once.
pub fn run(args: &ConfigArgs) -> anyhow::Result<()> {
    match &args.command {
        ConfigCommand::Check {
            role,
            config,
            format,
        } => {
            let config = settings::load(&groups(*role), settings::sources(config.as_deref()))?;
            let effective = config.effective();
            if format.json {
                return output::json(&serde_json::json!({"settings": effective}));
            }
            let rows: Vec<Vec<String>> = effective
                .iter()
                .map(|setting| {
                    let value = setting
                        .value
                        .as_deref()
                        .map_or_else(|| "–".to_owned(), shortened);
                    vec![setting.name.to_owned(), value, setting.source.clone()]
                })
                .collect();
            output::table(&["setting", "value", "from"], &rows, "no settings");
            Ok(())
        }
        ConfigCommand::Reference => {
            output::line(render_reference(&settings::catalogue()).trim_end());
            Ok(())
        }
        ConfigCommand::Keys { format } => keys(*format),
    }
}

/// A value as a column of a table can hold it; `--json` has all of it.
fn shortened(value: &str) -> String {
    const WIDEST: usize = 60;
    match value.char_indices().nth(WIDEST) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

fn keys(format: Format) -> anyhow::Result<()> {
    let mut lines: Vec<(&str, String)> = Vec::new();
    let mut trusted = Vec::new();
    for service in ServiceName::ALL {
        let secret = random_hex();
        trusted.push(format!(
            "{service}={}",
            ServiceKey::from_hex(service, &secret)?.public_hex()
        ));
        lines.push((role(service).0.key.name, secret));
    }
    lines.push((TRUSTED_KEYS.name, trusted.join(",")));
    lines.push((MASTER_KEYS.name, format!("first:{}", random_hex())));
    let made: Vec<&str> = lines.iter().map(|(name, _)| *name).collect();
    let others = everything().into_iter().flat_map(|group| group.settings);
    for setting in others.filter(|setting| setting.required && !made.contains(&setting.name)) {
        if let Kind::HexKey { bytes: 32 } = setting.kind {
            lines.push((setting.name, random_hex()));
        }
    }
    if format.json {
        let map: serde_json::Map<String, serde_json::Value> = lines
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        return output::json(&map);
    }
    for (name, value) in lines {
        output::line(format!("{name}={value}"));
    }
    Ok(())
}

fn groups(only: Option<ServedRole>) -> Vec<&'static Group> {
    match only {
        Some(role) => role.groups(),
        None => everything(),
    }
}

/// What the six roles read, each group once.
pub fn everything() -> Vec<&'static Group> {
    let mut groups: Vec<&'static Group> = Vec::new();
    for service in ServiceName::ALL {
        for group in crate::role::groups(service) {
            if !groups.iter().any(|known| std::ptr::eq(*known, group)) {
                groups.push(group);
            }
        }
    }
    groups
}
