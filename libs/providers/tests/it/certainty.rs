//! What is certain after a call: answered, not sent, or unknown; and that nothing is repeated that could happen twice.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method};
use mainstay_providers::{BreakerState, Call, HttpStack, Outcome, ProviderSettings, Repeat};
use mainstay_runtime::health::{Finding, Probe, Status};

use crate::server::{Reply, Server, say};

fn stack(base: &str) -> HttpStack {
    let settings = ProviderSettings {
        attempt: Duration::from_millis(300),
        ..ProviderSettings::new("acme", "billing", base)
    };
    HttpStack::new(settings).expect("a stack")
}

fn post(repeat: Repeat) -> Call {
    Call {
        method: Method::POST,
        path: "/v1/charges".to_owned(),
        route: "/v1/charges".to_owned(),
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"amount=100"),
        repeat,
        deadline: None,
    }
}

async fn nobody() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    format!("http://{}", listener.local_addr().expect("an address"))
}

#[tokio::test]
async fn a_refused_connection_is_certainly_not_sent() {
    let outcome = stack(&nobody().await).call(post(Repeat::Never)).await;
    assert!(matches!(outcome, Outcome::NotSent(_)), "{outcome:?}");
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_request_is_unknown_and_never_repeated_without_a_key() {
    let server = Server::start([Reply::HangUp]).await;
    let outcome = stack(&server.base).call(post(Repeat::Never)).await;
    assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_silent_provider_is_unknown() {
    let server = Server::start([Reply::Silence]).await;
    let outcome = stack(&server.base).call(post(Repeat::Never)).await;
    assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn what_is_harmless_is_repeated_until_it_is_answered() {
    let server = Server::start([Reply::HangUp, say(503, "busy"), say(200, "done")]).await;
    let outcome = stack(&server.base).call(post(Repeat::Harmless)).await;
    let Outcome::Answer(answer) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        (
            answer.status.as_u16(),
            &answer.body[..],
            answer.after_unknown
        ),
        (200, &b"done"[..], true)
    );
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn repeats_are_counted() {
    let server = Server::start([say(500, "broken")]).await;
    let outcome = stack(&server.base).call(post(Repeat::Harmless)).await;
    assert!(matches!(outcome, Outcome::Answer(answer) if answer.status == 500));
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn a_later_refused_connection_does_not_make_an_unknown_outcome_certain() {
    let server = Server::start([Reply::Vanish]).await;
    let outcome = stack(&server.base).call(post(Repeat::Harmless)).await;
    assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
}

#[tokio::test]
async fn a_refusal_is_an_answer_and_is_not_repeated() {
    let server = Server::start([say(402, "{}")]).await;
    let outcome = stack(&server.base).call(post(Repeat::Harmless)).await;
    assert!(
        matches!(outcome, Outcome::Answer(answer) if answer.status == 402 && !answer.after_unknown)
    );
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_redirect_is_told_and_not_followed() {
    let server = Server::start([Reply::Say(
        302,
        "location: http://127.0.0.1:9/elsewhere\r\n",
        String::new(),
    )])
    .await;
    let outcome = stack(&server.base).call(post(Repeat::Never)).await;
    assert!(matches!(outcome, Outcome::Answer(answer) if answer.status == 302));
}

#[tokio::test]
async fn an_answer_larger_than_allowed_is_unknown() {
    let server = Server::start([say(200, "x".repeat(2000))]).await;
    let settings = ProviderSettings {
        answer_bytes: 1000,
        attempts: 1,
        ..ProviderSettings::new("acme", "billing", &*server.base)
    };
    let outcome = HttpStack::new(settings)
        .expect("a stack")
        .call(post(Repeat::Never))
        .await;
    assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
}

#[tokio::test]
async fn a_provider_that_keeps_failing_is_left_alone() {
    let server = Server::start([say(500, "broken")]).await;
    let stack = stack(&server.base);
    for _ in 0..6 {
        stack.call(post(Repeat::Never)).await;
    }
    assert_eq!(stack.breaker(), BreakerState::Open);
    let outcome = stack.call(post(Repeat::Harmless)).await;
    assert!(matches!(outcome, Outcome::NotSent(not_sent) if not_sent.retry_after.is_some()));
    assert_eq!(server.asked().len(), 6);
}

#[tokio::test]
async fn a_slow_provider_holds_its_own_turns_and_the_others_time_out_unsent() {
    let server = Server::start([Reply::Silence]).await;
    let settings = ProviderSettings {
        attempt: Duration::from_secs(60),
        total: Duration::from_millis(300),
        concurrent: 1,
        ..ProviderSettings::new("acme", "billing", &*server.base)
    };
    let stack = HttpStack::new(settings).expect("a stack");
    let impatient = Call {
        deadline: Some(Instant::now() + Duration::from_millis(100)),
        ..post(Repeat::Never)
    };
    let (one, two) = tokio::join!(stack.call(post(Repeat::Never)), stack.call(impatient));
    assert!(matches!(one, Outcome::Unknown(_)), "{one:?}");
    assert!(matches!(two, Outcome::NotSent(_)), "{two:?}");
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn health_tells_of_a_provider_what_its_calls_have_shown() {
    let told = async |stack: &HttpStack| match stack.probe().await.remove(0) {
        Finding::Provider(provider) => provider,
        other => panic!("{other:?}"),
    };
    let server = Server::start([say(200, "{}"), say(402, "{}"), say(500, "{}")]).await;
    let stack = stack(&server.base);
    let fresh = told(&stack).await;
    assert_eq!((fresh.status, fresh.calls.requests), (Status::Healthy, 0));
    assert_eq!(fresh.last_success, None);
    for _ in 0..4 {
        stack.call(post(Repeat::Never)).await;
    }
    // A refusal is an answer: the provider works.
    let some = told(&stack).await;
    assert_eq!((some.calls.requests, some.calls.failures), (4, 2));
    assert!(some.last_success.is_some() && some.status == Status::Healthy);
    for _ in 0..2 {
        stack.call(post(Repeat::Never)).await;
    }
    let failing = told(&stack).await;
    assert_eq!(failing.status, Status::Unhealthy, "it is left alone");
}
