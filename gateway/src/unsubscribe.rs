//! The link in a mail (RFC 8058): looked at, it shows a page with a button and changes nothing, since programs look at links
//! before people do; posted to, by a mail program or by the button, it unsubscribes. Messaging knows whose link it is.
//! Deliberately absent: whose it is. No page says more than whoever has the link knows.

use std::sync::Arc;

use axum::{
    Extension, Router,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use mainstay_proto::{
    errors::v1::ErrorReason,
    messaging::v1::{
        CheckUnsubscribeLinkRequest, UnsubscribeRequest,
        unsubscribe_service_client::UnsubscribeServiceClient,
    },
};
use mainstay_rpc::ServiceChannel;
use mainstay_types::ServiceName;

use crate::{
    app::Gateway,
    link::{Token, asked, traced},
    pages,
    refusal::Refusal,
    rest::read_bounded,
    trace::{Route, Traceparent, header_text},
};

const ROUTE: &str = "/unsubscribe/{token}";
/// What is asked for is a few words.
const MOST_BODY: usize = 16 * 1024;
/// What a mail program, and the button, send (RFC 8058, 3.2).
const NAME: &str = "List-Unsubscribe";
const VALUE: &str = "One-Click";

/// `GET` and `POST /unsubscribe/{token}`.
pub fn routes() -> Router<Arc<Gateway>> {
    Router::new().route(ROUTE, get(show).post(heed))
}

async fn show(
    State(gateway): State<Arc<Gateway>>,
    token: Token,
    Extension(traceparent): Extension<Traceparent>,
) -> Response {
    let page = match asked(token) {
        None => Page::Unknown,
        Some(token) => {
            let request = traced(CheckUnsubscribeLinkRequest { token }, &traceparent);
            Page::of(
                client(&gateway).check_unsubscribe_link(request).await,
                Page::Ask,
            )
        }
    };
    page.answer()
}

async fn heed(
    State(gateway): State<Arc<Gateway>>,
    token: Token,
    Extension(traceparent): Extension<Traceparent>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    let page = match (asked(token), read_bounded(body, MOST_BODY).await) {
        (None, _) => Page::Unknown,
        (Some(_), Ok(body)) if !wants_it(&head.headers, &body) => Page::Unclear,
        (Some(_), Err(_)) => Page::Unclear,
        (Some(token), Ok(_)) => {
            let request = traced(UnsubscribeRequest { token }, &traceparent);
            Page::of(client(&gateway).unsubscribe(request).await, Page::Done)
        }
    };
    page.answer()
}

fn client(gateway: &Gateway) -> UnsubscribeServiceClient<ServiceChannel> {
    UnsubscribeServiceClient::new(gateway.channels.channel(ServiceName::Messaging))
}

/// Whether the body says so: a form of either kind, since mail programs send both.
fn wants_it(headers: &HeaderMap, body: &[u8]) -> bool {
    let media = header_text(headers, &header::CONTENT_TYPE).unwrap_or_default();
    let kind = media.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("multipart/form-data") {
        return form_urlencoded::parse(body).any(|(name, value)| name == NAME && value == VALUE);
    }
    // One part of one name, which no other text of a mail program's holds.
    let text = String::from_utf8_lossy(body);
    let named = [format!("name=\"{NAME}\""), format!("name={NAME}")];
    let part = named.iter().find_map(|name| text.split_once(name));
    part.and_then(|(_, behind)| behind.split_once("\r\n\r\n"))
        .is_some_and(|(_, value)| value.lines().next() == Some(VALUE))
}

/// What somebody is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Page {
    Ask,
    Done,
    Unclear,
    Unknown,
    Later,
}

impl Page {
    fn of<T>(answer: Result<T, tonic::Status>, good: Page) -> Page {
        let Err(status) = answer else { return good };
        match Refusal::of_status(ServiceName::Messaging, &status).reason {
            ErrorReason::NotFound | ErrorReason::InvalidRequest => Page::Unknown,
            _ => Page::Later,
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Page::Ask | Page::Done => StatusCode::OK,
            Page::Unclear => StatusCode::BAD_REQUEST,
            Page::Unknown => StatusCode::NOT_FOUND,
            Page::Later => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Its title and what stands below. The form goes to the page's own address.
    fn words(self) -> (&'static str, String) {
        let words = match self {
            Page::Ask => (
                "Unsubscribe",
                format!(
                    "<p>Press the button to get no more mail from this sender.</p>\
                     <form method=\"post\"><input type=\"hidden\" name=\"{NAME}\" value=\"{VALUE}\">\
                     <button type=\"submit\">Unsubscribe</button></form>"
                ),
            ),
            Page::Done => (
                "You are unsubscribed",
                "<p>You will get no more mail from this sender.</p>".to_owned(),
            ),
            Page::Unclear => (
                "Nothing was changed",
                "<p>The request did not say that you want to unsubscribe. Open the link in the mail and press the button.</p>"
                    .to_owned(),
            ),
            Page::Unknown => (
                "There is no such page",
                "<p>The link is not complete. Open it from the mail again.</p>".to_owned(),
            ),
            Page::Later => (
                "Please try again",
                "<p>Nothing was changed. Open the link again in a few minutes.</p>".to_owned(),
            ),
        };
        (words.0, format!("<h1>{}</h1>{}", words.0, words.1))
    }

    fn answer(self) -> Response {
        let (title, body) = self.words();
        let mut response = (self.status(), pages::personal(title, &body)).into_response();
        response.extensions_mut().insert(Route(ROUTE.to_owned()));
        if self == Page::Later {
            let soon = HeaderValue::from_static("60");
            response.headers_mut().insert(header::RETRY_AFTER, soon);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(kind: &'static str, body: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        wants_it(&headers, body.as_bytes())
    }

    #[test]
    fn what_mail_programs_send_is_understood_and_nothing_else() {
        let form = "application/x-www-form-urlencoded";
        for (kind, body, wanted) in [
            (form, "List-Unsubscribe=One-Click", true),
            (form, "a=b&List-Unsubscribe=One%2DClick", true),
            (form, "", false),
            (form, "List-Unsubscribe=", false),
            (form, "List-Unsubscribe=No", false),
            ("text/plain", "hello", false),
            (
                "multipart/form-data; boundary=x",
                "--x\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\nOne-Click\r\n--x--\r\n",
                true,
            ),
            (
                "multipart/form-data; boundary=x",
                "--x\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\nNo\r\n--x--\r\n",
                false,
            ),
            ("multipart/form-data; boundary=x", "--x--\r\n", false),
        ] {
            assert_eq!(wants(kind, body), wanted, "{kind}: {body}");
        }
    }
}
