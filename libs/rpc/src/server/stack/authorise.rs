//! May this caller do this: 404 for a client that is not there or out of sight, then 403; then the handler's Context.
//!
//! Deliberately absent: objects below a client. Their tables know whose they are, and answer 404 the same way.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderMap;
use mainstay_proto::options::v1::AccessKind;
use mainstay_transcode::MethodInfo;
use mainstay_types::{AgencyId, RequestId};
use uuid::Uuid;

use super::authenticate::Caller;
use super::deadline::Deadline;
use super::read::Named;
use super::{Gate, Method, refuse};
use crate::authorise::{Granted, authorise, sees};
use crate::context::{Actor, Context};
use crate::problem::Problem;
use crate::wire;

pub(super) async fn layer(
    State(gate): State<Arc<Gate>>,
    mut request: Request,
    next: Next,
) -> Response {
    let extensions = request.extensions_mut();
    let found = (
        extensions.remove::<Method>(),
        extensions.remove::<Caller>(),
        extensions.remove::<Deadline>(),
        extensions.remove::<Named>(),
    );
    let (Some(Method(method)), Some(caller), Some(Deadline(deadline)), Some(named)) = found else {
        return refuse(Problem::internal("a layer of the stack is missing"));
    };
    let scope = match granted(&gate, method, &caller, named).await {
        Ok(scope) => scope,
        Err(problem) => return refuse(problem),
    };
    let idempotency_key = match idempotency_key(request.headers()) {
        Ok(key) => key,
        Err(problem) => return refuse(problem),
    };
    let request_id = request_id(request.headers());
    let span = tracing::Span::current();
    span.record("mainstay.request_id", request_id.as_str());
    if let Granted::Client(tenant) = &scope {
        span.record("mainstay.client_id", tracing::field::display(tenant.client));
    }
    let (agency, actor, claims, actor_token) = match caller.actor {
        Some((actor, claims, token)) => (claims.agy, actor, Some(claims), Some(token)),
        None if scope == Granted::Service => (
            AgencyId::from_uuid(Uuid::nil()),
            Actor::Service(caller.service),
            None,
            None,
        ),
        None => (
            AgencyId::from_uuid(Uuid::nil()),
            Actor::Anonymous,
            None,
            None,
        ),
    };
    request.extensions_mut().insert(Context {
        agency,
        actor,
        caller: caller.service,
        request_id,
        deadline,
        idempotency_key,
        method,
        scope,
        claims,
        actor_token,
    });
    next.run(request).await
}

async fn granted(
    gate: &Gate,
    method: &'static MethodInfo,
    caller: &Caller,
    Named(client): Named,
) -> Result<Granted, Problem> {
    match method.access_kind() {
        AccessKind::None | AccessKind::Link => Ok(Granted::Anonymous),
        // One that the method lists: others did not come past authentication.
        AccessKind::Service => Ok(Granted::Service),
        AccessKind::Unspecified | AccessKind::Actor => {
            let Some((_, claims, _)) = &caller.actor else {
                return Err(Problem::unauthenticated("The request has no credential."));
            };
            if let Some(client) = client {
                // Out of sight and not existing are one answer, byte for byte.
                if !sees(claims, client) {
                    return Err(Problem::not_found("client"));
                }
                let exists = gate.directory.exists(claims.agy, client).await;
                if !exists.map_err(|status| Problem::from_status(&status))? {
                    return Err(Problem::not_found("client"));
                }
            }
            authorise(claims, method, client)
        }
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(wire::IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let text = value
        .to_str()
        .ok()
        .filter(|text| (1..=255).contains(&text.len()));
    let fault = || {
        Problem::invalid(Vec::new()).violation(
            "Idempotency-Key",
            "must have 1 to 255 visible ASCII characters",
        )
    };
    text.map(|text| Some(text.to_owned())).ok_or_else(fault)
}

/// The caller's name for the request, when it is one that logs can hold; else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers
        .get(wire::REQUEST_ID)
        .and_then(|value| value.to_str().ok());
    let tidy = |text: &&str| {
        (1..=100).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b))
    };
    given
        .filter(tidy)
        .map_or_else(|| RequestId::generate().to_string(), str::to_owned)
}
