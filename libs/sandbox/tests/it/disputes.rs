//! Disputes, and refunds that fail: money that goes back without us.
//!
//! Deliberately absent: refunds as we make them, in `billing`.

use serde_json::{Value, json};

use crate::client::{Simulator, id};

async fn charge(stripe: &Simulator, card: &str) -> String {
    let form = [
        ("amount", "1000"),
        ("currency", "usd"),
        ("payment_method", card),
        ("confirm", "true"),
    ];
    let intent = stripe.post("/payment_intents", &form).await.ok();
    intent["latest_charge"]
        .as_str()
        .expect("a charge")
        .to_owned()
}

async fn told(stripe: &Simulator) -> Vec<String> {
    let events = stripe
        .get("/events?limit=100&type=charge.dispute.*")
        .await
        .ok();
    let mut told: Vec<String> = events["data"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|event| event["type"].as_str())
        .map(|name| name.trim_start_matches("charge.dispute.").to_owned())
        .collect();
    told.reverse();
    told
}

async fn dispute_of(stripe: &Simulator, charge: &str) -> Value {
    stripe.get(&format!("/disputes?charge={charge}")).await.ok()["data"][0].clone()
}

#[tokio::test]
async fn a_card_that_disputes_is_answered_with_evidence_and_the_bank_decides() {
    let stripe = Simulator::start().await;
    for (evidence, status, last) in [
        ("winning_evidence", "won", "funds_reinstated"),
        ("losing_evidence", "lost", "closed"),
    ] {
        let charge = charge(&stripe, "pm_card_createDispute").await;
        let dispute = dispute_of(&stripe, &charge).await;
        assert_eq!(
            (&dispute["status"], &dispute["reason"], &dispute["amount"]),
            (&json!("needs_response"), &json!("fraudulent"), &json!(1000))
        );
        let kept = stripe.get(&format!("/charges/{charge}")).await.ok();
        assert_eq!(kept["disputed"], true);
        let refused = stripe
            .post("/refunds", &[("charge", &charge)])
            .await
            .error(400);
        assert_eq!(refused["code"], "charge_disputed");
        let path = format!("/disputes/{}", id(&dispute));
        let form = [("evidence[uncategorized_text]", evidence)];
        let decided = stripe.post(&path, &form).await.ok();
        assert_eq!(decided["status"], status);
        assert_eq!(told(&stripe).await.last().map(String::as_str), Some(last));
        stripe.post(&path, &form).await.error(400);
        stripe.post(&format!("{path}/close"), &[]).await.error(400);
    }
    let ledger = stripe.ledger().await;
    assert_eq!(ledger["disputes"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn a_holder_may_dispute_any_charge_once_and_the_whole_story_is_told() {
    let stripe = Simulator::start().await;
    let charge = charge(&stripe, "pm_card_visa").await;
    let body = json!({ "charge": charge, "reason": "duplicate", "amount": 400 });
    let dispute = stripe
        .control("POST", "/stripe/disputes", body.clone())
        .await
        .ok();
    assert_eq!(dispute["amount"], 400);
    let again = stripe.control("POST", "/stripe/disputes", body).await;
    assert_eq!(again.status, 409);
    let path = format!("/disputes/{}", id(&dispute));
    let draft = [
        ("evidence[customer_name]", "Acme"),
        ("submit", "false"),
        ("metadata[k]", "v"),
    ];
    assert_eq!(
        stripe.post(&path, &draft).await.ok()["status"],
        "needs_response"
    );
    stripe
        .post(&path, &[("evidence[nonsense]", "x")])
        .await
        .error(400);
    let sent = stripe.post(&path, &[("submit", "true")]).await.ok();
    assert_eq!(sent["status"], "under_review");
    let resolve = format!("/stripe/disputes/{}/resolve", id(&dispute));
    let decided = stripe
        .control("POST", &resolve, json!({ "won": true }))
        .await
        .ok();
    assert_eq!(decided["status"], "won");
    assert_eq!(
        told(&stripe).await,
        [
            "created",
            "funds_withdrawn",
            "updated",
            "updated",
            "closed",
            "funds_reinstated"
        ]
    );
    stripe.post("/refunds", &[("charge", &charge)]).await.ok();
    let senseless = json!({ "reason": "mood", "amount": 0 });
    let answer = stripe.control("POST", "/stripe/disputes", senseless).await;
    assert_eq!(
        (
            answer.status,
            answer.body["errors"].as_array().map(Vec::len)
        ),
        (400, Some(3))
    );
}

#[tokio::test]
async fn a_dispute_that_nobody_answers_is_lost_when_its_time_is_up() {
    let stripe = Simulator::start().await;
    let charge = charge(&stripe, "pm_card_createDispute").await;
    stripe.advance(8 * 86_400).await;
    let dispute = dispute_of(&stripe, &charge).await;
    assert_eq!(
        (&dispute["status"], &dispute["evidence_details"]["past_due"]),
        (&json!("lost"), &json!(true))
    );
}

#[tokio::test]
async fn a_refund_may_fail_later_or_take_its_time() {
    let stripe = Simulator::start().await;
    let failing = charge(&stripe, "pm_card_refundFail").await;
    let pending = charge(&stripe, "pm_card_pendingRefund").await;
    let refund = stripe.post("/refunds", &[("charge", &failing)]).await.ok();
    assert_eq!(refund["status"], "succeeded");
    let slow = stripe.post("/refunds", &[("charge", &pending)]).await.ok();
    assert_eq!(slow["status"], "pending");
    stripe.advance(3_601).await;
    let refund = stripe.get(&format!("/refunds/{}", id(&refund))).await.ok();
    assert_eq!(
        (&refund["status"], &refund["failure_reason"]),
        (&json!("failed"), &json!("lost_or_stolen_card"))
    );
    let back = stripe.get(&format!("/charges/{failing}")).await.ok();
    assert_eq!(
        (&back["amount_refunded"], &back["refunded"]),
        (&json!(0), &json!(false))
    );
    assert_eq!(
        stripe.get(&format!("/refunds/{}", id(&slow))).await.ok()["status"],
        "succeeded"
    );
    for event_type in ["refund.failed", "refund.updated"] {
        let told = stripe.get(&format!("/events?type={event_type}")).await.ok();
        assert_eq!(
            told["data"].as_array().map(Vec::len),
            Some(1),
            "{event_type}"
        );
    }
    let by_hand = charge(&stripe, "pm_card_visa").await;
    let refund = stripe.post("/refunds", &[("charge", &by_hand)]).await.ok();
    let path = format!("/stripe/refunds/{}/fail", id(&refund));
    stripe.control("POST", &path, json!({})).await.ok();
    assert_eq!(stripe.control("POST", &path, json!({})).await.status, 409);
}

#[tokio::test]
async fn an_invoice_that_cannot_be_finalized_stays_a_draft_and_says_so() {
    let stripe = Simulator::start().await;
    let (customer, _) = stripe.customer_with_card("pm_card_visa").await;
    let price = stripe.price(5_000).await;
    let made = stripe.subscribe(&customer, &price, &[]).await.ok();
    let path = format!("/stripe/customers/{customer}/finalization");
    stripe
        .control("POST", &path, json!({ "fails": true }))
        .await
        .ok();
    stripe.advance(32 * 86_400).await;
    let list = format!("/invoices?subscription={}&status=draft", id(&made));
    let draft = stripe.get(&list).await.ok()["data"][0].clone();
    assert_eq!(
        draft["last_finalization_error"]["code"],
        "customer_tax_location_invalid"
    );
    let told = stripe
        .get("/events?type=invoice.finalization_failed")
        .await
        .ok();
    assert_eq!(told["data"][0]["data"]["object"]["id"], draft["id"]);
    let finalize = format!("/invoices/{}/finalize", id(&draft));
    stripe.post(&finalize, &[]).await.error(400);
    stripe
        .control("POST", &path, json!({ "fails": false }))
        .await
        .ok();
    let open = stripe.post(&finalize, &[]).await.ok();
    assert_eq!(
        (&open["status"], &open["last_finalization_error"]),
        (&json!("open"), &Value::Null)
    );
}

#[tokio::test]
async fn a_bank_that_declines_fails_the_renewal_until_it_takes_charges_again() {
    let stripe = Simulator::start().await;
    let (customer, _) = stripe.customer_with_card("pm_card_visa").await;
    let price = stripe.price(5_000).await;
    let made = stripe.subscribe(&customer, &price, &[]).await.ok();
    let path = format!("/stripe/customers/{customer}/bank");
    stripe.control("POST", &path, json!({})).await.error(400);
    let declines = json!({ "declines": true });
    stripe.control("POST", &path, declines).await.ok();
    stripe.advance(32 * 86_400).await;
    let subscription = format!("/subscriptions/{}", id(&made));
    assert_eq!(stripe.get(&subscription).await.ok()["status"], "past_due");
    let takes = json!({ "declines": false });
    let shown = stripe.control("POST", &path, takes).await.ok();
    assert_eq!(shown["_bank_declines"], Value::Null, "Stripe shows none");
    // Stripe tries again by itself.
    stripe.advance(8 * 86_400).await;
    assert_eq!(stripe.get(&subscription).await.ok()["status"], "active");
}

#[tokio::test]
async fn a_part_of_the_ledger_is_whose_it_is_and_nobody_elses() {
    let stripe = Simulator::start().await;
    let mut ids = Vec::new();
    for name in ["ana", "ben"] {
        let (customer, _) = stripe.customer_with_card("pm_card_visa").await;
        let path = format!("/customers/{customer}");
        stripe.post(&path, &[("metadata[who]", name)]).await.ok();
        let price = stripe.price(5_000).await;
        stripe.subscribe(&customer, &price, &[]).await.ok();
        ids.push(customer);
    }
    let part = stripe.control("GET", "/stripe/ledger?metadata=who:ana", json!({}));
    let part = part.await.ok();
    let list = |name: &str| part[name].as_array().cloned().unwrap_or_default();
    assert_eq!(list("customers")[0]["id"], ids[0].as_str());
    assert_eq!(list("customers").len(), 1);
    for name in ["subscriptions", "charges", "invoices", "payment_intents"] {
        assert_eq!(list(name).len(), 1, "{name}");
        assert_eq!(list(name)[0]["customer"], ids[0].as_str(), "{name}");
    }
    let wrong = stripe.control("GET", "/stripe/ledger?metadata=ana", json!({}));
    assert_eq!(wrong.await.status, 400);
}
