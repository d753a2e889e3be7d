//! Owns what a test tells the model: which keys there are, and what it is to say next.
//!
//! - `POST /_/openai/accounts {api_key}`.
//! - `POST /_/openai/answers {content?, tool_calls?: [{name, arguments}], finish_reason?, when?, times?}`: the next answer,
//!   or the next `times`; with `when`, the next to a conversation whose last words of the person hold this text. Answers
//!   are used in the order in which they were set. `GET` lists those still to be given, `DELETE` forgets them.
//! - `GET /_/openai/ledger`: what was asked and answered, the newest ten thousand.
//!
//! Deliberately absent: faults. Those are `POST /_/faults` for every provider.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde_json::{Value, json};

use super::answer::Said;
use super::conversation::Conversation;
use super::{ACCOUNT, COMPLETION};
use crate::control::{Reader, Refused, broken};
use crate::core::Core;
use crate::ids;
use crate::store::{Origin, Tx};

const ANSWER: &str = "openai.answer";
const MOST: usize = 1_000;
const FINISH_REASONS: [&str; 4] = ["stop", "length", "tool_calls", "content_filter"];

pub(crate) fn control() -> Router<Arc<Core>> {
    Router::new()
        .route("/accounts", post(register))
        .route("/answers", post(add).get(list).delete(clear))
        .route("/ledger", get(ledger))
}

/// The scripted answer to this conversation, used up by this.
pub(super) fn next(tx: &mut Tx<'_>, asked: &Conversation) -> Option<Said> {
    let words = asked.last_words();
    let fits = |answer: &&Value| {
        answer["when"]
            .as_str()
            .is_none_or(|when| words.contains(when))
    };
    let mut answer = tx.world().oldest_first(ANSWER).find(fits)?.clone();
    let left = answer["times"].as_u64().unwrap_or(1);
    if left > 1 {
        answer["times"] = json!(left - 1);
        tx.put(ANSWER, answer.clone());
    } else {
        tx.delete(ANSWER, answer["id"].as_str().unwrap_or_default());
    }
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let calls = answer["tool_calls"].as_array().into_iter().flatten();
    Some(Said {
        content: text(&answer["content"]),
        calls: calls
            .map(|call| {
                let name = text(&call["name"]).unwrap_or_default();
                // As an object, or as the text that the API has.
                let arguments = text(&call["arguments"]);
                (
                    name,
                    arguments.unwrap_or_else(|| call["arguments"].to_string()),
                )
            })
            .collect(),
        finish_reason: text(&answer["finish_reason"]),
    })
}

fn commit<T>(
    core: &Core,
    change: impl FnOnce(&mut Tx<'_>) -> T,
    answer: impl FnOnce(T) -> Response,
) -> Response {
    let committed = core.commit(|world| {
        let mut tx = Tx::new(world, world.now(), Origin::default());
        let value = change(&mut tx);
        (tx.into_record(), value)
    });
    match committed {
        Ok(value) => answer(value),
        Err(error) => broken(&error),
    }
}

async fn register(State(core): State<Arc<Core>>, body: Bytes) -> Result<Response, Refused> {
    let mut read = Reader::new(&body, &["api_key"])?;
    let key = read.require_text("api_key");
    read.finish()?;
    let id = ids::of_key("oa", &key);
    let change = |tx: &mut Tx<'_>| tx.put(ACCOUNT, json!({ "id": id }));
    Ok(commit(&core, change, |()| {
        Json(json!({ "id": id })).into_response()
    }))
}

async fn add(State(core): State<Arc<Core>>, body: Bytes) -> Result<Response, Refused> {
    const KNOWN: [&str; 5] = ["content", "tool_calls", "finish_reason", "when", "times"];
    let mut read = Reader::new(&body, &KNOWN)?;
    let (content, when) = (read.text("content"), read.text("when"));
    let times = read.number("times", 1, 1_000_000).unwrap_or(1);
    let finish_reason = read.text("finish_reason");
    if finish_reason
        .as_deref()
        .is_some_and(|reason| !FINISH_REASONS.contains(&reason))
    {
        read.wrong(
            "finish_reason",
            &format!("must be one of {}", FINISH_REASONS.join(", ")),
        );
    }
    let calls = read.given("tool_calls").cloned();
    let whole = |call: &Value| {
        let arguments = &call["arguments"];
        call["name"].is_string() && (arguments.is_object() || arguments.is_string())
    };
    let calls_make_sense = calls.as_ref().is_none_or(|calls| {
        calls
            .as_array()
            .is_some_and(|calls| calls.iter().all(whole))
    });
    if !calls_make_sense {
        read.wrong("tool_calls", "must be a list of {name, arguments}");
    }
    if content.is_none() && calls.is_none() {
        read.wrong("content", "is required without tool_calls");
    }
    if core.read(|world| world.count(ANSWER)) >= MOST {
        read.wrong(
            "content",
            "a thousand answers wait already; DELETE /_/openai/answers first",
        );
    }
    read.finish()?;
    let answer = json!({
        "id": format!("answer_{}", ids::random(12)),
        "content": content,
        "tool_calls": calls,
        "finish_reason": finish_reason,
        "when": when,
        "times": times,
    });
    let change = |tx: &mut Tx<'_>| tx.put(ANSWER, answer.clone());
    let shown = answer.clone();
    Ok(commit(&core, change, |()| {
        (StatusCode::CREATED, Json(shown)).into_response()
    }))
}

async fn list(State(core): State<Arc<Core>>) -> Response {
    let waiting: Vec<Value> = core.read(|world| world.oldest_first(ANSWER).cloned().collect());
    Json(json!({ "data": waiting })).into_response()
}

async fn clear(State(core): State<Arc<Core>>) -> Response {
    let change = |tx: &mut Tx<'_>| {
        let waiting = tx.world().oldest_first(ANSWER);
        let waiting: Vec<&str> = waiting.filter_map(|answer| answer["id"].as_str()).collect();
        for id in waiting {
            tx.delete(ANSWER, id);
        }
    };
    commit(&core, change, |()| StatusCode::NO_CONTENT.into_response())
}

async fn ledger(State(core): State<Arc<Core>>) -> Response {
    let all: Vec<Value> = core.read(|world| world.oldest_first(COMPLETION).cloned().collect());
    Json(json!({ "completions": all })).into_response()
}
