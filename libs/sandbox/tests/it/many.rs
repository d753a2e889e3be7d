//! Many objects, many events, and faults by chance.
//!
//! Deliberately absent: measurements of time. What grows is bounded by the test's own limit.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::client::{Simulator, id};

fn ids(page: &Value) -> Vec<String> {
    let data = page["data"].as_array().into_iter().flatten();
    data.map(id).collect()
}

/// Every event there is, page by page from the newest to the oldest.
async fn all_events(stripe: &Simulator) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    loop {
        let cursor = all
            .last()
            .map(|event| format!("&starting_after={}", id(event)))
            .unwrap_or_default();
        let page = stripe.get(&format!("/events?limit=100{cursor}")).await.ok();
        all.extend(page["data"].as_array().cloned().unwrap_or_default());
        if page["has_more"] == false {
            return all;
        }
    }
}

#[tokio::test]
async fn generated_lives_are_told_by_events_whose_last_word_is_the_state() {
    let stripe = Simulator::start().await;
    let subscriptions: Vec<Value> = (0..12)
        .map(|n| json!({ "client": format!("client_{n}"), "subscription": format!("sub_{n}") }))
        .collect();
    let body = json!({
        "customers": 12, "events": 900, "seed": 7, "deliver": false, "metadata": { "run": "r1" },
        "subscriptions": subscriptions,
    });
    let made = stripe.control("POST", "/stripe/generate", body).await.ok();
    assert_eq!(made["seed"], 7);
    assert!(made["events"].as_u64() >= Some(900), "{made}");
    assert_eq!(made["customers"].as_array().map(Vec::len), Some(12));
    assert_eq!(made["customers"][3]["client"], "client_3");

    let events = all_events(&stripe).await;
    assert_eq!(Some(events.len() as u64), made["events"].as_u64());
    let unique: HashSet<String> = events.iter().map(id).collect();
    assert_eq!(unique.len(), events.len());
    let created: Vec<i64> = events
        .iter()
        .filter_map(|event| event["created"].as_i64())
        .collect();
    assert!(created.is_sorted_by(|a, b| a >= b), "newest first");

    let ledger = stripe.ledger().await;
    let now = ledger["now"].as_i64().expect("a second");
    assert!(
        created
            .iter()
            .all(|at| (now - 30 * 86_400..=now).contains(at))
    );
    for subscription in ledger["subscriptions"].as_array().into_iter().flatten() {
        assert_eq!(subscription["metadata"]["run"], "r1");
        assert!(subscription["metadata"]["mainstay_subscription_id"].is_string());
        let told = events.iter().find(|event| {
            event["type"]
                .as_str()
                .is_some_and(|t| t.starts_with("customer.subscription."))
                && event["data"]["object"]["id"] == subscription["id"]
        });
        let told = &told.expect("it was told of")["data"]["object"];
        assert_eq!(told["status"], subscription["status"]);
    }
    let statuses: HashSet<&str> = ledger["subscriptions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|s| s["status"].as_str())
        .collect();
    assert!(statuses.len() > 2, "lives differ: {statuses:?}");
    assert!(ledger["refunds"].as_array().is_some_and(|r| !r.is_empty()));
    let deliveries = stripe
        .send(stripe.request("GET", "/_/stripe/deliveries"))
        .await
        .ok();
    assert_eq!(deliveries["data"], json!([]));
    // They live by everybody's clock now.
    stripe.advance(10 * 86_400).await;
    let later = stripe.ledger().await;
    assert!(
        later["invoices"].as_array().map(Vec::len) > ledger["invoices"].as_array().map(Vec::len)
    );
    let senseless = json!({ "customers": 0, "seed": -1, "clients": [1], "subscriptions": [{}] });
    let answer = stripe.control("POST", "/stripe/generate", senseless).await;
    let fields: Vec<&str> = answer.body["errors"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|error| error["field"].as_str())
        .collect();
    assert_eq!(
        fields,
        [
            "customers",
            "events",
            "seed",
            "clients",
            "clients[0]",
            "subscriptions[0]"
        ]
    );
}

#[tokio::test]
async fn the_same_seed_leads_the_same_lives() {
    let mut statuses = Vec::new();
    for _ in 0..2 {
        let stripe = Simulator::start().await;
        let body = json!({ "customers": 4, "events": 150, "seed": 42, "deliver": false });
        let made = stripe.control("POST", "/stripe/generate", body).await.ok();
        let types: Vec<Value> = all_events(&stripe)
            .await
            .iter()
            .map(|event| event["type"].clone())
            .collect();
        statuses.push((made["events"].clone(), made["steps"].clone(), types));
    }
    assert_eq!(statuses[0], statuses[1]);
}

#[tokio::test]
async fn events_are_found_by_type_time_and_delivery_in_both_directions() {
    let stripe = Simulator::start().await;
    let start = stripe.ledger().await["now"].as_i64().expect("a second");
    for _ in 0..3 {
        stripe.post("/customers", &[]).await.ok();
    }
    stripe.advance(10).await;
    stripe.post("/products", &[("name", "Pro")]).await.ok();
    let (customer, _) = stripe.customer_with_card("pm_card_visa").await;
    let later = start + 10;
    let count = async |query: &str| {
        let path = format!("/events?limit=100&{query}");
        ids(&stripe.get(&path).await.ok()).len()
    };
    assert_eq!(count("type=customer.created").await, 4);
    assert_eq!(count("type=product.*").await, 1);
    assert_eq!(
        count("types[]=customer.created&types[]=product.created").await,
        5
    );
    assert_eq!(
        count(&format!("type=customer.created&created[lt]={later}")).await,
        3
    );
    assert_eq!(
        count(&format!("type=customer.created&created[gte]={later}")).await,
        1
    );
    assert_eq!(
        count(&format!("created[gt]={start}&created[lt]={start}")).await,
        0
    );
    let all = ids(&stripe.get("/events?limit=100").await.ok());
    assert_eq!(count("delivery_success=true").await, all.len());
    assert_eq!(count("delivery_success=false").await, 0);
    let page = stripe
        .get(&format!("/events?limit=2&ending_before={}", all[4]))
        .await
        .ok();
    assert_eq!(ids(&page), all[2..4]);
    assert_eq!(page["has_more"], true);
    let page = stripe
        .get(&format!("/events?limit=2&starting_after={}", all[1]))
        .await
        .ok();
    assert_eq!(ids(&page), all[2..4]);
    stripe
        .get("/events?starting_after=evt_none")
        .await
        .error(400);
    stripe.advance(31 * 86_400).await;
    assert_eq!(count("type=customer.created").await, 0, "a month is kept");
    stripe.get(&format!("/events/{}", all[0])).await.error(404);
    stripe.get(&format!("/customers/{customer}")).await.ok();
}

#[tokio::test]
async fn pages_neither_lose_nor_repeat_while_the_list_changes() {
    let stripe = Simulator::start().await;
    let (customer, _) = stripe.customer_with_card("pm_card_visa").await;
    let price = stripe.price(5_000).await;
    let mut made = Vec::new();
    for _ in 0..12 {
        made.push(id(&stripe.subscribe(&customer, &price, &[]).await.ok()));
    }
    made.reverse();
    let list = format!("/subscriptions?customer={customer}&status=active&limit=4");
    let mut seen = ids(&stripe.get(&list).await.ok());
    // The cursor's own subscription leaves the list, others come and go around it.
    stripe
        .delete(&format!("/subscriptions/{}", seen[3]))
        .await
        .ok();
    stripe
        .delete(&format!("/subscriptions/{}", made[6]))
        .await
        .ok();
    stripe.subscribe(&customer, &price, &[]).await.ok();
    loop {
        let last = seen.last().expect("a page").clone();
        let page = stripe
            .get(&format!("{list}&starting_after={last}"))
            .await
            .ok();
        seen.extend(ids(&page));
        if page["has_more"] == false {
            break;
        }
    }
    made.remove(6);
    assert_eq!(seen, made);
}

#[tokio::test]
async fn a_fault_by_chance_strikes_the_same_places_with_the_same_seed() {
    let struck = async |seed: Option<u64>| -> (u64, Vec<bool>) {
        let stripe = Simulator::start().await;
        let mut fault =
            json!({ "kind": "lock_timeout", "operation": "customers.create", "rate": 0.3 });
        fault["seed"] = json!(seed);
        let fault = stripe.control("POST", "/faults", fault).await;
        assert_eq!(fault.status, 201);
        let mut struck = Vec::new();
        for _ in 0..40 {
            let answer = stripe.post("/customers", &[]).await;
            if answer.status == 429 {
                assert_eq!(answer.header("retry-after"), Some("1"));
                assert_eq!(answer.header("stripe-should-retry"), Some("true"));
                assert_eq!(answer.body["error"]["code"], "lock_timeout");
            }
            struck.push(answer.status == 429);
        }
        (fault.body["seed"].as_u64().expect("a seed"), struck)
    };
    let (seed, first) = struck(None).await;
    assert_eq!(struck(Some(seed)).await, (seed, first.clone()));
    assert!(first.contains(&true) && first.contains(&false));
}

#[tokio::test]
async fn a_refusal_for_load_leaves_the_key_unused() {
    let stripe = Simulator::start().await;
    for fault in [
        json!({ "kind": "status", "value": 429, "count": 1 }),
        json!({ "kind": "lock_timeout", "count": 1 }),
    ] {
        stripe.fault(fault.clone()).await;
        let key = fault["kind"].as_str().expect("a kind");
        stripe
            .post_with_key("/customers", &[], key)
            .await
            .error(429);
        let again = stripe.post_with_key("/customers", &[], key).await;
        assert_eq!(again.header("idempotent-replayed"), None);
        again.ok();
    }
    assert_eq!(
        stripe.ledger().await["customers"].as_array().map(Vec::len),
        Some(2)
    );
}
