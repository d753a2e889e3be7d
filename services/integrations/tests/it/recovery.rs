//! Webhooks that never came (INT-09): whoever wrote and rang while nobody here heard is found at Twilio, over HTTP.
//! Deliberately absent: which of what Twilio has is missing; the rules' own tests have that.

use std::time::Duration;

use mainstay_proto::integrations::v1 as proto;
use mainstay_proto::messaging::v1::HandleProviderEventRequest;
use mainstay_sandbox::{Sandbox, SandboxConfig};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::agency::{Agency, TOKEN, World, sender, twilio};

const NUMBER: &str = "+15125550199";
/// Its webhooks go to somebody else.
const OTHER: &str = "+15125550198";
const MIKE: &str = "+15125550123";
const ANN: &str = "+15125550124";
const STORED: &str = "select count(*) from integrations.webhook_event";

/// A Twilio whose webhooks reach nobody.
struct Twilio {
    url: String,
    http: reqwest::Client,
}

impl Twilio {
    async fn start() -> Self {
        let sandbox = Sandbox::open(SandboxConfig::default())
            .await
            .expect("a sandbox");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(sandbox.serve(listener, std::future::pending()));
        Twilio {
            url,
            http: reqwest::Client::new(),
        }
    }

    async fn world(&self) -> World {
        World::reading(&format!("{}/twilio", self.url)).await
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let sent = self.http.post(format!("{}{path}", self.url)).json(body);
        let answer = sent.send().await.expect("an answer");
        let status = answer.status();
        let said: Value = answer.json().await.expect("JSON");
        assert!(status.is_success(), "{said}");
        said
    }

    /// The agency's account there and here, with a number of its client's and another one.
    async fn connect(&self, agency: &Agency<'_>) -> proto::ProviderAccount {
        let account = agency.add(twilio(TOKEN)).await;
        let own = sender(
            &account,
            proto::SenderChannel::Sms,
            NUMBER,
            Some(agency.client),
        );
        agency.add_sender(own).await.expect("a sender");
        let number = |number: &str, token: &str| {
            let hook = |what: &str| format!("http://127.0.0.1:9/webhooks/twilio/{token}/{what}");
            json!({
                "number": number,
                "sms_url": hook("sms"),
                "voice_url": hook("voice"),
                "status_url": hook("voice/status"),
            })
        };
        let there = json!({
            "account_sid": "AC5ef8732a3c49700934481addd5ce1659",
            "auth_token": TOKEN,
            "numbers": [number(NUMBER, account.endpoint_token()), number(OTHER, "somebody_elses")],
        });
        self.post("/_/twilio/accounts", &there).await;
        account
    }

    /// The one fault there is has struck so often.
    async fn struck(&self, times: u64) {
        let url = format!("{}/_/faults", self.url);
        let mut pace = tokio::time::interval(Duration::from_millis(50));
        loop {
            pace.tick().await;
            let faults = self.http.get(&url).send().await.expect("an answer");
            let faults: Value = faults.json().await.expect("JSON");
            if faults["data"][0]["fired"].as_u64() >= Some(times) {
                return;
            }
        }
    }

    async fn mend(&self) {
        let url = format!("{}/_/faults", self.url);
        let gone = self.http.delete(url).send().await.expect("an answer");
        assert!(gone.status().is_success());
    }

    async fn writes(&self, from: &str, to: &str, body: &str) -> String {
        let text = json!({"from": from, "to": to, "body": body});
        let sent = self.post("/_/inbound/sms", &text).await;
        sent["sid"].as_str().expect("an id").to_owned()
    }
}

fn parameter(event: &HandleProviderEventRequest, name: &str) -> String {
    form_urlencoded::parse(&event.body)
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_wrote_or_rang_while_nobody_heard_is_heard_once_and_in_their_order() {
    let there = Twilio::start().await;
    let mut world = there.world().await;
    let (client, account) = {
        let agency = world.agency();
        let account = there.connect(&agency).await;
        (agency.client, account)
    };
    there.writes(MIKE, OTHER, "Not for you").await;
    let first = there.writes(MIKE, NUMBER, "STOP").await;
    there.writes(MIKE, NUMBER, "START & thanks").await;
    let rang = json!({"from": ANN, "to": NUMBER, "outcome": "completed", "duration_seconds": 9});
    there.post("/_/inbound/call", &rang).await;

    let mut said = Vec::new();
    for _ in 0..3 {
        let event = world.messaging_hears().await;
        assert_eq!(event.client_id, Some(client.to_string()));
        assert_eq!(event.account_id, account.id);
        match event.r#type.as_str() {
            "message.received" => {
                assert_eq!(parameter(&event, "From"), MIKE);
                assert_eq!(parameter(&event, "To"), NUMBER);
                assert_eq!(parameter(&event, "MessageSid"), event.event_key);
                said.push(parameter(&event, "Body"));
            }
            "call.status" => {
                assert_eq!(parameter(&event, "From"), ANN);
                assert_eq!(parameter(&event, "Direction"), "inbound");
                // Nobody was asked where to put it through.
                assert_eq!(parameter(&event, "CallStatus"), "failed");
            }
            other => panic!("nobody rang or wrote so: {other}"),
        }
    }
    assert_eq!(said, ["STOP", "START & thanks"]);

    // The webhook itself, late, is known; and what is read again and again is.
    let late = proto::Webhook {
        provider: "twilio".to_owned(),
        account: account.id.unwrap_or_default(),
        event_key: first,
        r#type: "message.received".to_owned(),
        ..Default::default()
    };
    world.store(late).await;
    there.writes(ANN, NUMBER, "Hello?").await;
    let event = world.messaging_hears().await;
    assert_eq!(parameter(&event, "Body"), "Hello?");
    assert_eq!(world.postgres.count(STORED).await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_now_is_read_later_and_what_came_is_not_stored_again() {
    let there = Twilio::start().await;
    let mut world = there.world().await;
    let account = there.connect(&world.agency()).await;
    let came = there.writes(MIKE, NUMBER, "It came").await;
    let webhook = proto::Webhook {
        provider: "twilio".to_owned(),
        account: account.id.unwrap_or_default(),
        event_key: came,
        r#type: "message.received".to_owned(),
        body: "MessageSid=SM&Body=It+came".into(),
        ..Default::default()
    };
    world.store(webhook).await;
    assert_eq!(parameter(&world.messaging_hears().await, "Body"), "It came");
    let away =
        json!({"provider": "twilio", "operation": "messages.list", "kind": "status", "value": 503});
    there.post("/_/faults", &away).await;
    let lost = there.writes(ANN, NUMBER, "It did not").await;
    // Two reads, with their repeats: nothing is passed by.
    there.struck(3).await;
    let stands = "select (extract(epoch from read_through) * 1000000)::bigint from integrations.provider_endpoint";
    let before = world.postgres.count(stands).await;
    there.struck(6).await;
    assert_eq!(world.postgres.count(stands).await, before);
    there.mend().await;
    let event = world.messaging_hears().await;
    assert_eq!(event.event_key, lost);
    assert_eq!(world.postgres.count(STORED).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_mail_and_of_an_account_that_is_gone_nothing_is_read() {
    let there = Twilio::start().await;
    let world = there.world().await;
    let agency = world.agency();
    agency.add(crate::agency::resend()).await;
    let never =
        "select count(*) from integrations.provider_endpoint where read_due_at = 'infinity'";
    world.until(1, never).await;
    let gone = agency.add(twilio(TOKEN)).await;
    let request = proto::DeleteProviderAccountRequest {
        account_id: gone.id.unwrap_or_default(),
    };
    let deleted = agency.accounts().delete_provider_account(request).await;
    deleted.expect("deleted");
    world.until(2, never).await;
}
