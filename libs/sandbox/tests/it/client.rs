//! Owns a running simulator and a small HTTP client for the tests: forms in, JSON out.
//!
//! Deliberately absent: knowledge of Stripe's objects.

use std::path::PathBuf;

use mainstay_sandbox::{Sandbox, SandboxConfig};
use serde_json::{Value, json};
use tokio::sync::oneshot;

pub struct Simulator {
    pub base: String,
    http: reqwest::Client,
    stop: Option<oneshot::Sender<()>>,
    served: tokio::task::JoinHandle<std::io::Result<()>>,
}

/// An answer: status, headers, JSON.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl Answer {
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        self.body
    }

    pub fn error(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body["error"].clone()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl Simulator {
    pub async fn start() -> Simulator {
        Self::start_with(SandboxConfig::default()).await
    }

    pub async fn start_in(data_dir: PathBuf) -> Simulator {
        Self::start_with(SandboxConfig {
            data_dir: Some(data_dir),
            stripe_secret_key: None,
        })
        .await
    }

    pub async fn start_with(config: SandboxConfig) -> Simulator {
        let sandbox = Sandbox::open(config).await.expect("simulators open");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(sandbox.serve(listener, async {
            let _ = stopped.await;
        }));
        let http = reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("a client");
        Simulator {
            base: format!("http://{address}"),
            http,
            stop: Some(stop),
            served,
        }
    }

    /// Stops cleanly; connections held open are let go.
    pub async fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        drop(self.http);
        self.served.await.expect("served").expect("stopped cleanly");
    }

    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        self.http.request(method, format!("{}{path}", self.base))
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.text().await.expect("a body");
        let body = serde_json::from_str(&body).unwrap_or(Value::String(body));
        Answer {
            status,
            headers,
            body,
        }
    }

    fn stripe(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.request(method, &format!("/stripe/v1{path}"))
            .bearer_auth("sk_test_anything")
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.stripe("GET", path)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.stripe("DELETE", path)).await
    }

    pub async fn post(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        self.send(self.stripe("POST", path).form(form)).await
    }

    pub async fn post_with_key(&self, path: &str, form: &[(&str, &str)], key: &str) -> Answer {
        self.send(
            self.stripe("POST", path)
                .form(form)
                .header("idempotency-key", key),
        )
        .await
    }

    pub async fn post_with_headers(
        &self,
        path: &str,
        form: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = self.stripe("POST", path).form(form);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request).await
    }

    /// Sends without waiting: the caller decides what to do with the request under way.
    pub fn post_later(
        &self,
        path: &str,
        form: &[(&str, &str)],
        key: &str,
    ) -> reqwest::RequestBuilder {
        self.stripe("POST", path)
            .form(form)
            .header("idempotency-key", key)
    }

    pub async fn control(&self, method: &str, path: &str, body: Value) -> Answer {
        self.send(self.request(method, &format!("/_{path}")).json(&body))
            .await
    }

    pub async fn fault(&self, body: Value) {
        let answer = self.control("POST", "/faults", body).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
    }

    pub async fn advance(&self, seconds: i64) {
        self.control("POST", "/clock/advance", json!({ "seconds": seconds }))
            .await
            .ok();
    }

    pub async fn ledger(&self) -> Value {
        self.send(self.request("GET", "/_/stripe/ledger"))
            .await
            .ok()
    }

    /// Returns once a fault of this kind has struck `times`.
    pub async fn until_fired(&self, kind: &str, times: u64) {
        self.until("/_/faults", |body| {
            body["data"].as_array().is_some_and(|faults| {
                faults
                    .iter()
                    .any(|fault| fault["kind"] == kind && fault["fired"].as_u64() >= Some(times))
            })
        })
        .await;
    }

    /// Asks again and again until the answer is as wanted; the test's own time limit bounds it.
    pub async fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let body = self
                .send(self.request("GET", path).bearer_auth("sk_test_anything"))
                .await
                .body;
            if wanted(&body) {
                return body;
            }
            tokio::task::yield_now().await;
        }
    }

    /// A customer with a working card as default: (customer, payment method).
    pub async fn customer_with_card(&self, card: &str) -> (String, String) {
        let customer = id(&self
            .post(
                "/customers",
                &[("name", "Acme Roofing"), ("email", "owner@acme.test")],
            )
            .await
            .ok());
        let method = id(&self
            .post(
                &format!("/payment_methods/{card}/attach"),
                &[("customer", &customer)],
            )
            .await
            .ok());
        let default = [("invoice_settings[default_payment_method]", method.as_str())];
        self.post(&format!("/customers/{customer}"), &default)
            .await
            .ok();
        (customer, method)
    }

    /// A monthly price.
    pub async fn price(&self, amount: i64) -> String {
        let product = id(&self.post("/products", &[("name", "Pro")]).await.ok());
        let amount = amount.to_string();
        let form = [
            ("product", product.as_str()),
            ("currency", "usd"),
            ("unit_amount", amount.as_str()),
            ("recurring[interval]", "month"),
        ];
        id(&self.post("/prices", &form).await.ok())
    }

    pub async fn subscribe(&self, customer: &str, price: &str, more: &[(&str, &str)]) -> Answer {
        let mut form = vec![("customer", customer), ("items[0][price]", price)];
        form.extend_from_slice(more);
        self.post("/subscriptions", &form).await
    }
}

pub fn id(object: &Value) -> String {
    object["id"].as_str().expect("an id").to_owned()
}
