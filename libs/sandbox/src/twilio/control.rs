//! Owns what is not Twilio's API: people who write and call, the registration of accounts, and everything at once.
//!
//! - `POST /_/twilio/accounts {account_sid, auth_token, numbers: [{number, sms_url?, voice_url?, status_url?,
//!   messaging_service_sid?, advanced_opt_out?}]}`: the account with these numbers; what was registered of it before is
//!   replaced, what it bought through the API stays.
//! - `GET /_/twilio/ledger`: accounts' numbers, every message and every call. `created` counts those of the same account
//!   with the same sender, receiver and text: two of them are a duplicate.
//! - `POST /_/inbound/sms {from, to, body, media_urls?}`, `POST /_/inbound/call {from, to, outcome?, duration_seconds?}`:
//!   somebody writes to, or calls, a number of an account.
//!
//! Deliberately absent: a check of who asks. As everywhere under `/_/`.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use super::message::Draft;
use super::{ACCOUNT, API_VERSION, CALL, MESSAGE, NUMBER, call, callback, is_e164, is_url};
use super::{message, number, opt_out, sid, text};
use crate::control::{Reader, Refused, broken};
use crate::core::Core;
use crate::door::traceparent;
use crate::store::{Origin, Record, Tx, World};
use crate::time;

const MOST_NUMBERS: usize = 1_000;

pub(crate) fn router() -> Router<Arc<Core>> {
    Router::new()
        .route("/accounts", post(register))
        .route("/ledger", get(ledger))
}

pub(crate) fn inbound() -> Router<Arc<Core>> {
    Router::new()
        .route("/sms", post(sms))
        .route("/call", post(ring))
}

/// A number as it is registered.
struct Registered {
    phone_number: String,
    /// By the names of the fields that they become.
    urls: [(&'static str, Option<String>); 3],
    service: Option<String>,
    advanced_opt_out: bool,
}

fn read_number(read: &mut Reader, at: usize, given: &Value) -> Registered {
    let fields = given.as_object().cloned().unwrap_or_default();
    let mut wrong = |name: &str, message: &str| {
        read.errors
            .push((format!("numbers[{at}].{name}"), message.to_owned()));
    };
    const KNOWN: [&str; 6] = [
        "number",
        "sms_url",
        "voice_url",
        "status_url",
        "messaging_service_sid",
        "advanced_opt_out",
    ];
    for name in fields.keys().filter(|name| !KNOWN.contains(&name.as_str())) {
        wrong(
            name,
            &format!("unknown field; known are {}", KNOWN.join(", ")),
        );
    }
    let given = |name: &str| fields.get(name).filter(|value| !value.is_null());
    let phone_number = given("number").and_then(Value::as_str).unwrap_or_default();
    if !is_e164(phone_number) {
        wrong("number", "must be a number such as +15125550100");
    }
    let mut url = |name: &'static str| {
        let url = given(name)?.as_str().filter(|url| is_url(url));
        if url.is_none() {
            wrong(name, "must be an absolute http or https address");
        }
        url.map(str::to_owned)
    };
    let urls = [
        ("sms_url", url("sms_url")),
        ("voice_url", url("voice_url")),
        ("status_callback", url("status_url")),
    ];
    let service = given("messaging_service_sid").map(|sid| sid.as_str().unwrap_or_default());
    if service == Some("") {
        wrong("messaging_service_sid", "must be a non-empty string");
    }
    let advanced = given("advanced_opt_out").map_or(Some(true), Value::as_bool);
    if advanced.is_none() {
        wrong("advanced_opt_out", "must be true or false");
    }
    Registered {
        phone_number: phone_number.to_owned(),
        urls,
        service: service.map(str::to_owned),
        advanced_opt_out: advanced.unwrap_or(true),
    }
}

async fn register(State(core): State<Arc<Core>>, body: Bytes) -> Result<Response, Refused> {
    let mut read = Reader::new(&body, &["account_sid", "auth_token", "numbers"])?;
    let (account, token) = (
        read.require_text("account_sid"),
        read.require_text("auth_token"),
    );
    if account.contains(['/', ':', '.']) {
        read.wrong("account_sid", "must be a sid such as AC1…");
    }
    let given = match read.given("numbers") {
        None => Vec::new(),
        Some(Value::Array(numbers)) if numbers.len() <= MOST_NUMBERS => numbers.clone(),
        Some(_) => {
            read.wrong(
                "numbers",
                &format!("must be a list of at most {MOST_NUMBERS}"),
            );
            Vec::new()
        }
    };
    let numbers: Vec<Registered> = given
        .iter()
        .enumerate()
        .map(|(at, number)| read_number(&mut read, at, number))
        .collect();
    read.finish()?;
    let committed = core.commit(|world| {
        let mut tx = Tx::new(world, world.now(), Origin::default());
        let shown = replace(&mut tx, &account, &token, &numbers);
        (tx.into_record(), shown)
    });
    Ok(answer(committed.map(Ok)))
}

fn replace(tx: &mut Tx<'_>, account: &str, token: &str, numbers: &[Registered]) -> Value {
    let created = tx
        .get(ACCOUNT, account)
        .and_then(|old| old["_created"].as_i64());
    let created = created.unwrap_or(tx.now);
    let object = json!({ "sid": account, "_token": token, "_created": created });
    tx.put(ACCOUNT, object);
    let is_gone = |old: &Value| {
        old["account_sid"] == account
            && old["_registered"] == true
            && !numbers
                .iter()
                .any(|n| old["phone_number"] == n.phone_number)
    };
    let gone: Vec<String> = tx
        .newest_first(NUMBER, is_gone)
        .into_iter()
        .map(|old| sid(old).to_owned())
        .collect();
    for id in gone {
        tx.delete(NUMBER, &id);
    }
    let mut shown = Vec::new();
    for registered in numbers {
        let known = super::number(tx, &registered.phone_number).cloned();
        let mut number =
            known.unwrap_or_else(|| number::make(tx, account, &registered.phone_number));
        number["account_sid"] = json!(account);
        for (field, url) in &registered.urls {
            number[*field] = json!(url.as_deref().unwrap_or_default());
        }
        number["_service"] = json!(registered.service);
        number["_advanced_opt_out"] = json!(registered.advanced_opt_out);
        number["_registered"] = json!(true);
        shown.push(crate::shown::public(&number));
        tx.put(NUMBER, number);
    }
    json!({ "account_sid": account, "numbers": shown })
}

/// 200, 409 where the state of things does not allow it, or 500 where nothing can be written.
fn answer(committed: std::io::Result<Result<Value, String>>) -> Response {
    match committed {
        Ok(Ok(object)) => Json(object).into_response(),
        Ok(Err(message)) => {
            (StatusCode::CONFLICT, Json(json!({ "error": message }))).into_response()
        }
        Err(error) => broken(&error),
    }
}

fn act(
    core: &Core,
    headers: &HeaderMap,
    operation: &str,
    act: impl FnOnce(&mut Tx<'_>) -> Result<Value, String>,
) -> Response {
    time::catch_up(core);
    answer(core.commit(|world| {
        let origin = Origin {
            operation: operation.to_owned(),
            traceparent: traceparent(headers),
            ..Origin::default()
        };
        let mut tx = Tx::new(world, world.now(), origin);
        match act(&mut tx) {
            Ok(object) => (tx.into_record(), Ok(crate::shown::public(&object))),
            Err(message) => (Record::default(), Err(message)),
        }
    }))
}

fn read_people(read: &mut Reader) -> (String, String) {
    let (from, to) = (read.require_text("from"), read.require_text("to"));
    for (name, number) in [("from", &from), ("to", &to)] {
        if !number.is_empty() && !is_e164(number) {
            read.wrong(name, "must be a number such as +15125550123");
        }
    }
    (from, to)
}

async fn sms(
    State(core): State<Arc<Core>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    let mut read = Reader::new(&body, &["from", "to", "body", "media_urls"])?;
    let (from, to) = read_people(&mut read);
    let words = match read.given("body") {
        None => String::new(),
        Some(Value::String(words)) => words.clone(),
        Some(_) => {
            read.wrong("body", "must be a string");
            String::new()
        }
    };
    let media: Option<Vec<String>> = match read.given("media_urls") {
        None => Some(Vec::new()),
        Some(Value::Array(urls)) => urls.iter().map(|u| u.as_str().map(str::to_owned)).collect(),
        Some(_) => None,
    };
    if media.is_none() {
        read.wrong("media_urls", "must be a list of addresses");
    }
    read.finish()?;
    let media = media.unwrap_or_default();
    Ok(act(&core, &headers, "inbound.sms", |tx| {
        receive(tx, &from, &to, &words, &media)
    }))
}

/// Somebody writes to a number: Twilio heeds the words, then tells the number's `SmsUrl`.
fn receive(
    tx: &mut Tx<'_>,
    from: &str,
    to: &str,
    words: &str,
    media: &[String],
) -> Result<Value, String> {
    let Some(number) = super::number(tx, to).cloned() else {
        return Err(format!("no account has the number {to}"));
    };
    let service = number["_service"].as_str();
    let draft = Draft {
        account: text(&number, "account_sid"),
        direction: "inbound",
        status: "received",
        from,
        to,
        body: words,
        media: media.len(),
        service,
        callback: None,
    };
    let mut received = message::make(tx, &draft);
    received["date_sent"] = received["date_created"].clone();
    received["_sent"] = json!(tx.now);
    tx.put(MESSAGE, received.clone());
    let heeded = opt_out::heed(tx, &number, from, words);
    let id = sid(&received).to_owned();
    let empty = String::new;
    let mut fields: Vec<(&'static str, String)> = vec![
        ("ToCountry", "US".into()),
        ("ToState", empty()),
        ("SmsMessageSid", id.clone()),
        ("NumMedia", media.len().to_string()),
        ("ToCity", empty()),
        ("FromZip", empty()),
        ("SmsSid", id.clone()),
        ("FromState", empty()),
        ("SmsStatus", "received".into()),
        ("FromCity", empty()),
        ("Body", words.to_owned()),
        ("FromCountry", "US".into()),
        ("To", to.to_owned()),
        ("ToZip", empty()),
        ("NumSegments", text(&received, "num_segments").to_owned()),
        ("MessageSid", id),
        ("AccountSid", text(&number, "account_sid").to_owned()),
        ("From", from.to_owned()),
        ("ApiVersion", API_VERSION.to_owned()),
    ];
    fields.extend(service.map(|service| ("MessagingServiceSid", service.to_owned())));
    if number["_advanced_opt_out"] == true {
        fields.extend(heeded.map(|kind| ("OptOutType", kind.to_owned())));
    }
    const MEDIA: [(&str, &str); 10] = [
        ("MediaUrl0", "MediaContentType0"),
        ("MediaUrl1", "MediaContentType1"),
        ("MediaUrl2", "MediaContentType2"),
        ("MediaUrl3", "MediaContentType3"),
        ("MediaUrl4", "MediaContentType4"),
        ("MediaUrl5", "MediaContentType5"),
        ("MediaUrl6", "MediaContentType6"),
        ("MediaUrl7", "MediaContentType7"),
        ("MediaUrl8", "MediaContentType8"),
        ("MediaUrl9", "MediaContentType9"),
    ];
    for ((address, content_type), url) in MEDIA.into_iter().zip(media) {
        fields.push((address, url.clone()));
        fields.push((content_type, "image/jpeg".into()));
    }
    let url = text(&number, "sms_url");
    callback::post(
        tx,
        &received,
        callback::MESSAGE_RECEIVED,
        Some(url),
        &fields,
    );
    Ok(received)
}

async fn ring(
    State(core): State<Arc<Core>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    let mut read = Reader::new(&body, &["from", "to", "outcome", "duration_seconds"])?;
    let (from, to) = read_people(&mut read);
    let outcome = read.text("outcome").unwrap_or_else(|| "completed".into());
    if !call::OUTCOMES.contains(&outcome.as_str()) {
        let known = call::OUTCOMES.join(", ");
        read.wrong("outcome", &format!("must be one of {known}"));
    }
    let seconds = read.number("duration_seconds", 0, 14_400).unwrap_or(30);
    read.finish()?;
    let seconds = i64::try_from(seconds).unwrap_or_default();
    Ok(act(&core, &headers, "inbound.call", |tx| {
        call::receive(tx, &from, &to, &outcome, seconds)
    }))
}

async fn ledger(State(core): State<Arc<Core>>) -> Response {
    time::catch_up(&core);
    Json(core.read(everything)).into_response()
}

fn everything(world: &World) -> Value {
    let accounts = world.oldest_first(ACCOUNT).map(|account| &account["sid"]);
    let numbers = world.oldest_first(NUMBER).map(crate::shown::public);
    json!({
        "accounts": accounts.collect::<Vec<_>>(),
        "numbers": numbers.collect::<Vec<_>>(),
        "messages": counted(world, MESSAGE, "body"),
        "calls": counted(world, CALL, "_says"),
        "now": world.now(),
    })
}

/// Objects of a kind, each with how often it was created.
fn counted(world: &World, kind: &str, words: &str) -> Vec<Value> {
    const SAME: [&str; 4] = ["account_sid", "direction", "from", "to"];
    let same = |object: &Value| -> Vec<String> {
        let fields = SAME.iter().copied().chain([words]);
        fields.map(|name| text(object, name).to_owned()).collect()
    };
    let mut often: HashMap<Vec<String>, u64> = HashMap::new();
    for object in world.oldest_first(kind) {
        *often.entry(same(object)).or_default() += 1;
    }
    let shown = world.oldest_first(kind).map(|object| {
        let mut shown = Map::new();
        for name in ["sid", "account_sid", "direction", "from", "to", "status"] {
            shown.insert(name.into(), object[name].clone());
        }
        shown.insert("body".into(), object[words].clone());
        shown.insert("status_callback".into(), object["_callback"].clone());
        shown.insert("date".into(), object["date_created"].clone());
        shown.insert("at".into(), object["_created"].clone());
        if kind == MESSAGE {
            shown.insert("error_code".into(), object["error_code"].clone());
        }
        shown.insert("created".into(), json!(often[&same(object)]));
        Value::Object(shown)
    });
    shown.collect()
}
