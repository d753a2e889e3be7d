//! Documentation.

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
