//! `mainstay serve`: one role, for deployment. Production unless told otherwise.
//! Deliberately absent: fall-backs. What is missing is named, all of it at once, and nothing starts.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use mainstay_runtime::config::common::{self, Common};
use mainstay_runtime::config::{Environment, Group};
use mainstay_runtime::{Shutdown, telemetry};
use mainstay_sandbox::{Sandbox, SandboxConfig};
use mainstay_types::ServiceName;
use tokio::net::TcpListener;

use crate::failure::{Advise, refuse};
use crate::settings;

/// Serves one role, for deployment
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  mainstay serve billing
  mainstay serve gateway --listen 0.0.0.0:8080 --config /etc/mainstay.toml
  mainstay serve sandbox --listen 127.0.0.1:12111

Settings come from the environment and the configuration file; `mainstay config check --role ROLE` shows them all.
Every role but the sandbox runs in production mode unless MAINSTAY_ENVIRONMENT says development.")]
pub struct ServeArgs {
    /// The role
    role: ServedRole,
    /// Where to listen, instead of the role's setting
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// The configuration file, instead of the one MAINSTAY_CONFIG names
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ServedRole {
    /// People, agencies, clients, roles, keys, entitlements, audit
    Identity,
    /// Plans, subscriptions, invoices, the saga coordinator
    Billing,
    /// Leads, consent, messages
    Messaging,
    /// Escalations, claims, business hours
    Escalation,
    /// Webhook inbox
    Integrations,
    /// REST and webhooks
    Gateway,
    /// Simulators of the providers; refused in production
    Sandbox,
}

impl ServedRole {
    /// The service it is; none for the simulators.
    pub fn service(self) -> Option<ServiceName> {
        match self {
            ServedRole::Identity => Some(ServiceName::Identity),
            ServedRole::Billing => Some(ServiceName::Billing),
            ServedRole::Messaging => Some(ServiceName::Messaging),
            ServedRole::Escalation => Some(ServiceName::Escalation),
            ServedRole::Integrations => Some(ServiceName::Integrations),
            ServedRole::Gateway => Some(ServiceName::Gateway),
            ServedRole::Sandbox => None,
        }
    }

    /// Every group that it reads.
    pub fn groups(self) -> Vec<&'static Group> {
        match self.service() {
            Some(service) => crate::role::groups(service),
            None => vec![&common::GROUP, &settings::SANDBOX],
        }
    }
}

/// Runs the command until SIGTERM or SIGINT.
///
/// # Errors
/// When settings, database or address do not allow it, or it breaks while it runs.
pub async fn run(args: &ServeArgs) -> anyhow::Result<()> {
    match args.role.service() {
        Some(service) => serve_service(args, service).await,
        None => serve_sandbox(args).await,
    }
}

async fn serve_service(args: &ServeArgs, service: ServiceName) -> anyhow::Result<()> {
    let (own, _) = mainstay_rpc::config::role(service);
    let mut sources = settings::sources(args.config.as_deref());
    if let Some(listen) = args.listen {
        sources = sources.give(&own.listen, listen.to_string(), "--listen");
    }
    let config = settings::load(&args.role.groups(), sources)?;
    let common = Common::read(&config, &format!("mainstay-{service}"));
    let telemetry = telemetry::init(&common.telemetry)?;
    let shutdown = Shutdown::new();
    shutdown.on_signal().context("signals cannot be received")?;
    let listener = bind(config.get(&own.listen)).await?;
    tracing::info!(role = %service, address = %listener.local_addr()?, environment = common.environment.as_str(), "serving");
    let ended = async {
        let stopping = shutdown.clone();
        let running = tokio::select! {
            started = crate::role::start(service, &config, &common, listener, stopping) => started?,
            // It may be waiting for its database.
            () = shutdown.triggered() => return Ok(()),
        };
        running.task.await.context("the role broke off")?
    }
    .await;
    tracing::info!(role = %service, "stopped");
    telemetry.shutdown().await;
    ended
}

async fn serve_sandbox(args: &ServeArgs) -> anyhow::Result<()> {
    let mut sources = settings::sources(args.config.as_deref())
        // There is nothing to protect here, and nothing else it could be for.
        .supply(&common::ENVIRONMENT, "development", "serve sandbox")
        .supply(&common::LOG_FORMAT, "pretty", "serve sandbox");
    if let Some(listen) = args.listen {
        let url = format!("http://{listen}");
        sources = sources
            .give(&settings::SANDBOX_LISTEN, listen.to_string(), "--listen")
            .supply(&common::BASE_URL, url, "serve sandbox");
    } else {
        sources = sources.supply(&common::BASE_URL, "http://127.0.0.1:12111", "serve sandbox");
    }
    let config = settings::load(&args.role.groups(), sources)?;
    if config.environment() == Environment::Production {
        return Err(refuse(
            "the simulators are refused where MAINSTAY_ENVIRONMENT is production",
            "set MAINSTAY_ENVIRONMENT to development, or let the roles talk to the real providers",
        ));
    }
    let common = Common::read(&config, "mainstay-sandbox");
    let telemetry = telemetry::init(&common.telemetry)?;
    let shutdown = Shutdown::new();
    shutdown.on_signal().context("signals cannot be received")?;
    let listener = bind(config.get(&settings::SANDBOX_LISTEN)).await?;
    let sandbox = Sandbox::open(SandboxConfig {
        data_dir: config.get(&settings::SANDBOX_DATA_DIR),
        stripe_secret_key: None,
    })
    .await?;
    let address = listener.local_addr()?;
    crate::output::line(format!(
        "simulators at http://{address} (give SANDBOX_URL=http://{address} to `mainstay up`)"
    ));
    sandbox.serve(listener, shutdown.triggered()).await?;
    telemetry.shutdown().await;
    Ok(())
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.advise(
        format!("cannot listen on {address}"),
        "stop what listens there, or choose another address with --listen",
    )
}
