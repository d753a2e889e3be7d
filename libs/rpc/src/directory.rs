//! Whether a client is an agency's: asked of identity once, then known for ever, because the relation never changes.
//!
//! Deliberately absent: the client's state. That changes, and is asked where it matters.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use mainstay_proto::identity::v1::LookupClientRequest;
use mainstay_proto::identity::v1::client_directory_service_client::ClientDirectoryServiceClient;
use mainstay_runtime::health::HitRate;
use mainstay_types::{AgencyId, ClientId, ServiceName};
use tonic::{Code, Status};

use crate::client::{Channels, ServiceChannel};
use crate::problem::Problem;

/// Answers whether a client is an agency's. Identity answers from its tables, others ask identity.
#[tonic::async_trait]
pub trait ClientDirectory: Send + Sync + 'static {
    /// Whether the agency has this client, in whatever state.
    async fn exists(&self, agency: AgencyId, client: ClientId) -> Result<bool, Status>;
}

/// Asks identity.
#[derive(Clone, Debug)]
pub struct RemoteDirectory(ClientDirectoryServiceClient<ServiceChannel>);

impl RemoteDirectory {
    /// Through these channels.
    pub fn new(channels: &Channels) -> Self {
        RemoteDirectory(ClientDirectoryServiceClient::new(
            channels.channel(ServiceName::Identity),
        ))
    }
}

#[tonic::async_trait]
impl ClientDirectory for RemoteDirectory {
    async fn exists(&self, agency: AgencyId, client: ClientId) -> Result<bool, Status> {
        let question = LookupClientRequest {
            agency_id: agency.to_string(),
            client_id: client.to_string(),
        };
        match self.0.clone().lookup_client(question).await {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::NotFound => Ok(false),
            // Whatever is wrong with identity, the caller's request is not.
            Err(status) => Err(Problem::unavailable(status).into()),
        }
    }
}

/// The most relations kept; one is 32 bytes.
const MOST: usize = 100_000;

/// Remembers positive answers. A negative one is asked again: the client may be made the next moment.
pub(crate) struct Remembered {
    inner: Arc<dyn ClientDirectory>,
    known: RwLock<HashSet<(AgencyId, ClientId)>>,
    rate: HitRate,
}

impl Remembered {
    pub(crate) fn new(inner: Arc<dyn ClientDirectory>, rate: HitRate) -> Self {
        Remembered {
            inner,
            known: RwLock::default(),
            rate,
        }
    }

    pub(crate) async fn exists(&self, agency: AgencyId, client: ClientId) -> Result<bool, Status> {
        let known = self
            .known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&(agency, client));
        self.rate.count(known);
        if known {
            return Ok(true);
        }
        let exists = self.inner.exists(agency, client).await?;
        if exists {
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= MOST {
                known.clear();
            }
            known.insert((agency, client));
        }
        Ok(exists)
    }
}
