//! A stored webhook reaches the owner of its meaning, and its row says where it stands.

use mainstay_proto::billing::v1::StripeEventOutcome;
use mainstay_rpc::Problem;
use mainstay_runtime::telemetry::{self, LogFormat, TelemetryConfig};
use mainstay_types::{AgencyId, ClientId};
use tonic::Status;

use crate::stage::{Stage, answer, webhook};

#[tokio::test(flavor = "multi_thread")]
async fn what_billing_takes_is_processed_with_the_bytes_that_were_signed() {
    let mut stage = Stage::start().await;
    let mut odd = webhook("evt_1", "invoice.paid");
    odd.body = b"{ \"id\" : \"evt_1\", \"note\": \"\xff\xfe\"}".to_vec();
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
    assert_eq!(database.count("select count(*) from integrations.job where kind = 'deliver_webhook' and attempt = 2").await, 1);
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
async fn when_the_tries_are_used_up_a_person_must_look() {
    let mut stage = Stage::with_script([("evt_1", vec![Err(Status::internal("boom"))])]).await;
    // One try is left when it comes in: as if the others had been used up.
    stage
        .database
        .execute(
            "create function integrations.one_try() returns trigger language plpgsql as
           $$begin new.max_attempts := 1; return new; end$$;
         create trigger one_try before insert on integrations.job for each row
           when (new.kind = 'deliver_webhook') execute function integrations.one_try()",
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
