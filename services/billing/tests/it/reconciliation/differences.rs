//! Every kind of difference, seeded by hand on either side: found, repaired or left to a person.
//! Deliberately absent: how a run goes on; see `runs`.

use super::*;

#[tokio::test]
async fn a_lost_event_has_its_effect_after_all() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    let order = stage.order(&plan, Some("pm_card_visa"));
    let subscription = stage.subscribe(order).await.expect("subscribed");
    assert_eq!(subscription.paid_through_at, None, "no event came");

    let (ended, met) = run(&stage, false).await;
    assert_eq!(kinds(&met), [(Kind::InvoiceMissing, State::Repaired)]);
    assert_eq!((ended.repaired_count(), ended.open_count()), (1, 0));
    assert_eq!(met[0].client_id(), stage.client.to_string());
    assert_eq!(met[0].subscription_id, subscription.id);
    let after = stage.subscription(subscription.id()).await;
    assert_eq!(after.paid_through_at, subscription.current_period_end_at);

    all_at_rest(&stage).await;
    let (again, met) = run(&stage, false).await;
    assert_eq!(kinds(&met), [], "the second run is quiet");
    assert_eq!(again.found_count(), 0);
}

#[tokio::test]
async fn a_row_that_differs_follows_stripe_and_identity_is_told() {
    let (stage, _, subscription) = settled().await;
    stage
        .database
        .execute(
            "update billing.subscription set status = 'past_due', current_period_end_at = '2020-01-01'",
        )
        .await;
    let (_, met) = run(&stage, false).await;
    assert_eq!(kinds(&met), [(Kind::SubscriptionDiffers, State::Repaired)]);
    let told = |told: &Option<prost_types::Struct>| {
        let fields = &told.as_ref().expect("told").fields;
        match &fields["status"].kind {
            Some(prost_types::value::Kind::StringValue(status)) => status.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(told(&met[0].before), "past_due");
    assert_eq!(told(&met[0].after), "active");
    let after = stage.subscription(subscription.id()).await;
    assert_eq!(after.status(), SubscriptionStatus::Active);
    assert_eq!(
        after.current_period_end_at,
        subscription.current_period_end_at
    );
    let client = stage.client.to_string();
    stage
        .identity
        .until(&client, |told| {
            told.version == 3 && told.subscription_status == "active"
        })
        .await;
}

#[tokio::test]
async fn what_ended_at_stripe_unheard_ends_here() {
    let (stage, _, subscription) = settled().await;
    delete(
        &stage,
        &format!("/subscriptions/{}", subscription.stripe_subscription_id()),
    )
    .await;
    let (_, met) = run(&stage, false).await;
    assert_eq!(kinds(&met), [(Kind::SubscriptionDiffers, State::Repaired)]);
    let after = stage.subscription(subscription.id()).await;
    assert_eq!(after.status(), SubscriptionStatus::Canceled);
    all_at_rest(&stage).await;
    let (_, met) = run(&stage, false).await;
    assert_eq!(kinds(&met), []);
}

#[tokio::test]
async fn a_subscription_that_stripe_does_not_know_is_told_and_not_ended() {
    let (stage, _, subscription) = settled().await;
    stage
        .database
        .execute("update billing.subscription set stripe_subscription_id = 'sub_elsewhere'")
        .await;
    let (ended, met) = run(&stage, false).await;
    // Stripe's object names our row, which says that it is another one.
    assert_eq!(
        kinds(&met),
        [
            (Kind::SubscriptionDuplicated, State::Open),
            (Kind::SubscriptionGone, State::Open)
        ]
    );
    assert_eq!(ended.open_count(), 2);
    let after = stage.subscription(subscription.id()).await;
    assert_eq!(
        after.status(),
        SubscriptionStatus::Active,
        "nothing was ended"
    );

    // Found again it is the same; mended by a person it is gone.
    let (_, again) = run(&stage, false).await;
    let ids = |met: &[Discrepancy]| -> Vec<String> {
        met.iter().map(|met| met.id().to_owned()).collect()
    };
    assert_eq!(ids(&again), ids(&met));
    let id = subscription.stripe_subscription_id();
    stage
        .database
        .execute(&format!(
            "update billing.subscription set stripe_subscription_id = '{id}'"
        ))
        .await;
    let (ended, after) = run(&stage, false).await;
    assert_eq!((ended.found_count(), ended.open_count()), (0, 0));
    assert!(
        after
            .iter()
            .all(|met| met.state() == State::Resolved && met.resolved_at.is_some()),
        "{after:?}"
    );
    assert_eq!(ids(&after), ids(&met));
}

#[tokio::test]
async fn an_orphan_of_an_undone_saga_is_canceled() {
    let (stage, orphan) = orphaned(&[("trial_period_days", "14")]).await;
    assert_eq!(at_stripe(&stage, &orphan).await["status"], "trialing");
    let (_, met) = run(&stage, false).await;
    assert_eq!(kinds(&met), [(Kind::SubscriptionOrphaned, State::Repaired)]);
    assert_eq!(at_stripe(&stage, &orphan).await["status"], "canceled");
    assert_eq!(stage.live_at_stripe().await, 0);
    let (_, met) = run(&stage, false).await;
    assert_eq!(kinds(&met), []);
}

#[tokio::test]
async fn an_orphan_that_waits_to_be_paid_is_canceled_and_can_never_be_paid() {
    let (stage, orphan) = orphaned(&[("payment_behavior", "default_incomplete")]).await;
    let (_, met) = run(&stage, false).await;
    assert_eq!(kinds(&met), [(Kind::SubscriptionOrphaned, State::Repaired)]);
    assert_eq!(stage.live_at_stripe().await, 0, "{orphan}");
    let invoices = stage.ledger("invoices").await;
    assert!(
        invoices.iter().all(|invoice| invoice["status"] != "open"),
        "{invoices:?}"
    );
}

#[tokio::test]
async fn money_taken_by_an_orphan_waits_for_a_person_until_it_is_given_back() {
    let (stage, orphan) = orphaned(&[("payment_behavior", "default_incomplete")]).await;
    let invoice = text(&at_stripe(&stage, &orphan).await, "latest_invoice").to_owned();
    let customer = text(&at_stripe(&stage, &orphan).await, "customer").to_owned();
    let card = by_hand(
        &stage,
        "/payment_methods/pm_card_visa/attach",
        &[("customer", &customer)],
    )
    .await;
    by_hand(
        &stage,
        &format!("/invoices/{invoice}/pay"),
        &[("payment_method", text(&card, "id"))],
    )
    .await;
    let (ended, met) = run(&stage, false).await;
    assert_eq!(
        kinds(&met),
        [
            (Kind::SubscriptionOrphaned, State::Repaired),
            (Kind::PaymentKept, State::Open)
        ]
    );
    assert_eq!((ended.repaired_count(), ended.open_count()), (1, 1));
    assert_eq!(stage.taken_at_stripe().await, 99_700, "nobody gave it back");
    let probe = ReconciliationProbe::new(&stage.database.database("billing").await);
    let found = probe.probe().await;
    let [Finding::Alert(alert)] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(alert.code, "discrepancies_open");

    let (_, again) = run(&stage, false).await;
    assert_eq!(kinds(&again), [(Kind::PaymentKept, State::Open)]);
    assert_eq!(again[0].id, met[1].id, "the same row");
    let charge = one(&stage, "charges").await;
    by_hand(&stage, "/refunds", &[("charge", text(&charge, "id"))]).await;
    let (_, after) = run(&stage, false).await;
    assert_eq!(kinds(&after), [(Kind::PaymentKept, State::Resolved)]);
    assert!(probe.probe().await.is_empty());
}

#[tokio::test]
async fn an_orphan_whose_saga_cannot_be_told_is_left_to_a_person() {
    let (stage, orphan) = orphaned(&[("trial_period_days", "14")]).await;
    let other = SagaId::generate().to_string();
    by_hand(
        &stage,
        &format!("/subscriptions/{orphan}"),
        &[("metadata[mainstay_saga_id]", &other)],
    )
    .await;
    let (_, met) = run(&stage, false).await;
    assert_eq!(kinds(&met), [(Kind::SubscriptionOrphaned, State::Open)]);
    assert_eq!(at_stripe(&stage, &orphan).await["status"], "trialing");
}

#[tokio::test]
async fn a_second_subscription_made_by_hand_is_told_twice_and_left_alone() {
    let (stage, _, subscription) = settled().await;
    let ours = at_stripe(&stage, subscription.stripe_subscription_id()).await;
    let price = text(&ours["items"]["data"][0]["price"], "id").to_owned();
    let form = [
        ("customer", text(&ours, "customer")),
        ("items[0][price]", &price),
        ("trial_period_days", "14"),
    ];
    by_hand(&stage, "/subscriptions", &form).await;
    let (_, met) = run(&stage, false).await;
    assert_eq!(
        kinds(&met),
        [
            (Kind::SubscriptionUnknown, State::Open),
            (Kind::SubscriptionDuplicated, State::Open)
        ]
    );
    assert_eq!(stage.live_at_stripe().await, 2);
}

#[tokio::test]
async fn what_ended_here_and_bills_at_stripe_is_told() {
    let (stage, _, subscription) = settled().await;
    stage
        .database
        .execute("update billing.subscription set status = 'canceled', canceled_at = now()")
        .await;
    let (_, met) = run(&stage, false).await;
    assert_eq!(kinds(&met), [(Kind::SubscriptionEndedHere, State::Open)]);
    let after = stage.subscription(subscription.id()).await;
    assert_eq!(after.status(), SubscriptionStatus::Canceled);
    assert_eq!(stage.live_at_stripe().await, 1);
}

#[tokio::test]
async fn a_price_that_differs_is_told() {
    let (stage, _, subscription) = settled().await;
    let ours = at_stripe(&stage, subscription.stripe_subscription_id()).await;
    let item = text(&ours["items"]["data"][0], "id").to_owned();
    by_hand(
        &stage,
        &format!("/subscriptions/{}", subscription.stripe_subscription_id()),
        &[
            ("items[0][id]", &item),
            ("items[0][quantity]", "2"),
            ("proration_behavior", "none"),
        ],
    )
    .await;
    let (_, met) = run(&stage, false).await;
    assert_eq!(kinds(&met), [(Kind::SubscriptionPriceDiffers, State::Open)]);
}

#[tokio::test]
async fn a_customer_that_a_saga_left_is_taken_by_the_account_it_was_made_for() {
    let (stage, _, _) = settled().await;
    let customer = one(&stage, "customers").await;
    stage
        .database
        .execute("update billing.billing_account set stripe_customer_id = null")
        .await;
    stage
        .database
        .execute("delete from billing.stripe_object where subscription_id is null")
        .await;
    // Invoices are told apart by their customer: they come after it.
    let (_, met) = run(&stage, false).await;
    assert_eq!(kinds(&met), [(Kind::CustomerUnknown, State::Repaired)]);
    let mut connection = stage.database.admin().await;
    let (taken,): (Option<String>,) =
        sqlx::query_as("select stripe_customer_id from billing.billing_account")
            .fetch_one(&mut connection)
            .await
            .expect("one account");
    assert_eq!(taken.as_deref(), customer["id"].as_str());
}

#[tokio::test]
async fn a_second_customer_and_a_deleted_one_are_told() {
    let (stage, _, _) = settled().await;
    let customer = one(&stage, "customers").await;
    let saga = text(&customer["metadata"], "mainstay_saga_id");
    let client = stage.client.to_string();
    let form = [
        ("metadata[mainstay_client_id]", client.as_str()),
        ("metadata[mainstay_saga_id]", saga),
    ];
    by_hand(&stage, "/customers", &form).await;
    let (_, met) = run(&stage, false).await;
    assert_eq!(kinds(&met), [(Kind::CustomerUnknown, State::Open)]);

    delete(&stage, &format!("/customers/{}", text(&customer, "id"))).await;
    let (_, met) = run(&stage, false).await;
    let mut found = kinds(&met);
    found.sort_by_key(|(kind, _)| *kind as i32);
    assert_eq!(
        found,
        [
            // With the customer Stripe ended its subscription.
            (Kind::SubscriptionDiffers, State::Repaired),
            (Kind::CustomerUnknown, State::Open),
            (Kind::CustomerGone, State::Open),
        ]
    );
}

#[tokio::test]
async fn an_invoice_paid_with_another_amount_is_told() {
    let (stage, _, _) = settled().await;
    stage
        .database
        .execute("update billing.invoice set amount_paid_minor = 1")
        .await;
    let (_, met) = run(&stage, false).await;
    assert_eq!(kinds(&met), [(Kind::InvoiceAmountDiffers, State::Open)]);
}

#[tokio::test]
async fn a_subscription_of_another_installation_is_never_touched() {
    let (stage, _, subscription) = settled().await;
    let ours = at_stripe(&stage, subscription.stripe_subscription_id()).await;
    let price = text(&ours["items"]["data"][0]["price"], "id").to_owned();
    let stranger = by_hand(&stage, "/customers", &[("name", "Stranger")]).await;
    let (client, theirs) = (ClientId::generate(), SubscriptionId::generate());
    let (client, theirs) = (client.to_string(), theirs.to_string());
    let form = [
        ("customer", text(&stranger, "id")),
        ("items[0][price]", &price),
        ("trial_period_days", "14"),
        ("metadata[mainstay_client_id]", &client),
        ("metadata[mainstay_subscription_id]", &theirs),
    ];
    let made = by_hand(&stage, "/subscriptions", &form).await;
    let (_, met) = run(&stage, false).await;
    assert_eq!(kinds(&met), []);
    let stands = at_stripe(&stage, text(&made, "id")).await;
    assert_eq!(stands["status"], "trialing");
}
