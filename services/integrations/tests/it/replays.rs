//! A person has webhooks handed on again: each is queued once, none is lost, and nobody reaches another agency's.

use futures_util::future::join_all;
use mainstay_db::Database;
use mainstay_integrations::replay::{self, Paged, Range, ReplayError, rules};
use mainstay_integrations::webhook::State;
use mainstay_jobs::record::By;
use mainstay_proto::billing::v1::StripeEventOutcome;
use mainstay_proto::integrations::v1::{
    GetWebhookReplayRequest, ReplayWebhookEventRequest, ReplayWebhookEventsRequest,
    WebhookEventState, WebhookReplayState,
};
use mainstay_rpc::{ErrorReason, Problem};
use mainstay_testkit::TestDatabase;
use mainstay_types::{AgencyId, ClientId, WebhookEventId};
use tonic::Code;

use crate::stage::{Stage, answer, webhook};

/// So many rows of an agency, in this state, an hour old.
async fn rows(test: &TestDatabase, agency: AgencyId, state: &str, count: usize) {
    let ids: Vec<String> = (0..count)
        .map(|_| format!("('{}'::uuid)", WebhookEventId::generate().uuid()))
        .collect();
    test.execute(&format!(
        "insert into integrations.webhook_event (id, slot, agency_id, provider, account, event_key, type, state,
           processed_at, error, content_type, body, received_at)
         select i, integrations.webhook_slot(i), '{}', 'stripe', 'default', 'evt_' || i, 'invoice.paid', '{state}',
           case when '{state}' = 'processed' then now() end, case when '{state}' in ('failed', 'dead') then 'no' end,
           'application/json', '{{}}', now() - interval '1 hour'
         from (values {}) as x (i)",
        agency.uuid(),
        ids.join(",")
    ))
    .await;
}

fn by(agency: AgencyId) -> By {
    By {
        agency,
        actor: "key_test".to_owned(),
        request_id: None,
        now: "2026-01-01T12:00:00Z".parse().expect("a time"),
    }
}

fn range(states: &[State]) -> Range {
    Range {
        provider: None,
        kind: None,
        states: states.to_vec(),
        from: None,
        to: None,
    }
}

async fn ids(test: &TestDatabase, agency: AgencyId) -> Vec<WebhookEventId> {
    let ids: Vec<uuid::Uuid> = sqlx::query_scalar(
        "select id from integrations.webhook_event where agency_id = $1 order by id",
    )
    .bind(agency.uuid())
    .fetch_all(&mut test.admin().await)
    .await
    .expect("ids");
    ids.into_iter().map(WebhookEventId::from_uuid).collect()
}

async fn page(database: &Database, agency: AgencyId, replay: &replay::Replay) -> Paged {
    let now = by(agency).now;
    replay::next_page(&database.worker(), agency, replay.id, now)
        .await
        .expect("a page")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_webhook_that_is_replayed_has_its_effect_and_is_no_dead_letter_any_more() {
    let (agency, client) = (AgencyId::generate(), ClientId::generate());
    let whose = Some((agency, client));
    let answers = vec![
        Ok(answer(StripeEventOutcome::Retry, whose)),
        Err(Problem::invalid(Vec::new()).into()),
        Ok(answer(StripeEventOutcome::Applied, whose)),
    ];
    let mut stage = Stage::with_script([("evt_1", answers)]).await;
    let id = stage
        .store(vec![webhook("evt_1", "invoice.paid")])
        .await
        .expect("stored")
        .remove(0)
        .id;
    stage.billing_hears().await;
    stage.billing_hears().await;
    let dead_letters = format!(
        "select count(*) from integrations.job_dead_letter where agency_id = '{}' and tenant_id = '{}'",
        agency.uuid(),
        client.uuid()
    );
    stage.until(1, &dead_letters).await;
    let question = ReplayWebhookEventRequest {
        webhook_event_id: id,
    };
    let replayed = stage
        .inbox()
        .replay_webhook_event(stage.acting_for(agency, None, question))
        .await
        .expect("replayed")
        .into_inner();
    assert_eq!(replayed.replays, Some(1));
    assert!(replayed.replayed_at.is_some());
    assert_eq!(stage.billing_hears().await.event.stripe_event_id, "evt_1");
    stage.until(0, &dead_letters).await;
    let database = stage.stop().await;
    let processed = "select count(*) from integrations.webhook_event
        where state = 'processed' and outcome = 'applied' and replays = 1 and error is null";
    assert_eq!(database.count(processed).await, 1);
    let audited = "select count(*) from integrations.audit_outbox
        where action = 'integrations.webhook_event.replay' and before ->> 'state' = 'dead' and actor like 'key_%'";
    assert_eq!(database.count(audited).await, 1, "who it was is on record");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_had_its_effect_is_told_to_be_a_duplicate_and_its_row_says_that_it_was_replayed() {
    let agency = AgencyId::generate();
    let whose = Some((agency, ClientId::generate()));
    let answers = vec![
        Ok(answer(StripeEventOutcome::Applied, whose)),
        Ok(answer(StripeEventOutcome::Duplicate, whose)),
    ];
    let mut stage = Stage::with_script([("evt_1", answers)]).await;
    let id = stage
        .store(vec![webhook("evt_1", "invoice.paid")])
        .await
        .expect("stored")
        .remove(0)
        .id;
    stage.billing_hears().await;
    stage
        .until(1, "select count(*) from integrations.webhook_event where state = 'processed' and due_at is null")
        .await;
    let question = ReplayWebhookEventRequest {
        webhook_event_id: id,
    };
    stage
        .inbox()
        .replay_webhook_event(stage.acting_for(agency, None, question))
        .await
        .expect("replayed");
    stage.billing_hears().await;
    let database = stage.stop().await;
    let duplicate = "select count(*) from integrations.webhook_event
        where state = 'processed' and outcome = 'had its effect before' and replays = 1 and replayed_at is not null";
    assert_eq!(database.count(duplicate).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_replay_one_webhook_at_once_it_is_handed_on_once() {
    let agency = AgencyId::generate();
    let test = TestDatabase::new().await;
    rows(&test, agency, "dead", 1).await;
    let id = ids(&test, agency).await[0];
    let database = test.database("integrations").await;
    let by = by(agency);
    let replays = join_all((0..20).map(|_| replay::one(&database, &by, id))).await;
    assert!(replays.iter().all(Result::is_ok), "{replays:?}");
    let waiting = "select count(*) from integrations.webhook_event where due_at is not null";
    assert_eq!(test.count(waiting).await, 1);
    database.close().await;
    let mut stage = Stage::on(test, []).await;
    stage.billing_hears().await;
    stage.until(0, waiting).await;
    assert!(!stage.billing_heard_more(), "once");
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_being_handed_on_is_left_to_that() {
    let agency = AgencyId::generate();
    let test = TestDatabase::new().await;
    rows(&test, agency, "failed", 2).await;
    let both = ids(&test, agency).await;
    test.execute(&format!(
        "update integrations.webhook_event set due_at = now() where id = '{0}';
         insert into integrations.webhook_lease (webhook_event_id, fence, runner, leased_until)
           values ('{0}', 1, gen_random_uuid(), now() + interval '1 hour')",
        both[0].uuid()
    ))
    .await;
    let database = test.database("integrations").await;
    let left = replay::one(&database, &by(agency), both[0])
        .await
        .expect("left");
    assert_eq!((left.state.as_str(), left.replays), ("failed", 0));
    let begun = replay::begin(&database, &by(agency), &range(&[State::Failed]))
        .await
        .expect("begun");
    assert_eq!(page(&database, agency, &begun).await, Paged::Done);
    let ended = replay::get(&database, agency, begun.id)
        .await
        .expect("known");
    assert_eq!(
        (
            ended.running,
            ended.matched,
            ended.replayed,
            ended.passed_over
        ),
        (false, 2, 1, 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_replays_what_is_not_theirs() {
    let (ours, theirs) = (AgencyId::generate(), AgencyId::generate());
    let stage = Stage::start().await;
    rows(&stage.database, theirs, "dead", 1).await;
    let foreign = ids(&stage.database, theirs).await[0];
    let ask = async |id: WebhookEventId| {
        let question = ReplayWebhookEventRequest {
            webhook_event_id: id.to_string(),
        };
        let request = stage.acting_for(ours, None, question);
        stage.inbox().replay_webhook_event(request).await
    };
    let absent = ask(WebhookEventId::generate()).await.expect_err("none");
    let refused = ask(foreign).await.expect_err("theirs");
    assert_eq!(absent.code(), Code::NotFound);
    assert_eq!(
        (refused.code(), refused.message(), refused.details()),
        (absent.code(), absent.message(), absent.details())
    );
    let everything = ReplayWebhookEventsRequest::default();
    let begun = stage
        .inbox()
        .replay_webhook_events(stage.acting_for(ours, None, everything))
        .await
        .expect("begun")
        .into_inner();
    assert_eq!(begun.matched, Some(0));
    let question = GetWebhookReplayRequest {
        webhook_replay_id: begun.id.expect("it has one"),
    };
    let refused = stage
        .inbox()
        .get_webhook_replay(stage.acting_for(theirs, None, question))
        .await
        .expect_err("ours");
    assert_eq!(refused.code(), Code::NotFound);
    let narrowed = stage.acting_for(
        theirs,
        Some(vec![ClientId::generate()]),
        ReplayWebhookEventsRequest::default(),
    );
    let refused = stage
        .inbox()
        .replay_webhook_events(narrowed)
        .await
        .expect_err("the permission is the whole agency's");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let database = stage.stop().await;
    assert_eq!(
        database
            .count("select count(*) from integrations.webhook_event where replays > 0")
            .await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_holds_what_was_asked_for_and_a_dry_run_only_counts() {
    let agency = AgencyId::generate();
    let mut stage = Stage::start().await;
    for (state, count) in [("failed", 2), ("dead", 3), ("processed", 4)] {
        rows(&stage.database, agency, state, count).await;
    }
    let counted = async |question: ReplayWebhookEventsRequest| {
        let question = ReplayWebhookEventsRequest {
            dry_run: Some(true),
            ..question
        };
        let request = stage.acting_for(agency, None, question);
        let answer = stage.inbox().replay_webhook_events(request).await;
        let counted = answer.expect("counted").into_inner();
        assert!(counted.id.is_none() && counted.state.is_none());
        counted.matched.expect("a count")
    };
    let now = i64::try_from(
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970")
            .as_secs(),
    )
    .expect("a while yet");
    let at = |seconds: i64| {
        let seconds = now + seconds;
        Some(prost_types::Timestamp { seconds, nanos: 0 })
    };
    let all = ReplayWebhookEventsRequest::default;
    assert_eq!(counted(all()).await, 5, "what had its effect is left alone");
    let processed = Some(WebhookEventState::Processed.into());
    assert_eq!(
        counted(ReplayWebhookEventsRequest {
            state: processed,
            ..all()
        })
        .await,
        4
    );
    let kind = Some("charge.failed".to_owned());
    assert_eq!(
        counted(ReplayWebhookEventsRequest {
            r#type: kind,
            ..all()
        })
        .await,
        0
    );
    assert_eq!(
        counted(ReplayWebhookEventsRequest {
            received_from_at: at(-600),
            ..all()
        })
        .await,
        0
    );
    assert_eq!(
        counted(ReplayWebhookEventsRequest {
            received_to_at: at(-600),
            ..all()
        })
        .await,
        5
    );
    let backwards = ReplayWebhookEventsRequest {
        received_from_at: at(0),
        received_to_at: at(-600),
        ..all()
    };
    let refusal = stage
        .inbox()
        .replay_webhook_events(stage.acting_for(agency, None, backwards))
        .await
        .expect_err("it ends before it begins");
    assert_eq!(refusal.code(), Code::InvalidArgument);
    assert!(!stage.billing_heard_more(), "so far only counted");

    let accepted = stage
        .inbox()
        .replay_webhook_events(stage.acting_for(agency, None, all()))
        .await
        .expect("begun");
    assert!(accepted.metadata().contains_key("x-mainstay-accepted"));
    let begun = accepted.into_inner();
    assert_eq!(begun.matched, Some(5));
    for _ in 0..5 {
        stage.billing_hears().await;
    }
    stage
        .until(
            9,
            "select count(*) from integrations.webhook_event where state = 'processed'",
        )
        .await;
    let question = GetWebhookReplayRequest {
        webhook_replay_id: begun.id.expect("it has one"),
    };
    let ended = stage
        .inbox()
        .get_webhook_replay(stage.acting_for(agency, None, question))
        .await
        .expect("known")
        .into_inner();
    assert_eq!(ended.state(), WebhookReplayState::Completed);
    assert_eq!((ended.replayed, ended.passed_over), (Some(5), Some(0)));
    assert!(!stage.billing_heard_more(), "each once");
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_that_is_cut_off_half_way_goes_on_behind_its_last_page() {
    const ALL: usize = 250;
    let agency = AgencyId::generate();
    let test = TestDatabase::new().await;
    rows(&test, agency, "dead", ALL).await;
    let database = test.database("integrations").await;
    let begun = replay::begin(&database, &by(agency), &range(&[State::Dead]))
        .await
        .expect("begun");
    assert_eq!(page(&database, agency, &begun).await, Paged::More);
    // The second page breaks off after it has queued its webhooks, as a crash in the middle would.
    test.execute(
        "create function integrations.cut() returns trigger language plpgsql as
           $$begin raise exception 'the power failed'; end$$;
         create trigger cut before update on integrations.webhook_replay for each row execute function integrations.cut()",
    )
    .await;
    let now = by(agency).now;
    let cut = replay::next_page(&database.worker(), agency, begun.id, now).await;
    assert!(matches!(cut, Err(ReplayError::Database(_))), "{cut:?}");
    let once = "select count(*) from integrations.webhook_event where replays = 1";
    assert_eq!(
        test.count(once).await,
        rules::PAGE,
        "nothing of the page that was cut off"
    );
    test.execute("drop trigger cut on integrations.webhook_replay")
        .await;
    database.close().await;

    let mut stage = Stage::on(test, []).await;
    let mut heard = std::collections::HashSet::new();
    for _ in 0..ALL {
        let event = stage.billing_hears().await.event.stripe_event_id;
        assert!(heard.insert(event), "each once");
    }
    stage
        .until(1, "select count(*) from integrations.webhook_replay where state = 'completed' and replayed = 250")
        .await;
    assert!(!stage.billing_heard_more());
    let database = stage.stop().await;
    assert_eq!(database.count(once).await, ALL as i64);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agency_replays_one_range_at_a_time_and_a_repeat_of_it_is_the_same_one() {
    let (agency, other) = (AgencyId::generate(), AgencyId::generate());
    let test = TestDatabase::new().await;
    rows(&test, agency, "dead", 1).await;
    let database = test.database("integrations").await;
    let dead = range(&[State::Dead]);
    let (first, others) = (by(agency), by(other));
    let begun = join_all((0..10).map(|_| replay::begin(&database, &first, &dead))).await;
    let ids: std::collections::HashSet<_> = begun
        .into_iter()
        .map(|begun| begun.expect("begun or running").id)
        .collect();
    assert_eq!(ids.len(), 1, "ten at once are one");
    let refused = replay::begin(&database, &first, &range(&[State::Processed])).await;
    let Err(refused @ ReplayError::Running(_)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(Problem::from(refused).reason(), ErrorReason::ReplayRunning);
    replay::begin(&database, &others, &dead)
        .await
        .expect("another agency's is another matter");
    let replay_jobs = "select count(*) from integrations.job where kind = 'replay_webhooks'";
    assert_eq!(test.count(replay_jobs).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_enough_of_an_agency_waits_no_more_of_its_range_is_queued() {
    let agency = AgencyId::generate();
    let test = TestDatabase::new().await;
    rows(&test, agency, "received", rules::MOST_WAITING as usize).await;
    test.execute("update integrations.webhook_event set due_at = now()")
        .await;
    rows(&test, agency, "dead", 1).await;
    let database = test.database("integrations").await;
    let begun = replay::begin(&database, &by(agency), &range(&[State::Dead]))
        .await
        .expect("begun");
    assert_eq!(page(&database, agency, &begun).await, Paged::Full);
    test.execute("update integrations.webhook_event set due_at = null")
        .await;
    assert_eq!(page(&database, agency, &begun).await, Paged::Done);
}
