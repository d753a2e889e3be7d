//! Whether the gateway and what stands behind it work: `/healthz`, `/readyz`, `/v1/health`.
//! Deliberately absent: judging a service from outside; each says of itself how it stands.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use mainstay_rpc::Channels;
use mainstay_runtime::health::Status;
use mainstay_types::ServiceName;
use serde_json::{Value, json};
use tonic::Request;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::app::Gateway;

/// How long one round of questions is used: the endpoint is open to everybody.
const FRESH: Duration = Duration::from_secs(1);
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

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

/// `GET /v1/health`: each service, and how requests went in the last minute.
pub async fn detailed(State(gateway): State<Arc<Gateway>>) -> Response {
    let services = gateway.services().ask().await;
    let own = gateway.health.snapshot();
    let healthy = services
        .iter()
        .filter(|service| service.status == Status::Healthy)
        .count();
    let status = match (own.ready(), healthy) {
        (true, all) if all == services.len() => Status::Healthy,
        // Reads of the services that stand still work.
        (true, some) if some > 0 => Status::Degraded,
        _ => Status::Unhealthy,
    };
    // Whoever balances load on this must hear that a part is missing.
    let code = if status == Status::Healthy {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = json!({
        "status": status,
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": gateway.started.elapsed().as_secs(),
        "checked_at": gateway.clock.now(),
        "services": services.iter().map(Answer::to_json).collect::<Vec<_>>(),
        "components": own.components,
        "requests": gateway.stats.last_minute(),
    });
    (code, Json(body)).into_response()
}

/// The services, asked at most once a second.
pub struct Services {
    channels: Channels,
    last: tokio::sync::Mutex<Option<(Instant, Arc<Vec<Answer>>)>>,
}

/// What one service says of itself.
#[derive(Debug, Clone)]
pub struct Answer {
    service: ServiceName,
    status: Status,
    latency_ms: f64,
}

impl Answer {
    fn to_json(&self) -> Value {
        json!({
            "name": self.service.as_str(),
            "status": self.status,
            "latency_ms": self.latency_ms,
        })
    }
}

impl Services {
    /// Nothing asked yet.
    pub fn new(channels: Channels) -> Self {
        Self {
            channels,
            last: tokio::sync::Mutex::new(None),
        }
    }

    async fn ask(&self) -> Arc<Vec<Answer>> {
        // Held while asking: those who come meanwhile want the same answer.
        let mut last = self.last.lock().await;
        if let Some((at, answers)) = &*last
            && at.elapsed() < FRESH
        {
            return Arc::clone(answers);
        }
        let asked = ServiceName::CONTEXTS.map(|service| ask_one(&self.channels, service));
        let answers = Arc::new(futures_util::future::join_all(asked).await);
        *last = Some((Instant::now(), Arc::clone(&answers)));
        answers
    }
}

async fn ask_one(channels: &Channels, service: ServiceName) -> Answer {
    let started = Instant::now();
    let mut client = HealthClient::new(channels.channel(service));
    let mut request = Request::new(HealthCheckRequest {
        // The server as a whole.
        service: String::new(),
    });
    request.set_timeout(ASK_TIMEOUT);
    let serving = client
        .check(request)
        .await
        .is_ok_and(|answer| answer.into_inner().status() == ServingStatus::Serving);
    Answer {
        service,
        status: if serving {
            Status::Healthy
        } else {
            Status::Unhealthy
        },
        latency_ms: (started.elapsed().as_secs_f64() * 10_000.0).round() / 10.0,
    }
}

/// How requests went, by second, for a minute.
#[derive(Debug)]
pub struct Stats {
    since: Instant,
    seconds: Mutex<[Second; 60]>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Second {
    at: u64,
    requests: u64,
    failures: u64,
    micros: u64,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            seconds: Mutex::new([Second::default(); 60]),
        }
    }
}

impl Stats {
    /// Counts an answer.
    pub fn count(&self, status: StatusCode, took: Duration) {
        let at = self.since.elapsed().as_secs();
        let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        let second = &mut seconds[(at % 60) as usize];
        if second.at != at {
            *second = Second {
                at,
                ..Second::default()
            };
        }
        second.requests += 1;
        second.failures += u64::from(status.is_server_error());
        second.micros += u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    }

    fn last_minute(&self) -> Value {
        let now = self.since.elapsed().as_secs();
        let seconds = *self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = seconds
            .iter()
            .filter(|second| now - second.at.min(now) < 60);
        let (mut requests, mut failures, mut micros) = (0_u64, 0_u64, 0_u64);
        for second in recent {
            requests += second.requests;
            failures += second.failures;
            micros = micros.saturating_add(second.micros);
        }
        #[expect(clippy::cast_precision_loss, reason = "shown, not counted with")]
        let per = |part: u64| {
            if requests == 0 {
                0.0
            } else {
                part as f64 / requests as f64
            }
        };
        json!({
            "last_minute": requests,
            "error_rate": per(failures),
            "mean_latency_ms": (per(micros) / 100.0).round() / 10.0,
        })
    }
}

/// Adds `/v1/health` to the OpenAPI document: the one public address that is no method of a service.
pub fn describe(document: &mut Value) {
    let answer = |description: &str| {
        json!({
            "description": description,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/HealthReport"}}},
        })
    };
    document["paths"]["/v1/health"] = json!({
        "get": {
            "operationId": "getHealth",
            "tags": ["Health"],
            "summary": "Tells how the services stand",
            "description": "Each service as it says of itself, asked at most once a second.",
            "security": [],
            "parameters": [],
            "responses": {
                "200": answer("Everything works."),
                "503": answer("Something does not."),
            },
        },
    });
    let status = json!({"type": "string", "enum": ["healthy", "degraded", "starting", "unhealthy", "draining"]});
    document["components"]["schemas"]["HealthReport"] = json!({
        "type": "object",
        "required": ["status", "version", "uptime_seconds", "checked_at", "services", "components", "requests"],
        "properties": {
            "status": status,
            "version": {"type": "string"},
            "uptime_seconds": {"type": "integer"},
            "checked_at": {"type": "string", "format": "date-time"},
            "services": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name", "status", "latency_ms"],
                    "properties": {"name": {"type": "string"}, "status": status, "latency_ms": {"type": "number"}},
                },
            },
            "components": {
                "type": "object",
                "additionalProperties": {
                    "type": "object",
                    "required": ["status", "detail"],
                    "properties": {"status": status, "detail": {"type": "string"}},
                },
            },
            "requests": {
                "type": "object",
                "required": ["last_minute", "error_rate", "mean_latency_ms"],
                "properties": {
                    "last_minute": {"type": "integer"},
                    "error_rate": {"type": "number"},
                    "mean_latency_ms": {"type": "number"},
                },
            },
        },
    });
}
