//! Pages for people and for generators: where things are, `/openapi.json`, `/docs`, `/problems`.
//! All are written once, at start, from the descriptors; they need no internet.
//! Deliberately absent: the operator console.

use std::{fmt::Write as _, sync::Arc};

use axum::{
    extract::{Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use mainstay_transcode::{ReasonInfo, Schema, openapi};

use crate::{app::Gateway, health, refusal::Refusal};

const HTML: &str = "text/html; charset=utf-8";
/// Pages load what this server has, nothing else.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What is written once.
#[derive(Debug)]
pub struct Pages {
    openapi: Bytes,
    problems: Bytes,
}

impl Pages {
    /// Writes them for a gateway at `base_url`.
    pub fn new(base_url: &str) -> Self {
        let schema = Schema::mainstay();
        let mut document = openapi::document(
            schema,
            &openapi::Info {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                base_url: base_url.to_owned(),
            },
        );
        health::describe(&mut document);
        Self {
            openapi: document.to_string().into(),
            problems: problems_page(schema).into(),
        }
    }
}

/// `GET /`
pub async fn index() -> Response {
    html(page(
        "Mainstay",
        "<h1>Mainstay</h1><ul>\
         <li><a href=\"/docs\">/docs</a>: the API, for people</li>\
         <li><a href=\"/openapi.json\">/openapi.json</a>: the API, for programs (OpenAPI 3.1)</li>\
         <li><a href=\"/problems\">/problems</a>: every way a request can be refused</li>\
         <li><a href=\"/v1/health\">/v1/health</a>: how the services stand</li></ul>",
    ))
}

/// `GET /openapi.json`
pub async fn openapi(State(gateway): State<Arc<Gateway>>) -> Response {
    text(gateway.pages.openapi.clone(), "application/json")
}

/// `GET /docs`
pub async fn docs() -> Response {
    html(include_str!("../assets/docs.html"))
}

/// `GET /docs/docs.js`
pub async fn docs_script() -> Response {
    text(
        include_str!("../assets/docs.js"),
        "text/javascript; charset=utf-8",
    )
}

/// `GET /docs/docs.css`
pub async fn docs_style() -> Response {
    text(
        include_str!("../assets/docs.css"),
        "text/css; charset=utf-8",
    )
}

/// `GET /problems`
pub async fn problems(State(gateway): State<Arc<Gateway>>) -> Response {
    html(gateway.pages.problems.clone())
}

/// `GET /problems/{code}`: what the `type` of a problem document leads to.
pub async fn problem(code: Result<Path<String>, PathRejection>) -> Result<Response, Refusal> {
    let Path(code) = code.map_err(|_| Refusal::no_such_path())?;
    Schema::mainstay()
        .reasons()
        .iter()
        .find(|info| info.code == code)
        .map(|info| html(problem_page(info)))
        .ok_or_else(Refusal::no_such_path)
}

fn problems_page(schema: &Schema) -> String {
    let mut rows = String::new();
    for info in schema.reasons() {
        let _ = write!(
            rows,
            "<tr><td><a href=\"/problems/{code}\"><code>{code}</code></a></td><td>{status}</td><td>{title}</td></tr>",
            code = escape(&info.code),
            status = info.status,
            title = escape(&info.title),
        );
    }
    page(
        "Problems",
        &format!(
            "<h1>Problems</h1><p>Every refusal is a problem document (RFC 9457) with one of these codes.</p>\
             <table><thead><tr><th>code</th><th>status</th><th>title</th></tr></thead><tbody>{rows}</tbody></table>"
        ),
    )
}

fn problem_page(info: &ReasonInfo) -> String {
    let detail = info.detail.as_deref().map_or_else(String::new, |name| {
        let fields = Schema::mainstay()
            .pool()
            .get_message_by_name(name)
            .map(|message| {
                message
                    .fields()
                    .map(|field| format!("<code>{}</code>", escape(field.name())))
                    .collect::<Vec<_>>()
                    .join(", ")
            })
            .unwrap_or_default();
        format!("<h2>Further fields</h2><p>{fields}</p>")
    });
    page(
        &info.title,
        &format!(
            "<p><a href=\"/problems\">Problems</a></p><h1>{title}</h1>\
             <p><code>{code}</code>, HTTP status {status}</p>\
             <h2>What happened</h2><p>{explanation}</p><h2>What to do</h2><p>{mend}</p>{detail}",
            title = escape(&info.title),
            code = escape(&info.code),
            status = info.status,
            explanation = escape(&info.explanation),
            mend = escape(&info.mend),
        ),
    )
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{}</title>\
         <link rel=\"stylesheet\" href=\"/docs/docs.css\"></head><body><main>{body}</main></body></html>",
        escape(title)
    )
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut code = false;
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // The protos' texts mark code with backticks.
            '`' => {
                out.push_str(if code { "</code>" } else { "<code>" });
                code = !code;
            }
            other => out.push(other),
        }
    }
    if code {
        out.push_str("</code>");
    }
    out
}

fn html(body: impl Into<axum::body::Body>) -> Response {
    let mut response = text(body, HTML);
    response.headers_mut().insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(PAGE_POLICY),
    );
    response
}

/// Text as it stands in a document of tags.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// A page for whoever has its link: unlike the others nobody keeps it, no index finds it, and it may have a form.
pub fn personal(title: &str, body: &str) -> Response {
    let guards = [
        (
            header::CONTENT_SECURITY_POLICY,
            PAGE_POLICY.replace("form-action 'none'", "form-action 'self'"),
        ),
        (header::CONTENT_TYPE, HTML.to_owned()),
        (
            HeaderName::from_static("x-robots-tag"),
            "noindex".to_owned(),
        ),
    ];
    (guards, page(title, body)).into_response()
}

fn text(body: impl Into<axum::body::Body>, kind: &'static str) -> Response {
    // The same until the next release; a browser may keep it for a minute.
    const KEEP: (HeaderName, &str) = (header::CACHE_CONTROL, "public, max-age=60");
    ([(header::CONTENT_TYPE, kind), KEEP], body.into()).into_response()
}
