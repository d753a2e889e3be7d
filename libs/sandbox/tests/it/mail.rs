//! Mail through Resend and SendGrid: what is accepted once, what is refused, what is told of each receiver.

use serde_json::{Value, json};

use crate::client::{Answer, Simulator};
use crate::receiver::{Arrived, Receiver};

const SECRET: &str = "whsec_c2VjcmV0LW9mLXRoZS10ZXN0cw==";

impl Simulator {
    async fn with_mail(self, receiver: &Receiver) -> (Simulator, String) {
        let body = json!({ "api_key": "re_1", "webhook_url": format!("{}/resend", receiver.url), "webhook_secret": SECRET });
        self.control("POST", "/resend/accounts", body).await.ok();
        let body =
            json!({ "api_key": "SG.1", "webhook_url": format!("{}/sendgrid", receiver.url) });
        let made = self.control("POST", "/sendgrid/accounts", body).await.ok();
        let public = made["public_key"].as_str().expect("a key").to_owned();
        (self, public)
    }

    fn resend(&self, body: &Value, key: Option<&str>) -> reqwest::RequestBuilder {
        let request = self
            .request("POST", "/resend/emails")
            .bearer_auth("re_1")
            .json(body);
        match key {
            Some(key) => request.header("idempotency-key", key),
            None => request,
        }
    }

    async fn mail(&self, body: &Value, key: Option<&str>) -> Answer {
        self.send(self.resend(body, key)).await
    }

    async fn sendgrid(&self, body: &Value) -> Answer {
        let request = self
            .request("POST", "/sendgrid/v3/mail/send")
            .bearer_auth("SG.1");
        self.send(request.json(body)).await
    }

    async fn mails(&self) -> Vec<Value> {
        let ledger = self.control("GET", "/email/ledger", json!({})).await.ok();
        ledger["emails"].as_array().cloned().expect("mails")
    }
}

fn hello(to: &str) -> Value {
    json!({ "from": "Acme <hi@acme.test>", "to": to, "subject": "Hello", "text": "Text", "html": "<p>Text</p>" })
}

fn to_each(to: &[&str]) -> Value {
    let one = |to: &&str| json!({ "to": [{ "email": to }], "custom_args": { "own": to } });
    let each: Vec<Value> = to.iter().map(one).collect();
    json!({
        "personalizations": each, "from": { "email": "hi@acme.test" }, "subject": "Hello",
        "content": [{ "type": "text/plain", "value": "Text" }], "custom_args": { "message_id": "msg_1", "own": "?" },
    })
}

fn json_of(arrived: &Arrived) -> Value {
    serde_json::from_str(&arrived.body).expect("JSON")
}

/// The types of the next `count` events of Resend, sorted.
async fn types(receiver: &mut Receiver, count: usize) -> Vec<String> {
    let events = receiver.take(count).await;
    let mut types: Vec<String> = events
        .iter()
        .map(|event| json_of(event)["type"].as_str().expect("a type").to_owned())
        .collect();
    types.sort();
    types
}

#[tokio::test]
async fn resend_takes_a_mail_and_tells_that_it_was_sent_and_delivered() {
    let mut receiver = Receiver::start().await;
    let (sim, _) = Simulator::start().await.with_mail(&receiver).await;
    let mut body = hello("lead@example.test");
    body["tags"] = json!([{ "name": "message_id", "value": "msg_1" }]);
    body["headers"] = json!({ "List-Unsubscribe": "<https://a.test/u>" });
    let id = sim.mail(&body, None).await.ok()["id"].clone();
    for arrived in receiver.take(2).await {
        assert_eq!(arrived.path, "/resend");
        let id_of_it = arrived.headers["svix-id"].to_str().expect("text");
        assert!(id_of_it.starts_with("msg_"));
        let told = json_of(&arrived);
        assert_eq!(told["data"]["email_id"], id);
        assert_eq!(told["data"]["tags"], json!({ "message_id": "msg_1" }));
        assert_eq!(told["data"]["to"], json!(["lead@example.test"]));
    }
    let path = format!("/resend/emails/{}", id.as_str().expect("an id"));
    let kept = sim
        .send(sim.request("GET", &path).bearer_auth("re_1"))
        .await
        .ok();
    assert_eq!(
        (&kept["last_event"], &kept["html"]),
        (&json!("delivered"), &json!("<p>Text</p>"))
    );
    let got = sim
        .control("GET", "/messages?to=lead@example.test", json!({}))
        .await
        .ok();
    let got = &got["data"][0];
    assert_eq!(
        (&got["channel"], &got["body"], &got["subject"]),
        (&json!("email"), &json!("Text"), &json!("Hello"))
    );
    assert_eq!(sim.mails().await[0]["headers"], body["headers"]);
}

#[tokio::test]
async fn one_idempotency_key_is_one_mail_for_a_day() {
    let receiver = Receiver::start().await;
    let (sim, _) = Simulator::start().await.with_mail(&receiver).await;
    let body = hello("lead@example.test");
    let first = sim.mail(&body, Some("k")).await.ok();
    let reordered = json!({ "html": "<p>Text</p>", "text": "Text", "subject": "Hello", "to": "lead@example.test", "from": "Acme <hi@acme.test>" });
    assert_eq!(sim.mail(&reordered, Some("k")).await.ok(), first);
    assert_eq!(sim.mails().await.len(), 1);
    let other = sim.mail(&hello("else@example.test"), Some("k")).await;
    assert_eq!(
        (other.status, &other.body["name"]),
        (409, &json!("invalid_idempotent_request"))
    );
    for key in [String::new(), "k".repeat(257)] {
        let refused = sim.mail(&body, Some(&key)).await;
        assert_eq!(
            (refused.status, &refused.body["name"]),
            (400, &json!("invalid_idempotency_key"))
        );
    }
    // A refused request leaves its key free.
    let refused = sim.mail(&json!({ "to": "x" }), Some("k2")).await;
    assert_eq!(refused.status, 422);
    sim.mail(&body, Some("k2")).await.ok();

    let slow = json!({ "provider": "resend", "operation": "emails.send", "kind": "latency", "value": 600_000, "count": 1 });
    sim.fault(slow).await;
    let waiting = tokio::spawn(sim.resend(&body, Some("k3")).send());
    sim.until_fired("latency", 1).await;
    let refused = sim.mail(&body, Some("k3")).await;
    assert_eq!(
        (refused.status, &refused.body["name"]),
        (409, &json!("concurrent_idempotent_requests"))
    );
    sim.control("DELETE", "/faults", json!({})).await;
    assert_eq!(
        waiting.await.expect("joined").expect("answered").status(),
        200
    );

    sim.advance(24 * 3600).await;
    assert_ne!(sim.mail(&body, Some("k")).await.ok(), first);
}

#[tokio::test]
async fn an_answer_that_never_comes_is_cleared_up_by_its_key_even_after_a_restart() {
    let directory = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("mail-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&directory);
    let receiver = Receiver::start().await;
    let (sim, public) = Simulator::start_in(directory.clone())
        .await
        .with_mail(&receiver)
        .await;
    let held = json!({ "provider": "resend", "operation": "emails.send", "kind": "timeout_after_effect", "value": 600, "count": 1 });
    sim.fault(held).await;
    let body = hello("lead@example.test");
    let waiting = tokio::spawn(sim.resend(&body, Some("k")).send());
    sim.until_fired("timeout_after_effect", 1).await;
    sim.until("/_/email/ledger", |ledger| ledger["emails"] != json!([]))
        .await;
    waiting.abort();
    sim.stop().await;

    let (sim, same) = Simulator::start_in(directory.clone())
        .await
        .with_mail(&receiver)
        .await;
    assert_eq!(public, same, "registered again, the webhook keeps its key");
    let again = sim.mail(&body, Some("k")).await.ok();
    let mails = sim.mails().await;
    assert_eq!(
        (mails.len(), &mails[0]["id"], &mails[0]["created"]),
        (1, &again["id"], &json!(1))
    );
    sim.stop().await;
    let _ = std::fs::remove_dir_all(&directory);
}

#[tokio::test]
async fn what_resend_refuses_is_refused_in_its_words() {
    let receiver = Receiver::start().await;
    let (sim, _) = Simulator::start().await.with_mail(&receiver).await;
    let with = |name: &str, value: Value| {
        let mut body = hello("lead@example.test");
        body[name] = value;
        body
    };
    for (body, status, name) in [
        (with("to", Value::Null), 422, "missing_required_field"),
        (with("to", json!([])), 422, "missing_required_field"),
        (with("from", Value::Null), 422, "missing_required_field"),
        (with("to", json!("nobody")), 422, "validation_error"),
        (with("from", json!("nobody")), 422, "validation_error"),
        (with("reply_to", json!([3])), 422, "validation_error"),
        (
            with("to", json!(vec!["a@b.test"; 51])),
            422,
            "validation_error",
        ),
        (
            with("tags", json!([{ "name": "a b", "value": "c" }])),
            422,
            "validation_error",
        ),
        (with("html", json!(3)), 422, "validation_error"),
        (
            json!({ "from": "a@b.test", "to": "c@d.test", "subject": "x" }),
            422,
            "validation_error",
        ),
        (json!([]), 400, "validation_error"),
    ] {
        let refused = sim.mail(&body, None).await;
        assert_eq!(
            (refused.status, &refused.body["name"]),
            (status, &json!(name)),
            "{body}"
        );
        assert_eq!(refused.body["statusCode"], status);
    }
    let get = |path: &str| sim.request("GET", path);
    for (request, status, name) in [
        (get("/resend/emails/x"), 401, "missing_api_key"),
        (
            get("/resend/emails/x").bearer_auth("re_2"),
            403,
            "invalid_api_key",
        ),
        (
            get("/resend/emails/x").bearer_auth("re_1"),
            404,
            "not_found",
        ),
        (get("/resend/domains").bearer_auth("re_1"), 404, "not_found"),
    ] {
        let refused = sim.send(request).await;
        assert_eq!(
            (refused.status, &refused.body["name"]),
            (status, &json!(name))
        );
    }
    let limit = json!({ "provider": "resend", "operation": "*", "kind": "status", "value": 429, "count": 1 });
    sim.fault(limit).await;
    let refused = sim.mail(&hello("lead@example.test"), None).await;
    assert_eq!(
        (refused.status, &refused.body["name"]),
        (429, &json!("rate_limit_exceeded"))
    );
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(sim.mails().await, Vec::<Value>::new());
}

#[tokio::test]
async fn resends_magic_receivers_do_what_their_names_say() {
    let mut receiver = Receiver::start().await;
    let (sim, _) = Simulator::start().await.with_mail(&receiver).await;
    for (to, expected) in [
        (
            "delivered+1@resend.dev",
            &["email.delivered", "email.sent"][..],
        ),
        ("bounced+1@resend.dev", &["email.bounced", "email.sent"]),
        (
            "complained@resend.dev",
            &["email.complained", "email.delivered", "email.sent"],
        ),
        (
            "delayed@resend.dev",
            &["email.delivery_delayed", "email.sent"],
        ),
    ] {
        sim.mail(&hello(to), None).await.ok();
        assert_eq!(types(&mut receiver, expected.len()).await, expected, "{to}");
        let path = format!("/messages?to={}", to.replace('+', "%2B"));
        let got = sim.control("GET", &path, json!({})).await.ok();
        let has = expected.contains(&"email.delivered");
        assert_eq!(
            got["data"].as_array().map(Vec::len),
            Some(usize::from(has)),
            "{to}"
        );
    }
    sim.advance(60).await;
    assert_eq!(types(&mut receiver, 1).await, ["email.delivered"]);
    // Each receiver of one mail has its own fate.
    let mut both = hello("lead@example.test");
    both["bcc"] = json!("bounced@resend.dev");
    sim.mail(&both, None).await.ok();
    let told = receiver.take(3).await;
    let bounced = told
        .iter()
        .map(json_of)
        .find(|told| told["type"] == "email.bounced");
    let bounced = bounced.expect("told of it");
    assert_eq!(bounced["data"]["to"], json!(["bounced@resend.dev"]));
    assert_eq!(bounced["data"]["bounce"]["type"], "Permanent");
}

#[tokio::test]
async fn a_webhook_about_mail_is_repeated_until_it_is_taken() {
    let mut receiver = Receiver::start().await;
    let (sim, _) = Simulator::start().await.with_mail(&receiver).await;
    receiver.refuse(1);
    let fault = json!({ "provider": "resend", "operation": "email.sent", "kind": "never_webhook" });
    sim.fault(fault).await;
    sim.mail(&hello("lead@example.test"), None).await.ok();
    let first = receiver.next().await;
    let again = receiver.next().await;
    assert_eq!(
        (&first.headers["svix-id"], &first.body),
        (&again.headers["svix-id"], &again.body)
    );
    sim.until_told().await;
    let double =
        json!({ "provider": "sendgrid", "operation": "delivered", "kind": "duplicate_webhook" });
    sim.fault(double).await;
    sim.sendgrid(&to_each(&["lead@example.test"])).await;
    let batches: Vec<Value> = receiver.take(3).await.iter().map(json_of).collect();
    let delivered: Vec<&Value> = batches
        .iter()
        .filter(|b| b[0]["event"] == "delivered")
        .collect();
    assert_eq!(delivered.len(), 2);
    assert_eq!(
        delivered[0][0]["sg_event_id"],
        delivered[1][0]["sg_event_id"]
    );
}

#[tokio::test]
async fn sendgrid_tells_of_every_receiver_in_batches() {
    let mut receiver = Receiver::start().await;
    let (sim, _) = Simulator::start().await.with_mail(&receiver).await;
    let to = [
        "lead@example.test",
        "bounced@resend.dev",
        "complained@resend.dev",
        "delayed@resend.dev",
        "suppressed@resend.dev",
        "unsubscribed@resend.dev",
    ];
    let taken = sim.sendgrid(&to_each(&to)).await;
    assert_eq!((taken.status, &taken.body), (202, &json!("")));
    let id = taken.header("x-message-id").expect("an id").to_owned();
    let mut told: Vec<(String, String)> = Vec::new();
    let mut ids = std::collections::HashSet::new();
    for arrived in receiver.take(2).await {
        assert_eq!(arrived.path, "/sendgrid");
        assert!(
            arrived
                .headers
                .contains_key("x-twilio-email-event-webhook-signature")
        );
        for event in json_of(&arrived).as_array().expect("a batch") {
            let text = |name: &str| event[name].as_str().expect("text").to_owned();
            assert!(text("sg_message_id").starts_with(&format!("{id}.")));
            assert!(
                ids.insert(text("sg_event_id")),
                "every event has an id of its own"
            );
            assert_eq!(
                (text("message_id").as_str(), text("own")),
                ("msg_1", text("email"))
            );
            told.push((text("email"), text("event")));
        }
    }
    let of = |to: &str| -> Vec<&str> {
        let mut events: Vec<&str> = told
            .iter()
            .filter(|(of, _)| of == to)
            .map(|(_, event)| event.as_str())
            .collect();
        events.sort_unstable();
        events
    };
    for (to, expected) in to.iter().zip([
        &["delivered", "processed"][..],
        &["bounce", "processed"],
        &["delivered", "processed", "spamreport"],
        &["deferred", "processed"],
        &["dropped"],
        &["delivered", "processed", "unsubscribe"],
    ]) {
        assert_eq!(of(to), expected, "{to}");
    }
    sim.advance(60).await;
    let late = json_of(&receiver.next().await);
    assert_eq!(
        (&late[0]["email"], &late[0]["event"]),
        (&json!("delayed@resend.dev"), &json!("delivered"))
    );
}

#[tokio::test]
async fn what_sendgrid_refuses_is_refused_in_its_words() {
    let receiver = Receiver::start().await;
    let (sim, _) = Simulator::start().await.with_mail(&receiver).await;
    let with = |name: &str, value: Value| {
        let mut body = to_each(&["lead@example.test"]);
        body[name] = value;
        body
    };
    for (body, field) in [
        (
            with("personalizations", json!([])),
            json!("personalizations"),
        ),
        (
            with("personalizations", json!([{ "to": [] }])),
            json!("personalizations.0.to"),
        ),
        (to_each(&["nobody"]), json!("personalizations.0.to")),
        (with("from", json!({})), json!("from.email")),
        (with("subject", json!("")), json!("subject")),
        (with("content", json!([])), json!("content")),
        (with("custom_args", json!({ "a": 1 })), json!("custom_args")),
    ] {
        let refused = sim.sendgrid(&body).await;
        assert_eq!(
            (refused.status, &refused.body["errors"][0]["field"]),
            (400, &field),
            "{body}"
        );
    }
    let bare = sim.request("POST", "/sendgrid/v3/mail/send");
    assert_eq!(sim.send(bare).await.status, 401);
    let wrong = sim
        .request("POST", "/sendgrid/v3/mail/send")
        .bearer_auth("SG.2");
    let wrong = sim.send(wrong).await;
    let words = "The provided authorization grant is invalid, expired, or revoked";
    assert_eq!(
        (wrong.status, &wrong.body["errors"][0]["message"]),
        (401, &json!(words))
    );
    for (status, words) in [(429, "too many requests"), (500, "internal server error")] {
        sim.fault(json!({ "provider": "sendgrid", "operation": "mail.send", "kind": "status", "value": status, "count": 1 })).await;
        let refused = sim.sendgrid(&to_each(&["lead@example.test"])).await;
        assert_eq!(
            (refused.status, &refused.body["errors"][0]["message"]),
            (status, &json!(words))
        );
    }
    let sandboxed = with(
        "mail_settings",
        json!({ "sandbox_mode": { "enable": true } }),
    );
    assert_eq!(sim.sendgrid(&sandboxed).await.status, 200);
    assert_eq!(sim.mails().await, Vec::<Value>::new());
    let nonsense =
        json!({ "api_key": "re_3", "webhook_url": "nowhere", "webhook_secret": "secret" });
    let refused = sim.control("POST", "/resend/accounts", nonsense).await;
    assert_eq!(
        (
            refused.status,
            refused.body["errors"].as_array().map(Vec::len)
        ),
        (400, Some(2))
    );
}
