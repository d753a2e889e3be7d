//! Owns calls: made by the API, or coming in, with the callbacks of their progress.
//!
//! ```text
//! API: queued ─▶ ringing ─▶ in-progress (its Url is asked) ─▶ completed
//!                   └▶ busy | no-answer | failed
//! In:  ringing (the number's VoiceUrl is asked) ─▶ what the caller of /_/inbound/call said
//!         ├ Dial ─▶ in-progress (its action is told what that phone did: what was said) ─▶ completed
//!         └ Reject ─▶ busy
//! ```
//!
//! Deliberately absent: what is said on the phone. Of the TwiML for calls that come in `Dial` and `Reject` are carried out.

use serde_json::{Value, json};

use super::callback::{self, Fields};
use super::dates::Dates;
use super::errors::{error, invalid};
use super::magic::{self, Ring};
use super::params::Params;
use super::verb::Verb;
use super::{
    API_VERSION, CALL, NAME, NUMBER, find, invalid_url, is_e164, is_url, number, page, rfc2822,
    sid, text, uri,
};
use crate::door::{Call, Operation, Reply};
use crate::ids;
use crate::messages::{self, DeliveredMessage};
use crate::store::{By, Tx};

/// How long a call lasts that a person, or a machine, takes.
const TALK_SECONDS: i64 = 12;
const EVENTS: [&str; 4] = ["initiated", "ringing", "answered", "completed"];
/// How a call that comes in may end.
pub(super) const OUTCOMES: [&str; 5] = ["completed", "no-answer", "busy", "failed", "canceled"];

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        method: "POST",
        path: "/2010-04-01/Accounts/{AccountSid}/Calls.json",
        name: "calls.create",
        run: create,
    },
    Operation {
        method: "GET",
        path: "/2010-04-01/Accounts/{AccountSid}/Calls.json",
        name: "calls.list",
        run: list,
    },
    Operation {
        method: "GET",
        path: "/2010-04-01/Accounts/{AccountSid}/Calls/{Sid}.json",
        name: "calls.fetch",
        run: |tx, call| Ok(Reply::json(200, find(tx, call, CALL)?)),
    },
];

fn make(tx: &Tx<'_>, account: &str, direction: &str, status: &str, from: &str, to: &str) -> Value {
    let id = ids::twilio("CA");
    let resource = format!("Calls/{id}");
    let part = |name: &str| uri(account, &format!("{resource}/{name}"));
    json!({
        "account_sid": account,
        "annotation": null,
        "answered_by": null,
        "api_version": API_VERSION,
        "caller_name": null,
        "date_created": rfc2822(tx.now),
        "date_updated": rfc2822(tx.now),
        "direction": direction,
        "duration": null,
        "end_time": null,
        "forwarded_from": null,
        "from": from,
        "from_formatted": from,
        "group_sid": null,
        "parent_call_sid": null,
        "phone_number_sid": null,
        "price": null,
        "price_unit": "USD",
        "queue_time": "0",
        "sid": id,
        "start_time": null,
        "status": status,
        "subresource_uris": { "notifications": part("Notifications"), "recordings": part("Recordings") },
        "to": to,
        "to_formatted": to,
        "trunk_sid": null,
        "uri": uri(account, &resource),
        "_created": tx.now,
        "_operation": tx.origin.operation,
        "_traceparent": tx.origin.traceparent,
    })
}

fn create(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Reply, Reply> {
    let params = Params::body(call.request)?;
    let to = params
        .get("To")
        .ok_or_else(|| error(400, 21201, "No 'To' number is specified"))?;
    let from = params
        .get("From")
        .ok_or_else(|| error(400, 21213, "No 'From' number is specified"))?;
    let says = params.get("Url").or_else(|| params.get("Twiml"));
    let Some(says) = says.or_else(|| params.get("ApplicationSid")) else {
        return Err(error(400, 21205, "Url parameter is required."));
    };
    for name in ["Url", "StatusCallback", "AsyncAmdStatusCallback"] {
        if let Some(url) = params.get(name).filter(|url| !is_url(url)) {
            return Err(invalid_url(name, url));
        }
    }
    magic::refuse_call(from, to)?;
    let by = By::field("phone_number", from);
    let own = |number: &Value| number["account_sid"] == call.account["sid"];
    let owned = !tx.select(NUMBER, by.as_ref(), own).is_empty();
    if !owned && from != magic::ANYONES {
        let message = format!(
            "The source phone number provided, {from}, is not yet verified for your account. You may only make calls \
             from phone numbers that you've verified or purchased from Twilio."
        );
        return Err(error(400, 21210, message));
    }
    if !is_e164(to) {
        return Err(error(400, 21211, magic::invalid_to(to)));
    }
    let events = params.all("StatusCallbackEvent");
    // Twilio takes the parameter several times, and several words in one.
    let events: Vec<&str> = events.iter().flat_map(|one| one.split(' ')).collect();
    if let Some(unknown) = events.iter().find(|one| !EVENTS.contains(one)) {
        return Err(invalid(format!("StatusCallbackEvent {unknown} is invalid")));
    }
    let mut made = make(tx, sid(call.account), "outbound-api", "queued", from, to);
    made["_says"] = json!(says);
    made["_url"] = json!(params.get("Url"));
    made["_callback"] = json!(params.get("StatusCallback"));
    made["_events"] = if events.is_empty() {
        json!(["completed"])
    } else {
        json!(events)
    };
    made["_detects"] = json!(params.get("MachineDetection"));
    made["_amd"] = json!(params.get("AsyncAmdStatusCallback"));
    made["_due_at"] = json!(tx.now);
    tx.put(CALL, made.clone());
    Ok(Reply::json(201, &made))
}

fn list(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Reply, Reply> {
    let params = Params::query(call.request)?;
    let (to, from, status) = (params.get("To"), params.get("From"), params.get("Status"));
    let on = Dates::read(&params, "StartTime")?;
    let by = to.and_then(|to| By::field("to", to));
    page::list(tx, call, (CALL, "calls"), by.as_ref(), |call| {
        to.is_none_or(|to| call["to"] == to)
            && from.is_none_or(|from| call["from"] == from)
            && status.is_none_or(|status| call["status"] == status)
            && on.have(call["_created"].as_i64())
    })
}

/// What every webhook about a call says.
fn fields(call: &Value, status: &str) -> Fields {
    let get = |name: &str| text(call, name).to_owned();
    vec![
        ("CallSid", get("sid")),
        ("AccountSid", get("account_sid")),
        ("From", get("from")),
        ("To", get("to")),
        ("Caller", get("from")),
        ("Called", get("to")),
        ("CallStatus", status.to_owned()),
        ("Direction", get("direction")),
        ("ApiVersion", API_VERSION.to_owned()),
    ]
}

/// Tells a callback of progress; `sequence` counts the events of the call.
fn progress(tx: &mut Tx<'_>, call: &Value, status: &str, sequence: usize) {
    let mut fields = fields(call, status);
    fields.push(("CallbackSource", "call-progress-events".to_owned()));
    fields.push(("SequenceNumber", sequence.to_string()));
    fields.push(("Timestamp", rfc2822(tx.now)));
    if let Some(duration) = call["duration"].as_str() {
        fields.push(("CallDuration", duration.to_owned()));
    }
    if let Some(by) = call["answered_by"].as_str() {
        fields.push(("AnsweredBy", by.to_owned()));
    }
    let url = call["_callback"].as_str();
    callback::post(tx, call, &format!("call.{status}"), url, &fields);
}

/// What happens behind the answer of the API, all the way.
pub(super) fn due(tx: &mut Tx<'_>, mut call: Value) {
    let ring = magic::ring(text(&call, "to"));
    let wanted = |call: &Value, event: &str| {
        let events = call["_events"].as_array();
        events.is_some_and(|events| events.iter().any(|one| one == event))
    };
    for (sequence, (event, status)) in [("initiated", "initiated"), ("ringing", "ringing")]
        .into_iter()
        .enumerate()
    {
        if wanted(&call, event) {
            progress(tx, &call, status, sequence);
        }
    }
    let (status, seconds) = match ring {
        Ring::Unanswered(status) => (status, 0),
        Ring::Person | Ring::Machine => {
            answer(tx, &mut call, ring);
            if wanted(&call, "answered") {
                progress(tx, &call, "in-progress", 2);
            }
            ("completed", TALK_SECONDS)
        }
    };
    finish(tx, &mut call, status, seconds);
    if wanted(&call, "completed") {
        progress(tx, &call, status, 3);
    }
    tx.put(CALL, call);
}

/// Somebody, or something, takes the call: Twilio asks what to say.
fn answer(tx: &mut Tx<'_>, call: &mut Value, ring: Ring) {
    call["start_time"] = json!(rfc2822(tx.now));
    let who = if ring == Ring::Machine {
        "machine_start"
    } else {
        "human"
    };
    if call["_detects"].is_string() {
        call["answered_by"] = json!(who);
    }
    let mut asked = fields(call, "in-progress");
    if call["_detects"].is_string() && !call["_amd"].is_string() {
        asked.push(("AnsweredBy", who.to_owned()));
    }
    let (url, amd) = (call["_url"].clone(), call["_amd"].clone());
    callback::post(tx, call, "call.answered", url.as_str(), &asked);
    let told = vec![
        ("CallSid", sid(call).to_owned()),
        ("AccountSid", text(call, "account_sid").to_owned()),
        ("AnsweredBy", who.to_owned()),
        ("MachineDetectionDuration", "3000".to_owned()),
    ];
    callback::post(tx, call, "call.amd", amd.as_str(), &told);
    let heard = DeliveredMessage {
        provider: NAME.to_owned(),
        channel: "voice".to_owned(),
        from: text(call, "from").to_owned(),
        to: text(call, "to").to_owned(),
        body: text(call, "_says").to_owned(),
        sid: sid(call).to_owned(),
        at: tx.now,
        subject: None,
    };
    messages::deliver(tx, &heard);
}

fn finish(tx: &Tx<'_>, call: &mut Value, status: &str, seconds: i64) {
    let end = tx.now + seconds;
    call["status"] = json!(status);
    call["duration"] = json!(seconds.to_string());
    call["end_time"] = json!(rfc2822(end));
    call["date_updated"] = json!(rfc2822(end));
}

/// Somebody calls a number; it ends as `outcome` says once the number's `VoiceUrl` has been asked.
pub(super) fn receive(
    tx: &mut Tx<'_>,
    from: &str,
    to: &str,
    outcome: &str,
    seconds: i64,
) -> Result<Value, String> {
    let Some(number) = number(tx, to).cloned() else {
        return Err(format!("no account has the number {to}"));
    };
    let account = text(&number, "account_sid");
    let mut made = make(tx, account, "inbound", "ringing", from, to);
    made["phone_number_sid"] = number["sid"].clone();
    made["_callback"] = number["status_callback"].clone();
    made["_outcome"] = json!(outcome);
    made["_seconds"] = json!(if outcome == "completed" { seconds } else { 0 });
    tx.put(CALL, made.clone());
    let url = text(&number, "voice_url");
    if url.is_empty() {
        taken(tx, sid(&made), Verb::Other);
        return Ok(tx.get(CALL, sid(&made)).cloned().unwrap_or(made));
    }
    let asked = fields(&made, "ringing");
    callback::post(tx, &made, callback::CALL_RECEIVED, Some(url), &asked);
    Ok(made)
}

/// The number's `VoiceUrl` has answered, or will not: the call is put through or turned away, or ends as it was said that it
/// would. Once; a webhook may have been sent twice.
pub(super) fn taken(tx: &mut Tx<'_>, id: &str, verb: Verb) {
    let Some(mut call) = tx.get(CALL, id).cloned() else {
        return;
    };
    if call["status"] != "ringing" {
        return;
    }
    let (status, seconds) = match verb {
        Verb::Dial { number, action } => return dial(tx, call, &number, action.as_deref()),
        Verb::Reject { status } => (status.to_owned(), 0),
        Verb::Other => (
            text(&call, "_outcome").to_owned(),
            call["_seconds"].as_i64().unwrap_or_default(),
        ),
    };
    end(tx, &mut call, &status, seconds);
}

/// The call is put through: that phone does what was said of the call, and whoever put it through is told.
fn dial(tx: &mut Tx<'_>, mut call: Value, number: &str, action: Option<&str>) {
    let outcome = text(&call, "_outcome").to_owned();
    let leg = ids::twilio("CA");
    call["status"] = json!("in-progress");
    call["start_time"] = json!(rfc2822(tx.now));
    tx.put(CALL, call.clone());
    let mut told = fields(&call, "in-progress");
    told.push(("DialCallStatus", outcome.clone()));
    told.push(("DialCallSid", leg.clone()));
    if outcome == "completed" {
        told.push(("DialCallDuration", call["_seconds"].to_string()));
        told.push(("DialBridged", "true".to_owned()));
        let rang = DeliveredMessage {
            provider: NAME.to_owned(),
            channel: "voice".to_owned(),
            from: text(&call, "from").to_owned(),
            to: number.to_owned(),
            body: String::new(),
            sid: leg,
            at: tx.now,
            subject: None,
        };
        messages::deliver(tx, &rang);
    }
    match action {
        Some(_) => callback::post(tx, &call, callback::CALL_DIALED, action, &told),
        None => put_through(tx, sid(&call)),
    }
}

/// `Dial`'s `action` has answered, or will not. The caller's side was taken when it was put through, so that it has completed,
/// whatever the other one did. Once.
pub(super) fn put_through(tx: &mut Tx<'_>, id: &str) {
    let Some(mut call) = tx.get(CALL, id).cloned() else {
        return;
    };
    if call["status"] == "in-progress" {
        let seconds = call["_seconds"].as_i64().unwrap_or_default();
        end(tx, &mut call, "completed", seconds);
    }
}

fn end(tx: &mut Tx<'_>, call: &mut Value, status: &str, seconds: i64) {
    finish(tx, call, status, seconds);
    progress(tx, call, status, 0);
    tx.put(CALL, call.clone());
}
