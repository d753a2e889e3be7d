//! A stored webhook reaches the owner of its meaning, and its row says where it stands.

use mainstay_integrations::delivery;
use mainstay_integrations::webhook::Next;
use mainstay_proto::billing::v1::StripeEventOutcome;
use mainstay_rpc::Problem;
use mainstay_runtime::telemetry::{self, LogFormat, TelemetryConfig};
use mainstay_testkit::TestDatabase;
use mainstay_types::{AgencyId, ClientId, WebhookEventId};
use tonic::Status;

use crate::stage::{Stage, answer, webhook};

#[tokio::test(flavor = "multi_thread")]
async fn what_billing_takes_is_processed_with_the_bytes_that_were_signed() {
    let mut stage = Stage::start().await;
    let mut odd = webhook("evt_1", "invoice.paid");
    odd.body = b"{ \"id\" : \"evt_1\", \"note\": \"\xff\xfe\"}"
        .as_slice()
        .into();
    stage.store(vec![odd.clone()]).await.expect("stored");
    let heard = stage.billing_hears().await.event;
    assert_eq!(
        (heard.stripe_event_id.as_str(), heard.r#type.as_str()),
        ("evt_1", "invoice.paid")
    );
    assert_eq!(
        heard.body, odd.body,
        "not re-written, not even where it is no text"
    );
    let database = stage.stop().await;
    let processed = "select count(*) from integrations.webhook_event
        where state = 'processed' and attempts = 1 and processed_at is not null and error is null and outcome = 'applied'";
    assert_eq!(database.count(processed).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_comes_too_early_and_a_billing_that_is_away_are_tried_again() {
    let answers = vec![
        Ok(answer(StripeEventOutcome::Retry, None)),
        Err(Status::unknown("connection reset")),
        Ok(answer(StripeEventOutcome::Duplicate, None)),
    ];
    let mut stage = Stage::with_script([("evt_1", answers)]).await;
    stage
        .store(vec![webhook("evt_1", "customer.subscription.updated")])
        .await
        .expect("stored");
    stage.billing_hears().await;
    for try_ in ["second", "third"] {
        assert_eq!(
            stage.billing_hears().await.event.stripe_event_id,
            "evt_1",
            "{try_}"
        );
    }
    let database = stage.stop().await;
    let processed = "select count(*) from integrations.webhook_event
        where state = 'processed' and attempts = 3 and error is null and outcome = 'had its effect before'";
    assert_eq!(database.count(processed).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_waits_its_row_says_why() {
    let answers = vec![
        Ok(answer(StripeEventOutcome::Retry, None)),
        Err(Problem::unavailable("restarting").into()),
    ];
    let mut stage = Stage::with_script([("evt_1", answers)]).await;
    stage
        .store(vec![webhook("evt_1", "customer.subscription.updated")])
        .await
        .expect("stored");
    stage.billing_hears().await;
    stage.billing_hears().await;
    let database = stage.stop().await;
    let failed = "select count(*) from integrations.webhook_event
        where state = 'failed' and attempts = 2 and error like 'billing answered UNAVAILABLE%'";
    assert_eq!(database.count(failed).await, 1);
    assert_eq!(database.count("select count(*) from integrations.webhook_event where due_at is not null and tries = 2").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_billing_refuses_for_good_is_a_dead_letter_at_once() {
    let mut stage =
        Stage::with_script([("evt_1", vec![Err(Problem::invalid(Vec::new()).into())])]).await;
    stage
        .store(vec![webhook("evt_1", "invoice.paid")])
        .await
        .expect("stored");
    stage.billing_hears().await;
    let database = stage.stop().await;
    assert_eq!(database.count("select count(*) from integrations.webhook_event where state = 'dead' and attempts = 1").await, 1);
    assert_eq!(
        database
            .count(
                "select count(*) from integrations.job_dead_letter where kind = 'deliver_webhook'"
            )
            .await,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_up_is_told_and_so_is_that_it_had_its_effect_after_all() {
    let refused = || Err(Problem::invalid(Vec::new()).into());
    let taken = || Ok(answer(StripeEventOutcome::Applied, None));
    let script = [
        ("evt_1", vec![refused(), taken()]),
        ("evt_2", vec![taken(), taken()]),
    ];
    let mut stage = Stage::with_script(script).await;
    // Whose they are is known when they come in.
    let owned = format!(
        "create function integrations.owned() returns trigger language plpgsql as
           $$begin new.agency_id := '{}'; return new; end$$;
         create trigger owned before insert on integrations.webhook_event for each row execute function integrations.owned()",
        AgencyId::generate().uuid()
    );
    stage.database.execute(&owned).await;
    for id in ["evt_1", "evt_2"] {
        let stored = stage.store(vec![webhook(id, "invoice.paid")]).await;
        stored.expect("stored");
        stage.billing_hears().await;
    }
    let mut pace = tokio::time::interval(std::time::Duration::from_millis(20));
    let ended =
        "select count(*) from integrations.webhook_event where state in ('dead', 'processed')";
    while stage.database.count(ended).await < 2 {
        pace.tick().await;
    }
    // Both are replayed; only one of them was given up.
    let replay = "update integrations.webhook_event
         set state = 'received', replays = 1, replayed_at = now(), outcome = null, error = null, processed_at = null,
             due_at = now(), tries = 0";
    stage.database.execute(replay).await;
    stage.billing_hears().await;
    stage.billing_hears().await;
    let database = stage.stop().await;
    let told = async |event: &str| {
        let told = format!(
            "select count(*) from integrations.outbox_delivery d join integrations.outbox_event e on e.id = d.event_id
             where d.consumer = 'escalation' and e.type = '{event}' and e.payload ->> 'provider' = 'stripe'"
        );
        database.count(&told).await
    };
    assert_eq!(told("integrations.webhook.dead").await, 1);
    assert_eq!(told("integrations.webhook.recovered").await, 1);
    assert_eq!(
        database
            .count("select count(*) from integrations.webhook_event where given_up")
            .await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_tries_are_used_up_a_person_must_look() {
    let mut stage = Stage::with_script([("evt_1", vec![Err(Status::internal("boom"))])]).await;
    // One try is left when it comes in: as if the others had been used up.
    stage
        .database
        .execute(
            "create function integrations.one_try() returns trigger language plpgsql as
           $$begin new.tries := 39; return new; end$$;
         create trigger one_try before insert on integrations.webhook_event for each row
           execute function integrations.one_try()",
        )
        .await;
    stage
        .store(vec![webhook("evt_1", "invoice.paid")])
        .await
        .expect("stored");
    stage.billing_hears().await;
    let database = stage.stop().await;
    let dead = "select count(*) from integrations.webhook_event where state = 'dead' and error like 'billing answered INTERNAL%'";
    assert_eq!(database.count(dead).await, 1);
    assert_eq!(
        database
            .count("select count(*) from integrations.job_dead_letter")
            .await,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn it_belongs_to_whom_billing_says_also_while_it_waits() {
    let (agency, client) = (AgencyId::generate(), ClientId::generate());
    let answers = vec![
        Ok(answer(StripeEventOutcome::Retry, Some((agency, client)))),
        Err(Status::internal("boom")),
    ];
    let mut stage = Stage::with_script([("evt_1", answers)]).await;
    stage
        .store(vec![webhook("evt_1", "invoice.paid")])
        .await
        .expect("stored");
    stage.billing_hears().await;
    stage.billing_hears().await;
    let database = stage.stop().await;
    let whose = format!(
        "select count(*) from integrations.webhook_event where state = 'failed' and agency_id = '{}' and tenant_id = '{}'",
        agency.uuid(),
        client.uuid()
    );
    assert_eq!(
        database.count(&whose).await,
        1,
        "an answer that names nobody takes nothing back"
    );
}

/// A webhook that a runner had in hand when it was lost, having had so many tries before.
async fn lost(database: &TestDatabase, event: &str, tries: u32) {
    let id = WebhookEventId::generate().uuid();
    database
        .execute(&format!(
            "insert into integrations.webhook_event (id, slot, provider, account, event_key, type, content_type, body,
               received_at, due_at, tries)
             values ('{id}', integrations.webhook_slot('{id}'), 'stripe', 'default', '{event}', 'invoice.paid',
               'application/json', '{{}}', now(), now(), {tries});
             insert into integrations.webhook_lease (webhook_event_id, fence, runner, leased_until)
             values ('{id}', nextval('integrations.job_fence'), gen_random_uuid(), now() - interval '1 second')"
        ))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_runner_had_in_hand_is_taken_back_at_the_price_of_a_try() {
    let database = TestDatabase::new().await;
    lost(&database, "evt_1", 0).await;
    lost(&database, "evt_2", 39).await;
    let mut stage = Stage::on(database, []).await;
    assert_eq!(stage.billing_hears().await.event.stripe_event_id, "evt_1");
    stage
        .until(1, "select count(*) from integrations.webhook_event where state = 'processed' and attempts = 2")
        .await;
    let database = stage.stop().await;
    let given_up = "select count(*) from integrations.webhook_event e
        join integrations.job_dead_letter d using (id) where e.state = 'dead' and d.last_error = 'the runner was lost'";
    assert_eq!(database.count(given_up).await, 1, "not for ever");
    assert_eq!(
        database
            .count("select count(*) from integrations.webhook_lease")
            .await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_lost_the_lease_writes_nothing() {
    let test = TestDatabase::new().await;
    let id = WebhookEventId::generate();
    test.execute(&format!(
        "insert into integrations.webhook_event (id, slot, provider, account, event_key, type, content_type, body,
           received_at, due_at)
         values ('{0}', integrations.webhook_slot('{0}'), 'stripe', 'default', 'evt_1', 'invoice.paid',
           'application/json', '{{}}', now(), now());
         insert into integrations.webhook_lease (webhook_event_id, fence, runner, leased_until)
         values ('{0}', 7, gen_random_uuid(), now() + interval '1 hour')",
        id.uuid()
    ))
    .await;
    let database = test.database("integrations").await;
    let worker = database.worker();
    let mut connection = worker.connection().await.expect("a connection");
    let (conn, now) = (connection.conn(), chrono::DateTime::UNIX_EPOCH);
    let done = Next::Processed {
        outcome: "applied".to_owned(),
    };
    for (fence, ours) in [(6, false), (7, true), (7, false)] {
        let applied = delivery::sql::apply(conn, id, fence, &done, None, now, now).await;
        assert_eq!(applied.expect("an answer"), ours, "fence {fence}");
    }
    assert!(
        !delivery::sql::bury(conn, id, 6, "late", None)
            .await
            .expect("an answer")
    );
    let once = "select count(*) from integrations.webhook_event where state = 'processed' and attempts = 1 and due_at is null";
    assert_eq!(test.count(once).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_release_before_left_as_a_job_is_handed_on_all_the_same() {
    let test = TestDatabase::new().await;
    let id = WebhookEventId::generate().uuid();
    test.execute(&format!(
        "insert into integrations.webhook_event (id, slot, provider, account, event_key, type, content_type, body, received_at)
         values ('{id}', integrations.webhook_slot('{id}'), 'stripe', 'default', 'evt_1', 'invoice.paid',
           'application/json', '{{}}', now());
         insert into integrations.job (id, kind, run_at, payload, max_attempts)
         values ('{id}', 'deliver_webhook', now(), jsonb_build_object('webhook_event_id', '{id}'), 40)"
    ))
    .await;
    let mut stage = Stage::on(test, []).await;
    assert_eq!(stage.billing_hears().await.event.stripe_event_id, "evt_1");
    stage
        .until(1, "select count(*) from integrations.webhook_event where state = 'processed' and attempts = 1")
        .await;
    stage
        .until(
            0,
            "select count(*) from integrations.job where kind = 'deliver_webhook'",
        )
        .await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_that_brought_it_goes_on_to_its_effect() {
    // Without telemetry nobody would continue a trace. Initialised before by another test of this process: as good.
    let telemetry = TelemetryConfig {
        service_name: "test".to_owned(),
        environment: "development".to_owned(),
        otlp_endpoint: None,
        traces_file: None,
        traces_file_max_bytes: 0,
        sample_ratio: 1.0,
        log_format: LogFormat::Pretty,
        log_file: None,
        log_filter: "off".to_owned(),
    };
    let _telemetry = telemetry::init(&telemetry);
    let mut stage = Stage::start().await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let mut traced = webhook("evt_1", "invoice.paid");
    traced.traceparent = Some(format!("00-{trace}-00f067aa0ba902b7-01"));
    let mut untraced = webhook("evt_2", "invoice.paid");
    untraced.traceparent = Some("not a trace".to_owned());
    stage.store(vec![traced]).await.expect("stored");
    let traceparent = stage
        .billing_hears()
        .await
        .traceparent
        .expect("calls carry their trace");
    assert!(traceparent.contains(trace), "{traceparent}");
    stage
        .store(vec![untraced])
        .await
        .expect("a broken trace context is no reason to lose a webhook");
    assert_eq!(stage.billing_hears().await.event.stripe_event_id, "evt_2");
    let database = stage.stop().await;
    let traced = format!(
        "select count(*) from integrations.webhook_event where traceparent like '%{trace}%'"
    );
    assert_eq!(database.count(&traced).await, 1);
}
