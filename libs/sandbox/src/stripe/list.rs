//! Owns Stripe's lists: newest first, `limit`, `starting_after`, `ending_before`, `created`, `has_more`.
//!
//! Deliberately absent: offsets. A cursor is an object; one that does not exist is an error.

use serde_json::{Value, json};

use super::Call;
use super::errors::{Result, StripeError};
use crate::store::Tx;

/// The parameters every list takes. Spelled out per resource because the pattern lists are constant.
macro_rules! list_parameters {
    ($($more:literal),* $(,)?) => {
        &["limit", "starting_after", "ending_before", "created", "created.gt", "created.gte", "created.lt", "created.lte", $($more),*]
    };
}
pub(crate) use list_parameters;

/// A page of the objects of a kind that pass `wanted`.
pub(crate) fn list(
    tx: &Tx<'_>,
    call: &Call<'_>,
    kind: &str,
    wanted: impl FnMut(&Value) -> bool,
) -> Result<Value> {
    page(call, tx.newest_first(kind, |_| true).into_iter(), wanted)
}

/// A page of anything that has `id` and `created`, newest first.
pub(crate) fn page<'v>(
    call: &Call<'_>,
    newest_first: impl Iterator<Item = &'v Value>,
    mut wanted: impl FnMut(&Value) -> bool,
) -> Result<Value> {
    let limit =
        usize::try_from(call.params.integer_from("limit", 1, 100)?.unwrap_or(10)).unwrap_or(10);
    let within = created_filter(call)?;
    let mut matches =
        |object: &Value| within(object["created"].as_i64().unwrap_or_default()) && wanted(object);
    let (after, before) = (
        call.params.text("starting_after")?,
        call.params.text("ending_before")?,
    );
    let (data, has_more): (Vec<&Value>, bool) = match (after, before) {
        (Some(_), Some(_)) => {
            let message = "Received both starting_after and ending_before parameters. Please pass in only one.";
            return Err(StripeError::parameter(
                "parameter_invalid",
                "starting_after",
                message,
            ));
        }
        (None, Some(before)) => {
            // The page just above the cursor, still newest first.
            let mut found_cursor = false;
            let newer: Vec<&Value> = newest_first
                .take_while(|object| {
                    found_cursor = object["id"] == before;
                    !found_cursor
                })
                .filter(|object| matches(object))
                .collect();
            if !found_cursor {
                return Err(no_cursor(call, before, "ending_before"));
            }
            let skipped = newer.len().saturating_sub(limit);
            (newer[skipped..].to_vec(), skipped > 0)
        }
        (after, None) => {
            let mut rest = newest_first;
            if let Some(after) = after
                && !rest.any(|object| object["id"] == after)
            {
                return Err(no_cursor(call, after, "starting_after"));
            }
            let mut data: Vec<&Value> = rest
                .filter(|object| matches(object))
                .take(limit + 1)
                .collect();
            let has_more = data.len() > limit;
            data.truncate(limit);
            (data, has_more)
        }
    };
    Ok(json!({ "object": "list", "data": data, "has_more": has_more, "url": call.url }))
}

fn no_cursor(call: &Call<'_>, id: &str, param: &str) -> Box<StripeError> {
    let noun = call.url.trim_start_matches("/v1/").trim_end_matches('s');
    StripeError::no_such(noun, id, param)
}

/// `created=…`, or any of `created[gt|gte|lt|lte]`.
fn created_filter(call: &Call<'_>) -> Result<impl Fn(i64) -> bool + use<>> {
    let mut least = i64::MIN;
    let mut most = i64::MAX;
    if call.params.tree()["created"].is_object() {
        if let Some(range) = call.params.object("created")? {
            if let Some(second) = range.integer("gt")? {
                least = least.max(second.saturating_add(1));
            }
            if let Some(second) = range.integer("gte")? {
                least = least.max(second);
            }
            if let Some(second) = range.integer("lt")? {
                most = most.min(second.saturating_sub(1));
            }
            if let Some(second) = range.integer("lte")? {
                most = most.min(second);
            }
        }
    } else if let Some(second) = call.params.integer("created")? {
        (least, most) = (second, second);
    }
    Ok(move |created| (least..=most).contains(&created))
}

/// An object by its path id, or Stripe's 404.
pub(crate) fn get<'t>(tx: &'t Tx<'_>, kind: &str, noun: &str, id: &str) -> Result<&'t Value> {
    tx.get(kind, id)
        .ok_or_else(|| StripeError::no_such(noun, id, "id"))
}

/// An object named by a parameter, or Stripe's 400.
pub(crate) fn get_named<'t>(
    tx: &'t Tx<'_>,
    kind: &str,
    noun: &str,
    id: &str,
    param: &str,
) -> Result<&'t Value> {
    tx.get(kind, id)
        .ok_or_else(|| StripeError::no_such(noun, id, param))
}

/// Does `object[field]` equal the parameter of the same name, where one was given?
pub(crate) fn equals<'a>(
    call: &Call<'a>,
    field: &'static str,
) -> Result<impl Fn(&Value) -> bool + use<'a>> {
    let wanted = call.params.text(field)?;
    Ok(move |object: &Value| wanted.is_none_or(|wanted| object[field] == wanted))
}
