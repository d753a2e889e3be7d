//! The gateway as a whole: what it shares between requests, its addresses, and its layers read as prose.
//! Deliberately absent: listening; [`crate::serve()`] does that.

use std::{
    any::Any,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::{HeaderName, HeaderValue, Method, header};
use mainstay_proto::errors::v1::ErrorReason;
use mainstay_rpc::Channels;
use mainstay_runtime::{Clock, Health, health::Window};
use tokio::sync::{Semaphore, SemaphorePermit};
use tower::ServiceBuilder;
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowOrigin, CorsLayer},
};

use crate::{
    Settings, claims,
    credential::Credentials,
    health, pages,
    rate::RateLimits,
    refusal::Refusal,
    rest, trace, unsubscribe,
    webhooks::{self, Webhooks},
};

/// What requests share.
pub struct Gateway {
    /// The settings.
    pub settings: Settings,
    /// The services.
    pub channels: Channels,
    /// Who may ask how much.
    pub rates: RateLimits,
    /// Who is who.
    pub credentials: Credentials,
    /// Webhooks in.
    pub webhooks: Webhooks,
    /// The platform's time.
    pub clock: Clock,
    /// This role's own health.
    pub health: Health,
    /// Recent answers.
    pub calls: Window,
    /// Written once: documentation.
    pub pages: pages::Pages,
    /// When it started.
    pub started: Instant,
    requests: Semaphore,
    webhook_requests: Semaphore,
    services: health::Services,
}

/// The address that a request comes from.
#[derive(Debug, Clone, Copy)]
pub struct Caller(pub IpAddr);

impl Gateway {
    /// The gateway before it listens. Must run inside a tokio runtime.
    pub fn new(settings: Settings, channels: Channels, clock: Clock, health: Health) -> Arc<Self> {
        Arc::new(Self {
            rates: RateLimits::new(settings.rates),
            credentials: Credentials::new(channels.clone()),
            webhooks: Webhooks::new(channels.clone(), settings.webhook_concurrency),
            services: health::Services::new(channels.clone()),
            pages: pages::Pages::new(&settings.base_url),
            requests: Semaphore::new(settings.concurrency),
            webhook_requests: Semaphore::new(settings.webhook_concurrency),
            calls: Window::default(),
            started: Instant::now(),
            settings,
            channels,
            clock,
            health,
        })
    }

    /// A place among the requests in hand, or 503. Refusing at once keeps the latency of those in hand; a queue
    /// would make all of them late.
    pub fn request_place(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        self.requests.try_acquire().map_err(|_| at_limit())
    }

    /// A place among the webhooks in hand, apart from requests, so that neither starves the other.
    pub fn webhook_place(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        self.webhook_requests.try_acquire().map_err(|_| at_limit())
    }

    /// How the services stand.
    pub fn services(&self) -> &health::Services {
        &self.services
    }
}

fn at_limit() -> Refusal {
    Refusal::unavailable("The gateway is at its limit.", 1)
}

/// All addresses behind all layers.
pub fn router(gateway: &Arc<Gateway>) -> Router {
    let pages = Router::new()
        .route("/", get(pages::index))
        .route("/openapi.json", get(pages::openapi))
        .route("/docs", get(pages::docs))
        .route("/docs/docs.js", get(pages::docs_script))
        .route("/docs/docs.css", get(pages::docs_style))
        .route("/problems", get(pages::problems))
        .route("/problems/{code}", get(pages::problem))
        .route("/v1/health", get(health::detailed))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready));
    let pages = pages
        .merge(webhooks::routes())
        .merge(unsubscribe::routes())
        .merge(claims::routes())
        // Whatever is no page and no webhook is a method of a service, or nothing.
        .fallback(rest::handle)
        .method_not_allowed_fallback(method_not_allowed);
    let forms = webhooks::forms::routes().method_not_allowed_fallback(method_not_allowed);
    // Which pages may send a form, its endpoint says, not the settings.
    layered(gateway, pages, cors(&gateway.settings.cors_origins))
        .merge(layered(gateway, forms, None))
        .with_state(Arc::clone(gateway))
}

fn layered(
    gateway: &Arc<Gateway>,
    router: Router<Arc<Gateway>>,
    cors: Option<CorsLayer>,
) -> Router<Arc<Gateway>> {
    let layers = ServiceBuilder::new()
        // First in and last out, so that every answer has its headers, request id and trace, and every refusal is written.
        .layer(middleware::from_fn_with_state(
            Arc::clone(gateway),
            trace::layer,
        ))
        // Around everything that may panic: a bug is a 500 for one caller, not a dropped connection.
        .layer(CatchPanicLayer::custom(panicked))
        // It answers preflights itself.
        .option_layer(cors)
        // The caller's address and its limit, before any work is done for it; then the work, timed.
        .layer(middleware::from_fn_with_state(Arc::clone(gateway), admit));
    router.layer(layers)
}

fn cors(origins: &[String]) -> Option<CorsLayer> {
    let origins: Vec<HeaderValue> = origins
        .iter()
        .filter_map(|origin| origin.parse().ok())
        .collect();
    if origins.is_empty() {
        return None;
    }
    Some(
        CorsLayer::new()
            .allow_origin(AllowOrigin::list(origins))
            .allow_methods([
                Method::GET,
                Method::POST,
                Method::PUT,
                Method::PATCH,
                Method::DELETE,
            ])
            .allow_headers([
                header::AUTHORIZATION,
                header::CONTENT_TYPE,
                header::IF_MATCH,
                HeaderName::from_static("idempotency-key"),
                trace::REQUEST_ID,
                trace::TRACEPARENT,
            ])
            .expose_headers([
                header::ETAG,
                header::RETRY_AFTER,
                trace::REQUEST_ID,
                trace::TRACEPARENT,
            ])
            .max_age(std::time::Duration::from_secs(3600)),
    )
}

async fn admit(State(gateway): State<Arc<Gateway>>, mut request: Request, next: Next) -> Response {
    // Every connection has a peer; tests that call the router without one count as one address.
    let peer = request
        .extensions()
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(SocketAddr::from(([0, 0, 0, 0], 0)), |ConnectInfo(peer)| {
            *peer
        });
    let caller = gateway
        .settings
        .trusted_proxies
        .caller(peer, request.headers());
    // Webhooks come in bursts from few addresses, and have a limit of their own.
    let webhook = webhooks::provider_of(request.uri().path());
    let counted = match webhook {
        Some(_) => gateway.rates.webhook(caller),
        None => gateway.rates.address(caller),
    };
    if let Err(refusal) = counted {
        if let Some(provider) = webhook {
            gateway.webhooks.note(provider, Err(&refusal));
        }
        return refusal.into_response();
    }
    request.extensions_mut().insert(Caller(caller));
    tokio::time::timeout(gateway.settings.request_timeout, next.run(request))
        .await
        .unwrap_or_else(|_| {
            Refusal::new(
                ErrorReason::DeadlineExceeded,
                "The request did not finish within its time limit.",
            )
            .into_response()
        })
}

async fn method_not_allowed() -> Refusal {
    Refusal {
        reason: ErrorReason::MethodNotAllowed,
        detail: Some("The path has other methods; see the Allow header.".to_owned()),
        ..Refusal::default()
    }
}

fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without words");
    tracing::error!(message, "a request panicked");
    Refusal::internal().into_response()
}
