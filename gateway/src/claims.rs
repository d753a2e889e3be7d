//! The link in a notice (IDN-05): looked at, it shows what it is about and a button, and changes nothing, since programs look at
//! links before people do; the button takes the escalation. Escalation knows whose link it is.
//! Deliberately absent: a session. Whoever has the link may take this one thing, and nothing else.

use std::sync::Arc;

use axum::{
    Extension, Router,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::{HeaderValue, StatusCode, header};
use mainstay_proto::{
    errors::v1::{Claimed, ErrorReason},
    escalation::v1::{
        Claim, ClaimByLinkRequest, ClaimState, ShowClaimRequest,
        claim_link_service_client::ClaimLinkServiceClient,
    },
};
use mainstay_rpc::{Problem, ServiceChannel};
use mainstay_types::ServiceName;

use crate::{
    app::Gateway,
    link::{Token, asked, traced},
    pages,
    rest::read_bounded,
    trace::{Route, Traceparent},
};

const ROUTE: &str = "/claims/{token}";
/// A button sends nothing.
const MOST_BODY: usize = 16 * 1024;

/// `GET` and `POST /claims/{token}`.
pub fn routes() -> Router<Arc<Gateway>> {
    Router::new().route(ROUTE, get(show).post(take))
}

async fn show(
    State(gateway): State<Arc<Gateway>>,
    token: Token,
    Extension(traceparent): Extension<Traceparent>,
) -> Response {
    let page = match asked(token) {
        None => Page::Unknown,
        Some(token) => {
            let request = traced(ShowClaimRequest { token }, &traceparent);
            Page::of(client(&gateway).show_claim(request).await)
        }
    };
    page.answer()
}

async fn take(
    State(gateway): State<Arc<Gateway>>,
    token: Token,
    Extension(traceparent): Extension<Traceparent>,
    request: Request,
) -> Response {
    let (_, body) = request.into_parts();
    let page = match (asked(token), read_bounded(body, MOST_BODY).await) {
        (None, _) | (_, Err(_)) => Page::Unknown,
        (Some(token), Ok(_)) => {
            let request = traced(ClaimByLinkRequest { token }, &traceparent);
            Page::of(client(&gateway).claim_by_link(request).await)
        }
    };
    page.answer()
}

fn client(gateway: &Gateway) -> ClaimLinkServiceClient<ServiceChannel> {
    ClaimLinkServiceClient::new(gateway.channels.channel(ServiceName::Escalation))
}

/// What somebody is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Page {
    Ask(String),
    Yours(String),
    Taken(String),
    Ended,
    Expired,
    Unknown,
    Later,
}

impl Page {
    fn of(answer: Result<tonic::Response<Claim>, tonic::Status>) -> Page {
        let claim = match answer {
            Ok(answer) => answer.into_inner(),
            Err(status) => return Page::refused(&Problem::from_status(&status)),
        };
        let (state, owner) = (claim.state(), claim.claimed_by_name.unwrap_or_default());
        let summary = claim.summary.unwrap_or_default();
        match state {
            ClaimState::Open => Page::Ask(summary),
            ClaimState::Yours => Page::Yours(summary),
            ClaimState::Taken => Page::Taken(owner),
            ClaimState::Ended => Page::Ended,
            ClaimState::Expired => Page::Expired,
            ClaimState::Unspecified => Page::Later,
        }
    }

    fn refused(problem: &Problem) -> Page {
        match problem.reason() {
            ErrorReason::NotFound | ErrorReason::InvalidRequest => Page::Unknown,
            ErrorReason::AlreadyClaimed => {
                let claimed: Option<Claimed> = problem.data_as();
                let owner = claimed.and_then(|claimed| claimed.claimed_by);
                Page::Taken(owner.map_or_else(String::new, |owner| owner.name))
            }
            ErrorReason::EscalationEnded => Page::Ended,
            ErrorReason::ClaimLinkExpired => Page::Expired,
            _ => Page::Later,
        }
    }

    const fn status(&self) -> StatusCode {
        match self {
            Page::Ask(_) | Page::Yours(_) => StatusCode::OK,
            Page::Taken(_) | Page::Ended | Page::Expired => StatusCode::CONFLICT,
            Page::Unknown => StatusCode::NOT_FOUND,
            Page::Later => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Its title and what stands below. The form goes to the page's own address.
    fn words(&self) -> (&'static str, String) {
        let paragraph = |text: &str| format!("<p>{}</p>", pages::escaped(text));
        match self {
            Page::Ask(summary) => (
                "Somebody is needed",
                format!(
                    "{}<form method=\"post\"><button type=\"submit\">I take it</button></form>",
                    paragraph(summary)
                ),
            ),
            Page::Yours(summary) => ("You have it", paragraph(summary)),
            Page::Taken(owner) if owner.is_empty() => (
                "Somebody else has it",
                paragraph("It is being taken care of."),
            ),
            Page::Taken(owner) => (
                "Somebody else has it",
                paragraph(&format!("{owner} takes care of it.")),
            ),
            Page::Ended => (
                "It is done with",
                paragraph("Nobody is needed for this any more."),
            ),
            Page::Expired => (
                "The link is too old",
                paragraph("Sign in and take it from the list of escalations."),
            ),
            Page::Unknown => (
                "There is no such page",
                paragraph("The link is not complete. Open it from the message again."),
            ),
            Page::Later => (
                "Please try again",
                paragraph("Nothing was changed. Open the link again in a moment."),
            ),
        }
    }

    fn answer(&self) -> Response {
        let (title, body) = self.words();
        let body = format!("<h1>{title}</h1>{body}");
        let mut response = (self.status(), pages::personal(title, &body)).into_response();
        response.extensions_mut().insert(Route(ROUTE.to_owned()));
        if *self == Page::Later {
            let soon = HeaderValue::from_static("10");
            response.headers_mut().insert(header::RETRY_AFTER, soon);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_lead_wrote_is_text_on_the_page_and_nothing_else() {
        let (_, body) = Page::Ask("<script>alert(1)</script> & co".to_owned()).words();
        assert!(body.contains("&lt;script&gt;"), "{body}");
        assert!(!body.contains("<script"), "{body}");
        let (_, body) = Page::Taken("<b>Ana</b>".to_owned()).words();
        assert!(!body.contains("<b>"), "{body}");
    }
}
