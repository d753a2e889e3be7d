//! Owns a chat API as OpenAI's: `/v1/chat/completions` and `/v1/models`. In reading order:
//!
//! - `conversation`: reading what was said. `answer`: what is said to it. `script`: answers that a test puts in its mouth.
//!
//! Deliberately absent: understanding. The same conversation gets the same answer, which quotes what it answers, so that
//! a test sees what was in the context. Also absent: streaming, several choices, embeddings, and a list of which models
//! may be asked; every name is a model.

mod answer;
mod conversation;
mod script;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use serde_json::{Value, json};

use crate::core::Core;
use crate::door::{self, Call, Operation, Provider, RETRY_AFTER_SECONDS, Reply, Request};
use crate::ids;
use crate::store::{Tx, World};
use conversation::Conversation;

pub(crate) use script::control;

pub(crate) const NAME: &str = "openai";
const ACCOUNT: &str = "openai.account";
const COMPLETION: &str = "openai.completion";
/// Older completions are forgotten by the ledger.
const KEPT: usize = 10_000;
const MODELS: [&str; 4] = ["gpt-4.1", "gpt-4.1-mini", "gpt-5", "gpt-5-mini"];

pub(crate) struct OpenAi;

impl Provider for OpenAi {
    const NAME: &'static str = NAME;
    const OPERATIONS: &'static [&'static [Operation]] = &[&[
        Operation {
            method: "POST",
            path: "/v1/chat/completions",
            name: "chat.completions",
            run: complete,
        },
        Operation {
            method: "GET",
            path: "/v1/models",
            name: "models.list",
            run: |tx, _| {
                let models = MODELS.map(|name| model(tx, name));
                Ok(Reply::json(
                    200,
                    &json!({ "object": "list", "data": models }),
                ))
            },
        },
        Operation {
            method: "GET",
            path: "/v1/models/{model}",
            name: "models.retrieve",
            run: |tx, call| Ok(Reply::json(200, &model(tx, &call.ids[0]))),
        },
    ]];

    fn authenticate(world: &World, request: &Request) -> Result<Value, Reply> {
        let Some(key) = request.bearer() else {
            let message = "You didn't provide an API key. You need to provide your API key in an Authorization header \
                           using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).";
            return Err(error(401, "invalid_request_error", None, None, message));
        };
        let account = world.get(ACCOUNT, &ids::of_key("oa", &key));
        account.cloned().ok_or_else(|| Self::refusal(401))
    }

    fn no_such_path(request: &Request) -> Reply {
        let message = format!("Invalid URL ({} {})", request.method, request.path);
        error(404, "invalid_request_error", None, None, &message)
    }

    fn refusal(status: u16) -> Reply {
        match status {
            401 => error(
                401,
                "invalid_request_error",
                None,
                Some("invalid_api_key"),
                "Incorrect API key provided. You can find your API key at https://platform.openai.com/account/api-keys.",
            ),
            429 => error(
                429,
                "requests",
                None,
                Some("rate_limit_exceeded"),
                "Rate limit reached for requests per min (RPM). Please try again in 1s.",
            )
            .with("retry-after", RETRY_AFTER_SECONDS)
            .with("x-ratelimit-remaining-requests", "0")
            .with("x-ratelimit-reset-requests", "1s"),
            503 => error(
                503,
                "server_error",
                None,
                None,
                "That model is currently overloaded with other requests. You can retry your request.",
            ),
            400..=499 => error(
                status,
                "invalid_request_error",
                None,
                None,
                "Injected fault.",
            ),
            _ => error(
                status,
                "server_error",
                None,
                None,
                "The server had an error while processing your request. Sorry about that!",
            ),
        }
    }

    fn sign_off(reply: Reply) -> Reply {
        let id = format!("req_{}", ids::random(32).to_ascii_lowercase());
        reply
            .with("x-request-id", id)
            .with("openai-version", "2020-10-01")
    }
}

pub(crate) fn router() -> Router<Arc<Core>> {
    Router::new().fallback(
        |State(core): State<Arc<Core>>, request: http::Request<Body>| {
            door::handle::<OpenAi>(core, request)
        },
    )
}

fn error(status: u16, kind: &str, param: Option<&str>, code: Option<&str>, message: &str) -> Reply {
    let error = json!({ "message": message, "type": kind, "param": param, "code": code });
    Reply::json(status, &json!({ "error": error }))
}

fn invalid(param: &str, message: &str) -> Reply {
    error(400, "invalid_request_error", Some(param), None, message)
}

fn model(tx: &Tx<'_>, name: &str) -> Value {
    json!({ "id": name, "object": "model", "created": tx.now, "owned_by": "system" })
}

/// About how many tokens a text is: four letters each.
fn tokens(text: &str) -> usize {
    text.chars().count().div_ceil(4)
}

fn complete(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Reply, Reply> {
    let asked = Conversation::read(&call.request.body)?;
    let scripted = script::next(tx, &asked);
    let said = match scripted {
        Some(said) => said,
        None => answer::to(&asked)?,
    };
    let said = said.within(asked.most_tokens);
    let id = format!("chatcmpl-{}", ids::random(29));
    let (prompt, completion) = (asked.tokens(), said.tokens());
    let usage = json!({
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": { "cached_tokens": 0, "audio_tokens": 0 },
        "completion_tokens_details": {
            "reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
        },
    });
    let completion = json!({
        "id": id,
        "object": "chat.completion",
        "created": tx.now,
        "model": asked.model,
        "choices": [{
            "index": 0,
            "message": said.message(),
            "logprobs": null,
            "finish_reason": said.finish_reason(),
        }],
        "usage": usage,
        "service_tier": "default",
        "system_fingerprint": "fp_simulated",
    });
    if tx.world().count(COMPLETION) >= KEPT {
        let oldest = tx.world().oldest_first(COMPLETION).next();
        if let Some(oldest) = oldest.and_then(|oldest| oldest["id"].as_str()) {
            tx.delete(COMPLETION, oldest);
        }
    }
    let kept = json!({
        "id": id,
        "model": asked.model,
        "fragments": asked.fragments(),
        "message": said.message(),
        "usage": usage,
        "at": tx.now,
    });
    tx.put(COMPLETION, kept);
    Ok(Reply::json(200, &completion))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_named_once_and_no_pattern_hides_another() {
        door::check_operations::<OpenAi>();
    }
}
