//! From whom a client's messages leave, and with what: asked of integrations, which keeps accounts and their credentials.
//! Deliberately absent: a copy that lasts. What is known is asked again after two seconds, so that rotated credentials hold
//! from then on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mainstay_proto::integrations::v1 as proto;
use mainstay_proto::integrations::v1::sender_directory_service_client::SenderDirectoryServiceClient;
use mainstay_rpc::{Channels, Problem, ServiceChannel, ServiceName};
use mainstay_types::Tenant;
use secrecy::SecretString;
use tonic::Request;

use crate::carrier::{Account, Provider};
use crate::gate::Channel;

/// How long an answer of integrations is kept.
const FRESH: Duration = Duration::from_secs(2);
/// How long integrations may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// The most answers that are kept.
const MOST_KEPT: usize = 10_000;

/// Tells accounts, in the order in which they are tried.
#[tonic::async_trait]
pub trait Senders: Send + Sync + 'static {
    /// The accounts of a client on a channel; of this sender alone, if one is named. None: there is nobody to send as.
    async fn resolve(
        &self,
        tenant: Tenant,
        channel: Channel,
        sender: Option<&str>,
    ) -> Result<Vec<Account>, Problem>;
}

/// The account that a try was made with, as it is now; none when it is gone.
pub(crate) async fn account_of(
    senders: &dyn Senders,
    tenant: Tenant,
    (channel, sender, id): (Channel, &str, &str),
) -> Result<Option<Account>, Problem> {
    let sender = (channel != Channel::Email).then_some(sender);
    let accounts = senders.resolve(tenant, channel, sender).await?;
    Ok(accounts.into_iter().find(|account| account.id == id))
}

type Key = (Tenant, Channel, Option<String>);
/// What was answered, and when.
type Kept = (Instant, Arc<Vec<Account>>);

/// Asks integrations.
pub struct RemoteSenders {
    directory: SenderDirectoryServiceClient<ServiceChannel>,
    kept: Mutex<HashMap<Key, Kept>>,
}

impl RemoteSenders {
    /// Through these channels.
    pub fn new(channels: &Channels) -> Self {
        RemoteSenders {
            directory: SenderDirectoryServiceClient::new(
                channels.channel(ServiceName::Integrations),
            ),
            kept: Mutex::default(),
        }
    }

    fn fresh(&self, key: &Key) -> Option<Arc<Vec<Account>>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (asked_at, accounts) = kept.get(key)?;
        (asked_at.elapsed() < FRESH).then(|| Arc::clone(accounts))
    }

    fn keep(&self, key: Key, accounts: &Arc<Vec<Account>>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST_KEPT {
            kept.clear();
        }
        kept.insert(key, (Instant::now(), Arc::clone(accounts)));
    }
}

#[tonic::async_trait]
impl Senders for RemoteSenders {
    async fn resolve(
        &self,
        tenant: Tenant,
        channel: Channel,
        sender: Option<&str>,
    ) -> Result<Vec<Account>, Problem> {
        let key = (tenant, channel, sender.map(str::to_owned));
        if let Some(accounts) = self.fresh(&key) {
            return Ok(accounts.to_vec());
        }
        let mut request = Request::new(proto::ResolveSendersRequest {
            agency_id: tenant.agency.to_string(),
            client_id: tenant.client.to_string(),
            channel: channel.as_str().to_owned(),
            sender_address: sender.map(str::to_owned),
        });
        request.set_timeout(PATIENCE);
        let answer = self
            .directory
            .clone()
            .resolve_senders(request)
            .await
            .map_err(|status| Problem::unavailable(Problem::from_status(&status)))?;
        let accounts: Vec<Account> = answer
            .into_inner()
            .accounts
            .into_iter()
            .filter_map(account)
            .collect();
        let accounts = Arc::new(accounts);
        self.keep(key, &accounts);
        Ok(accounts.to_vec())
    }
}

/// None for a provider that only a newer release knows.
fn account(account: proto::SendingAccount) -> Option<Account> {
    let credentials = account.credentials.into_iter();
    Some(Account {
        provider: Provider::named(&account.provider)?,
        id: account.account_id,
        sender: account.address,
        rate: account.rate_per_second,
        endpoint_token: account.endpoint_token,
        credentials: credentials
            .map(|(name, secret)| (name, SecretString::from(secret)))
            .collect(),
    })
}
