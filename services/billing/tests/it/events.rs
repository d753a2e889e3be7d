//! What Stripe tells: late, twice, in the wrong order, about strangers.

use futures_util::future::join_all;
use mainstay_proto::billing::v1::{
    InvoiceStatus, ListInvoicesRequest, StripeEventOutcome, Subscription, SubscriptionStatus,
};
use mainstay_rpc::ErrorReason;
use mainstay_testkit::in_time;
use serde_json::{Value, json};

use crate::stage::{Stage, pro};

async fn subscribed() -> (Stage, Subscription) {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    let order = stage.order(&plan, Some("pm_card_visa"));
    let subscription = stage.subscribe(order).await.expect("subscribed");
    (stage, subscription)
}

fn of_type(events: &[Value], kind: &str) -> Value {
    let found = events.iter().find(|event| event["type"] == kind);
    found.unwrap_or_else(|| panic!("no {kind}")).clone()
}

#[tokio::test]
async fn a_paid_invoice_is_mirrored_and_pays_through_its_period() {
    let (stage, subscription) = subscribed().await;
    assert_eq!(
        subscription.paid_through_at, None,
        "the invoice says through when"
    );
    let paid = of_type(&stage.stripe_events().await, "invoice.paid");
    let handled = stage.deliver(&paid).await.expect("handled");
    assert_eq!(
        handled.outcome(),
        StripeEventOutcome::Applied,
        "{}",
        handled.detail
    );
    assert_eq!(handled.client_id, Some(stage.client.to_string()));
    assert_eq!(handled.agency_id, Some(stage.agency.to_string()));

    let client = stage.client.to_string();
    let told = stage
        .identity
        .until(&client, |told| told.paid_through_at.is_some())
        .await;
    let after = stage.subscription(subscription.id()).await;
    assert_eq!(after.paid_through_at, subscription.current_period_end_at);
    assert_eq!(told.paid_through_at, after.paid_through_at);
    assert_eq!(told.version, 2);

    let list = ListInvoicesRequest {
        client_id: client,
        ..Default::default()
    };
    let list = stage
        .invoices()
        .list_invoices(stage.owner(list))
        .await
        .expect("a list");
    let [invoice] = list.into_inner().data.try_into().expect("one invoice");
    assert_eq!(invoice.status(), InvoiceStatus::Paid);
    assert_eq!(invoice.subscription_id, subscription.id);
    assert_eq!(
        invoice.amount_paid.and_then(|paid| paid.amount_minor),
        Some(99_700)
    );
    assert!(invoice.paid_at.is_some());
}

#[tokio::test]
async fn events_thrice_and_shuffled_have_each_effect_once() {
    let (stage, subscription) = subscribed().await;
    let mut events = stage.stripe_events().await;
    events.reverse();
    let thrice: Vec<&Value> = events.iter().chain(&events).chain(&events).collect();
    let outcomes = join_all(thrice.into_iter().map(|event| stage.deliver(event))).await;
    let count = |wanted| {
        let outcomes = outcomes
            .iter()
            .map(|handled| handled.as_ref().expect("handled").outcome());
        outcomes.filter(|outcome| *outcome == wanted).count()
    };
    assert_eq!(count(StripeEventOutcome::Retry), 0);
    // More where the recovery of lost events was faster than a delivery.
    assert!(count(StripeEventOutcome::Duplicate) >= events.len() * 2);
    let noted = async |outcome: &str| {
        let sql =
            format!("select count(*) from billing.stripe_event_inbox where outcome = '{outcome}'");
        stage.database.count(&sql).await
    };
    assert!(noted("applied").await >= 3, "created, updated, paid");
    assert!(noted("ignored").await > 0, "kept and counted");

    let client = stage.client.to_string();
    stage
        .identity
        .until(&client, |told| told.paid_through_at.is_some())
        .await;
    assert_eq!(
        stage.subscription(subscription.id()).await.status(),
        SubscriptionStatus::Active
    );
    let database = &stage.database;
    assert_eq!(
        database.count("select count(*) from billing.invoice").await,
        1
    );
    let syncs = "select count(*) from billing.saga where definition = 'sync_entitlements'";
    assert_eq!(database.count(syncs).await, 1, "identity is told once");
    let noted = "select count(*) from billing.stripe_event_inbox";
    assert_eq!(
        database.count(noted).await,
        i64::try_from(events.len()).expect("few")
    );
}

#[tokio::test]
async fn what_ended_at_stripe_ends_here_and_no_late_event_brings_it_back() {
    let (stage, subscription) = subscribed().await;
    let before = stage.stripe_events().await;
    let id = subscription.stripe_subscription_id();
    let url = format!("{}/stripe/v1/subscriptions/{id}", stage.sandbox_url);
    let canceled = stage
        .http
        .delete(url)
        .bearer_auth("sk_test_stage")
        .send()
        .await;
    assert!(canceled.expect("an answer").status().is_success());
    let deleted = of_type(
        &stage.stripe_events().await,
        "customer.subscription.deleted",
    );
    let handled = stage.deliver(&deleted).await.expect("handled");
    assert_eq!(handled.outcome(), StripeEventOutcome::Applied);

    let client = stage.client.to_string();
    let told = stage
        .identity
        .until(&client, |told| told.subscription_status == "canceled")
        .await;
    assert_eq!(
        told.entitlements.map(|granted| granted.features),
        Some(Vec::new())
    );
    for late in &before {
        stage.deliver(late).await.expect("handled");
    }
    let after = stage.subscription(subscription.id()).await;
    assert_eq!(after.status(), SubscriptionStatus::Canceled);
    assert!(after.canceled_at.is_some());
    let plan = stage
        .plan({
            let mut plan = pro();
            plan.name = Some("Next".into());
            plan
        })
        .await;
    let again = stage
        .subscribe(stage.order(&plan, Some("pm_card_visa")))
        .await;
    assert_eq!(
        again.expect("free again").status(),
        SubscriptionStatus::Active
    );
    let told = stage.identity.stored(&client).expect("told");
    assert_eq!(
        told.subscription_status, "active",
        "the new one wins over the old one"
    );
}

#[tokio::test]
async fn an_event_about_something_unknown_is_to_come_again() {
    let (stage, _) = subscribed().await;
    let strange = json!({
        "id": "evt_strange", "type": "customer.subscription.updated",
        "data": {"object": {"id": "sub_strange", "customer": "cus_strange"}},
    });
    for _ in 0..2 {
        let handled = stage.deliver(&strange).await.expect("handled");
        assert_eq!(handled.outcome(), StripeEventOutcome::Retry);
        assert_eq!(handled.agency_id, None);
    }
    let paid = json!({
        "id": "evt_strange_2", "type": "invoice.paid",
        "data": {"object": {"id": "in_strange", "customer": "cus_strange"}},
    });
    assert_eq!(
        stage.deliver(&paid).await.expect("handled").outcome(),
        StripeEventOutcome::Retry
    );
    let empty = json!({ "id": "evt_empty", "type": "invoice.paid" });
    let refused = stage.deliver(&empty).await.expect_err("no event");
    assert_eq!(refused.reason(), ErrorReason::InvalidRequest);
}

#[tokio::test]
async fn an_event_while_stripe_cannot_be_asked_is_to_come_again_and_then_has_its_effect() {
    let (stage, subscription) = subscribed().await;
    let paid = of_type(&stage.stripe_events().await, "invoice.paid");
    // The channel and the HTTP stack each try three times by themselves.
    stage.fault("invoices.retrieve", "status", 503, 9).await;
    let refused = stage.deliver(&paid).await.expect_err("Stripe is away");
    assert_eq!(refused.reason(), ErrorReason::Unavailable);
    stage.mend().await;
    // Stripe is left alone for a moment after so many failures; integrations delivers until it is answered.
    let delivered = async {
        loop {
            match stage.deliver(&paid).await {
                Ok(handled) => return handled,
                Err(refused) => assert_eq!(refused.reason(), ErrorReason::Unavailable),
            }
        }
    };
    let handled = in_time("Stripe is back", delivered).await;
    assert_eq!(handled.outcome(), StripeEventOutcome::Applied);
    let after = stage.subscription(subscription.id()).await;
    assert!(after.paid_through_at.is_some());
}
