//! Owns a receiver of webhooks for the tests: it keeps what arrives as it arrives, and answers as it is told.
//!
//! Deliberately absent: any provider's signature. Who checks one has the bytes and the headers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::mpsc;

/// One request as it arrived.
#[derive(Debug)]
pub struct Arrived {
    /// With its query.
    pub path: String,
    pub headers: HeaderMap,
    pub body: String,
}

impl Arrived {
    /// A field of the form that the body is.
    pub fn field(&self, name: &str) -> Option<String> {
        let url = reqwest::Url::parse(&format!("http://form/?{}", self.body)).expect("a form");
        let found = url.query_pairs().find(|(known, _)| known == name);
        found.map(|(_, value)| value.into_owned())
    }
}

/// Status, content type, body.
type Answer = (u16, &'static str, String);

struct Inside {
    tell: mpsc::UnboundedSender<Arrived>,
    answer: Mutex<Answer>,
    refusals: AtomicUsize,
}

pub struct Receiver {
    /// Without a slash at its end.
    pub url: String,
    arrived: mpsc::UnboundedReceiver<Arrived>,
    inside: Arc<Inside>,
}

impl Receiver {
    pub async fn start() -> Receiver {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let (tell, arrived) = mpsc::unbounded_channel();
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let answer = Mutex::new((200, "application/json", "{}".to_owned()));
        let inside = Arc::new(Inside {
            tell,
            answer,
            refusals: AtomicUsize::new(0),
        });
        let router = axum::Router::new()
            .fallback(keep)
            .with_state(Arc::clone(&inside));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Receiver {
            url,
            arrived,
            inside,
        }
    }

    /// What is answered from now on.
    pub fn answer(&self, status: u16, content_type: &'static str, body: &str) {
        *self.inside.answer.lock().expect("unharmed") = (status, content_type, body.to_owned());
    }

    /// So many are answered 503 first.
    pub fn refuse(&self, times: usize) {
        self.inside.refusals.store(times, Ordering::SeqCst);
    }

    pub async fn next(&mut self) -> Arrived {
        self.arrived.recv().await.expect("a delivery")
    }

    /// The next ones, in whatever order they came.
    pub async fn take(&mut self, count: usize) -> Vec<Arrived> {
        let mut taken = Vec::new();
        while taken.len() < count {
            taken.push(self.next().await);
        }
        taken
    }

    /// What has arrived and was not taken.
    pub fn rest(&mut self) -> Vec<Arrived> {
        std::iter::from_fn(|| self.arrived.try_recv().ok()).collect()
    }
}

async fn keep(State(inside): State<Arc<Inside>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
    let left = |left: usize| left.checked_sub(1);
    let refusals = &inside.refusals;
    let refused = refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left);
    // Decided before the test hears of it: what it wants next does not change this answer.
    let (status, content_type, answer) = match refused {
        Ok(_) => (503, "text/plain", String::new()),
        Err(_) => inside.answer.lock().expect("unharmed").clone(),
    };
    let _ = inside.tell.send(Arrived {
        path: parts.uri.to_string(),
        headers: parts.headers,
        body: String::from_utf8(body.to_vec()).expect("text"),
    });
    let status = StatusCode::from_u16(status).expect("a status");
    (status, [(header::CONTENT_TYPE, content_type)], answer).into_response()
}
