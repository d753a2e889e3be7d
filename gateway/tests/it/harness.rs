//! One gateway with its back ends, on ports of their own, for one test.

use std::{collections::BTreeMap, sync::Arc, sync::Once, time::Duration};

use mainstay_gateway::Settings;
use mainstay_rpc::{Channels, Limits, ServiceKey, ServiceRuntime, TrustedKeys};
use mainstay_runtime::{Clock, Health, Shutdown, health::Status};
use mainstay_types::ServiceName;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::Value;
use tokio::net::TcpListener;
use tonic::service::Routes;

use crate::backend::{Backend, Directory};

/// A running gateway.
pub struct Harness {
    /// Where it listens.
    pub url: String,
    /// What stands behind it.
    pub backend: Arc<Backend>,
    /// What each role says of itself.
    pub healths: BTreeMap<ServiceName, Health>,
    /// Stops it.
    pub shutdown: Shutdown,
    /// Its task.
    pub gateway: tokio::task::JoinHandle<Result<(), mainstay_gateway::ServeError>>,
    client: Client,
}

/// Starts a gateway with the default settings.
pub async fn start() -> Harness {
    start_with(|_| {}).await
}

/// Starts a gateway with settings of its own.
pub async fn start_with(change: impl FnOnce(&mut Settings)) -> Harness {
    build(change, false).await
}

/// Starts a gateway behind which every service answers, if only about its health.
pub async fn start_whole() -> Harness {
    build(|_| {}, true).await
}

async fn build(change: impl FnOnce(&mut Settings), whole: bool) -> Harness {
    static CRYPTO: Once = Once::new();
    CRYPTO.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let keys: Vec<Arc<ServiceKey>> = ServiceName::ALL
        .map(ServiceKey::generate)
        .map(Arc::new)
        .into();
    let key = |service: ServiceName| {
        Arc::clone(
            keys.iter()
                .find(|key| key.service() == service)
                .expect("every service has one"),
        )
    };
    let trusted = keys.iter().fold(TrustedKeys::new(), |trusted, key| {
        trusted
            .trust(key.service(), &key.public_hex())
            .expect("a key")
    });
    let backend = Arc::new(Backend::new(key(ServiceName::Identity)));
    let shutdown = Shutdown::new();
    let mut listeners = Vec::new();
    for service in ServiceName::ALL {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        listeners.push((service, listener, format!("http://{address}")));
    }
    let addresses: Vec<(ServiceName, String)> = listeners
        .iter()
        .map(|(service, _, address)| (*service, address.clone()))
        .collect();
    let url = addresses.last().expect("the gateway is the last").1.clone();
    let healths: BTreeMap<ServiceName, Health> = ServiceName::ALL
        .into_iter()
        .map(|service| {
            let health = Health::new();
            health.set("test", Status::Healthy, "");
            (service, health)
        })
        .collect();
    let runtime = |service: ServiceName, listener: TcpListener| {
        let health = healths[&service].clone();
        ServiceRuntime {
            me: service,
            trusted: trusted.clone(),
            channels: Channels::new(key(service), addresses.clone()).expect("URLs"),
            clock: Clock::system(0),
            shutdown: shutdown.clone(),
            health,
            listener,
            limits: Limits {
                grace: Duration::from_secs(10),
                ..Limits::default()
            },
        }
    };
    let mut settings = Settings::at(&url);
    change(&mut settings);
    let mut gateway = None;
    for (service, listener, _) in listeners {
        let runtime = runtime(service, listener);
        if service == ServiceName::Gateway {
            gateway = Some(tokio::spawn(mainstay_gateway::serve(
                settings.clone(),
                runtime,
            )));
        } else if let Some(routes) = backend.routes(service).or(whole.then(Routes::default)) {
            tokio::spawn(mainstay_rpc::serve(runtime, Arc::new(Directory), routes));
        }
    }
    Harness {
        url,
        backend,
        healths,
        shutdown,
        gateway: gateway.expect("the gateway runs"),
        client: Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(300))
            .build()
            .expect("a client"),
    }
}

impl Harness {
    /// A request without a credential.
    pub fn anonymous(&self, verb: &str, path: &str) -> RequestBuilder {
        let verb = Method::from_bytes(verb.as_bytes()).expect("a verb");
        self.client.request(verb, format!("{}{path}", self.url))
    }

    /// A request of the owner.
    pub fn owner(&self, verb: &str, path: &str) -> RequestBuilder {
        self.anonymous(verb, path).bearer_auth("msk_owner")
    }
}

/// Sends, and reads the answer as JSON with its status and headers.
pub async fn send(request: RequestBuilder) -> Answer {
    Answer::of(request.send().await.expect("an answer")).await
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: http::HeaderMap,
    /// Its body; null when it is no JSON.
    pub json: Value,
    /// Its body as text.
    pub text: String,
}

impl Answer {
    /// Reads it whole.
    pub async fn of(response: Response) -> Self {
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let text = response.text().await.expect("a body");
        Answer {
            status,
            headers,
            json: serde_json::from_str(&text).unwrap_or_default(),
            text,
        }
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// Asserts that it is a problem document, whole and of this code.
    pub fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(
            self.header("content-type"),
            "application/problem+json",
            "{self:?}"
        );
        assert_eq!(self.json["code"], code, "{self:?}");
        assert_eq!(self.json["status"], status, "{self:?}");
        assert!(
            self.json["type"]
                .as_str()
                .is_some_and(|url| url.ends_with(&format!("/problems/{code}")))
        );
        for field in [
            "title",
            "detail",
            "instance",
            "trace_id",
            "errors",
            "retry_after_seconds",
        ] {
            assert!(self.json.get(field).is_some(), "{field} of {self:?}");
        }
        assert!(!self.header("x-request-id").is_empty());
        let trace = self.json["trace_id"].as_str().expect("a trace id");
        assert!(self.header("traceparent").contains(trace), "{self:?}");
    }

    /// The fields at fault.
    pub fn fields(&self) -> Vec<&str> {
        let errors = self.json["errors"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        errors
            .iter()
            .filter_map(|error| error["field"].as_str())
            .collect()
    }
}
