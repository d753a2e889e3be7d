//! Stripe, as the stage sees it: the simulator's ledger, faults and events.
//! Deliberately absent: what billing makes of it.

use mainstay_proto::billing::v1::stripe_event_service_client::StripeEventServiceClient;
use mainstay_proto::billing::v1::{
    HandleStripeEventRequest, HandleStripeEventResponse, StripeEventOutcome,
};
use mainstay_rpc::{Problem, ServiceName};
use mainstay_types::ClientId;
use serde_json::{Value, json};
use tonic::Response;

use super::{Stage, problem};

impl Stage {
    /// The part of Stripe's ledger that is a client's.
    pub async fn ledger_of(&self, client: ClientId) -> Value {
        self.read_ledger(&format!("?metadata=mainstay_client_id:{client}"))
            .await
    }

    /// What Stripe's ledger holds under this name: `subscriptions`, `charges` …
    pub async fn ledger(&self, what: &str) -> Vec<Value> {
        let ledger = self.read_ledger("").await;
        ledger[what].as_array().cloned().unwrap_or_default()
    }

    async fn read_ledger(&self, query: &str) -> Value {
        let url = format!("{}/_/stripe/ledger{query}", self.sandbox_url);
        let answer = self.http.get(url).send().await.expect("a ledger");
        answer.json().await.expect("JSON")
    }

    /// Subscriptions at Stripe that still bill or may yet.
    pub async fn live_at_stripe(&self) -> usize {
        let all = self.ledger("subscriptions").await;
        let ended = ["canceled", "incomplete_expired"];
        all.iter()
            .filter(|one| !ended.contains(&one["status"].as_str().unwrap_or_default()))
            .count()
    }

    /// What was charged and not given back, in all.
    pub async fn taken_at_stripe(&self) -> i64 {
        let charges = self.ledger("charges").await;
        let amount = |charge: &Value, name: &str| charge[name].as_i64().unwrap_or_default();
        charges
            .iter()
            .filter(|charge| charge["status"] != "failed")
            .map(|charge| amount(charge, "amount") - amount(charge, "amount_refunded"))
            .sum()
    }

    /// Posts to the simulator's own addresses.
    pub async fn simulator(&self, path: &str, body: Value) {
        let url = format!("{}/_/{path}", self.sandbox_url);
        let answer = self.http.post(url).json(&body).send().await;
        let answer = answer.expect("an answer");
        assert!(
            answer.status().is_success(),
            "{path}: {}",
            answer.text().await.unwrap_or_default()
        );
    }

    /// Sets a fault at the simulator.
    pub async fn fault(&self, operation: &str, kind: &str, value: u64, count: u64) {
        let url = format!("{}/_/faults", self.sandbox_url);
        let fault = json!({ "provider": "stripe", "operation": operation, "kind": kind, "value": value, "count": count });
        let answer = self
            .http
            .post(url)
            .json(&fault)
            .send()
            .await
            .expect("an answer");
        assert!(
            answer.status().is_success(),
            "{}",
            answer.text().await.unwrap_or_default()
        );
    }

    /// How often faults have struck.
    pub async fn struck(&self) -> u64 {
        let url = format!("{}/_/faults", self.sandbox_url);
        let faults: Value = self
            .http
            .get(url)
            .send()
            .await
            .expect("an answer")
            .json()
            .await
            .expect("JSON");
        let faults = faults["data"].as_array().cloned().unwrap_or_default();
        faults
            .iter()
            .filter_map(|fault| fault["fired"].as_u64())
            .sum()
    }

    /// Ends all faults, and lets go of the connections they hold.
    pub async fn mend(&self) {
        let url = format!("{}/_/faults", self.sandbox_url);
        self.http.delete(url).send().await.expect("an answer");
    }

    /// Every event that Stripe made, oldest first.
    pub async fn stripe_events(&self) -> Vec<Value> {
        let url = format!("{}/stripe/v1/events?limit=100", self.sandbox_url);
        let request = self.http.get(url).bearer_auth("sk_test_stage");
        let page: Value = request
            .send()
            .await
            .expect("an answer")
            .json()
            .await
            .expect("JSON");
        let mut events = page["data"].as_array().cloned().unwrap_or_default();
        events.reverse();
        events
    }

    /// Something is done at Stripe, by its API or by a person or a bank (`/_/stripe/…`).
    pub async fn at_stripe(&self, path: &str, form: &[(&str, &str)]) -> Value {
        let url = format!("{}{path}", self.sandbox_url);
        let request = self.http.post(url).bearer_auth("sk_test_stage");
        let request = match path.starts_with("/_/") {
            true => {
                let body: serde_json::Map<String, Value> = form
                    .iter()
                    .map(|(name, text)| {
                        let value = serde_json::from_str(text).unwrap_or_else(|_| json!(text));
                        ((*name).to_owned(), value)
                    })
                    .collect();
                request.json(&body)
            }
            false => request.form(form),
        };
        let answer = request.send().await.expect("an answer");
        let ok = answer.status().is_success();
        let body: Value = answer.json().await.expect("JSON");
        assert!(ok, "{path}: {body}");
        body
    }

    /// Delivers every event of Stripe's that is not delivered yet, until each had its effect or none moves any more.
    pub async fn deliver_all(&self) -> Vec<(String, HandleStripeEventResponse)> {
        let mut done = Vec::new();
        let mut left = self.stripe_events().await;
        loop {
            let before = left.len();
            let mut retry = Vec::new();
            for event in left {
                let handled = self.deliver(&event).await.expect("handled");
                if handled.outcome() == StripeEventOutcome::Retry {
                    retry.push(event);
                } else {
                    let kind = event["type"].as_str().unwrap_or_default().to_owned();
                    done.push((kind, handled));
                }
            }
            if retry.is_empty() || retry.len() == before {
                return done;
            }
            left = retry;
        }
    }

    /// Hands an event on, as integrations does.
    pub async fn deliver(&self, event: &Value) -> Result<HandleStripeEventResponse, Problem> {
        let channels = self
            .house
            .channels(ServiceName::Integrations, &self.billing.url);
        let channel = channels.channel(ServiceName::Billing);
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let request = HandleStripeEventRequest {
            stripe_event_id: text("id"),
            r#type: text("type"),
            body: serde_json::to_vec(event).expect("JSON"),
        };
        let answer = StripeEventServiceClient::new(channel)
            .handle_stripe_event(request)
            .await;
        answer.map(Response::into_inner).map_err(problem)
    }
}
