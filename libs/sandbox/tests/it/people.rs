//! People who write to a Twilio number, or call it: what the number's addresses are told, and what their answers cause.

use serde_json::json;

use crate::client::Simulator;
use crate::receiver::Receiver;
use crate::twilio::{ACCOUNT, OURS, PERSON, TOKEN, sid};

const XML: &str = "text/xml; charset=utf-8";

async fn number_with(receiver: &Receiver) -> Simulator {
    let url = |path: &str| format!("{}{path}", receiver.url);
    let urls = json!({ "sms_url": url("/sms?t=1"), "voice_url": url("/voice"), "status_url": url("/voice/status") });
    Simulator::start().await.with_account(urls).await
}

#[tokio::test]
async fn a_persons_message_reaches_the_number_and_its_answer_the_person() {
    let mut receiver = Receiver::start().await;
    let twilio = number_with(&receiver).await;
    receiver.answer(
        200,
        XML,
        "<Response><Message>Thanks &amp; bye</Message><Message>2</Message><Message>3</Message><Message>4</Message></Response>",
    );
    let written = twilio.write(PERSON, "Grüße & so=1").await;
    let told = receiver.next().await;
    assert_eq!(told.path, "/sms?t=1");
    for (name, value) in [
        ("MessageSid", sid(&written).as_str()),
        ("AccountSid", ACCOUNT),
        ("From", PERSON),
        ("To", OURS),
        ("Body", "Grüße & so=1"),
        ("NumSegments", "1"),
        ("NumMedia", "0"),
        ("SmsStatus", "received"),
        ("FromCity", ""),
    ] {
        assert_eq!(told.field(name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(told.field("OptOutType"), None);
    twilio.until_told().await;
    // In the order in which they were said, although they leave in the same second.
    assert_eq!(
        twilio.received(PERSON).await,
        ["Thanks & bye", "2", "3", "4"]
    );
    let ledger = twilio.twilio_ledger().await;
    let directions: Vec<_> = ledger["messages"]
        .as_array()
        .expect("some")
        .iter()
        .map(|m| &m["direction"])
        .collect();
    assert_eq!(directions[0], "inbound");
    assert_eq!(directions[1..], ["outbound-reply"; 4]);
    // JSON is no reply, and no error to the person either.
    receiver.answer(200, "application/json", "{\"received\":true}");
    let with_media = json!({ "from": PERSON, "to": OURS, "media_urls": ["http://m.test/1.jpg"] });
    twilio
        .control("POST", "/inbound/sms", with_media)
        .await
        .ok();
    let told = receiver.next().await;
    assert_eq!(
        told.field("MediaUrl0").as_deref(),
        Some("http://m.test/1.jpg")
    );
    twilio.until_told().await;
    assert_eq!(twilio.received(PERSON).await.len(), 4);
    let unknown = json!({ "from": PERSON, "to": "+15125559999", "body": "x" });
    assert_eq!(
        twilio.control("POST", "/inbound/sms", unknown).await.status,
        409
    );
}

#[tokio::test]
async fn stop_is_confirmed_by_twilio_and_ends_sending_until_start() {
    let mut receiver = Receiver::start().await;
    let twilio = number_with(&receiver).await;
    // An application that answers STOP too is not heard.
    receiver.answer(
        200,
        XML,
        "<Response><Message>We are sorry</Message></Response>",
    );
    let send = || twilio.text(&[("To", PERSON), ("From", OURS), ("Body", "x")]);
    twilio.write(PERSON, "yes").await;
    assert_eq!(
        receiver.next().await.field("OptOutType"),
        None,
        "a mere word"
    );
    twilio.until_told().await;
    twilio.write(PERSON, " Stop ").await;
    assert_eq!(
        receiver.next().await.field("OptOutType").as_deref(),
        Some("STOP")
    );
    twilio.write(PERSON, "QUIT").await;
    receiver.next().await;
    twilio.until_told().await;
    assert_eq!(send().await.body["code"], 21610);
    let heard = twilio.received(PERSON).await;
    assert_eq!(heard.len(), 2, "one confirmation, no more: {heard:?}");
    assert!(heard[1].starts_with("You have successfully been unsubscribed."));
    twilio.write(PERSON, "please stop").await;
    assert_eq!(receiver.next().await.field("OptOutType"), None);

    twilio.write(PERSON, "YES").await;
    assert_eq!(
        receiver.next().await.field("OptOutType").as_deref(),
        Some("START")
    );
    assert_eq!(send().await.status, 201);
    twilio.write(PERSON, "help").await;
    assert_eq!(
        receiver.next().await.field("OptOutType").as_deref(),
        Some("HELP")
    );
    // Another person was never concerned.
    assert_eq!(
        twilio
            .text(&[("To", "+15125550124"), ("From", OURS), ("Body", "x")])
            .await
            .status,
        201
    );
}

#[tokio::test]
async fn stop_holds_for_a_whole_messaging_service_and_a_plain_number_does_not_name_it() {
    let mut receiver = Receiver::start().await;
    let twilio = Simulator::start().await;
    let number = |number: &str, service: Option<&str>| json!({ "number": number, "sms_url": receiver.url, "messaging_service_sid": service, "advanced_opt_out": service.is_some() });
    let numbers = [
        number(OURS, Some("MG1")),
        number("+15125550101", Some("MG1")),
        number("+15125550102", None),
    ];
    let body = json!({ "account_sid": ACCOUNT, "auth_token": TOKEN, "numbers": numbers });
    twilio.control("POST", "/twilio/accounts", body).await.ok();
    twilio.write(PERSON, "STOP").await;
    assert_eq!(
        receiver.next().await.field("OptOutType").as_deref(),
        Some("STOP")
    );
    for (from, status) in [(OURS, 400), ("+15125550101", 400), ("+15125550102", 201)] {
        let answer = twilio
            .text(&[("To", PERSON), ("From", from), ("Body", "x")])
            .await;
        assert_eq!(answer.status, status, "{from}");
    }
    let plain = json!({ "from": PERSON, "to": "+15125550102", "body": "STOP" });
    twilio.control("POST", "/inbound/sms", plain).await.ok();
    assert_eq!(receiver.next().await.field("OptOutType"), None);
}

#[tokio::test]
async fn a_call_that_comes_in_asks_the_voice_address_then_tells_how_it_ended() {
    for (outcome, seconds) in [("no-answer", "0"), ("busy", "0"), ("completed", "45")] {
        let mut receiver = Receiver::start().await;
        let twilio = number_with(&receiver).await;
        receiver.answer(200, XML, "<Response/>");
        let body =
            json!({ "from": PERSON, "to": OURS, "outcome": outcome, "duration_seconds": 45 });
        let call = twilio.control("POST", "/inbound/call", body).await.ok();
        let asked = receiver.next().await;
        assert_eq!(asked.path, "/voice");
        assert_eq!(asked.field("CallStatus").as_deref(), Some("ringing"));
        assert_eq!(asked.field("Direction").as_deref(), Some("inbound"));
        let told = receiver.next().await;
        assert_eq!(told.path, "/voice/status");
        assert_eq!(told.field("CallSid"), Some(sid(&call)));
        assert_eq!(told.field("CallStatus").as_deref(), Some(outcome));
        assert_eq!(told.field("CallDuration").as_deref(), Some(seconds));
        let kept = twilio
            .twilio_get(&format!("Calls/{}.json", sid(&call)))
            .await;
        assert_eq!(
            (&kept["status"], &kept["duration"]),
            (&json!(outcome), &json!(seconds))
        );
    }
}

#[tokio::test]
async fn a_call_that_is_put_through_ends_as_that_phone_did_and_one_that_is_turned_away_is_busy() {
    const THERE: &str = "+15125550142";
    for (outcome, seconds) in [
        ("completed", Some("45")),
        ("no-answer", None),
        ("busy", None),
    ] {
        let mut receiver = Receiver::start().await;
        let twilio = number_with(&receiver).await;
        let dial = format!(
            "<Response><Dial timeout=\"20\" action=\"{}/voice/status?a=1&amp;b=2\">{THERE}</Dial></Response>",
            receiver.url
        );
        receiver.answer(200, XML, &dial);
        let body =
            json!({ "from": PERSON, "to": OURS, "outcome": outcome, "duration_seconds": 45 });
        let call = twilio.control("POST", "/inbound/call", body).await.ok();
        assert_eq!(receiver.next().await.path, "/voice");
        let dialed = receiver.next().await;
        assert_eq!(dialed.path, "/voice/status?a=1&b=2");
        assert_eq!(dialed.field("CallSid"), Some(sid(&call)));
        assert_eq!(dialed.field("CallStatus").as_deref(), Some("in-progress"));
        assert_eq!(dialed.field("DialCallStatus").as_deref(), Some(outcome));
        assert_eq!(dialed.field("DialCallDuration").as_deref(), seconds);
        let told = receiver.next().await;
        assert_eq!(told.field("CallStatus").as_deref(), Some("completed"));
        assert_eq!(told.field("DialCallStatus"), None);
        let rang = twilio.received(THERE).await.len();
        assert_eq!(rang, usize::from(outcome == "completed"), "{outcome}");
    }
    let mut receiver = Receiver::start().await;
    let twilio = number_with(&receiver).await;
    receiver.answer(200, XML, "<Response><Reject reason=\"busy\"/></Response>");
    let body = json!({ "from": PERSON, "to": OURS });
    twilio.control("POST", "/inbound/call", body).await.ok();
    assert_eq!(receiver.next().await.path, "/voice");
    let told = receiver.next().await;
    assert_eq!(told.field("CallStatus").as_deref(), Some("busy"));
}

#[tokio::test]
async fn a_call_that_is_made_rings_and_is_taken_or_not() {
    let mut receiver = Receiver::start().await;
    let twilio = number_with(&receiver).await;
    let url = |path: &str| format!("{}{path}", receiver.url);
    let (says, status, amd) = (url("/says"), url("/status?c=1"), url("/amd"));
    let all = ["initiated", "ringing", "answered", "completed"]
        .map(|event| ("StatusCallbackEvent", event));
    let call = async |to: &str, more: &[(&str, &str)]| {
        let form = [
            &[
                ("To", to),
                ("From", OURS),
                ("Url", says.as_str()),
                ("StatusCallback", status.as_str()),
            ][..],
            more,
        ]
        .concat();
        twilio
            .send(twilio.twilio("POST", "Calls.json").form(&form))
            .await
    };
    let made = call(PERSON, &all).await;
    assert_eq!((made.status, &made.body["status"]), (201, &json!("queued")));
    let mut told: Vec<(String, String)> = receiver
        .take(5)
        .await
        .into_iter()
        .map(|t| (t.path.clone(), t.field("CallStatus").unwrap_or_default()))
        .collect();
    told.sort();
    let expected = [
        ("/says", "in-progress"),
        ("/status?c=1", "completed"),
        ("/status?c=1", "in-progress"),
        ("/status?c=1", "initiated"),
        ("/status?c=1", "ringing"),
    ];
    assert_eq!(
        told,
        expected.map(|(path, status)| (path.to_owned(), status.to_owned()))
    );
    for (to, ended) in [
        ("+15005553100", "busy"),
        ("+15005553101", "no-answer"),
        ("+15005553102", "failed"),
    ] {
        call(to, &[]).await;
        let told = receiver.next().await;
        assert_eq!(
            (told.path.as_str(), told.field("CallStatus").as_deref()),
            ("/status?c=1", Some(ended))
        );
    }
    let machine = [
        ("MachineDetection", "DetectMessageEnd"),
        ("AsyncAmd", "true"),
        ("AsyncAmdStatusCallback", amd.as_str()),
    ];
    call("+15005553103", &machine).await;
    let told = receiver.take(3).await;
    let detected = told
        .iter()
        .find(|t| t.path == "/amd")
        .expect("told of the machine");
    assert_eq!(
        detected.field("AnsweredBy").as_deref(),
        Some("machine_start")
    );
    assert_eq!(
        twilio.received(PERSON).await.as_slice(),
        std::slice::from_ref(&says)
    );

    for (form, code) in [
        (vec![("From", OURS), ("Url", says.as_str())], 21201),
        (vec![("To", PERSON), ("Url", &says)], 21213),
        (vec![("To", PERSON), ("From", OURS)], 21205),
        (
            vec![("To", "+15005550001"), ("From", OURS), ("Url", &says)],
            21217,
        ),
        (
            vec![("To", PERSON), ("From", "+15125559999"), ("Url", &says)],
            21210,
        ),
    ] {
        let refused = twilio
            .send(twilio.twilio("POST", "Calls.json").form(&form))
            .await;
        assert_eq!(
            (refused.status, &refused.body["code"]),
            (400, &json!(code)),
            "{form:?}"
        );
    }
    let listed = twilio.twilio_get("Calls.json?To=%2B15125550123").await;
    assert_eq!(listed["calls"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_webhook_that_is_refused_is_lost_unless_its_address_asks_for_more() {
    let mut receiver = Receiver::start().await;
    let twilio = number_with(&receiver).await;
    receiver.answer(503, "text/plain", "");
    let send = async |callback: &str| {
        let form = [
            ("To", "+15005553000"),
            ("From", OURS),
            ("Body", "x"),
            ("StatusCallback", callback),
        ];
        assert_eq!(twilio.text(&form).await.status, 201);
    };
    send(&receiver.url).await;
    receiver.next().await;
    twilio.until_told().await;
    assert!(
        receiver.rest().is_empty(),
        "Twilio repeats no refused webhook"
    );
    send(&format!("{}/more#rc=2&rp=5xx", receiver.url)).await;
    assert_eq!(receiver.take(3).await[2].path, "/more");
    twilio.until_told().await;
    assert!(receiver.rest().is_empty());
    // Nobody listens there: one more attempt, at once, then none.
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let nobody = nobody.local_addr().expect("an address");
    send(&format!("http://{nobody}/")).await;
    twilio.until_told().await;
}
