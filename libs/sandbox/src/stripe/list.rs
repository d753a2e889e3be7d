//! Owns Stripe's lists: newest first, `limit`, `starting_after`, `ending_before`, `created`, `has_more`.
//!
//! A cursor is an object and stands for its place among those of its kind, which does not change when the object does.
//! Therefore pages neither lose nor repeat what is there for as long as somebody reads them, whatever happens meanwhile.
//!
//! Deliberately absent: offsets. A cursor that does not exist is an error.

use serde_json::{Value, json};

use super::Call;
use super::errors::{Result, StripeError};
use crate::store::{By, Tx};

/// The parameters every list takes. Spelled out per resource because the pattern lists are constant.
macro_rules! list_parameters {
    ($($more:literal),* $(,)?) => {
        &["limit", "starting_after", "ending_before", "created", "created.gt", "created.gte", "created.lt", "created.lte", $($more),*]
    };
}
pub(crate) use list_parameters;

/// Which part of a list is asked for.
pub(crate) struct Window<'a> {
    limit: usize,
    pub least: i64,
    pub most: i64,
    pub cursor: Cursor<'a>,
}

#[derive(Clone, Copy)]
pub(crate) enum Cursor<'a> {
    Start,
    After(&'a str),
    Before(&'a str),
}

impl<'a> Window<'a> {
    pub(crate) fn read(call: &Call<'a>) -> Result<Window<'a>> {
        let limit = call.params.integer_from("limit", 1, 100)?.unwrap_or(10);
        let (least, most) = created(call)?;
        let after = call.params.text("starting_after")?;
        let before = call.params.text("ending_before")?;
        let cursor = match (after, before) {
            (Some(_), Some(_)) => {
                let message = "Received both starting_after and ending_before parameters. Please pass in only one.";
                return Err(StripeError::parameter(
                    "parameter_invalid",
                    "starting_after",
                    message,
                ));
            }
            (Some(after), None) => Cursor::After(after),
            (None, Some(before)) => Cursor::Before(before),
            (None, None) => Cursor::Start,
        };
        Ok(Window {
            limit: usize::try_from(limit).unwrap_or(10),
            least,
            most,
            cursor,
        })
    }

    fn covers(&self, object: &Value) -> bool {
        let created = object["created"].as_i64().unwrap_or_default();
        (self.least..=self.most).contains(&created)
    }

    /// The next page of what comes from the cursor on, and whether there is more.
    pub(crate) fn take<T>(&self, found: impl Iterator<Item = T>) -> (Vec<T>, bool) {
        let mut page: Vec<T> = found.take(self.limit + 1).collect();
        let has_more = page.len() > self.limit;
        page.truncate(self.limit);
        (page, has_more)
    }
}

/// A page of the objects of a kind that pass `wanted`.
pub(crate) fn list(
    tx: &Tx<'_>,
    call: &Call<'_>,
    kind: &str,
    wanted: impl FnMut(&Value) -> bool,
) -> Result<Value> {
    list_by(tx, call, kind, index(call)?.as_ref(), wanted)
}

/// The same of those only that an index finds.
pub(crate) fn list_by(
    tx: &Tx<'_>,
    call: &Call<'_>,
    kind: &str,
    by: Option<&By>,
    mut wanted: impl FnMut(&Value) -> bool,
) -> Result<Value> {
    let window = Window::read(call)?;
    let world = tx.world();
    let place = |id: &str, param: &str| {
        let place = world.position(kind, id);
        place.ok_or_else(|| no_cursor(call, id, param))
    };
    let mut wanted = |object: &Value| window.covers(object) && wanted(object);
    let (page, has_more) = match window.cursor {
        Cursor::Before(id) => {
            // The page just above the cursor, still newest first.
            let place = place(id, "ending_before")?;
            let younger = world.younger(kind, by, place).map(|(_, object)| object);
            let (mut page, has_more) = window.take(younger.filter(|object| wanted(object)));
            page.reverse();
            (page, has_more)
        }
        cursor => {
            let below = match cursor {
                Cursor::After(id) => Some(place(id, "starting_after")?),
                _ => None,
            };
            let older = world.newest_first(kind, by, below);
            window.take(
                older
                    .map(|(_, object)| object)
                    .filter(|object| wanted(object)),
            )
        }
    };
    Ok(answer(call, json!(page), has_more))
}

pub(crate) fn answer(call: &Call<'_>, data: Value, has_more: bool) -> Value {
    json!({ "object": "list", "data": data, "has_more": has_more, "url": call.url })
}

/// The narrowest index that the request's filters allow.
fn index(call: &Call<'_>) -> Result<Option<By>> {
    for (param, field) in [
        ("invoice", "invoice"),
        ("payment_intent", "payment_intent"),
        ("charge", "charge"),
        ("subscription", "_subscription"),
        ("customer", "customer"),
    ] {
        if let Some(value) = call.params.text(param)?
            && let Some(by) = By::field(field, value)
        {
            return Ok(Some(by));
        }
    }
    Ok(None)
}

/// A page of what an object carries within itself, such as an invoice's lines, in its own order.
pub(crate) fn page(call: &Call<'_>, all: &[Value]) -> Result<Value> {
    let window = Window::read(call)?;
    let place = |id: &str, param: &str| {
        let place = all.iter().position(|object| object["id"] == id);
        place.ok_or_else(|| no_cursor(call, id, param))
    };
    let (page, has_more) = match window.cursor {
        Cursor::Before(id) => {
            let place = place(id, "ending_before")?;
            let (mut page, has_more) = window.take(all[..place].iter().rev());
            page.reverse();
            (page, has_more)
        }
        Cursor::After(id) => window.take(all[place(id, "starting_after")? + 1..].iter()),
        Cursor::Start => window.take(all.iter()),
    };
    Ok(answer(call, json!(page), has_more))
}

pub(crate) fn no_cursor(call: &Call<'_>, id: &str, param: &str) -> Box<StripeError> {
    let noun = call.url.trim_start_matches("/v1/").trim_end_matches('s');
    StripeError::no_such(noun, id, param)
}

/// `created=…`, or any of `created[gt|gte|lt|lte]`: the first and the last second.
fn created(call: &Call<'_>) -> Result<(i64, i64)> {
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
    Ok((least, most))
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
