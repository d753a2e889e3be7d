//! Jobs that were given up are seen by their agency, in whichever service, and queued again by it.

use mainstay_proto::integrations::v1::{
    DeadLetter, GetJobsSummaryRequest, ListDeadLettersRequest, ReplayDeadLetterRequest,
};
use mainstay_rpc::{ErrorReason, Problem};
use mainstay_types::{AgencyId, JobId};
use tonic::{Code, Status};

use crate::stage::Stage;

/// A job of integrations that was given up so many minutes ago.
async fn buried(stage: &Stage, agency: Option<AgencyId>, minutes: u32, key: &str) -> JobId {
    let id = JobId::generate();
    let agency = agency.map_or("null".to_owned(), |agency| format!("'{}'", agency.uuid()));
    stage
        .database
        .execute(&format!(
            "insert into integrations.job_dead_letter (id, kind, priority, payload, unique_key, agency_id, attempt,
               max_attempts, last_error, enqueued_at, created_at)
             values ('{}', 'some_work', 1, '{{}}', '{key}', {agency}, 20, 20, 'it failed', now() - interval '1 day',
               now() - interval '{minutes} minutes')",
            id.uuid()
        ))
        .await;
    id
}

async fn list(
    stage: &Stage,
    agency: AgencyId,
    question: ListDeadLettersRequest,
) -> Result<(Vec<DeadLetter>, Option<String>), Status> {
    let question = ListDeadLettersRequest {
        service: Some("integrations".to_owned()),
        ..question
    };
    let request = stage.acting_for(agency, None, question);
    let page = stage.dead_letters().list_dead_letters(request).await?;
    let page = page.into_inner();
    Ok((page.data, page.next_page_token))
}

async fn replay(stage: &Stage, agency: AgencyId, id: JobId) -> Result<String, Status> {
    let question = ReplayDeadLetterRequest {
        dead_letter_id: id.to_string(),
    };
    let request = stage.acting_for(agency, None, question);
    let replayed = stage.dead_letters().replay_dead_letter(request).await?;
    Ok(replayed.into_inner().service.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agency_walks_its_own_dead_letters_the_last_given_up_first() {
    let stage = Stage::start().await;
    let (ours, theirs) = (AgencyId::generate(), AgencyId::generate());
    let mut made = Vec::new();
    for minutes in [5, 1, 3, 4, 2] {
        made.push((
            minutes,
            buried(&stage, Some(ours), minutes, &minutes.to_string()).await,
        ));
    }
    buried(&stage, Some(theirs), 1, "theirs").await;
    buried(&stage, None, 1, "nobodys").await;
    made.sort_by_key(|(minutes, _)| *minutes);
    let expected: Vec<String> = made.iter().map(|(_, id)| id.to_string()).collect();
    let (mut walked, mut page_token) = (Vec::new(), None);
    loop {
        let question = ListDeadLettersRequest {
            page_size: Some(2),
            page_token,
            ..Default::default()
        };
        let (page, next) = list(&stage, ours, question).await.expect("a page");
        assert!(page.len() <= 2);
        for letter in &page {
            assert_eq!(letter.error.as_deref(), Some("it failed"));
            assert_eq!(letter.service.as_deref(), Some("integrations"));
            assert!(letter.dead_at.is_some() && letter.enqueued_at.is_some());
        }
        walked.extend(page.into_iter().filter_map(|letter| letter.id));
        page_token = next;
        if page_token.is_none() {
            break;
        }
    }
    assert_eq!(walked, expected);
    let other_kind = ListDeadLettersRequest {
        kind: Some("other_work".to_owned()),
        ..Default::default()
    };
    let (none, _) = list(&stage, ours, other_kind).await.expect("a page");
    assert!(none.is_empty());
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_does_not_answer_makes_the_list_503_and_not_shorter() {
    let stage = Stage::start().await;
    let agency = AgencyId::generate();
    let request = stage.acting_for(agency, None, ListDeadLettersRequest::default());
    let everywhere = stage.dead_letters().list_dead_letters(request).await;
    assert!(everywhere.is_err(), "{everywhere:?}");
    let messaging = ListDeadLettersRequest {
        service: Some("messaging".to_owned()),
        ..Default::default()
    };
    let refusal = stage
        .dead_letters()
        .list_dead_letters(stage.acting_for(agency, None, messaging))
        .await
        .expect_err("nobody listens there");
    let problem = Problem::from_status(&refusal);
    assert_eq!(problem.reason(), ErrorReason::Unavailable);
    assert!(problem.detail().contains("messaging"), "{problem}");
    // Whether it is in the silent one, nobody knows.
    let refusal = replay(&stage, agency, JobId::generate()).await;
    assert_ne!(refusal.expect_err("not known").code(), Code::NotFound);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_queued_again_by_its_own_agency_alone_and_once() {
    let stage = Stage::start().await;
    let (ours, theirs) = (AgencyId::generate(), AgencyId::generate());
    let id = buried(&stage, Some(ours), 1, "work").await;
    let refusal = replay(&stage, theirs, id).await.expect_err("not theirs");
    assert_ne!(refusal.code(), Code::Ok);
    for time in ["first", "again"] {
        let service = replay(&stage, ours, id).await;
        assert_eq!(service.expect("queued"), "integrations", "{time}");
    }
    let database = stage.stop().await;
    let queued = format!(
        "select count(*) from integrations.job where id = '{}' and attempt = 0",
        id.uuid()
    );
    assert_eq!(database.count(&queued).await, 1);
    assert_eq!(
        database
            .count("select count(*) from integrations.job_dead_letter")
            .await,
        0
    );
    let audited = "select count(*) from integrations.audit_outbox where action = 'integrations.dead_letter.replay'";
    assert_eq!(database.count(audited).await, 1, "the act, not its repeat");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_whose_work_is_queued_anew_stays_where_it_is() {
    let stage = Stage::start().await;
    let agency = AgencyId::generate();
    let id = buried(&stage, Some(agency), 1, "work").await;
    stage
        .database
        .execute(&format!(
            "insert into integrations.job (id, kind, run_at, payload, max_attempts, unique_key, agency_id)
             values (gen_random_uuid(), 'some_work', now(), '{{}}', 20, 'work', '{}')",
            agency.uuid()
        ))
        .await;
    let refusal = replay(&stage, agency, id).await.expect_err("superseded");
    let problem = Problem::from_status(&refusal);
    assert_eq!(problem.reason(), ErrorReason::DeadLetterSuperseded);
    let database = stage.stop().await;
    assert_eq!(
        database
            .count("select count(*) from integrations.job_dead_letter")
            .await,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agencys_jobs_are_counted_by_kind_and_nobody_elses() {
    let stage = Stage::start().await;
    let (ours, theirs) = (AgencyId::generate(), AgencyId::generate());
    buried(&stage, Some(ours), 1, "dead").await;
    for (agency, run_at, attempt, times) in [
        (ours, "now() - interval '90 seconds'", 0, 2),
        (ours, "now() + interval '1 hour'", 3, 1),
        (theirs, "now()", 0, 5),
    ] {
        stage
            .database
            .execute(&format!(
                "insert into integrations.job (id, kind, run_at, payload, max_attempts, agency_id, attempt)
                 select gen_random_uuid(), 'some_work', {run_at}, '{{}}', 20, '{}', {attempt} from generate_series(1, {times})",
                agency.uuid()
            ))
            .await;
    }
    let question = GetJobsSummaryRequest {
        service: Some("integrations".to_owned()),
    };
    let summary = stage
        .dead_letters()
        .get_jobs_summary(stage.acting_for(ours, None, question))
        .await
        .expect("counted")
        .into_inner()
        .data;
    let [kind] = summary.as_slice() else {
        panic!("{summary:?}");
    };
    assert_eq!(kind.kind.as_deref(), Some("some_work"));
    assert_eq!(
        (
            kind.ready,
            kind.running,
            kind.scheduled,
            kind.retrying,
            kind.dead
        ),
        (Some(2), Some(0), Some(1), Some(1), Some(1))
    );
    assert!(kind.oldest_ready_seconds >= Some(90), "{kind:?}");
    stage.stop().await;
}
