//! Whether the gateway and what stands behind it work: `/healthz`, `/readyz`, `/v1/health`.
//! Deliberately absent: judging a service from outside; each says of itself how it stands. One that says nothing in
//! time is unhealthy.

mod openapi;
mod report;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use mainstay_proto::health::v1::{
    GetHealthReportRequest, HealthStatus, health_report_service_client::HealthReportServiceClient,
};
use mainstay_rpc::{Channels, health_report};
use mainstay_runtime::health::Finding;
use mainstay_types::ServiceName;
use serde_json::json;
use tokio::sync::Mutex;
use tonic::Request;

pub use openapi::describe;
use report::{Asked, Report};

use crate::app::Gateway;

/// How long one round of questions is used: the endpoint is open to everybody.
const FRESH: Duration = Duration::from_secs(1);
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether a path asks for health. Such requests are not what health is about, and are not counted.
pub fn is_question(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz" | "/v1/health")
}

/// `GET /healthz`: the process answers.
pub async fn alive() -> &'static str {
    "alive\n"
}

/// `GET /readyz`: traffic may come.
pub async fn ready(State(gateway): State<Arc<Gateway>>) -> Response {
    if gateway.health.ready() {
        (StatusCode::OK, "ready\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
    }
}

/// `GET /v1/health`: the gateway and each service, and what somebody should look at.
pub async fn detailed(State(gateway): State<Arc<Gateway>>) -> Response {
    let report = gateway.services().report(&gateway).await;
    let code = match report.status() {
        HealthStatus::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::OK,
    };
    (code, Json(&*report)).into_response()
}

/// The services, asked at most once a second.
pub struct Services {
    channels: Channels,
    last: Mutex<Option<(Instant, Arc<Report>)>>,
}

impl Services {
    /// Nothing asked yet.
    pub fn new(channels: Channels) -> Self {
        Self {
            channels,
            last: Mutex::new(None),
        }
    }

    async fn report(&self, gateway: &Gateway) -> Arc<Report> {
        // Held while asking: those who come meanwhile want the same answer.
        let mut last = self.last.lock().await;
        if let Some((at, report)) = &*last
            && at.elapsed() < FRESH
        {
            return Arc::clone(report);
        }
        let asked = ServiceName::CONTEXTS.map(|service| ask(&self.channels, service));
        let mut asked = futures_util::future::join_all(asked).await;
        asked.insert(0, own(gateway));
        let report = Arc::new(Report::new(
            json!(gateway.clock.now()),
            gateway.started.elapsed(),
            asked,
        ));
        *last = Some((Instant::now(), Arc::clone(&report)));
        report
    }
}

/// The gateway, by the same measure as the services.
fn own(gateway: &Gateway) -> Asked {
    let mut findings = vec![Finding::Cache(gateway.credentials.rate())];
    findings.extend(gateway.webhooks.findings());
    Asked {
        service: ServiceName::Gateway,
        latency: Duration::ZERO,
        said: Some(health_report(
            &gateway.health,
            &findings,
            gateway.calls.summary(),
        )),
    }
}

async fn ask(channels: &Channels, service: ServiceName) -> Asked {
    let started = Instant::now();
    let mut client = HealthReportServiceClient::new(channels.channel(service));
    let mut request = Request::new(GetHealthReportRequest {});
    request.set_timeout(ASK_TIMEOUT);
    let said = match client.get_health_report(request).await {
        Ok(answer) => Some(answer.into_inner()),
        Err(status) => {
            tracing::debug!(%service, code = ?status.code(), "a service does not say how it stands");
            None
        }
    };
    Asked {
        service,
        latency: started.elapsed(),
        said,
    }
}
