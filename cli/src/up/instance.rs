//! What runs in one `up`: started in the order in which parts need each other, stopped in the opposite one.
//! Deliberately absent: restarting a part that broke. The whole ends with the reason; a supervisor or a person starts it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mainstay_integrations::config::STRIPE_WEBHOOK_SECRETS;
use mainstay_runtime::Shutdown;
use mainstay_runtime::config::Config;
use mainstay_runtime::config::common::Common;
use mainstay_types::ServiceName;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::simulators::{self, Simulators};
use super::{UpArgs, announce, demo_accounts, demo_data, postgres, sources};
use crate::api::Api;
use crate::data_dir::{DataDir, write_private};
use crate::dev_file::{DevFile, DevOwner};
use crate::failure::refuse;
use crate::ports::Ports;
use crate::role::{self, Running};
use crate::secrets::{Secrets, random_hex};
use crate::settings;

/// How long everything may take to be ready. It takes seconds; a busy machine gets its time.
const READY_WITHIN: Duration = Duration::from_secs(90);

/// The parts that run.
#[derive(Default)]
pub struct Instance {
    simulators: Option<Simulators>,
    services: Vec<Running>,
    gateway: Option<Running>,
}

/// The ports of an instance, taken before anything is started behind them.
pub struct Listening {
    ports: Ports,
    listeners: BTreeMap<ServiceName, TcpListener>,
    addresses: BTreeMap<ServiceName, String>,
    gateway: SocketAddr,
}

impl Listening {
    /// Listens for the gateway on this address, and for each service on a loopback port.
    ///
    /// # Errors
    /// When an address is taken, saying what to do.
    pub async fn on(data_dir: &DataDir, gateway: SocketAddr) -> anyhow::Result<Self> {
        let mut ports = Ports::remembered(data_dir);
        // First, since it is the one whose port somebody chose.
        let (listener, gateway) = ports.listen_on("gateway", gateway).await?;
        let mut listeners = BTreeMap::from([(ServiceName::Gateway, listener)]);
        let mut addresses = BTreeMap::new();
        for service in ServiceName::CONTEXTS {
            let (listener, address) = ports.listen(service.as_str()).await?;
            listeners.insert(service, listener);
            addresses.insert(service, format!("http://{address}"));
        }
        Ok(Listening {
            ports,
            listeners,
            addresses,
            gateway,
        })
    }
}

impl Instance {
    /// Starts everything, tells where it is, and goes on until a part breaks.
    ///
    /// # Errors
    /// When a part does not start, or breaks.
    pub async fn run(
        &mut self,
        args: &UpArgs,
        data_dir: &DataDir,
        own: &Config,
        database: &postgres::Server,
        listening: Listening,
        started: Instant,
    ) -> anyhow::Result<()> {
        let mut secrets = Secrets::open(data_dir)?;
        let credentials = database.prepare(&mut secrets).await?;
        let mut ports = listening.ports;
        let gateway_url = reachable_url(listening.gateway);
        let stripe = StripeSecrets::of(&mut secrets);
        let simulators = match own.get::<Option<String>>(&settings::SANDBOX_URL) {
            Some(url) => Simulators::elsewhere(&url),
            None => Simulators::start(data_dir, &mut ports, &stripe.secret_key).await?,
        };
        let sandbox_url = self.simulators.insert(simulators).url.clone();

        let file = args.config.as_deref();
        let simulated = sources::Supplied::new(data_dir, &gateway_url)
            .simulated_stripe(&format!("{sandbox_url}/stripe"), &stripe);
        let supplied = match simulated.real_stripe_key_given(file)? {
            false => simulated,
            true => sources::Supplied::new(data_dir, &gateway_url),
        };
        let model_key = demo_accounts::model_key(&mut secrets);
        let supplied = supplied
            .simulated_carriers(&sandbox_url, &model_key)
            .roles(&listening.addresses, &credentials, &mut secrets)?;
        // Kept before anything is made with them.
        secrets.keep(data_dir)?;
        ports.keep(data_dir)?;
        write_private(&data_dir.settings(), &supplied.file())?;
        let config = settings::load(&crate::config::everything(), supplied.sources(file))?;
        let common = Common::read(&config, "mainstay");
        // Before the roles: escalation tells its people how the platform stands.
        let agency = demo_data::agency(&config, &common, &mut secrets).await?;
        secrets.keep(data_dir)?;
        let supplied = supplied.operated_by(&agency.agency_id);
        write_private(&data_dir.settings(), &supplied.file())?;
        let config = settings::load(&crate::config::everything(), supplied.sources(file))?;
        self.start_roles(&config, &common, listening.listeners)
            .await?;
        self.until_ready().await?;

        // The first is what Stripe signs with; others are on their way out.
        let webhook_secret = config
            .get::<Vec<String>>(&STRIPE_WEBHOOK_SECRETS)
            .into_iter()
            .next()
            .unwrap_or_default();
        let webhooks = format!("{gateway_url}/webhooks/stripe");
        simulators::register_webhook(&sandbox_url, &stripe.endpoint, &webhooks, &webhook_secret)
            .await?;
        let mut dev = DevFile {
            console_url: None,
            docs_url: format!("{gateway_url}/docs"),
            sandbox_url,
            database_url: database.admin_url.clone(),
            grpc: listening
                .addresses
                .iter()
                .map(|(service, url)| (service.to_string(), url.clone()))
                .collect(),
            agency_id: agency.agency_id,
            clients: Vec::new(),
            owner: DevOwner {
                email: agency.owner_email,
                api_key: agency.api_key,
            },
            stripe_webhook_secret: webhook_secret,
            twilio: None,
            gateway_url,
        };
        if !args.no_demo {
            let api = Api::with(dev.clone())?;
            let client = demo_data::client(&api, &mut secrets).await?;
            secrets.keep(data_dir)?;
            let twilio = demo_accounts::ensure(&api, &client.id, &mut secrets, data_dir).await?;
            (dev.clients, dev.twilio) = (vec![client], Some(twilio));
        }
        dev.write(data_dir)?;
        announce::print(&dev, data_dir, &args.data_dir, started.elapsed());
        self.until_one_ends().await
    }

    async fn start_roles(
        &mut self,
        config: &Config,
        common: &Common,
        listeners: BTreeMap<ServiceName, TcpListener>,
    ) -> anyhow::Result<()> {
        for (service, listener) in listeners {
            let running = role::start(service, config, common, listener, Shutdown::new()).await?;
            match service {
                ServiceName::Gateway => self.gateway = Some(running),
                _ => self.services.push(running),
            }
        }
        Ok(())
    }

    fn roles(&mut self) -> impl Iterator<Item = &mut Running> {
        self.services.iter_mut().chain(self.gateway.as_mut())
    }

    /// Waits until each role says that it is ready.
    async fn until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + READY_WITHIN;
        for running in self.roles() {
            let mut health = running.health.subscribe();
            let ready = health.wait_for(|snapshot| snapshot.ready());
            tokio::select! {
                _ = ready => {}
                ended = &mut running.task => return Err(broke(running.service, ended)),
                () = tokio::time::sleep_until(deadline) => {
                    let waiting = serde_json::to_string(&running.health.snapshot().components)?;
                    return Err(refuse(
                        format!("{} is not ready after {} s: {waiting}", running.service, READY_WITHIN.as_secs()),
                        "see the log in the data directory",
                    ));
                }
            }
        }
        Ok(())
    }

    /// Waits until a role ends by itself, which none should.
    async fn until_one_ends(&mut self) -> anyhow::Result<()> {
        let tasks = self.roles().map(|running| {
            let service = running.service;
            Box::pin(async move { broke(service, (&mut running.task).await) })
        });
        let (error, ..) = futures_util::future::select_all(tasks).await;
        Err(error)
    }

    /// Stops everything, in the order in which nothing is lost: the gateway takes no more, the services finish what they
    /// have, then the simulators go. A second signal cuts the waiting short; what was accepted is in the database.
    pub async fn stop(self) {
        let hurry = async {
            match (
                signal(SignalKind::interrupt()),
                signal(SignalKind::terminate()),
            ) {
                (Ok(mut interrupt), Ok(mut terminate)) => tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                },
                _ => std::future::pending().await,
            }
        };
        let drain = async {
            if let Some(gateway) = self.gateway {
                ended(gateway).await;
            }
            futures_util::future::join_all(self.services.into_iter().map(ended)).await;
            if let Some(simulators) = self.simulators
                && let Err(error) = simulators.stop().await
            {
                tracing::warn!(%error, "the simulators did not stop cleanly");
            }
        };
        tokio::select! {
            () = drain => {}
            () = hurry => tracing::warn!("stopping at once; what was accepted goes on at the next start"),
        }
    }
}

async fn ended(running: Running) {
    running.shutdown.trigger();
    // A role that ended before has told why already.
    if !running.task.is_finished() {
        let ended = running.task.await;
        if let Ok(Err(error)) = ended {
            tracing::warn!(role = %running.service, error = format!("{error:#}"), "the role did not stop cleanly");
        }
    }
}

fn broke(
    service: ServiceName,
    ended: Result<anyhow::Result<()>, tokio::task::JoinError>,
) -> anyhow::Error {
    let error = match ended {
        Ok(Ok(())) => anyhow::anyhow!("it ended without being asked to"),
        Ok(Err(error)) => error,
        Err(panic) => anyhow::Error::new(panic),
    };
    error.context(format!("{service} broke"))
}

/// How this machine reaches an address; one that stands for all of the machine's is reached by its loopback.
fn reachable_url(address: SocketAddr) -> String {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    format!("http://{address}")
}

/// What the simulated Stripe and we know each other by.
pub struct StripeSecrets {
    /// The API key.
    pub secret_key: String,
    /// What webhooks are signed with.
    pub webhook_secret: String,
    /// What the simulator knows our webhook address by.
    pub endpoint: String,
}

impl StripeSecrets {
    fn of(secrets: &mut Secrets) -> Self {
        StripeSecrets {
            secret_key: secrets
                .get_or_make("stripe_secret_key", || format!("sk_test_{}", random_hex())),
            webhook_secret: secrets.get_or_make("stripe_webhook_secret", || {
                format!("whsec_{}", random_hex())
            }),
            endpoint: secrets.get_or_make("stripe_endpoint", || {
                format!("mainstay-{}", &random_hex()[..12])
            }),
        }
    }
}
