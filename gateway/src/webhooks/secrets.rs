//! The secrets that webhooks are verified with, and what else is told with them: asked of integrations, kept for five seconds, asked again
//! at once (but at most once a second) when a signature fails, since a secret may just have been rotated.
//! Deliberately absent: a fall-back. Without secrets nothing verifies.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use mainstay_proto::{
    errors::v1::ErrorReason,
    integrations::v1::{
        ListVerificationSecretsRequest, ListVerificationSecretsResponse,
        webhook_intake_service_client::WebhookIntakeServiceClient,
    },
};
use mainstay_rpc::Channels;
use mainstay_types::ServiceName;
use tokio::sync::Mutex;
use tonic::{Request, Response};

use crate::refusal::Refusal;

const FRESH: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_secs(1);
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// The most endpoints whose secrets are kept; an endpoint's token is anybody's text.
const MOST_KEPT: usize = 1000;

/// The secrets of one endpoint.
#[derive(Debug)]
pub struct Known {
    /// Any of them verifies.
    pub secrets: Vec<String>,
    /// The account they stand for.
    pub account: String,
    /// For forms: the origins that they may come from.
    pub allowed_origins: Vec<String>,
    /// For Twilio: where calls are put through to, by the number that is called.
    pub call_forwards: BTreeMap<String, String>,
    asked_at: Instant,
}

type Slot = Arc<Mutex<Option<Arc<Known>>>>;

/// The cache.
pub struct Secrets {
    channels: Channels,
    kept: std::sync::Mutex<HashMap<(&'static str, String), Slot>>,
}

impl Secrets {
    /// Nothing known yet.
    pub fn new(channels: Channels) -> Self {
        Self {
            channels,
            kept: std::sync::Mutex::default(),
        }
    }

    /// The endpoint's secrets, at most five seconds old.
    pub async fn of(&self, provider: &'static str, endpoint: &str) -> Result<Arc<Known>, Refusal> {
        self.younger_than(FRESH, provider, endpoint).await
    }

    /// The endpoint's secrets, at most a second old: for a signature that has just failed.
    pub async fn again(
        &self,
        provider: &'static str,
        endpoint: &str,
    ) -> Result<Arc<Known>, Refusal> {
        self.younger_than(AGAIN, provider, endpoint).await
    }

    async fn younger_than(
        &self,
        age: Duration,
        provider: &'static str,
        endpoint: &str,
    ) -> Result<Arc<Known>, Refusal> {
        let slot = self.slot(provider, endpoint);
        // Held while asking, so that a burst of webhooks asks once.
        let mut known = slot.lock().await;
        if let Some(known) = &*known
            && known.asked_at.elapsed() < age
        {
            return Ok(Arc::clone(known));
        }
        let fresh = Arc::new(self.ask(provider, endpoint).await?);
        *known = Some(Arc::clone(&fresh));
        Ok(fresh)
    }

    fn slot(&self, provider: &'static str, endpoint: &str) -> Slot {
        let mut kept = self
            .kept
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if kept.len() >= MOST_KEPT {
            // Whoever waits in a slot keeps it; only the index is emptied.
            kept.clear();
        }
        Arc::clone(kept.entry((provider, endpoint.to_owned())).or_default())
    }

    async fn ask(&self, provider: &str, endpoint: &str) -> Result<Known, Refusal> {
        let mut request = Request::new(ListVerificationSecretsRequest {
            provider: provider.to_owned(),
            endpoint_token: endpoint.to_owned(),
        });
        request.set_timeout(ASK_TIMEOUT);
        let asked =
            WebhookIntakeServiceClient::new(self.channels.channel(ServiceName::Integrations))
                .list_verification_secrets(request)
                .await
                .map(Response::into_inner)
                .map_err(|status| Refusal::of_status(ServiceName::Integrations, &status));
        let answer = match asked {
            Ok(answer) => answer,
            // An endpoint that is not there has no secrets; that is as cacheable as those of one that is.
            Err(refusal)
                if matches!(
                    refusal.reason,
                    ErrorReason::NotFound | ErrorReason::InvalidRequest
                ) =>
            {
                ListVerificationSecretsResponse::default()
            }
            Err(_) => return Err(unknown()),
        };
        Ok(Known {
            secrets: answer.secrets,
            account: answer.account,
            allowed_origins: answer.allowed_origins,
            call_forwards: answer.call_forwards,
            asked_at: Instant::now(),
        })
    }
}

fn unknown() -> Refusal {
    Refusal::unavailable("The webhook cannot be verified now; send it again.", 5)
}
