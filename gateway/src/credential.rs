//! Credentials from outside to internal tokens: asked of identity once for many requests at once, kept for
//! at most a second, so that a revoked key is dead within that second.
//! Deliberately absent: the credential itself; the cache knows its digest only.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use http::{HeaderMap, header};
use mainstay_proto::{
    errors::v1::ErrorReason,
    identity::v1::{ExchangeCredentialRequest, credential_service_client::CredentialServiceClient},
};
use mainstay_rpc::Channels;
use mainstay_runtime::health::{Cache, HitRate};
use mainstay_types::ServiceName;
use sha2::{Digest as _, Sha256};
use tonic::{
    Request,
    metadata::{Ascii, MetadataMap, MetadataValue},
};

use crate::refusal::Refusal;

/// How long an answer of identity is used.
const FRESH: Duration = Duration::from_secs(1);
/// The most credentials that are kept.
const MOST_KEPT: usize = 10_000;
/// The longest credential that is looked at.
const MOST_BYTES: usize = 4096;
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(5);

/// Whom a credential speaks for.
#[derive(Debug)]
pub struct Identity {
    /// `authorization` for calls to services.
    pub bearer: MetadataValue<Ascii>,
    /// `mem_…` or `key_…`.
    pub principal: String,
}

type Answer = Result<Arc<Identity>, Refusal>;
type Asked = Shared<BoxFuture<'static, Answer>>;

/// The exchange and its cache.
pub struct Credentials {
    channels: Channels,
    kept: Mutex<HashMap<[u8; 32], (Instant, Asked)>>,
    rate: HitRate,
}

impl Credentials {
    /// An empty cache in front of identity.
    pub fn new(channels: Channels) -> Self {
        Self {
            channels,
            kept: Mutex::default(),
            rate: HitRate::default(),
        }
    }

    /// How often identity need not be asked.
    pub fn rate(&self) -> Cache {
        self.rate.cache("credentials")
    }

    /// Whom a request speaks for; `UNAUTHENTICATED` without a valid credential.
    pub async fn identify(&self, headers: &HeaderMap, metadata: MetadataMap) -> Answer {
        let credential = bearer(headers)?;
        let key: [u8; 32] = Sha256::digest(credential.as_bytes()).into();
        let asked = self.ask_once(key, credential, metadata);
        let answer = asked.await;
        // What may be different the next moment is not kept.
        if answer
            .as_ref()
            .is_err_and(|refusal| refusal.reason != ErrorReason::Unauthenticated)
        {
            self.lock().remove(&key);
        }
        answer
    }

    fn ask_once(&self, key: [u8; 32], credential: &str, metadata: MetadataMap) -> Asked {
        let now = Instant::now();
        let mut kept = self.lock();
        if let Some((since, asked)) = kept.get(&key)
            && now.duration_since(*since) < FRESH
        {
            self.rate.count(true);
            return asked.clone();
        }
        self.rate.count(false);
        if kept.len() >= MOST_KEPT {
            kept.retain(|_, (since, _)| now.duration_since(*since) < FRESH);
            if kept.len() >= MOST_KEPT {
                kept.clear();
            }
        }
        let exchange = exchange(self.channels.clone(), credential.to_owned(), metadata);
        // A task of its own: a caller that goes away must not leave the others waiting.
        let task = tokio::spawn(tracing::Instrument::in_current_span(exchange));
        let asked = async move { task.await.unwrap_or_else(|_| Err(Refusal::internal())) }
            .boxed()
            .shared();
        kept.insert(key, (now, asked.clone()));
        asked
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], (Instant, Asked)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn exchange(channels: Channels, credential: String, metadata: MetadataMap) -> Answer {
    let mut request = Request::new(ExchangeCredentialRequest { credential });
    *request.metadata_mut() = metadata;
    request.set_timeout(EXCHANGE_TIMEOUT);
    let answer = CredentialServiceClient::new(channels.channel(ServiceName::Identity))
        .exchange_credential(request)
        .await
        .map_err(|status| Refusal::of_status(ServiceName::Identity, &status))?
        .into_inner();
    let mut bearer = MetadataValue::try_from(format!("Bearer {}", answer.token)).map_err(|_| {
        tracing::error!("identity's token is no header text");
        Refusal::internal()
    })?;
    bearer.set_sensitive(true);
    Ok(Arc::new(Identity {
        bearer,
        principal: answer.principal,
    }))
}

fn bearer(headers: &HeaderMap) -> Result<&str, Refusal> {
    let refuse = |detail: &str| Refusal::new(ErrorReason::Unauthenticated, detail);
    let mut sent = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = sent.next() else {
        return Err(refuse("The request has no Authorization header."));
    };
    if sent.next().is_some() {
        return Err(refuse("The request has several Authorization headers."));
    }
    let credential = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, credential)| credential.trim())
        .filter(|credential| (1..=MOST_BYTES).contains(&credential.len()));
    credential.ok_or_else(|| {
        refuse("The Authorization header is not `Bearer` and an access token or API key.")
    })
}
