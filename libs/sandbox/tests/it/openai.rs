//! The model: it quotes what it answers, calls for a person when asked to, says what a script tells it, and fails on order.

use serde_json::{Value, json};

use crate::client::{Answer, Simulator};

impl Simulator {
    async fn with_model(self) -> Simulator {
        let body = json!({ "api_key": "sk-1" });
        self.control("POST", "/openai/accounts", body).await.ok();
        self
    }

    fn ask(&self, body: &Value) -> reqwest::RequestBuilder {
        let request = self.request("POST", "/openai/v1/chat/completions");
        request.bearer_auth("sk-1").json(body)
    }

    async fn asked(&self, body: &Value) -> Answer {
        self.send(self.ask(body)).await
    }

    async fn script(&self, body: Value) {
        let answer = self.control("POST", "/openai/answers", body).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
    }
}

fn saying(words: &str) -> Value {
    json!({ "model": "gpt-4.1-mini", "messages": [{ "role": "user", "content": words }] })
}

fn content(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"]
        .as_str()
        .expect("text")
}

#[tokio::test]
async fn the_same_conversation_gets_the_same_answer_which_quotes_it() {
    let sim = Simulator::start().await.with_model().await;
    let mut body = saying("Is Tuesday free?");
    body["messages"]
        .as_array_mut()
        .expect("some")
        .push(json!({ "role": "user", "content": "Or Friday" }));
    let first = sim.asked(&body).await;
    assert!(first.header("x-request-id").is_some());
    let first = first.ok();
    assert!(content(&first).contains("\"Is Tuesday free?\", then \"Or Friday\""));
    assert_eq!(first["choices"][0]["finish_reason"], "stop");
    let again = sim.asked(&body).await.ok();
    assert_eq!(
        (content(&again), &again["usage"]),
        (content(&first), &first["usage"])
    );
    let count = |name: &str| first["usage"][name].as_u64().expect("a number");
    assert_eq!(
        count("prompt_tokens") + count("completion_tokens"),
        count("total_tokens")
    );
    assert!(count("prompt_tokens") > 5 && count("completion_tokens") > 5);
    let ledger = sim.control("GET", "/openai/ledger", json!({})).await.ok();
    assert_eq!(ledger["completions"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        ledger["completions"][0]["fragments"],
        json!(["Is Tuesday free?", "Or Friday"])
    );
}

#[tokio::test]
async fn asked_for_a_person_it_calls_the_tool_it_was_offered() {
    let sim = Simulator::start().await.with_model().await;
    let mut body = saying("I want to talk to a person");
    body["tools"] = json!([{ "type": "function", "function": { "name": "escalate", "parameters": { "properties": { "summary": { "type": "string" } } } } }]);
    let called = sim.asked(&body).await.ok();
    let choice = &called["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    let call = &choice["message"]["tool_calls"][0];
    assert_eq!(
        call["function"],
        json!({ "name": "escalate", "arguments": "{\"summary\":\"I want to talk to a person\"}" })
    );
    // What the tool said ends it: no second call for the same words.
    let messages = body["messages"].as_array_mut().expect("some");
    messages.push(choice["message"].clone());
    messages.push(json!({ "role": "tool", "tool_call_id": call["id"], "content": "done" }));
    let ended = sim.asked(&body).await.ok();
    assert_eq!(ended["choices"][0]["finish_reason"], "stop");
    assert!(content(&ended).contains("passed this on"));
}

#[tokio::test]
async fn a_script_says_what_comes_next() {
    let sim = Simulator::start().await.with_model().await;
    sim.script(json!({ "content": "Only about roofs.", "when": "roof" }))
        .await;
    sim.script(json!({ "content": "Twice.", "times": 2 })).await;
    sim.script(json!({ "tool_calls": [{ "name": "book", "arguments": { "day": "Tuesday" } }] }))
        .await;
    let say = async |words: &str| sim.asked(&saying(words)).await.ok();
    assert_eq!(content(&say("Hi").await), "Twice.");
    assert_eq!(content(&say("my roof leaks").await), "Only about roofs.");
    assert_eq!(content(&say("my roof leaks").await), "Twice.");
    let called = say("Hi").await;
    let function = &called["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(function["arguments"], "{\"day\":\"Tuesday\"}");
    assert!(content(&say("Hi").await).contains("\"Hi\""));
    sim.script(json!({ "content": "Never." })).await;
    assert_eq!(
        sim.control("DELETE", "/openai/answers", json!({}))
            .await
            .status,
        204
    );
    assert!(content(&say("Hi").await).contains("\"Hi\""));
    let nonsense = json!({ "text": "x", "times": 0, "tool_calls": [{}], "finish_reason": "bored" });
    let refused = sim.control("POST", "/openai/answers", nonsense).await;
    assert_eq!(
        (
            refused.status,
            refused.body["errors"].as_array().map(Vec::len)
        ),
        (400, Some(4))
    );
}

#[tokio::test]
async fn what_it_cannot_do_it_refuses_and_it_fails_as_the_provider_fails() {
    let sim = Simulator::start().await.with_model().await;
    let with = |name: &str, value: Value| {
        let mut body = saying("Hi");
        body[name] = value;
        body
    };
    for (body, param) in [
        (with("stream", json!(true)), "stream"),
        (with("n", json!(2)), "n"),
        (with("model", Value::Null), "model"),
        (with("messages", json!([])), "messages"),
        (
            with("messages", json!([{ "role": "robot", "content": "x" }])),
            "messages[0].role",
        ),
        (
            with(
                "messages",
                json!([{ "role": "user", "content": [{ "image_url": "x" }] }]),
            ),
            "messages[0].content",
        ),
        (
            with("response_format", json!({ "type": "json_object" })),
            "response_format",
        ),
        (
            with("tool_choice", json!({ "function": { "name": "none" } })),
            "tool_choice",
        ),
    ] {
        let refused = sim.asked(&body).await.error(400);
        assert_eq!(
            (&refused["type"], &refused["param"]),
            (&json!("invalid_request_error"), &json!(param)),
            "{body}"
        );
    }
    let cut = sim.asked(&with("max_tokens", json!(2))).await.ok();
    assert_eq!(
        (content(&cut), &cut["choices"][0]["finish_reason"]),
        ("Thanks f", &json!("length"))
    );
    let bare = sim
        .send(sim.request("GET", "/openai/v1/models"))
        .await
        .error(401);
    assert_eq!(bare["code"], Value::Null);
    let wrong = sim.request("GET", "/openai/v1/models").bearer_auth("sk-2");
    assert_eq!(sim.send(wrong).await.error(401)["code"], "invalid_api_key");

    let fault = |kind: &str, value: u64| json!({ "provider": "openai", "operation": "chat.completions", "kind": kind, "value": value, "count": 1 });
    sim.fault(fault("status", 429)).await;
    let limited = sim.asked(&saying("Hi")).await;
    assert_eq!(limited.header("retry-after"), Some("1"));
    assert_eq!(limited.error(429)["code"], "rate_limit_exceeded");
    for status in [500, 503] {
        sim.fault(fault("status", status)).await;
        let failed = sim.asked(&saying("Hi")).await;
        assert_eq!(
            (u64::from(failed.status), &failed.body["error"]["type"]),
            (status, &json!("server_error"))
        );
    }
    sim.fault(fault("latency", 600_000)).await;
    let waiting = tokio::spawn(sim.ask(&saying("Hi")).send());
    sim.until_fired("latency", 1).await;
    sim.control("DELETE", "/faults", json!({})).await;
    assert_eq!(
        waiting.await.expect("joined").expect("answered").status(),
        200
    );
}
