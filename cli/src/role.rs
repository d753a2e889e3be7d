//! Starting one role: the same code whether it runs alone (`serve`) or with all others in one process (`up`).
//! Deliberately absent: where settings come from. A role gets a validated configuration and does not ask.

use anyhow::Context;
use mainstay_db::{Database, DatabaseConfig, Error, at_start};
use mainstay_identity::Identity;
use mainstay_rpc::ServiceRuntime;
use mainstay_rpc::config::Role;
use mainstay_runtime::config::common::Common;
use mainstay_runtime::config::{Config, Group, common};
use mainstay_runtime::{Health, Shutdown};
use mainstay_types::ServiceName;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::failure::Advise;
use crate::settings;

/// A role that runs.
pub struct Running {
    /// Which.
    pub service: ServiceName,
    /// Stops it.
    pub shutdown: Shutdown,
    /// What of it works.
    pub health: Health,
    /// Ends when it has stopped.
    pub task: JoinHandle<anyhow::Result<()>>,
}

/// The settings that are this role's alone.
pub fn own_groups(service: ServiceName) -> Vec<&'static Group> {
    match service {
        ServiceName::Identity => vec![&mainstay_identity::config::GROUP],
        ServiceName::Billing => mainstay_billing::GROUPS.to_vec(),
        ServiceName::Messaging => mainstay_messaging::config::GROUPS.to_vec(),
        ServiceName::Escalation => vec![&mainstay_escalation::config::GROUP],
        ServiceName::Integrations => mainstay_integrations::config::GROUPS.to_vec(),
        ServiceName::Gateway => vec![&mainstay_gateway::config::GROUP],
    }
}

/// Every group that this role reads.
pub fn groups(service: ServiceName) -> Vec<&'static Group> {
    let mut groups = vec![
        &common::GROUP,
        &mainstay_rpc::config::PEERS,
        mainstay_rpc::config::role(service).1,
    ];
    groups.extend(own_groups(service));
    groups.extend(settings::database(service).map(|(_, database, _)| database));
    groups
}

/// How long a database may take to be there.
#[derive(Debug, Clone, Copy)]
pub enum Patience {
    /// Somebody waits for the command.
    None,
    /// A role starts, perhaps before its database: that is asked for a minute, and the log says so.
    OfAStart,
}

/// The database of a service.
///
/// # Errors
/// When it cannot be reached, or its roles could look over a wall: every reason at once.
pub async fn connect(
    service: ServiceName,
    config: &Config,
    patience: Patience,
) -> anyhow::Result<Database> {
    let (settings, ..) =
        settings::database(service).with_context(|| format!("{service} has no database"))?;
    let mut options = DatabaseConfig::new(
        service.as_str(),
        &config.get::<String>(&settings.app_url),
        &config.get::<String>(&settings.worker_url),
    );
    options.app_connections = config.get(&settings.app_connections);
    options.worker_connections = config.get(&settings.worker_connections);
    let connected = match patience {
        Patience::None => Database::connect(&options).await,
        Patience::OfAStart => at_start(Error::is_unavailable, || Database::connect(&options)).await,
    };
    connected.advise(
        format!("{service} refuses to start on its database"),
        format!("check {} and {}; `mainstay migrate bootstrap` and `mainstay migrate up` prepare a database", settings.app_url.name, settings.worker_url.name),
    )
}

/// Identity's operations on its database; `up` also works with them directly, to make the demo agency.
///
/// # Errors
/// As [`connect`].
pub async fn identity(
    config: &Config,
    common: &Common,
    patience: Patience,
) -> anyhow::Result<Identity> {
    let settings = mainstay_identity::Settings::read(config);
    let role = Role::read(config, ServiceName::Identity, common.shutdown_grace);
    let database = connect(ServiceName::Identity, config, patience).await?;
    Ok(Identity::new(
        database,
        common.clock.clone(),
        settings,
        role.key,
    ))
}

/// Starts a role on a listener. Returns once it runs, which is before it is ready: its health says when.
///
/// # Errors
/// When its database refuses it, or an address is none.
pub async fn start(
    service: ServiceName,
    config: &Config,
    common: &Common,
    listener: TcpListener,
    shutdown: Shutdown,
) -> anyhow::Result<Running> {
    let role = Role::read(config, service, common.shutdown_grace);
    let health = Health::new();
    let runtime = ServiceRuntime {
        me: service,
        channels: role.channels()?,
        trusted: role.trusted,
        clock: common.clock.clone(),
        shutdown: shutdown.clone(),
        health: health.clone(),
        listener,
        limits: role.limits,
    };
    let task = match service {
        ServiceName::Identity => {
            let identity = identity(config, common, Patience::OfAStart).await?;
            tokio::spawn(async move { Ok(mainstay_identity::serve(identity, runtime).await?) })
        }
        ServiceName::Billing => {
            let settings = mainstay_billing::Settings::read(config)?;
            let database = connect(service, config, Patience::OfAStart).await?;
            tokio::spawn(
                async move { Ok(mainstay_billing::serve(settings, database, runtime).await?) },
            )
        }
        ServiceName::Messaging => {
            let settings = mainstay_messaging::Settings::read(config)?;
            let database = connect(service, config, Patience::OfAStart).await?;
            tokio::spawn(async move {
                Ok(mainstay_messaging::serve(settings, database, runtime).await?)
            })
        }
        ServiceName::Escalation => {
            let settings = mainstay_escalation::Settings::read(config);
            let database = connect(service, config, Patience::OfAStart).await?;
            tokio::spawn(async move {
                Ok(mainstay_escalation::serve(settings, database, runtime).await?)
            })
        }
        ServiceName::Integrations => {
            let settings = mainstay_integrations::Settings::read(config);
            let database = connect(service, config, Patience::OfAStart).await?;
            tokio::spawn(async move {
                Ok(mainstay_integrations::serve(settings, database, runtime).await?)
            })
        }
        ServiceName::Gateway => {
            let settings = mainstay_gateway::Settings::read(config);
            tokio::spawn(async move { Ok(mainstay_gateway::serve(settings, runtime).await?) })
        }
    };
    Ok(Running {
        service,
        shutdown,
        health,
        task,
    })
}
