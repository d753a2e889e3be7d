//! Documentation, and the page of whoever wants no more mail.

use crate::harness::{send, start};

#[tokio::test]
async fn every_problem_type_leads_to_its_page() {
    let gateway = start().await;
    let list = send(gateway.anonymous("GET", "/problems")).await;
    for info in mainstay_transcode::Schema::mainstay().reasons() {
        assert!(list.text.contains(&info.code));
    }
    let page = send(gateway.anonymous("GET", "/problems/subscription_exists")).await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("The client has a subscription") && page.text.contains("409"));
    send(gateway.anonymous("GET", "/problems/nonsense"))
        .await
        .assert_problem(404, "not_found");
    send(gateway.anonymous("GET", "/problems/%ff"))
        .await
        .assert_problem(404, "not_found");
}

#[tokio::test]
async fn somebody_who_unsubscribes_is_shown_a_page_whatever_happens() {
    let gateway = start().await;
    let answer = async |verb: &str, token: &str, body: &'static str| {
        let request = gateway.anonymous(verb, &format!("/unsubscribe/{token}"));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        send(request.body(body)).await
    };
    let (yes, long) = ("List-Unsubscribe=One-Click", "x".repeat(201));
    // Messaging is not there in these tests.
    for (verb, token, body, status) in [
        ("GET", "token", "", 503),
        ("POST", "token", yes, 503),
        ("POST", "token", "", 400),
        ("GET", long.as_str(), "", 404),
        ("POST", long.as_str(), yes, 404),
        ("GET", "%ff", "", 404),
    ] {
        let page = answer(verb, token, body).await;
        assert_eq!(page.status, status, "{verb} {token} {body}");
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        assert_eq!(page.header("cache-control"), "no-store");
        assert_eq!(page.header("x-robots-tag"), "noindex");
        assert_eq!(page.header("retry-after").is_empty(), status != 503);
        assert!(!page.text.contains(token), "{}", page.text);
    }
}

#[tokio::test]
async fn the_documentation_needs_nothing_from_elsewhere() {
    let gateway = start().await;
    let document = send(gateway.anonymous("GET", "/openapi.json")).await;
    assert_eq!(document.json["openapi"], "3.1.0");
    assert_eq!(document.json["servers"][0]["url"], gateway.url);
    assert!(document.json["paths"]["/v1/health"].is_object());
    for path in ["/", "/docs", "/docs/docs.js", "/docs/docs.css"] {
        let page = send(gateway.anonymous("GET", path)).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(
            !page.text.contains("https://") && !page.text.contains("//cdn"),
            "{path}"
        );
        assert!(
            page.header("content-security-policy")
                .contains("default-src 'none'")
        );
    }
}
