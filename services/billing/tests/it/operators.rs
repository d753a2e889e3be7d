//! Operators and parked sagas: of several who decide one is obeyed, evidence is verified, and everything is on record.
//! Deliberately absent: how a saga comes to be parked by itself; a budget of hours is used up in the table here.

use futures_util::future::join_all;
use mainstay_proto::billing::v1::{
    AbandonSagaRequest, ResolveSagaRequest, RetrySagaRequest, Saga, SagaState, StepOutcome,
    SubscriptionStatus,
};
use mainstay_proto::errors::v1::SagaNotParked;
use mainstay_rpc::{ErrorReason, Problem};

use crate::stage::{Stage, pro, problem};

/// Subscribes while this call is answered with nothing, and parks the saga there as if its budget were used up.
async fn parked_at(operation: &str, kind: &str, value: u64) -> (Stage, String) {
    let mut stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    stage.fault(operation, kind, value, 1_000).await;
    let order = stage.order(&plan, Some("pm_card_visa"));
    let asked = {
        let mut subscriptions = stage.subscriptions();
        let request = stage.owner(order);
        tokio::spawn(async move { subscriptions.create_subscription(request).await })
    };
    while stage.struck().await == 0 {
        tokio::task::yield_now().await;
    }
    let saga = stage.newest_saga().await;
    // As after its last try, with nothing of it under way any more.
    stage.kill_billing();
    stage
        .database
        .execute("update billing.saga set state = 'parked', lease_owner = null, leased_until = null, fence = fence + 1, error = 'no answer'")
        .await;
    stage.mend().await;
    let _ = asked.await;
    stage.start_billing().await;
    (stage, saga)
}

fn retry(saga: &str) -> RetrySagaRequest {
    RetrySagaRequest {
        saga_id: saga.to_owned(),
        note: Some("Stripe is well again".to_owned()),
    }
}

fn resolve(saga: &str, outcome: StepOutcome, evidence: Option<&str>) -> ResolveSagaRequest {
    ResolveSagaRequest {
        saga_id: saga.to_owned(),
        outcome: Some(outcome.into()),
        evidence: evidence.map(str::to_owned),
        note: Some("seen in Stripe's dashboard".to_owned()),
    }
}

async fn resolved(stage: &Stage, request: ResolveSagaRequest) -> Result<Saga, Problem> {
    let answer = stage.sagas().resolve_saga(stage.owner(request)).await;
    answer.map(tonic::Response::into_inner).map_err(problem)
}

/// The audit rows about the saga: what was decided, and whether it was in time.
async fn audited(stage: &Stage) -> Vec<(String, String)> {
    let mut connection = stage.database.admin().await;
    let sql = "select action, after ->> 'outcome' from billing.audit_outbox where action like 'billing.saga.%'";
    sqlx::query_as(sql)
        .fetch_all(&mut connection)
        .await
        .expect("audit rows")
}

#[tokio::test]
async fn of_operators_who_retry_at_once_one_is_obeyed_and_the_others_are_told_who() {
    let (stage, saga) = parked_at("subscriptions.create", "status", 503).await;
    let all = join_all((0..8).map(|_| {
        let mut sagas = stage.sagas();
        let request = stage.owner(retry(&saga));
        async move { sagas.retry_saga(request).await }
    }))
    .await;
    let (won, lost): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    for told in lost.into_iter().filter_map(Result::err).map(problem) {
        assert_eq!(told.reason(), ErrorReason::SagaNotParked);
        let detail = told.data_as::<SagaNotParked>().expect("its detail");
        assert!(detail.decided_by.is_some(), "{told}");
    }
    stage.at_rest(&saga).await;
    assert_eq!(stage.saga(&saga).await.state(), SagaState::Completed);
    assert_eq!(stage.live_at_stripe().await, 1);
    assert_eq!(stage.taken_at_stripe().await, 99_700);
    let rows = audited(&stage).await;
    let in_time = rows.iter().filter(|(_, outcome)| outcome == "decided");
    assert_eq!((in_time.count(), rows.len()), (1, 8), "{rows:?}");
}

/// How often whoever alerts people was told this of the saga.
async fn alerted(stage: &Stage, event: &str) -> i64 {
    let told = format!(
        "select count(*) from billing.outbox_delivery d join billing.outbox_event e on e.id = d.event_id
         where d.consumer = 'escalation' and e.aggregate_type = 'saga' and e.type = '{event}'"
    );
    stage.database.count(&told).await
}

#[tokio::test]
async fn a_saga_that_uses_its_tries_up_is_told_and_so_is_the_decision_about_it() {
    let (stage, saga) = parked_at("subscriptions.create", "status", 503).await;
    // One try is left, and nothing can be looked for either: the saga parks itself.
    stage.fault("*", "status", 503, 1_000).await;
    stage
        .database
        .execute(
            "create function billing.tired() returns trigger language plpgsql as
               $$begin if new.state = 'running' then new.attempt := 1000; end if; return new; end$$;
             create trigger tired before update on billing.saga for each row execute function billing.tired()",
        )
        .await;
    let decided = stage.sagas().retry_saga(stage.owner(retry(&saga))).await;
    decided.expect("it was parked");
    stage.at_rest(&saga).await;
    assert_eq!(stage.saga(&saga).await.state(), SagaState::Parked);
    assert_eq!(alerted(&stage, "billing.saga.decided").await, 1);
    assert_eq!(alerted(&stage, "billing.saga.parked").await, 1);
    // Whoever comes in first: the sequences say which came last.
    let last = "select count(*) from billing.outbox_event p join billing.outbox_event d using (aggregate_type, aggregate_id)
         where p.type = 'billing.saga.parked' and d.type = 'billing.saga.decided' and p.sequence > d.sequence";
    assert_eq!(stage.database.count(last).await, 1);
    stage
        .database
        .execute("drop trigger tired on billing.saga")
        .await;
    let abandon = AbandonSagaRequest {
        saga_id: saga.clone(),
        note: Some("Stripe stays away".to_owned()),
    };
    let abandoned = stage.sagas().abandon_saga(stage.owner(abandon)).await;
    abandoned.expect("it is parked");
    assert_eq!(alerted(&stage, "billing.saga.decided").await, 2);
}

#[tokio::test]
async fn what_an_operator_says_was_done_is_verified_at_stripe() {
    let (stage, saga) = parked_at("subscriptions.create", "timeout_after_effect", 60).await;
    let none = resolved(
        &stage,
        resolve(&saga, StepOutcome::Done, Some("sub_unknown")),
    )
    .await;
    let none = none.expect_err("nothing is known by this id");
    assert_eq!(none.reason(), ErrorReason::InvalidRequest);
    assert_eq!(stage.saga(&saga).await.state(), SagaState::Parked);
    let not_done = resolved(&stage, resolve(&saga, StepOutcome::NotDone, None)).await;
    assert_eq!(
        not_done.expect_err("it is done").reason(),
        ErrorReason::InvalidRequest
    );

    let made = stage.ledger("subscriptions").await;
    let id = made[0]["id"].as_str().expect("an id");
    let done = resolved(&stage, resolve(&saga, StepOutcome::Done, Some(id))).await;
    assert_eq!(done.expect("it holds").state(), SagaState::Running);
    stage.at_rest(&saga).await;
    assert_eq!(stage.saga(&saga).await.state(), SagaState::Completed);
    assert_eq!(stage.live_at_stripe().await, 1);
}

#[tokio::test]
async fn what_was_not_done_is_undone_before_it_and_the_client_may_try_again() {
    let (stage, saga) = parked_at("subscriptions.create", "status", 503).await;
    let decided = resolved(&stage, resolve(&saga, StepOutcome::NotDone, None)).await;
    decided.expect("Stripe has none");
    stage.at_rest(&saga).await;
    assert_eq!(stage.saga(&saga).await.state(), SagaState::Compensated);
    let id = stage.newest_subscription(stage.client).await;
    let failed = stage.subscription(&id).await;
    assert_eq!(failed.status(), SubscriptionStatus::Failed);
    let plan = stage
        .plan(mainstay_proto::billing::v1::CreatePlanRequest {
            name: Some("Pro again".to_owned()),
            ..pro()
        })
        .await;
    let again = stage
        .subscribe(stage.order(&plan, Some("pm_card_visa")))
        .await;
    again.expect("the place is free");
}

#[tokio::test]
async fn an_abandoned_saga_gives_its_place_back_and_tells_the_others() {
    let (stage, saga) = parked_at("invoices.pay", "status", 503).await;
    let request = AbandonSagaRequest {
        saga_id: saga.clone(),
        note: Some("settled by telephone".to_owned()),
    };
    let abandoned = stage.sagas().abandon_saga(stage.owner(request)).await;
    let abandoned = abandoned.expect("it is parked").into_inner();
    assert_eq!(abandoned.state(), SagaState::Abandoned);
    assert!(abandoned.decided_by.is_some());
    let id = stage.newest_subscription(stage.client).await;
    let failed = stage.subscription(&id).await;
    assert_eq!(failed.status(), SubscriptionStatus::Failed);
    let follower = stage.saga_of(stage.client, "sync_entitlements").await;
    stage.at_rest(&follower.to_string()).await;
    let late = stage.sagas().retry_saga(stage.owner(retry(&saga))).await;
    let late = problem(late.expect_err("it has ended"));
    assert_eq!(late.reason(), ErrorReason::SagaNotParked);
}

#[tokio::test]
async fn a_decision_is_kept_with_its_key_and_needs_a_note() {
    let (stage, saga) = parked_at("subscriptions.create", "status", 503).await;
    let one = stage
        .sagas()
        .retry_saga(stage.keyed("retry-1", retry(&saga)))
        .await
        .expect("it is parked")
        .into_inner();
    stage.at_rest(&saga).await;
    let again = stage
        .sagas()
        .retry_saga(stage.keyed("retry-1", retry(&saga)))
        .await
        .expect("the same request");
    assert_eq!(again.into_inner(), one);
    let silent = RetrySagaRequest {
        saga_id: saga,
        note: None,
    };
    let refused = stage.sagas().retry_saga(stage.owner(silent)).await;
    let refused = problem(refused.expect_err("no note"));
    assert_eq!(refused.reason(), ErrorReason::InvalidRequest);
}
