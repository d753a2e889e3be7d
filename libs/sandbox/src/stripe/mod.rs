//! Owns Stripe's API as API version 2026-09-30 speaks it: the walk of a request from bytes to answer. In reading order:
//!
//! - `form`, `params`, `errors`: the encoding. `idempotency`: keys. `list`, `search`, `expand`: reading.
//! - one file per resource, each with its `OPERATIONS`: `customer`, `product`, `price`, `coupon`, `payment_method`,
//!   `payment_intent`, `setup_intent`, `charge`, `refund`, `dispute`, `invoice`, `subscription`, `checkout`, `event`,
//!   `test_clock`, `webhook_endpoint`, `balance`.
//! - `period` (pure): the calendar of billing. `lifecycle`: what time does: trials end, periods renew, retries run.
//! - `control`: what is not Stripe's API but stands for people and banks; `settings`: for the dashboard; `ledger`:
//!   everything at once; `generate`: many lives at once.
//!
//! Deliberately absent: Connect, the portal, promotion codes, meters and taxes. An unknown URL is answered as Stripe
//! answers it, so that code relying on them fails loudly.

mod balance;
mod charge;
mod checkout;
mod control;
mod coupon;
mod customer;
mod dispute;
mod errors;
mod event;
mod expand;
mod form;
mod generate;
mod idempotency;
mod invoice;
mod ledger;
mod lifecycle;
mod list;
mod params;
mod payment_intent;
mod payment_method;
mod period;
mod price;
mod product;
mod refund;
mod search;
mod settings;
mod setup_intent;
mod subscription;
mod test_clock;
pub(crate) mod webhook_endpoint;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, Method, Request, StatusCode, header};
use mainstay_runtime::telemetry;
use serde_json::Value;
use tracing::Instrument;

use crate::core::Core;
use crate::door::{self, Credentials, LARGEST_BODY, RETRY_AFTER_SECONDS, header_text};
use crate::faults::{Covered, Refusal};
use crate::store::{Origin, Record, Tx};
use crate::time::catch_up;
use errors::{Result, StripeError};
use params::Params;

pub(crate) use crate::shown::{Public, public, text};
pub(crate) use control::router as control;
pub(crate) use lifecycle::due;

pub(crate) const NAME: &str = "stripe";
/// The version whose shapes are answered, whatever `Stripe-Version` asks for.
pub(crate) const API_VERSION: &str = "2026-09-30.endive";

/// The kinds of object in the store.
pub(crate) mod kind {
    pub(crate) const CUSTOMER: &str = "stripe.customer";
    pub(crate) const PRODUCT: &str = "stripe.product";
    pub(crate) const PRICE: &str = "stripe.price";
    pub(crate) const COUPON: &str = "stripe.coupon";
    pub(crate) const DISCOUNT: &str = "stripe.discount";
    pub(crate) const PAYMENT_METHOD: &str = "stripe.payment_method";
    pub(crate) const PAYMENT_INTENT: &str = "stripe.payment_intent";
    pub(crate) const CHARGE: &str = "stripe.charge";
    pub(crate) const REFUND: &str = "stripe.refund";
    pub(crate) const INVOICE: &str = "stripe.invoice";
    pub(crate) const INVOICE_PAYMENT: &str = "stripe.invoice_payment";
    pub(crate) const SUBSCRIPTION: &str = "stripe.subscription";
    pub(crate) const SETUP_INTENT: &str = "stripe.setup_intent";
    pub(crate) const DISPUTE: &str = "stripe.dispute";
    pub(crate) const CHECKOUT_SESSION: &str = "stripe.checkout_session";
    pub(crate) const PAYMENT_LINK: &str = "stripe.payment_link";
    pub(crate) const TEST_CLOCK: &str = "stripe.test_clock";
    pub(crate) const SETTINGS: &str = "stripe.settings";
    pub(crate) const WEBHOOK_ENDPOINT: &str = "stripe.webhook_endpoint";
}

/// One thing the API does. `name` is what faults and traces call it.
pub(crate) struct Operation {
    method: &'static str,
    path: &'static str,
    name: &'static str,
    /// Parameters it takes, as `params::check_known` reads them. `expand` is always taken.
    known: &'static [&'static str],
    run: fn(&mut Tx<'_>, &Call<'_>) -> Result<Value>,
}

const fn operation(
    method: &'static str,
    path: &'static str,
    name: &'static str,
    known: &'static [&'static str],
    run: fn(&mut Tx<'_>, &Call<'_>) -> Result<Value>,
) -> Operation {
    Operation {
        method,
        path,
        name,
        known,
        run,
    }
}

/// Is there an operation that a fault of this pattern could strike?
pub(crate) fn has_operation(covered: Covered<'_>) -> bool {
    let mut operations = RESOURCES.iter().flat_map(|operations| operations.iter());
    operations.any(|one| covered(one.name) || covered(&door::route(one.method, one.path)))
}

/// One request as an operation sees it.
pub(crate) struct Call<'a> {
    /// What stands in the path's `{id}`.
    id: &'a str,
    /// `/v1/customers`, as lists repeat it.
    url: &'a str,
    params: Params<'a>,
}

const RESOURCES: &[&[Operation]] = &[
    customer::OPERATIONS,
    product::OPERATIONS,
    price::OPERATIONS,
    coupon::OPERATIONS,
    payment_method::OPERATIONS,
    payment_intent::OPERATIONS,
    setup_intent::OPERATIONS,
    charge::OPERATIONS,
    refund::OPERATIONS,
    dispute::OPERATIONS,
    checkout::OPERATIONS,
    checkout::links::OPERATIONS,
    invoice::OPERATIONS,
    subscription::OPERATIONS,
    event::OPERATIONS,
    test_clock::OPERATIONS,
    webhook_endpoint::OPERATIONS,
    balance::OPERATIONS,
];

pub(crate) fn router() -> axum::Router<Arc<Core>> {
    axum::Router::new().fallback(handle)
}

/// Works in a task of its own: once it has arrived, a request is carried out even if the caller hangs up, as it
/// would be at the real provider.
async fn handle(State(core): State<Arc<Core>>, request: Request<Body>) -> Response {
    let request_id = crate::ids::stripe("req");
    let work = tokio::spawn(walk(core, request, request_id.clone()));
    work.await
        .unwrap_or_else(|_| render_error(&StripeError::internal(), &request_id, None))
}

/// An answer on its way out.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub body: Arc<str>,
    /// The request that was answered first, where this one only replays it.
    pub replayed_from: Option<String>,
}

async fn walk(core: Arc<Core>, request: Request<Body>, request_id: String) -> Response {
    let (parts, body) = request.into_parts();
    let key = parts
        .headers
        .get("idempotency-key")
        .map(|key| String::from_utf8_lossy(key.as_bytes()).into_owned());
    // Keys mean something on POST only; Stripe ignores them elsewhere.
    let key = key.filter(|_| parts.method == Method::POST);
    let Ok(_slot) = core.slots.try_acquire() else {
        return render_error(&StripeError::rate_limit(), &request_id, key.as_deref());
    };
    let body = match axum::body::to_bytes(body, LARGEST_BODY).await {
        Ok(body) => body,
        Err(_) => return render_error(&StripeError::body_too_large(), &request_id, key.as_deref()),
    };
    let path = parts.uri.path().to_owned();
    let found = find(&parts.method, &path);
    let name = found
        .as_ref()
        .map_or("unknown", |(operation, _)| operation.name);
    let span = tracing::info_span!(
        "stripe.sim",
        otel.name = format!("stripe.sim {name}"),
        mainstay.role = "sandbox",
        operation = name,
        id = tracing::field::Empty,
        request_id = %request_id,
        status = tracing::field::Empty,
    );
    if let Some(parent) = header_text(&parts.headers, "traceparent") {
        telemetry::set_parent(&span, parent);
    }
    let work = async {
        if let Err(error) = authenticate(&core, &parts.headers) {
            return render_error(&error, &request_id, key.as_deref());
        }
        let Some((operation, id)) = found else {
            let error = StripeError::no_such_url(parts.method.as_str(), &path);
            return render_error(&error, &request_id, key.as_deref());
        };
        let inbound = Inbound {
            operation,
            id,
            path: &path,
            query: parts.uri.query(),
            headers: &parts.headers,
            body: &body,
        };
        perform(&core, inbound, &request_id, key.as_deref()).await
    };
    let response = work.instrument(span.clone()).await;
    span.record("status", response.status().as_u16());
    response
}

fn find(method: &Method, path: &str) -> Option<(&'static Operation, String)> {
    RESOURCES
        .iter()
        .flat_map(|operations| operations.iter())
        .filter(|operation| operation.method == method.as_str())
        .find_map(|operation| {
            let ids = door::matches(operation.path, path)?;
            Some((operation, ids.into_iter().next().unwrap_or_default()))
        })
}

fn authenticate(core: &Core, headers: &HeaderMap) -> Result<()> {
    let given = door::credentials(headers).map(|given| match given {
        Credentials::Bearer(key) => key,
        // `curl -u sk_test_…:` as Stripe's documentation shows it.
        Credentials::Basic { user, .. } => user,
    });
    let Some(given) = given.filter(|given| !given.is_empty()) else {
        return Err(StripeError::unauthorized(
            "You did not provide an API key. You need to provide your API key in the Authorization header, using \
             Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY').",
        ));
    };
    if given.starts_with("sk_live_") || given.starts_with("rk_live_") {
        return Err(StripeError::unauthorized(
            "This is a simulator: it takes test keys only, never a live key.",
        ));
    }
    let accepted = match &core.stripe_secret_key {
        Some(key) => *key == given,
        None => given.starts_with("sk_test_") || given.starts_with("rk_test_"),
    };
    if accepted {
        return Ok(());
    }
    let shown: String = given.chars().take(8).collect();
    Err(StripeError::unauthorized(format!(
        "Invalid API Key provided: {shown}***"
    )))
}

/// A request that is known to be one of ours.
struct Inbound<'a> {
    operation: &'static Operation,
    id: String,
    path: &'a str,
    query: Option<&'a str>,
    headers: &'a HeaderMap,
    body: &'a [u8],
}

impl Inbound<'_> {
    fn pairs(&self) -> Result<Vec<form::Pair>> {
        let mut pairs = form::pairs(self.query.unwrap_or_default())?;
        if !self.body.is_empty() {
            let content_type = self
                .headers
                .get(header::CONTENT_TYPE)
                .and_then(|value| value.to_str().ok());
            let body = std::str::from_utf8(self.body).ok().filter(|_| {
                content_type
                    .is_none_or(|value| value.starts_with("application/x-www-form-urlencoded"))
            });
            let Some(body) = body else {
                return Err(StripeError::parameter(
                    "parameter_invalid",
                    "",
                    "Invalid request (check that your POST content type is application/x-www-form-urlencoded).",
                ));
            };
            pairs.extend(form::pairs(body)?);
        }
        Ok(pairs)
    }
}

/// Key, faults, execution: the part that can be repeated, broken and raced.
async fn perform(
    core: &Arc<Core>,
    inbound: Inbound<'_>,
    request_id: &str,
    key: Option<&str>,
) -> Response {
    let pairs = match inbound.pairs() {
        Ok(pairs) => pairs,
        Err(error) => return render_error(&error, request_id, key),
    };
    let fingerprint = idempotency::fingerprint(inbound.operation.method, inbound.path, &pairs);
    let claim = match key
        .map(|key| idempotency::claim(core, key, &fingerprint))
        .transpose()
    {
        Ok(None) => None,
        Ok(Some(idempotency::Claim::Mine(guard))) => Some(guard),
        Ok(Some(idempotency::Claim::Answered(answer))) => return render(&answer, request_id, key),
        Err(error) => return render_error(&error, request_id, key),
    };

    let Operation {
        method, path, name, ..
    } = inbound.operation;
    let strike = door::strike(core, NAME, name, method, path).await;
    if strike.drop {
        return door::broken_connection();
    }
    catch_up(core);
    let origin = Origin {
        operation: inbound.operation.name.to_owned(),
        request_id: Some(request_id.to_owned()),
        idempotency_key: key.map(str::to_owned),
        traceparent: door::traceparent(inbound.headers),
    };
    let committed = core.commit(|world| {
        let mut tx = Tx::new(world, world.now(), origin);
        let outcome = match strike.refusal {
            Some(Refusal::Status(status)) => Err(StripeError::injected(status)),
            Some(Refusal::LockTimeout) => Err(StripeError::lock_timeout()),
            None => execute(&mut tx, &inbound, &pairs),
        };
        let (answer, keep_effects, keep_answer) = match outcome {
            Ok(value) => (
                Answer {
                    status: 200,
                    body: value.into(),
                    replayed_from: None,
                },
                true,
                true,
            ),
            Err(error) => (
                error_answer(&error, request_id),
                error.keeps_effects,
                !error.before_execution,
            ),
        };
        let mut record = if keep_effects {
            tx.into_record()
        } else {
            Record::default()
        };
        if let Some(key) = key.filter(|_| keep_answer) {
            record.answer = Some(idempotency::stored(
                key,
                &fingerprint,
                &answer,
                request_id,
                world.now(),
            ));
        }
        (record, answer)
    });
    drop(claim);
    let answer = committed.unwrap_or_else(|error| {
        tracing::error!(%error, "the simulators' journal cannot be written; nothing was done");
        error_answer(&StripeError::internal(), request_id)
    });
    if let Some(duration) = strike.hold_after_effect {
        core.faults.hold(duration).await;
    }
    render(&answer, request_id, key)
}

fn execute(tx: &mut Tx<'_>, inbound: &Inbound<'_>, pairs: &[form::Pair]) -> Result<String> {
    params::check_known(pairs, inbound.operation.known)?;
    let tree = form::tree(pairs)?;
    let params = Params::new(&tree);
    let paths = expand::paths(&params)?;
    let call = Call {
        id: &inbound.id,
        url: inbound.path,
        params,
    };
    test_clock::enter_for(tx, &call);
    let mut answer = (inbound.operation.run)(tx, &call)?;
    if let Some(id) = answer["id"].as_str() {
        tracing::Span::current().record("id", id);
    }
    expand::expand(tx, &mut answer, &paths)?;
    Ok(text(&Public(&answer)))
}

fn error_answer(error: &StripeError, request_id: &str) -> Answer {
    Answer {
        status: error.status,
        body: error.body(request_id).to_string().into(),
        replayed_from: None,
    }
}

fn render_error(error: &StripeError, request_id: &str, key: Option<&str>) -> Response {
    render(&error_answer(error, request_id), request_id, key)
}

fn render(answer: &Answer, request_id: &str, key: Option<&str>) -> Response {
    let mut response = Response::new(Body::from(answer.body.to_string()));
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = value.parse() {
            headers.insert(name, value);
        }
    };
    set("content-type", "application/json");
    set("request-id", request_id);
    set("stripe-version", API_VERSION);
    if let Some(key) = key {
        set("idempotency-key", key);
        set(
            "original-request",
            answer.replayed_from.as_deref().unwrap_or(request_id),
        );
    }
    if matches!(answer.status, 409 | 429) {
        // Refused at the door: what a client's own retries go by.
        set("stripe-should-retry", "true");
    }
    if answer.status == 429 {
        set("retry-after", RETRY_AFTER_SECONDS);
    }
    if answer.replayed_from.is_some() {
        set("idempotent-replayed", "true");
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_named_once_and_no_pattern_hides_another() {
        let mut names = std::collections::HashSet::new();
        for operation in RESOURCES.iter().flat_map(|operations| operations.iter()) {
            assert!(
                names.insert(operation.name),
                "{} is there twice",
                operation.name
            );
            let method = Method::from_bytes(operation.method.as_bytes()).expect("a method");
            let (found, _) = find(&method, &operation.path.replace("{id}", "x_1")).expect("found");
            assert_eq!(
                found.name, operation.name,
                "{} {}",
                operation.method, operation.path
            );
        }
    }
}
