//! Stripe and our rows are made to differ by hand, on either side; a run finds it, and repairs or records it.

use mainstay_billing::reconciliation::ReconciliationProbe;
use mainstay_proto::billing::v1::{
    CreateReconciliationRequest, Discrepancy, DiscrepancyKind as Kind, DiscrepancyState as State,
    GetReconciliationRequest, ListDiscrepanciesRequest, ListReconciliationsRequest, Plan,
    Reconciliation, ReconciliationState, Subscription, SubscriptionStatus,
};
use mainstay_proto::errors::v1::ObjectExists;
use mainstay_rpc::{ErrorReason, Problem};
use mainstay_runtime::health::{Finding, Probe};
use mainstay_testkit::in_time;
use mainstay_types::{AgencyId, ClientId, SagaId, SubscriptionId};
use serde_json::Value;

use crate::stage::{Stage, pro, problem};

mod differences;
mod runs;

/// A client with a subscription, and every event of Stripe's taken.
async fn settled() -> (Stage, Plan, Subscription) {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    let order = stage.order(&plan, Some("pm_card_visa"));
    let subscription = stage.subscribe(order).await.expect("subscribed");
    take_events(&stage).await;
    (stage, plan, subscription)
}

async fn take_events(stage: &Stage) {
    for event in stage.stripe_events().await {
        stage.deliver(&event).await.expect("handled");
    }
    all_at_rest(stage).await;
}

/// Until no saga is under way.
async fn all_at_rest(stage: &Stage) {
    let under_way = "select count(*) from billing.saga where state in ('running', 'compensating')";
    let rest = async { while stage.database.count(under_way).await > 0 {} };
    in_time("sagas rest", rest).await;
}

async fn ask(stage: &Stage, dry_run: bool) -> Result<Reconciliation, Problem> {
    let request = CreateReconciliationRequest {
        provider: Some("stripe".into()),
        dry_run: Some(dry_run),
    };
    let asked = stage
        .reconciliations()
        .create_reconciliation(stage.owner(request))
        .await;
    asked.map(tonic::Response::into_inner).map_err(problem)
}

async fn read(stage: &Stage, id: &str) -> Result<Reconciliation, Problem> {
    let request = GetReconciliationRequest {
        reconciliation_id: id.to_owned(),
    };
    let run = stage
        .reconciliations()
        .get_reconciliation(stage.owner(request))
        .await;
    run.map(tonic::Response::into_inner).map_err(problem)
}

/// A run to its end, and what it met, in the order in which it met it.
async fn run(stage: &Stage, dry_run: bool) -> (Reconciliation, Vec<Discrepancy>) {
    let started = ask(stage, dry_run).await.expect("accepted");
    assert_eq!(started.state(), ReconciliationState::Running);
    let ended = follow(stage, started.id()).await;
    assert_eq!(
        ended.state(),
        ReconciliationState::Completed,
        "{:?}",
        ended.error
    );
    let met = met_by(stage, ended.id()).await;
    (ended, met)
}

async fn follow(stage: &Stage, id: &str) -> Reconciliation {
    let ended = async {
        loop {
            let run = read(stage, id).await.expect("there");
            if run.state() != ReconciliationState::Running {
                return run;
            }
        }
    };
    in_time("the run ends", ended).await
}

async fn met_by(stage: &Stage, id: &str) -> Vec<Discrepancy> {
    let mut met = list(
        stage,
        ListDiscrepanciesRequest {
            reconciliation_id: Some(id.to_owned()),
            ..Default::default()
        },
    )
    .await;
    met.reverse();
    met
}

async fn list(stage: &Stage, request: ListDiscrepanciesRequest) -> Vec<Discrepancy> {
    let found = stage
        .reconciliations()
        .list_discrepancies(stage.owner(request))
        .await;
    found.expect("a list").into_inner().data
}

fn kinds(met: &[Discrepancy]) -> Vec<(Kind, State)> {
    met.iter().map(|met| (met.kind(), met.state())).collect()
}

/// Asks Stripe for something by hand, as its dashboard would.
async fn by_hand(stage: &Stage, path: &str, form: &[(&str, &str)]) -> Value {
    let url = format!("{}/stripe/v1{path}", stage.sandbox_url);
    let request = stage.http.post(url).bearer_auth("sk_test_stage").form(form);
    let answer = request.send().await.expect("an answer");
    let status = answer.status();
    let body: Value = answer.json().await.expect("JSON");
    assert!(status.is_success(), "{path}: {body}");
    body
}

async fn delete(stage: &Stage, path: &str) {
    let url = format!("{}/stripe/v1{path}", stage.sandbox_url);
    let answer = stage.http.delete(url).bearer_auth("sk_test_stage").send();
    assert!(answer.await.expect("an answer").status().is_success());
}

async fn one(stage: &Stage, noun: &str) -> Value {
    let all = stage.ledger(noun).await;
    let [one] = all.try_into().expect("one");
    one
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_default()
}

async fn at_stripe(stage: &Stage, id: &str) -> Value {
    let all = stage.ledger("subscriptions").await;
    let found = all.into_iter().find(|found| found["id"] == id);
    found.expect("there")
}

/// A client whose saga was undone, and a subscription at Stripe that the saga made without knowing of it.
async fn orphaned(more: &[(&str, &str)]) -> (Stage, String) {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    let order = stage.order(&plan, Some("pm_card_chargeCustomerFail"));
    stage.subscribe(order).await.expect_err("declined");
    all_at_rest(&stage).await;
    let made = one(&stage, "subscriptions").await;
    // What Stripe had lost, and made all the same.
    let price = text(&made["items"]["data"][0]["price"], "id").to_owned();
    let mut form = vec![
        ("customer", text(&made, "customer")),
        ("items[0][price]", price.as_str()),
    ];
    let metadata: Vec<(String, &str)> = [
        "mainstay_client_id",
        "mainstay_subscription_id",
        "mainstay_saga_id",
    ]
    .map(|name| (format!("metadata[{name}]"), text(&made["metadata"], name)))
    .to_vec();
    form.extend(metadata.iter().map(|(name, value)| (name.as_str(), *value)));
    form.extend(more);
    let orphan = by_hand(&stage, "/subscriptions", &form).await;
    take_events_of_others(&stage).await;
    let id = text(&orphan, "id").to_owned();
    (stage, id)
}

/// Events about the unknown are to come again; here they never do.
async fn take_events_of_others(stage: &Stage) {
    for event in stage.stripe_events().await {
        let _ = stage.deliver(&event).await;
    }
    all_at_rest(stage).await;
}
