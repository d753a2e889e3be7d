//! What Stripe's events say about money: payments, what was given back, what is disputed, and who must be told.

use mainstay_billing::stripe_events::effects::{Effect, TYPES};
use mainstay_proto::billing::v1::{
    Dispute, DisputeStatus, GetDisputeRequest, ListDisputesRequest, ListPaymentsRequest, Payment,
    PaymentStatus, RefundStatus, StripeEventOutcome, Subscription, SubscriptionStatus,
};
use mainstay_rpc::ErrorReason;
use mainstay_types::DisputeId;
use serde_json::{Value, json};

use crate::stage::{Stage, pro, problem};

async fn subscribed() -> (Stage, Subscription) {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    let order = stage.order(&plan, Some("pm_card_visa"));
    let subscription = stage.subscribe(order).await.expect("subscribed");
    (stage, subscription)
}

async fn payments(stage: &Stage) -> Vec<Payment> {
    let list = ListPaymentsRequest {
        client_id: stage.client.to_string(),
        ..Default::default()
    };
    let list = stage.payments().list_payments(stage.owner(list)).await;
    list.expect("a list").into_inner().data
}

async fn disputes(stage: &Stage) -> Vec<Dispute> {
    let list = ListDisputesRequest::default();
    let list = stage.disputes().list_disputes(stage.owner(list)).await;
    list.expect("a list").into_inner().data
}

fn minor(money: &Option<mainstay_proto::common::v1::Money>) -> Option<i64> {
    money.as_ref().and_then(|money| money.amount_minor)
}

/// What was told to messaging, by type.
async fn told(stage: &Stage, event_type: &str) -> i64 {
    let sql = format!("select count(*) from billing.outbox_event where type = '{event_type}'");
    stage.database.count(&sql).await
}

async fn charge_of(stage: &Stage) -> String {
    let charges = stage.ledger("charges").await;
    let [charge] = charges.as_slice() else {
        panic!("one charge, not {}", charges.len());
    };
    charge["id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn a_payment_is_mirrored_with_its_invoice_and_what_was_given_back_of_it() {
    let (stage, _) = subscribed().await;
    stage.deliver_all().await;
    let [payment] = payments(&stage).await.try_into().expect("one payment");
    assert_eq!(payment.status(), PaymentStatus::Succeeded);
    assert!(payment.invoice_id.is_some(), "the invoice it pays");
    assert_eq!(minor(&payment.amount_captured), Some(99_700));
    assert_eq!(minor(&payment.amount_refunded), Some(0));

    let charge = charge_of(&stage).await;
    let refund = [("charge", charge.as_str()), ("amount", "700")];
    stage.at_stripe("/stripe/v1/refunds", &refund).await;
    stage.deliver_all().await;
    let [payment] = payments(&stage).await.try_into().expect("one payment");
    assert_eq!(minor(&payment.amount_refunded), Some(700));
    let [given] = payment.refunds.as_slice() else {
        panic!("one refund, not {}", payment.refunds.len());
    };
    assert_eq!(given.status(), RefundStatus::Succeeded);
    let mirrored =
        "select sum(amount_captured_minor - amount_refunded_minor)::bigint from billing.payment";
    assert_eq!(
        stage.database.count(mirrored).await,
        stage.taken_at_stripe().await,
        "to the minor unit"
    );
}

#[tokio::test]
async fn a_refund_that_fails_leaves_the_money_with_us_and_is_told_once() {
    let (stage, _) = subscribed().await;
    let charge = charge_of(&stage).await;
    let refund = [("charge", charge.as_str())];
    let refund = stage.at_stripe("/stripe/v1/refunds", &refund).await;
    stage.deliver_all().await;
    let id = refund["id"].as_str().expect("an id");
    let path = format!("/_/stripe/refunds/{id}/fail");
    stage.at_stripe(&path, &[]).await;
    for _ in 0..2 {
        stage.deliver_all().await;
    }
    let [payment] = payments(&stage).await.try_into().expect("one payment");
    assert_eq!(minor(&payment.amount_refunded), Some(0));
    assert_eq!(payment.refunds[0].status(), RefundStatus::Failed);
    assert_eq!(told(&stage, "billing.refund.failed").await, 1);
}

#[tokio::test]
async fn a_dispute_is_followed_from_its_opening_to_its_end() {
    let (stage, _) = subscribed().await;
    let charge = charge_of(&stage).await;
    let opened = [("charge", charge.as_str())];
    let opened = stage.at_stripe("/_/stripe/disputes", &opened).await;
    stage.deliver_all().await;
    let [dispute] = disputes(&stage).await.try_into().expect("one dispute");
    assert_eq!(dispute.status(), DisputeStatus::NeedsResponse);
    assert_eq!(dispute.client_id, Some(stage.client.to_string()));
    assert!(dispute.evidence_due_at.is_some(), "there is a deadline");
    assert_eq!(dispute.funds_withdrawn, Some(true));
    assert_eq!(dispute.closed_at, None);
    let [payment] = payments(&stage).await.try_into().expect("one payment");
    assert_eq!(
        (payment.id, payment.disputed),
        (dispute.payment_id, Some(true))
    );
    assert_eq!(told(&stage, "billing.dispute.opened").await, 1);

    let id = opened["id"].as_str().expect("an id");
    let path = format!("/_/stripe/disputes/{id}/resolve");
    stage.at_stripe(&path, &[("won", "true")]).await;
    stage.deliver_all().await;
    let get = GetDisputeRequest {
        dispute_id: dispute.id.clone().expect("an id"),
    };
    let won = stage.disputes().get_dispute(stage.owner(get)).await;
    let won = won.expect("a dispute").into_inner();
    assert_eq!(won.status(), DisputeStatus::Won);
    assert_eq!(won.funds_reinstated, Some(true));
    assert!(won.closed_at.is_some());
    assert_eq!(told(&stage, "billing.dispute.closed").await, 1);

    let none = GetDisputeRequest {
        dispute_id: DisputeId::generate().to_string(),
    };
    let refused = stage.disputes().get_dispute(stage.owner(none)).await;
    let refused = problem(refused.expect_err("there is none"));
    assert_eq!(refused.reason(), ErrorReason::NotFound);
}

#[tokio::test]
async fn a_renewal_that_fails_is_past_due_and_its_payer_is_told_what_to_do() {
    let (stage, subscription) = subscribed().await;
    stage.deliver_all().await;
    let stripe_id = subscription.stripe_subscription_id();
    let customer = stage.ledger("customers").await[0]["id"].clone();
    let attach = [("customer", customer.as_str().expect("an id"))];
    let method = "/stripe/v1/payment_methods/pm_card_chargeCustomerFail/attach";
    let method = stage.at_stripe(method, &attach).await;
    let bad = [(
        "default_payment_method",
        method["id"].as_str().expect("an id"),
    )];
    let path = format!("/stripe/v1/subscriptions/{stripe_id}");
    stage.at_stripe(&path, &bad).await;
    stage
        .at_stripe("/_/clock/advance", &[("seconds", "2764800")])
        .await;
    stage.deliver_all().await;
    let after = stage.subscription(subscription.id()).await;
    assert_eq!(after.status(), SubscriptionStatus::PastDue);
    assert!(told(&stage, "billing.invoice.payment_failed").await > 0);
    let client = stage.client.to_string();
    stage
        .identity
        .until(&client, |told| told.subscription_status == "past_due")
        .await;
    let failed = payments(&stage).await;
    assert_eq!(failed.len(), 2);
    assert_eq!(failed[0].status(), PaymentStatus::RequiresPaymentMethod);
    assert!(failed[0].failure_code.is_some());
    assert_eq!(minor(&failed[0].amount_captured), Some(0));
}

#[tokio::test]
async fn a_customer_edited_at_stripe_is_told_and_not_taken_over() {
    let (stage, _) = subscribed().await;
    stage.deliver_all().await;
    let customer = stage.ledger("customers").await[0]["id"].clone();
    let path = format!("/stripe/v1/customers/{}", customer.as_str().expect("an id"));
    stage.at_stripe(&path, &[("name", "Somebody Else")]).await;
    stage.deliver_all().await;
    assert_eq!(told(&stage, "billing.customer.edited_at_stripe").await, 1);
    // Nothing of identity's was changed: neither known nor told.
    stage.at_stripe(&path, &[("description", "a note")]).await;
    stage.deliver_all().await;
    assert_eq!(told(&stage, "billing.customer.edited_at_stripe").await, 1);
}

#[tokio::test]
async fn a_customer_deleted_at_stripe_is_made_anew_by_the_next_sale() {
    let (stage, subscription) = subscribed().await;
    stage.deliver_all().await;
    let customer = stage.ledger("customers").await[0]["id"].clone();
    let customer = customer.as_str().expect("an id");
    let url = format!("{}/stripe/v1/customers/{customer}", stage.sandbox_url);
    let deleted = stage.http.delete(url).bearer_auth("sk_test_stage").send();
    assert!(deleted.await.expect("an answer").status().is_success());
    stage.deliver_all().await;
    assert_eq!(told(&stage, "billing.customer.deleted_at_stripe").await, 1);
    let ended = stage.subscription(subscription.id()).await;
    assert_eq!(
        ended.status(),
        SubscriptionStatus::Canceled,
        "Stripe ends it"
    );
    let plan = stage
        .plan({
            let mut plan = pro();
            plan.name = Some("Again".into());
            plan
        })
        .await;
    let again = stage
        .subscribe(stage.order(&plan, Some("pm_card_visa")))
        .await;
    assert_eq!(again.expect("sold").status(), SubscriptionStatus::Active);
}

#[tokio::test]
async fn an_invoice_that_is_coming_is_told_though_there_is_nothing_to_read() {
    let (stage, _) = subscribed().await;
    let customer = stage.ledger("customers").await[0]["id"].clone();
    let upcoming = json!({
        "id": "evt_upcoming", "type": "invoice.upcoming",
        "data": {"object": {"object": "invoice", "customer": customer, "currency": "usd", "amount_due": 99_700}},
    });
    let handled = stage.deliver(&upcoming).await.expect("handled");
    assert_eq!(handled.outcome(), StripeEventOutcome::Applied);
    let handled = stage.deliver(&upcoming).await.expect("handled");
    assert_eq!(handled.outcome(), StripeEventOutcome::Duplicate);
    assert_eq!(told(&stage, "billing.invoice.upcoming").await, 1);
}

/// The object that an event of this type is about, of those on the stage.
fn object_of(kind: &str, known: &[(&str, Value)]) -> Option<Value> {
    let prefix = [
        ("customer.subscription.", "subscription"),
        ("customer.", "customer"),
        ("invoice.", "invoice"),
        ("payment_intent.", "payment_intent"),
        ("payment_method.", "payment_method"),
        ("charge.dispute.", "dispute"),
        ("charge.", "charge"),
        ("refund.", "refund"),
    ];
    let (_, noun) = prefix
        .into_iter()
        .find(|(prefix, _)| kind.starts_with(prefix))?;
    let found = known.iter().find(|(name, _)| *name == noun);
    found.map(|(_, object)| object.clone())
}

#[tokio::test]
async fn every_type_has_its_effect_and_a_client_that_has_ended_is_not_brought_back_by_any() {
    let (stage, subscription) = subscribed().await;
    let charge = charge_of(&stage).await;
    let part = [("charge", charge.as_str()), ("amount", "100")];
    let refund = stage.at_stripe("/stripe/v1/refunds", &part).await;
    let of = [("charge", charge.as_str())];
    let dispute = stage.at_stripe("/_/stripe/disputes", &of).await;
    stage.deliver_all().await;
    let stripe_id = subscription.stripe_subscription_id();
    let url = format!("{}/stripe/v1/subscriptions/{stripe_id}", stage.sandbox_url);
    let canceled = stage.http.delete(url).bearer_auth("sk_test_stage").send();
    assert!(canceled.await.expect("an answer").status().is_success());
    stage.deliver_all().await;

    let first = async |what: &str| stage.ledger(what).await[0].clone();
    let methods = stage.ledger("payment_methods").await;
    let method = methods.iter().find(|method| !method["customer"].is_null());
    let known = [
        ("subscription", first("subscriptions").await),
        ("customer", first("customers").await),
        ("invoice", first("invoices").await),
        ("payment_intent", first("payment_intents").await),
        ("charge", first("charges").await),
        ("payment_method", method.cloned().expect("one that pays")),
        ("refund", refund),
        ("dispute", dispute),
    ];
    for (place, (kind, effect)) in TYPES.iter().enumerate() {
        let Some(object) = object_of(kind, &known) else {
            continue;
        };
        let event = json!({ "id": format!("evt_type_{place}"), "type": kind, "data": { "object": object } });
        let handled = stage.deliver(&event).await.expect("handled");
        let expected = match effect {
            Effect::Keep => StripeEventOutcome::Ignored,
            _ => StripeEventOutcome::Applied,
        };
        assert_eq!(handled.outcome(), expected, "{kind}: {}", handled.detail);
    }
    for kind in ["setup_intent.succeeded", "payout.paid", "quantum.entangled"] {
        let event = json!({ "id": format!("evt_{kind}"), "type": kind, "data": { "object": { "id": "x_1" } } });
        let handled = stage.deliver(&event).await.expect("handled");
        assert_eq!(handled.outcome(), StripeEventOutcome::Ignored, "{kind}");
    }
    let after = stage.subscription(subscription.id()).await;
    assert_eq!(after.status(), SubscriptionStatus::Canceled);
    // Refund and dispute have acted all the same.
    let [payment] = payments(&stage).await.try_into().expect("one payment");
    assert_eq!(
        (minor(&payment.amount_refunded), payment.disputed),
        (Some(100), Some(true))
    );
    let of_strangers = json!({ "id": "evt_strange", "type": "refund.created", "data": { "object": { "id": "re_strange" } } });
    let handled = stage.deliver(&of_strangers).await.expect("handled");
    assert_eq!(handled.outcome(), StripeEventOutcome::Retry);
}
