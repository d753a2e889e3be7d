//! `mainstay agency`: makes an agency with its owner and a first key, from inside. It is how an installation gets its
//! first customer: nobody on the network makes agencies.
//! Deliberately absent: editing one. What an agency is called and who runs it, its owner says through the API.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use mainstay_identity::bootstrap::{self, Wanted};
use mainstay_runtime::config::common::Common;
use mainstay_types::ServiceName;
use serde_json::json;

use crate::data_dir::{DataDir, DataDirArg};
use crate::failure::{Advise, refuse};
use crate::output::{self, Format};
use crate::role::{self, Patience};
use crate::settings;

/// Makes agencies
#[derive(Args, Debug)]
pub struct AgencyArgs {
    #[command(subcommand)]
    command: AgencyCommand,
}

#[derive(Subcommand, Debug)]
enum AgencyCommand {
    /// Makes an agency, its owner, and the owner's first key, which is printed once
    #[command(after_help = "Examples:
  mainstay agency create --slug northwind --name Northwind --owner-name Ana --owner-email ana@northwind.test
  mainstay agency create --config /etc/mainstay.toml --slug northwind … --json
  mainstay agency create --config .mainstay/settings.toml --slug northwind …   (beside the demo agency of `mainstay up`)")]
    Create(CreateArgs),
}

#[derive(Args, Debug)]
struct CreateArgs {
    /// Names it for machines: lower case letters, digits and _
    #[arg(long)]
    slug: String,
    /// What people call it
    #[arg(long)]
    name: String,
    /// What its owner is called
    #[arg(long)]
    owner_name: String,
    /// Where its owner is written to
    #[arg(long)]
    owner_email: String,
    /// When it exists: gives the owner a new key and ends the one before
    #[arg(long)]
    reissue_key: bool,
    /// The configuration file, instead of the one MAINSTAY_CONFIG names
    #[arg(long, value_name = "FILE", conflicts_with = "data_dir")]
    config: Option<PathBuf>,
    /// The instance of `mainstay up`, whose settings are used
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    format: Format,
}

/// Runs the command.
///
/// # Errors
/// When the settings or the database refuse, or the agency exists.
pub async fn run(args: &AgencyArgs) -> anyhow::Result<()> {
    let AgencyCommand::Create(args) = &args.command;
    let file = match &args.data_dir {
        Some(data_dir) => Some(
            DataDir::at(&DataDirArg {
                data_dir: data_dir.clone(),
            })?
            .settings(),
        ),
        None => args.config.clone(),
    };
    let config = settings::load(
        &role::groups(ServiceName::Identity),
        settings::sources(file.as_deref()),
    )?;
    let common = Common::read(&config, "mainstay-agency");
    let identity = role::identity(&config, &common, Patience::None).await?;
    let wanted = Wanted {
        slug: args.slug.clone(),
        name: args.name.clone(),
        owner_name: args.owner_name.clone(),
        owner_email: args.owner_email.clone(),
    };
    if let Some(agency) = bootstrap::find_agency(&identity, &wanted.slug).await?
        && !args.reissue_key
    {
        return Err(refuse(
            format!("the agency {} exists: {agency}", wanted.slug),
            "choose another --slug; or, when its owner lost the key, say --reissue-key, which ends the one before",
        ));
    }
    let made = bootstrap::ensure_agency(&identity, &wanted, None)
        .await
        .advise(
            "the agency cannot be made",
            "mend what is named, then run it again",
        )?;
    // An empty key would look like one, and be the last anybody heard of it.
    let secret = made.secret.ok_or_else(|| {
        refuse(
            format!(
                "the agency {} is {}, but its owner has a key already, which is not shown twice",
                wanted.slug, made.agency
            ),
            "say --reissue-key for a new one, which ends the one before",
        )
    })?;
    if args.format.json {
        return output::json(&json!({
            "agency_id": made.agency,
            "owner": {"member_id": made.owner, "person_id": made.person, "email": wanted.owner_email},
            "api_key_id": made.api_key,
            "api_key": secret,
        }));
    }
    output::line(format!(
        "{} is {}; its owner {} is {}",
        wanted.slug, made.agency, wanted.owner_email, made.owner
    ));
    output::line(format!("the owner's key, shown once: {secret}"));
    Ok(())
}
