//! What survives: everything that was answered.

use std::io::Write;
use std::path::PathBuf;

use serde_json::json;

use crate::client::{Simulator, id};

/// A directory of this test's own, removed when it passed.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn objects_keys_clock_and_endpoints_survive_a_restart() {
    let directory = Directory::new("restart");
    let stripe = Simulator::start_in(directory.0.clone()).await;
    let (customer, _) = stripe.customer_with_card("pm_card_visa").await;
    let price = stripe.price(1_000).await;
    let form = [
        ("customer", customer.as_str()),
        ("items[0][price]", price.as_str()),
    ];
    let first = stripe.post_with_key("/subscriptions", &form, "key-1").await;
    stripe.advance(3600).await;
    let endpoint = json!({ "url": "http://127.0.0.1:9/none", "secret": "whsec_x" });
    stripe
        .control("PUT", "/stripe/webhook_endpoint", endpoint)
        .await
        .ok();
    stripe.post("/customers", &[]).await.ok();
    let before = stripe.ledger().await;
    stripe.stop().await;

    let stripe = Simulator::start_in(directory.0.clone()).await;
    let mut after = stripe.ledger().await;
    after["now"] = before["now"].clone();
    assert_eq!(after, before);
    let again = stripe.post_with_key("/subscriptions", &form, "key-1").await;
    assert_eq!(
        (again.header("idempotent-replayed"), &again.body),
        (Some("true"), &first.body)
    );
    assert_eq!(
        stripe.control("GET", "/clock", json!({})).await.ok()["offset_seconds"],
        3600
    );
    let pending = stripe
        .control("GET", "/stripe/deliveries", json!({}))
        .await
        .ok();
    assert_eq!(
        pending["data"][0]["type"], "customer.created",
        "undelivered events are still to be delivered"
    );
    stripe.stop().await;
}

#[tokio::test]
async fn what_was_answered_is_in_the_file_already_as_a_kill_would_leave_it() {
    let (directory, copied) = (Directory::new("killed"), Directory::new("killed-copy"));
    let stripe = Simulator::start_in(directory.0.clone()).await;
    let (customer, _) = stripe.customer_with_card("pm_card_visa").await;
    let price = stripe.price(1_000).await;
    stripe.subscribe(&customer, &price, &[]).await.ok();
    let before = stripe.ledger().await;
    // Nothing is stopped or flushed first: the copy is what a killed process leaves behind.
    std::fs::create_dir_all(&copied.0).expect("made");
    let (from, to) = (
        directory.0.join("sandbox.jsonl"),
        copied.0.join("sandbox.jsonl"),
    );
    std::fs::copy(from, to).expect("copied");
    let survivor = Simulator::start_in(copied.0.clone()).await;
    let mut after = survivor.ledger().await;
    after["now"] = before["now"].clone();
    assert_eq!(after, before);
    survivor.stop().await;
    stripe.stop().await;
}

#[tokio::test]
async fn a_torn_last_line_is_cut_off_and_damage_before_it_is_refused() {
    let directory = Directory::new("torn");
    let stripe = Simulator::start_in(directory.0.clone()).await;
    let kept = id(&stripe.post("/customers", &[]).await.ok());
    stripe.stop().await;
    let journal = directory.0.join("sandbox.jsonl");
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(&journal)
        .expect("the journal");
    file.write_all(b"{\"put\":[{\"kind\":\"stripe.cus")
        .expect("written");
    drop(file);

    let stripe = Simulator::start_in(directory.0.clone()).await;
    stripe.get(&format!("/customers/{kept}")).await.ok();
    let second = id(&stripe.post("/customers", &[]).await.ok());
    stripe.stop().await;
    let stripe = Simulator::start_in(directory.0.clone()).await;
    stripe.get(&format!("/customers/{second}")).await.ok();
    stripe.stop().await;

    let text = std::fs::read_to_string(&journal).expect("read");
    std::fs::write(&journal, format!("not a record\n{text}")).expect("written");
    let config = mainstay_sandbox::SandboxConfig {
        data_dir: Some(directory.0.clone()),
        stripe_secret_key: None,
    };
    let error = mainstay_sandbox::Sandbox::open(config)
        .await
        .expect_err("damage");
    assert!(error.to_string().contains("line 1"), "{error}");
}

#[tokio::test]
async fn one_directory_serves_one_process() {
    let directory = Directory::new("locked");
    let stripe = Simulator::start_in(directory.0.clone()).await;
    let config = mainstay_sandbox::SandboxConfig {
        data_dir: Some(directory.0.clone()),
        stripe_secret_key: None,
    };
    let error = mainstay_sandbox::Sandbox::open(config)
        .await
        .expect_err("in use");
    assert!(
        matches!(error, mainstay_sandbox::SandboxError::InUse { .. }),
        "{error}"
    );
    stripe.stop().await;
}

#[tokio::test]
async fn a_large_journal_is_compacted_at_open_without_loss() {
    let directory = Directory::new("compact");
    let stripe = Simulator::start_in(directory.0.clone()).await;
    stripe.post("/customers", &[]).await.ok();
    let intent = [("amount", "1000"), ("currency", "usd")];
    let intent = id(&stripe.post("/payment_intents", &intent).await.ok());
    let names: Vec<String> = (0..50).map(|n| format!("metadata[k{n}]")).collect();
    for round in 0..220 {
        // Each update leaves its predecessor in the journal as dead weight.
        let value = format!("{round:0>500}");
        let form: Vec<(&str, &str)> = names
            .iter()
            .map(|name| (name.as_str(), value.as_str()))
            .collect();
        let path = format!("/payment_intents/{intent}");
        stripe.post(&path, &form).await.ok();
    }
    let before = stripe.ledger().await["payment_intents"].clone();
    let events = stripe.get("/events?limit=100").await.ok();
    stripe.stop().await;
    let journal = directory.0.join("sandbox.jsonl");
    let long = std::fs::metadata(&journal).expect("there").len();
    let stripe = Simulator::start_in(directory.0.clone()).await;
    let short = std::fs::metadata(&journal).expect("there").len();
    assert!(
        long > 4 << 20,
        "{long}: the test must write enough to be compacted"
    );
    assert!(short < long / 10, "{short} of {long}");
    assert_eq!(stripe.ledger().await["payment_intents"], before);
    assert_eq!(stripe.get("/events?limit=100").await.ok(), events);
    stripe.stop().await;
    Simulator::start_in(directory.0.clone()).await.stop().await;
}
