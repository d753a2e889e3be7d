//! Twilio's messages and numbers: what is accepted, what is refused, what is told.

use serde_json::{Value, json};

use crate::client::{Answer, Simulator};
use crate::receiver::Receiver;

pub const ACCOUNT: &str = "AC00000000000000000000000000000001";
pub const TOKEN: &str = "token-of-one";
pub const OURS: &str = "+15125550100";
pub const PERSON: &str = "+15125550123";

impl Simulator {
    /// A request to the account's resource, such as `Messages.json`.
    pub fn twilio(&self, method: &str, resource: &str) -> reqwest::RequestBuilder {
        let path = format!("/twilio/2010-04-01/Accounts/{ACCOUNT}/{resource}");
        self.request(method, &path).basic_auth(ACCOUNT, Some(TOKEN))
    }

    pub async fn text(&self, form: &[(&str, &str)]) -> Answer {
        self.send(self.twilio("POST", "Messages.json").form(form))
            .await
    }

    pub async fn twilio_get(&self, resource: &str) -> Value {
        self.send(self.twilio("GET", resource)).await.ok()
    }

    pub async fn twilio_ledger(&self) -> Value {
        self.control("GET", "/twilio/ledger", json!({})).await.ok()
    }

    /// The account with one number; `urls` are fields of it.
    pub async fn with_account(self, urls: Value) -> Simulator {
        let mut number = json!({ "number": OURS });
        for (name, url) in urls.as_object().expect("fields") {
            number[name] = url.clone();
        }
        let body = json!({ "account_sid": ACCOUNT, "auth_token": TOKEN, "numbers": [number] });
        self.control("POST", "/twilio/accounts", body).await.ok();
        self
    }

    pub async fn write(&self, from: &str, words: &str) -> Value {
        let body = json!({ "from": from, "to": OURS, "body": words });
        self.control("POST", "/inbound/sms", body).await.ok()
    }

    /// What a person received, in order.
    pub async fn received(&self, person: &str) -> Vec<String> {
        let to = person.replace('+', "%2B");
        let path = format!("/messages?to={to}");
        let answer = self.control("GET", &path, json!({})).await.ok();
        let all = answer["data"].as_array().cloned().unwrap_or_default();
        all.iter()
            .map(|message| message["body"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// Returns when no webhook is on its way.
    pub async fn until_told(&self) {
        self.until("/_/deliveries", |body| body["data"] == json!([]))
            .await;
    }
}

pub fn sid(object: &Value) -> String {
    object["sid"].as_str().expect("a sid").to_owned()
}

fn hello(to: &str) -> [(&str, &str); 3] {
    [("To", to), ("From", OURS), ("Body", "Hello")]
}

#[tokio::test]
async fn a_message_is_queued_then_delivered_and_each_step_is_told() {
    let twilio = Simulator::start().await.with_account(json!({})).await;
    let mut receiver = Receiver::start().await;
    let callback = format!("{}/status?attempt=att_1&x=%2B", receiver.url);
    let mut form = hello(PERSON).to_vec();
    form.push(("StatusCallback", &callback));
    let made = twilio.text(&form).await;
    assert_eq!(made.status, 201);
    assert!(made.header("twilio-request-id").is_some());
    let made = made.body;
    assert_eq!(made["status"], "queued");
    assert_eq!(made["direction"], "outbound-api");
    assert_eq!(
        (&made["date_sent"], &made["_created"]),
        (&Value::Null, &Value::Null)
    );

    let told = receiver.take(2).await;
    let mut statuses: Vec<String> = told
        .iter()
        .filter_map(|t| t.field("MessageStatus"))
        .collect();
    statuses.sort();
    assert_eq!(statuses, ["delivered", "sent"]);
    for one in &told {
        assert_eq!(one.path, "/status?attempt=att_1&x=%2B");
        assert_eq!(one.field("MessageSid"), Some(sid(&made)));
        assert_eq!(one.field("AccountSid").as_deref(), Some(ACCOUNT));
        assert!(one.headers.contains_key("x-twilio-signature"));
    }
    let kept = twilio
        .twilio_get(&format!("Messages/{}.json", sid(&made)))
        .await;
    assert_eq!(kept["status"], "delivered");
    assert!(kept["date_sent"].is_string());
    assert_eq!(twilio.received(PERSON).await, ["Hello"]);
}

#[tokio::test]
async fn what_twilio_refuses_is_refused_with_its_code() {
    let twilio = Simulator::start().await.with_account(json!({})).await;
    let long = "x".repeat(1_601);
    for (form, code) in [
        (vec![("From", OURS), ("Body", "x")], 21604),
        (vec![("To", PERSON), ("Body", "x")], 21603),
        (vec![("To", PERSON), ("From", OURS)], 21602),
        (hello("12345").to_vec(), 21211),
        (hello("+15005550001").to_vec(), 21211),
        (hello("+15005550002").to_vec(), 21612),
        (hello("+15005550003").to_vec(), 21408),
        (hello("+15005550004").to_vec(), 21610),
        (hello("+15005550009").to_vec(), 21614),
        (hello(OURS).to_vec(), 21266),
        (
            vec![("To", PERSON), ("From", "+15125559999"), ("Body", "x")],
            21606,
        ),
        (
            vec![("To", PERSON), ("From", "+15005550001"), ("Body", "x")],
            21212,
        ),
        (
            vec![("To", PERSON), ("From", "+15005550007"), ("Body", "x")],
            21606,
        ),
        (
            vec![("To", PERSON), ("From", "+15005550008"), ("Body", "x")],
            21611,
        ),
        (
            vec![
                ("To", PERSON),
                ("MessagingServiceSid", "MG1"),
                ("Body", "x"),
            ],
            21705,
        ),
        (vec![("To", PERSON), ("From", OURS), ("Body", &long)], 21617),
        (
            [&hello(PERSON)[..], &[("StatusCallback", "nowhere")]].concat(),
            21609,
        ),
        (
            [&hello(PERSON)[..], &[("ValidityPeriod", "0")]].concat(),
            20001,
        ),
    ] {
        let refused = twilio.text(&form).await;
        assert_eq!(
            (refused.status, &refused.body["code"]),
            (400, &json!(code)),
            "{form:?}"
        );
        assert_eq!(refused.body["status"], 400);
        let page = format!("https://www.twilio.com/docs/errors/{code}");
        assert_eq!(refused.body["more_info"], page);
    }
    assert_eq!(twilio.twilio_ledger().await["messages"], json!([]));
    let magic = [("To", PERSON), ("From", "+15005550006"), ("Body", "x")];
    assert_eq!(twilio.text(&magic).await.status, 201);
}

#[tokio::test]
async fn an_account_opens_for_its_own_token_and_nothing_else() {
    let twilio = Simulator::start().await.with_account(json!({})).await;
    let other = json!({ "account_sid": "AC2", "auth_token": "two", "numbers": [{ "number": "+15125550200" }] });
    twilio.control("POST", "/twilio/accounts", other).await.ok();
    let messages = |account: &str| format!("/twilio/2010-04-01/Accounts/{account}/Messages.json");
    for (account, shown) in [
        (ACCOUNT, Some((ACCOUNT, "wrong"))),
        (ACCOUNT, Some(("AC2", "two"))),
        ("AC3", Some(("AC3", "three"))),
        (ACCOUNT, None),
    ] {
        let mut request = twilio.request("GET", &messages(account));
        if let Some((user, password)) = shown {
            request = request.basic_auth(user, Some(password));
        }
        let refused = twilio.send(request).await;
        assert_eq!(
            (refused.status, &refused.body["code"]),
            (401, &json!(20003)),
            "{shown:?}"
        );
    }
    // A message of the one is no message of the other.
    let made = sid(&twilio.text(&hello(PERSON)).await.body);
    let path = format!("/twilio/2010-04-01/Accounts/AC2/Messages/{made}.json");
    let elsewhere = twilio.request("GET", &path).basic_auth("AC2", Some("two"));
    let elsewhere = twilio.send(elsewhere).await;
    assert_eq!(
        (elsewhere.status, &elsewhere.body["code"]),
        (404, &json!(20404))
    );
    let theirs = [("To", PERSON), ("From", "+15125550200"), ("Body", "x")];
    assert_eq!(twilio.text(&theirs).await.body["code"], 21606);
    let unknown = twilio.send(twilio.twilio("GET", "Nonsense.json")).await;
    assert_eq!(
        (unknown.status, &unknown.body["code"]),
        (404, &json!(20404))
    );
}

#[tokio::test]
async fn a_magic_receiver_fails_after_its_message_was_accepted() {
    let twilio = Simulator::start().await.with_account(json!({})).await;
    let mut receiver = Receiver::start().await;
    for (to, status, code) in [
        ("+15005553003", "undelivered", Some("30003")),
        ("+15005553005", "undelivered", Some("30005")),
        ("+15005553006", "undelivered", Some("30006")),
        ("+15005553007", "undelivered", Some("30007")),
        ("+15005553001", "failed", Some("30001")),
        ("+15005553000", "sent", None),
    ] {
        let mut form = hello(to).to_vec();
        form.push(("StatusCallback", &receiver.url));
        let made = twilio.text(&form).await;
        assert_eq!(made.status, 201, "{to}");
        let steps = if status == "undelivered" { 2 } else { 1 };
        let told = receiver.take(steps).await;
        let last = told
            .iter()
            .find(|t| t.field("MessageStatus").as_deref() == Some(status));
        let last = last.expect("the last status");
        assert_eq!(last.field("ErrorCode").as_deref(), code, "{to}");
        let kept = twilio
            .twilio_get(&format!("Messages/{}.json", sid(&made.body)))
            .await;
        let expected = code.map_or(Value::Null, |code| {
            json!(code.parse::<u32>().expect("a code"))
        });
        assert_eq!(
            (&kept["status"], &kept["error_code"]),
            (&json!(status), &expected)
        );
        assert_eq!(twilio.received(to).await, Vec::<String>::new());
    }
    twilio.until_told().await;
    assert!(receiver.rest().is_empty());
}

#[tokio::test]
async fn a_lost_message_is_found_by_its_receiver_and_time() {
    let twilio = Simulator::start().await.with_account(json!({})).await;
    for words in ["one", "two", "three"] {
        let form = [("To", PERSON), ("From", OURS), ("Body", words)];
        twilio.text(&form).await;
    }
    twilio.text(&hello("+15125550999")).await;
    twilio.advance(86_400).await;
    twilio
        .text(&[("To", PERSON), ("From", OURS), ("Body", "four")])
        .await;
    twilio.write(PERSON, "mine").await;

    let to = "Messages.json?To=%2B15125550123";
    let first = twilio.twilio_get(&format!("{to}&PageSize=3")).await;
    let bodies = |page: &Value| -> Vec<String> {
        let messages = page["messages"].as_array().expect("messages");
        messages
            .iter()
            .map(|m| m["body"].as_str().expect("text").to_owned())
            .collect()
    };
    assert_eq!(bodies(&first), ["four", "three", "two"]);
    // Something new on top does not move the next page.
    twilio
        .text(&[("To", PERSON), ("From", OURS), ("Body", "five")])
        .await;
    let next = first["next_page_uri"].as_str().expect("another page");
    let next = twilio.request("GET", &format!("/twilio{next}"));
    let next = twilio
        .send(next.basic_auth(ACCOUNT, Some(TOKEN)))
        .await
        .ok();
    assert_eq!(bodies(&next), ["one"]);
    assert_eq!(next["next_page_uri"], Value::Null);

    let clock = twilio.control("GET", "/clock", json!({})).await.ok();
    let now = clock["now"].as_i64().expect("a time");
    let day = |seconds: i64| chrono::DateTime::from_timestamp(seconds, 0).expect("a time");
    let (today, before) = (day(now).format("%F"), day(now - 86_400).format("%F"));
    let at = day(now - 3_600).format("%FT%TZ");
    for (query, expected) in [
        (format!("DateSent={today}"), vec!["five", "four"]),
        (format!("DateSent={before}"), vec!["three", "two", "one"]),
        (format!("DateSent%3E={at}"), vec!["five", "four"]),
        (format!("DateSent%3C={at}"), vec!["three", "two", "one"]),
        (
            "From=%2B15125550100&DateSent%3E=2100-01-01".to_owned(),
            vec![],
        ),
    ] {
        let found = twilio.twilio_get(&format!("{to}&{query}")).await;
        assert_eq!(bodies(&found), expected, "{query}");
    }
    let inbound = twilio.twilio_get("Messages.json?From=%2B15125550123").await;
    assert_eq!(bodies(&inbound), ["mine"]);
    let page = twilio.twilio_get("Messages.json?PageSize=1").await;
    assert_eq!(
        (&page["start"], &page["end"], &page["page_size"]),
        (&json!(0), &json!(0), &json!(1))
    );
    for nonsense in ["DateSent=soon", "PageSize=x", "PageToken=PAx&Page=1"] {
        let path = format!("Messages.json?{nonsense}");
        assert_eq!(
            twilio.send(twilio.twilio("GET", &path)).await.status,
            400,
            "{nonsense}"
        );
    }
}

#[tokio::test]
async fn a_messaging_service_sends_from_the_number_that_spoke_last() {
    let twilio = Simulator::start().await;
    let number = |number: &str| json!({ "number": number, "messaging_service_sid": "MG1" });
    let numbers = [number(OURS), number("+15125550101")];
    let body = json!({ "account_sid": ACCOUNT, "auth_token": TOKEN, "numbers": numbers });
    twilio.control("POST", "/twilio/accounts", body).await.ok();
    let mut receiver = Receiver::start().await;
    let callback = receiver.url.clone();
    let form = [
        ("To", PERSON),
        ("MessagingServiceSid", "MG1"),
        ("Body", "x"),
        ("StatusCallback", callback.as_str()),
    ];
    let made = twilio.text(&form).await.body;
    assert_eq!(
        (&made["status"], &made["from"]),
        (&json!("accepted"), &Value::Null)
    );
    let told = receiver.take(3).await;
    let mut statuses: Vec<_> = told
        .iter()
        .filter_map(|t| t.field("MessageStatus"))
        .collect();
    statuses.sort();
    assert_eq!(statuses, ["delivered", "queued", "sent"]);
    assert_eq!(told[0].field("MessagingServiceSid").as_deref(), Some("MG1"));
    assert_eq!(told[0].field("From").as_deref(), Some(OURS));
    let second = [("To", PERSON), ("From", "+15125550101"), ("Body", "y")];
    twilio.text(&second).await;
    let made = sid(&twilio.text(&form).await.body);
    let kept = twilio.twilio_get(&format!("Messages/{made}.json")).await;
    assert_eq!(kept["from"], "+15125550101");
}

#[tokio::test]
async fn numbers_are_bought_pointed_elsewhere_and_given_back() {
    let twilio = Simulator::start().await.with_account(json!({})).await;
    let mut receiver = Receiver::start().await;
    let numbers = "IncomingPhoneNumbers.json";
    let buy = |form: &[(&str, &str)]| twilio.twilio("POST", numbers).form(form);
    for (form, code) in [
        (vec![("PhoneNumber", "+15005550000")], 21422),
        (vec![("PhoneNumber", "+15005550001")], 21421),
        (vec![("PhoneNumber", OURS)], 21422),
        (vec![("AreaCode", "533")], 21452),
        (vec![], 21421),
        (
            vec![("PhoneNumber", "+15125550177"), ("SmsUrl", "nowhere")],
            21609,
        ),
    ] {
        let refused = twilio.send(buy(&form)).await;
        assert_eq!(
            (refused.status, &refused.body["code"]),
            (400, &json!(code)),
            "{form:?}"
        );
    }
    let bought = twilio.send(buy(&[("AreaCode", "737")])).await;
    assert_eq!(bought.status, 201);
    let number = bought.body["phone_number"]
        .as_str()
        .expect("a number")
        .to_owned();
    assert!(number.starts_with("+1737"));
    let path = format!("IncomingPhoneNumbers/{}.json", sid(&bought.body));
    let sms_url = format!("{}/bought", receiver.url);
    let changed = twilio.twilio("POST", &path).form(&[("SmsUrl", &sms_url)]);
    assert_eq!(twilio.send(changed).await.ok()["sms_url"], sms_url);
    let listed = twilio.twilio_get(numbers).await;
    assert_eq!(
        listed["incoming_phone_numbers"].as_array().map(Vec::len),
        Some(2)
    );
    let found = twilio
        .twilio_get(&format!("{numbers}?PhoneNumber=%2B15125550100"))
        .await;
    assert_eq!(found["incoming_phone_numbers"][0]["phone_number"], OURS);
    // Registered anew at the next start: what was bought stays.
    let twilio = twilio.with_account(json!({})).await;
    let body = json!({ "from": PERSON, "to": number, "body": "Hi" });
    twilio.control("POST", "/inbound/sms", body).await.ok();
    assert_eq!(receiver.next().await.path, "/bought");
    assert_eq!(
        twilio.send(twilio.twilio("DELETE", &path)).await.status,
        204
    );
    assert_eq!(twilio.send(twilio.twilio("GET", &path)).await.status, 404);
}

#[tokio::test]
async fn registering_an_account_again_replaces_its_numbers_and_its_token() {
    let twilio = Simulator::start().await.with_account(json!({})).await;
    let body = json!({ "account_sid": ACCOUNT, "auth_token": "fresh", "numbers": [{ "number": "+15125550111" }] });
    twilio.control("POST", "/twilio/accounts", body).await.ok();
    assert_eq!(twilio.text(&hello(PERSON)).await.status, 401);
    let ledger = twilio.twilio_ledger().await;
    assert_eq!(ledger["accounts"], json!([ACCOUNT]));
    assert_eq!(ledger["numbers"].as_array().map(Vec::len), Some(1));
    assert_eq!(ledger["numbers"][0]["phone_number"], "+15125550111");
    assert!(!ledger.to_string().contains("fresh"), "{ledger}");
    let nonsense = json!({ "account_sid": "", "token": "x", "numbers": [{ "number": "1", "sms_url": 3, "extra": 1 }] });
    let refused = twilio.control("POST", "/twilio/accounts", nonsense).await;
    assert_eq!(refused.status, 400);
    let errors = refused.body["errors"].as_array().expect("errors");
    let mut fields: Vec<&str> = errors.iter().filter_map(|e| e["field"].as_str()).collect();
    fields.sort_unstable();
    assert_eq!(
        fields,
        [
            "account_sid",
            "auth_token",
            "numbers[0].extra",
            "numbers[0].number",
            "numbers[0].sms_url",
            "token"
        ]
    );
}

#[tokio::test]
async fn a_restart_forgets_no_message_and_no_stop() {
    let directory = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("twilio-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&directory);
    let twilio = Simulator::start_in(directory.clone())
        .await
        .with_account(json!({}))
        .await;
    twilio.text(&hello(PERSON)).await;
    twilio.text(&hello(PERSON)).await;
    twilio.write(PERSON, "stop").await;
    let before = twilio.twilio_ledger().await;
    twilio.stop().await;

    let twilio = Simulator::start_in(directory.clone()).await;
    let after = twilio.twilio_ledger().await;
    assert_eq!(
        (&before["messages"], &before["numbers"]),
        (&after["messages"], &after["numbers"])
    );
    let created: Vec<&Value> = after["messages"]
        .as_array()
        .expect("some")
        .iter()
        .map(|m| &m["created"])
        .collect();
    assert_eq!(created, [2, 2, 1], "the same text twice is a duplicate");
    assert_eq!(twilio.received(PERSON).await.len(), 3);
    assert_eq!(twilio.text(&hello(PERSON)).await.body["code"], 21610);
    twilio.stop().await;
    let _ = std::fs::remove_dir_all(&directory);
}
