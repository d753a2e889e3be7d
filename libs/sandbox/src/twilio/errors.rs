//! Owns Twilio's errors: code, message, and the page that explains it.
//!
//! Deliberately absent: errors that come later, as the status of a message; those are `magic`.

use serde_json::json;

use crate::door::Reply;

pub(super) fn error(status: u16, code: u32, message: impl Into<String>) -> Reply {
    let more = format!("https://www.twilio.com/docs/errors/{code}");
    let message = message.into();
    let body = json!({ "code": code, "message": message, "more_info": more, "status": status });
    Reply::json(status, &body)
}

pub(super) fn unauthorized() -> Reply {
    error(401, 20003, "Authenticate").with("www-authenticate", "Basic realm=\"Twilio API\"")
}

pub(super) fn not_found(path: &str) -> Reply {
    error(
        404,
        20404,
        format!("The requested resource {path} was not found"),
    )
}

/// A parameter that makes no sense, where Twilio has no code of its own for it.
pub(super) fn invalid(message: impl Into<String>) -> Reply {
    error(400, 20001, message)
}

/// What is not the request's fault.
pub(super) fn refusal(status: u16) -> Reply {
    match status {
        401 => unauthorized(),
        429 => error(429, 20429, "Too Many Requests"),
        413 => error(413, 20413, "Request Entity Too Large"),
        503 => error(503, 20503, "Service is unavailable. Please try again"),
        500..=599 => error(
            status,
            20500,
            "An internal server error has occurred (injected fault)",
        ),
        _ => error(status, 20001, "Injected fault"),
    }
}
