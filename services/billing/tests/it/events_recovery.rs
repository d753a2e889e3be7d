//! Webhooks that never came are recovered from Stripe's own list of events.

use mainstay_billing::stripe_events::recover;
use mainstay_proto::billing::v1::SubscriptionStatus;

use crate::stage::{Stage, pro};

const AGAIN: &str = "select count(*) from billing.job where kind = 'recover_stripe_event'";
const CURSOR: &str =
    "select count(*) from billing.stripe_event_cursor where walk_after is not null";

/// Somebody else's payment, in the same Stripe account: of nobody yet.
async fn strangers_payment(stage: &Stage) {
    let made = [("name", "A stranger")];
    let stranger = stage.at_stripe("/stripe/v1/customers", &made).await;
    let customer = stranger["id"].as_str().expect("an id");
    let payment = [
        ("amount", "500"),
        ("currency", "usd"),
        ("customer", customer),
        ("payment_method", "pm_card_visa"),
        ("confirm", "true"),
    ];
    stage
        .at_stripe("/stripe/v1/payment_intents", &payment)
        .await;
}

/// As if the last look had been a day ago.
async fn looked_a_day_ago(stage: &Stage) {
    let mut connection = stage.database.admin().await;
    let sql = "insert into billing.stripe_event_cursor (read_through)
               values (extract(epoch from now())::bigint - 86400)
               on conflict (singleton) do update set read_through = excluded.read_through, walk_newest = null,
                 walk_after = null";
    sqlx::query(sql)
        .execute(&mut connection)
        .await
        .expect("a cursor");
}

#[tokio::test]
async fn events_whose_webhooks_were_lost_have_their_effect_once_all_the_same() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    let order = stage.order(&plan, Some("pm_card_visa"));
    let subscription = stage.subscribe(order).await.expect("subscribed");
    looked_a_day_ago(&stage).await;
    let intake = stage.intake().await;
    let walked = recover::walk(&intake).await.expect("walked");
    assert!(walked.ended);
    assert_eq!(walked.waiting, Vec::<String>::new());
    assert!(walked.recovered > 5, "{walked:?}");
    let client = stage.client.to_string();
    stage
        .identity
        .until(&client, |told| told.paid_through_at.is_some())
        .await;
    let after = stage.subscription(subscription.id()).await;
    assert_eq!(after.status(), SubscriptionStatus::Active);

    // Its webhooks, late: nothing is left to do.
    let again = recover::walk(&intake).await.expect("walked");
    assert_eq!((again.recovered, again.ended), (0, true));
    for event in stage.stripe_events().await {
        let handled = stage.deliver(&event).await.expect("handled");
        use mainstay_proto::billing::v1::StripeEventOutcome::Duplicate;
        assert_eq!(handled.outcome(), Duplicate);
    }
}

#[tokio::test]
async fn a_walk_that_was_broken_off_goes_on_where_it_was() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    let order = stage.order(&plan, Some("pm_card_visa"));
    stage.subscribe(order).await.expect("subscribed");
    looked_a_day_ago(&stage).await;
    // Newest first, as the walk goes; it had come as far as the middle one.
    let mut events = stage.stripe_events().await;
    events.reverse();
    let middle = events.len() / 2;
    let (id, newest) = (&events[middle]["id"], &events[0]["created"]);
    let sql = format!(
        "update billing.stripe_event_cursor set walk_newest = {newest}, walk_after = '{}'",
        id.as_str().expect("an id")
    );
    let mut connection = stage.database.admin().await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
        .execute(&mut connection)
        .await
        .expect("a walk in hand");
    let intake = stage.intake().await;
    let walked = recover::walk(&intake).await.expect("walked");
    let older = events.len() - middle - 1;
    assert_eq!(walked.looked_at, u64::try_from(older).expect("few"));
    assert!(walked.ended);
    let through = "select read_through from billing.stripe_event_cursor where walk_after is null";
    assert_eq!(
        stage.database.count(through).await,
        newest.as_i64().expect("a time")
    );
    // The overlap takes in the rest.
    let rest = recover::walk(&intake).await.expect("walked");
    assert_eq!(rest.looked_at, u64::try_from(events.len()).expect("few"));
    let noted = "select count(*) from billing.stripe_event_inbox";
    assert_eq!(
        stage.database.count(noted).await,
        i64::try_from(events.len()).expect("few")
    );
}

#[tokio::test]
async fn what_cannot_have_its_effect_yet_is_named_and_a_new_installation_begins_at_the_present() {
    let stage = Stage::start().await;
    let intake = stage.intake().await;
    let none = recover::walk(&intake).await.expect("walked");
    assert_eq!((none.looked_at, none.ended), (0, true));
    strangers_payment(&stage).await;
    looked_a_day_ago(&stage).await;
    let walked = recover::walk(&intake).await.expect("walked");
    assert_eq!(walked.waiting.len(), 1, "the payment: {walked:?}");
    let handled = recover::again(&intake, &walked.waiting[0]).await;
    let handled = handled.expect("handled");
    assert_eq!(
        handled.outcome,
        mainstay_billing::stripe_events::Outcome::Retry
    );
}

#[tokio::test]
async fn what_waits_is_queued_with_the_step_that_passes_it_by_and_once() {
    let stage = Stage::start().await;
    // A page is of a hundred: the payment is on the first, as the newest, and the walk breaks off on the second.
    stage
        .at_stripe("/stripe/v1/customers", &[("name", "The first")])
        .await;
    let oldest = stage.stripe_events().await;
    let unwell = oldest[0]["id"].as_str().expect("an id");
    for _ in 0..100 {
        stage
            .at_stripe("/stripe/v1/customers", &[("name", "Another")])
            .await;
    }
    strangers_payment(&stage).await;
    looked_a_day_ago(&stage).await;
    refuse(
        &stage,
        "stripe_event_inbox",
        &format!("new.stripe_event_id = '{unwell}'"),
    )
    .await;
    let intake = stage.intake().await;
    recover::walk(&intake).await.expect_err("broken off");
    let standing = (
        stage.database.count(CURSOR).await,
        stage.database.count(AGAIN).await,
    );
    assert_eq!(standing, (1, 1), "one page is done");
    well_again(&stage, "stripe_event_inbox").await;
    let rest = recover::walk(&intake).await.expect("walked");
    assert!(rest.ended && rest.waiting.is_empty(), "{rest:?}");
    assert_eq!(stage.database.count(AGAIN).await, 1);

    // Found again within the overlap; what cannot be queued is not passed by.
    stage.database.execute("delete from billing.job").await;
    looked_a_day_ago(&stage).await;
    refuse(&stage, "job", "new.kind = 'recover_stripe_event'").await;
    recover::walk(&intake)
        .await
        .expect_err("it cannot be queued");
    assert_eq!(stage.database.count(CURSOR).await, 0);
    well_again(&stage, "job").await;
    for _ in 0..2 {
        let walked = recover::walk(&intake).await.expect("walked");
        assert_eq!(walked.waiting.len(), 1, "{walked:?}");
    }
    assert_eq!(stage.database.count(AGAIN).await, 1);
}

/// The database will not have such a row.
async fn refuse(stage: &Stage, table: &str, such: &str) {
    let sql = format!(
        "create function billing.refuse() returns trigger language plpgsql as
           $$begin if {such} then raise 'not this one'; end if; return new; end$$;
         create trigger refuse before insert on billing.{table} for each row execute function billing.refuse()"
    );
    stage.database.execute(&sql).await;
}

async fn well_again(stage: &Stage, table: &str) {
    let sql = format!("drop trigger refuse on billing.{table}; drop function billing.refuse()");
    stage.database.execute(&sql).await;
}
