//! Owns webhook endpoints: as Stripe's API makes them, and as `mainstay up` registers its own at every start.
//!
//! Deliberately absent: API versions per endpoint; snapshots are of this simulator's version.

use std::time::Duration;

use serde_json::{Value, json};

use super::errors::{Result, StripeError};
use super::list::{self, get, list_parameters};
use super::params::Params;
use super::{API_VERSION, Call, Operation, kind, operation};
use crate::ids;
use crate::store::{Delivery, Settled, Tx, World};
use crate::webhooks::{self, Patience, Signer, Target};

const MOST: usize = 16;
const TIMEOUT: Duration = Duration::from_secs(10);
const CREATE: &[&str] = &[
    "api_version",
    "connect",
    "description",
    "enabled_events[]",
    "metadata",
    "metadata.*",
    "url",
];
const UPDATE: &[&str] = &[
    "description",
    "disabled",
    "enabled_events[]",
    "metadata",
    "metadata.*",
    "url",
];

pub(super) const OPERATIONS: &[Operation] = &[
    operation(
        "POST",
        "/v1/webhook_endpoints",
        "webhook_endpoints.create",
        CREATE,
        create,
    ),
    operation(
        "GET",
        "/v1/webhook_endpoints",
        "webhook_endpoints.list",
        list_parameters!(),
        |tx, call| list::list(tx, call, kind::WEBHOOK_ENDPOINT, |_| true),
    ),
    operation(
        "GET",
        "/v1/webhook_endpoints/{id}",
        "webhook_endpoints.retrieve",
        &[],
        |tx, call| get(tx, kind::WEBHOOK_ENDPOINT, "webhook endpoint", call.id).cloned(),
    ),
    operation(
        "POST",
        "/v1/webhook_endpoints/{id}",
        "webhook_endpoints.update",
        UPDATE,
        update,
    ),
    operation(
        "DELETE",
        "/v1/webhook_endpoints/{id}",
        "webhook_endpoints.delete",
        &[],
        |tx, call| {
            get(tx, kind::WEBHOOK_ENDPOINT, "webhook endpoint", call.id)?;
            // Deliveries under way find their endpoint gone and are given up.
            tx.delete(kind::WEBHOOK_ENDPOINT, call.id);
            Ok(json!({ "id": call.id, "object": "webhook_endpoint", "deleted": true }))
        },
    ),
];

fn build(now: i64, url: &str, secret: &str, enabled_events: Value) -> Value {
    json!({
        "id": ids::stripe("we"),
        "object": "webhook_endpoint",
        "api_version": API_VERSION,
        "application": null,
        "created": now,
        "description": null,
        "enabled_events": enabled_events,
        "livemode": false,
        "metadata": {},
        "status": "enabled",
        "url": url,
        "_secret": secret,
    })
}

fn create(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let url = call.params.require_text("url")?;
    check_url(url).map_err(|message| StripeError::parameter("url_invalid", "url", message))?;
    let events =
        enabled_events(&call.params)?.ok_or_else(|| StripeError::missing("enabled_events"))?;
    if tx.newest_first(kind::WEBHOOK_ENDPOINT, |_| true).len() >= MOST {
        return Err(StripeError::state(
            None,
            format!("You have reached the maximum of {MOST} test webhook endpoints."),
        ));
    }
    let secret = format!("whsec_{}", ids::random(32));
    let mut endpoint = build(tx.now, url, &secret, events);
    change(&mut endpoint, &call.params)?;
    tx.put(kind::WEBHOOK_ENDPOINT, endpoint.clone());
    // Told once, here.
    endpoint["secret"] = json!(secret);
    Ok(endpoint)
}

fn update(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Value> {
    let mut endpoint = get(tx, kind::WEBHOOK_ENDPOINT, "webhook endpoint", call.id)?.clone();
    if let Some(url) = call.params.text("url")? {
        check_url(url).map_err(|message| StripeError::parameter("url_invalid", "url", message))?;
        endpoint["url"] = json!(url);
    }
    if let Some(events) = enabled_events(&call.params)? {
        endpoint["enabled_events"] = events;
    }
    if let Some(disabled) = call.params.boolean("disabled")? {
        endpoint["status"] = json!(if disabled { "disabled" } else { "enabled" });
    }
    change(&mut endpoint, &call.params)?;
    tx.put(kind::WEBHOOK_ENDPOINT, endpoint.clone());
    Ok(endpoint)
}

fn change(endpoint: &mut Value, params: &Params<'_>) -> Result<()> {
    if let Some(text) = params.raw("description")? {
        endpoint["description"] = if text.is_empty() {
            Value::Null
        } else {
            json!(text)
        };
    }
    endpoint["metadata"] = params.metadata(Some(&endpoint["metadata"]))?;
    Ok(())
}

fn enabled_events(params: &Params<'_>) -> Result<Option<Value>> {
    let events = params.texts("enabled_events")?;
    Ok((!events.is_empty()).then(|| json!(events)))
}

pub(crate) fn check_url(url: &str) -> std::result::Result<(), String> {
    match http::Uri::try_from(url) {
        Ok(uri) if uri.host().is_some() && matches!(uri.scheme_str(), Some("http" | "https")) => {
            Ok(())
        }
        _ => Err(format!(
            "Invalid URL: {url}. Give an absolute http or https address."
        )),
    }
}

/// Where a delivery goes now.
pub(crate) fn target(world: &World, delivery: &Delivery) -> Option<Target> {
    let endpoint = world.get(kind::WEBHOOK_ENDPOINT, &delivery.endpoint)?;
    let text = |name: &str| endpoint[name].as_str().unwrap_or_default().to_owned();
    Some(Target {
        url: text("url"),
        signer: Signer::Stripe {
            secret: text("_secret"),
        },
        timeout: TIMEOUT,
        patience: Patience::BackOff,
    })
}

/// Puts an endpoint in place with a secret of the caller's: the one of the same `name` or the same URL is replaced and
/// keeps its outstanding deliveries, which fall due at once.
pub(crate) fn register(
    tx: &mut Tx<'_>,
    url: &str,
    secret: &str,
    name: Option<&str>,
) -> (Value, Vec<Settled>) {
    let same = |endpoint: &Value| match name {
        Some(name) => {
            endpoint["_name"] == name || (endpoint["_name"].is_null() && endpoint["url"] == url)
        }
        None => endpoint["url"] == url,
    };
    let mut found: Vec<Value> = tx
        .newest_first(kind::WEBHOOK_ENDPOINT, same)
        .into_iter()
        .cloned()
        .collect();
    let mut endpoint = if found.is_empty() {
        build(tx.now, url, secret, json!(["*"]))
    } else {
        found.remove(0)
    };
    for duplicate in found {
        tx.delete(
            kind::WEBHOOK_ENDPOINT,
            duplicate["id"].as_str().unwrap_or_default(),
        );
    }
    endpoint["url"] = json!(url);
    endpoint["_secret"] = json!(secret);
    endpoint["status"] = json!("enabled");
    if let Some(name) = name {
        endpoint["_name"] = json!(name);
    }
    let again = webhooks::due_now(tx.world(), endpoint["id"].as_str().unwrap_or_default());
    tx.put(kind::WEBHOOK_ENDPOINT, endpoint.clone());
    (endpoint, again)
}
