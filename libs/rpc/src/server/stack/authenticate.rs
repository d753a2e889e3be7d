//! Who calls and who acts: each service checks both again, whatever the gateway has checked. Whether a service is one
//! that the method lists is settled here too: it needs no body, so none is read and nothing is said about it.
//!
//! Deliberately absent: what actors may. That depends on the client that the body names.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderMap;
use mainstay_proto::errors::v1::ErrorReason;
use mainstay_proto::options::v1::AccessKind;
use mainstay_transcode::MethodInfo;
use mainstay_types::ServiceName;

use super::{Gate, Method, refuse};
use crate::context::Actor;
use crate::problem::Problem;
use crate::token::Claims;
use crate::wire;

/// Who is on the wire, and on whose behalf.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) service: ServiceName,
    pub(super) actor: Option<(Actor, Arc<Claims>, Arc<str>)>,
}

pub(super) async fn layer(
    State(gate): State<Arc<Gate>>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(Method(method)) = request.extensions().get::<Method>().copied() else {
        return refuse(Problem::internal("a call without a method"));
    };
    let caller = match caller(&gate, request.headers()) {
        Ok(caller) => caller,
        Err(problem) => return refuse(problem),
    };
    let span = tracing::Span::current();
    span.record("mainstay.caller", caller.service.as_str());
    if method.access_kind() == AccessKind::Service && !lists(method, caller.service) {
        return refuse(Problem::new(
            ErrorReason::PermissionDenied,
            format!("The service {} may not call this.", caller.service),
        ));
    }
    if let Some((actor, claims, _)) = &caller.actor {
        span.record("mainstay.principal", tracing::field::display(actor));
        span.record("mainstay.agency_id", tracing::field::display(claims.agy));
    } else if method.access_kind() == AccessKind::Actor {
        return refuse(Problem::unauthenticated("The request has no credential."));
    }
    request.extensions_mut().insert(caller);
    next.run(request).await
}

fn lists(method: &MethodInfo, service: ServiceName) -> bool {
    let callers = &method.access.callers;
    callers.iter().any(|name| name == service.as_str())
}

fn caller(gate: &Gate, headers: &HeaderMap) -> Result<Caller, Problem> {
    let text = |name: &str| {
        headers
            .get(name)
            .map(|value| value.to_str().unwrap_or_default())
    };
    // The tokens' faults are told apart in our log, not to the caller.
    let refused =
        |error| Problem::unauthenticated("The credential does not hold.").with_source(error);

    let token = text(wire::SERVICE)
        .ok_or_else(|| Problem::unauthenticated("The call names no service."))?;
    let service = gate
        .services
        .get(token, || gate.trusted.service(token, gate.me))
        .map_err(refused)?;

    let actor = match text(wire::AUTHORIZATION) {
        None => None,
        Some(header) => {
            let token = header.strip_prefix("Bearer ").unwrap_or_default();
            let verified = gate.actors.get(token, || {
                let (actor, claims) = gate.trusted.actor(token)?;
                let ends = claims.expires_at().timestamp();
                Ok(((actor, Arc::new(claims)), ends))
            });
            let verified = verified.map_err(refused)?;
            Some((
                verified.0.clone(),
                Arc::clone(&verified.1),
                Arc::from(token),
            ))
        }
    };
    Ok(Caller {
        service: *service,
        actor,
    })
}
