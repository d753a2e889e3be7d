//! What an agency sells.

use futures_util::future::{join, join_all};
use mainstay_proto::billing::v1::{
    ArchivePlanRequest, CreatePlanRequest, GetPlanRequest, ListPlansRequest, Plan, PlanState,
    UpdatePlanRequest,
};
use mainstay_proto::common::v1::{Beyond, Limit, Money};
use mainstay_proto::errors::v1::{ObjectExists, PlanHasSubscriptions};
use mainstay_rpc::{ErrorReason, Problem};
use tonic::Response;

use crate::stage::{Stage, price, pro, problem};

async fn create(stage: &Stage, request: CreatePlanRequest) -> Result<Plan, Problem> {
    let made = stage.plans().create_plan(stage.owner(request)).await;
    made.map(Response::into_inner).map_err(problem)
}

async fn archive(stage: &Stage, plan: &Plan) -> Result<Plan, Problem> {
    let request = ArchivePlanRequest {
        plan_id: plan.id().to_owned(),
    };
    let archived = stage.plans().archive_plan(stage.owner(request)).await;
    archived.map(Response::into_inner).map_err(problem)
}

async fn update(stage: &Stage, request: UpdatePlanRequest) -> Result<Plan, Problem> {
    let updated = stage.plans().update_plan(stage.owner(request)).await;
    updated.map(Response::into_inner).map_err(problem)
}

async fn get(stage: &Stage, plan: &Plan, version: Option<i32>) -> Result<Plan, Problem> {
    let request = GetPlanRequest {
        plan_id: plan.id().to_owned(),
        version,
    };
    let found = stage.plans().get_plan(stage.owner(request)).await;
    found.map(Response::into_inner).map_err(problem)
}

fn dearer(plan: &Plan) -> UpdatePlanRequest {
    UpdatePlanRequest {
        plan_id: plan.id().to_owned(),
        prices: vec![price(119_700)],
        ..Default::default()
    }
}

#[tokio::test]
async fn a_plan_reads_back_as_it_was_made() {
    let stage = Stage::start().await;
    let mut request = pro();
    let limits = &mut request.entitlements.as_mut().expect("has some").limits;
    let storage = Limit {
        included: Some(500),
        beyond: Some(Beyond::Overage.into()),
        block_size: Some(100),
        price: Some(Money {
            amount_minor: Some(200),
            currency: Some("usd".into()),
        }),
    };
    limits.insert("storage_mb".into(), storage);
    let unlimited = Limit {
        beyond: Some(Beyond::Unlimited.into()),
        ..Limit::default()
    };
    limits.insert("users".into(), unlimited);
    let made = create(&stage, request.clone()).await.expect("made");
    assert_eq!(made.entitlements, request.entitlements);
    assert_eq!(made.prices, request.prices);
    assert_eq!((made.version, made.state()), (Some(1), PlanState::Active));
    assert_eq!(get(&stage, &made, None).await.expect("found"), made);
    let list = stage
        .plans()
        .list_plans(stage.owner(ListPlansRequest::default()))
        .await;
    assert_eq!(list.expect("a list").into_inner().data, [made]);
}

#[tokio::test]
async fn every_fault_of_a_plan_is_named_by_its_path() {
    let stage = Stage::start().await;
    let mut request = pro();
    request.prices = vec![price(1), price(2)];
    let limits = &mut request.entitlements.as_mut().expect("has some").limits;
    let overage = Limit {
        beyond: Some(Beyond::Overage.into()),
        ..Limit::default()
    };
    limits.insert("storage_mb".into(), overage);
    let unlimited = Limit {
        included: Some(1),
        beyond: Some(Beyond::Unlimited.into()),
        ..Limit::default()
    };
    limits.insert("users".into(), unlimited);
    let refused = create(&stage, request).await.expect_err("faulty");
    assert_eq!(refused.reason(), ErrorReason::InvalidRequest);
    let fields: Vec<&str> = refused
        .errors()
        .iter()
        .map(|fault| fault.field.as_str())
        .collect();
    let expected = [
        "prices[1]",
        "entitlements.limits.storage_mb.included",
        "entitlements.limits.storage_mb.block_size",
        "entitlements.limits.storage_mb.price",
        "entitlements.limits.users.included",
    ];
    for field in expected {
        assert!(fields.contains(&field), "{field} in {fields:?}");
    }
    assert_eq!(fields.len(), expected.len(), "{fields:?}");
}

#[tokio::test]
async fn a_sold_version_stays_as_it_is_and_its_successor_is_sold() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    let unsold = update(&stage, dearer(&plan)).await.expect("edited");
    assert_eq!(unsold.version, Some(1), "nobody bought it: it is replaced");
    let subscribed = stage
        .subscribe(stage.order(&plan, Some("pm_card_visa")))
        .await;
    let subscribed = subscribed.expect("subscribed");
    assert_eq!(
        subscribed
            .price
            .as_ref()
            .and_then(|price| price.amount_minor),
        Some(119_700)
    );

    let mut cheaper = dearer(&plan);
    cheaper.prices = vec![price(50_000)];
    let next = update(&stage, cheaper).await.expect("edited");
    assert_eq!(next.version, Some(2));
    let sold = get(&stage, &plan, Some(1)).await.expect("kept");
    assert_eq!(sold.prices, [price(119_700)]);
    assert_eq!(
        get(&stage, &plan, None).await.expect("found").prices,
        [price(50_000)]
    );
    assert_eq!(
        stage.subscription(subscribed.id()).await.plan_version,
        Some(1)
    );

    // Not even by hand.
    let mut connection = stage.database.admin().await;
    for sql in [
        "update billing.plan_version set trial_days = 5 where version = 1",
        "update billing.plan_price set amount_minor = 1 where version = 1",
        "delete from billing.plan_limit where version = 1",
        "insert into billing.plan_limit (agency_id, plan_id, version, name, beyond) \
         select agency_id, plan_id, version, 'more', 'unlimited' from billing.plan_version where version = 1",
    ] {
        let refused = sqlx::query(sqlx::AssertSqlSafe(sql))
            .execute(&mut connection)
            .await;
        assert!(refused.is_err(), "{sql}");
    }
}

#[tokio::test]
async fn a_name_belongs_to_one_active_plan() {
    let stage = Stage::start().await;
    let made = join_all((0..8).map(|_| create(&stage, pro()))).await;
    let (made, refused): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
    let [Ok(plan)] = made.as_slice() else {
        panic!("one is made, not {}", made.len())
    };
    for refused in refused {
        let refused = refused.expect_err("taken");
        assert_eq!(refused.reason(), ErrorReason::PlanNameTaken);
        assert_eq!(
            refused
                .data_as::<ObjectExists>()
                .expect("its detail")
                .existing_id,
            plan.id
        );
    }
    archive(&stage, plan).await.expect("nobody is on it");
    create(&stage, pro()).await.expect("the name is free");
}

#[tokio::test]
async fn an_edit_of_what_has_changed_since_is_refused() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    let edits = (1..=6).map(|amount| {
        let mut edit = dearer(&plan);
        edit.prices = vec![price(amount)];
        edit.etag = plan.etag.clone();
        update(&stage, edit)
    });
    let (edited, stale): (Vec<_>, Vec<_>) =
        join_all(edits).await.into_iter().partition(Result::is_ok);
    assert_eq!(edited.len(), 1, "one of them read the plan as it stands");
    for refused in stale {
        assert_eq!(
            refused.expect_err("stale").reason(),
            ErrorReason::EtagMismatch
        );
    }
}

#[tokio::test]
async fn a_plan_is_made_once_for_one_key() {
    let stage = Stage::start().await;
    let posts =
        (0..10).map(|_| async { stage.plans().create_plan(stage.keyed("plan", pro())).await });
    let answers: Vec<Plan> = join_all(posts)
        .await
        .into_iter()
        .map(|answer| answer.expect("made").into_inner())
        .collect();
    assert!(answers.iter().all(|answer| answer == &answers[0]));
    assert_eq!(
        stage
            .database
            .count("select count(*) from billing.plan")
            .await,
        1
    );
    let reused = stage
        .plans()
        .create_plan(stage.keyed("plan", {
            let mut plan = pro();
            plan.trial_days = Some(1);
            plan
        }))
        .await;
    assert_eq!(
        problem(reused.expect_err("reused")).reason(),
        ErrorReason::IdempotencyKeyReused
    );
}

#[tokio::test]
async fn a_plan_with_a_live_subscription_is_not_archived_and_says_how_many() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    stage
        .subscribe(stage.order(&plan, Some("pm_card_visa")))
        .await
        .expect("subscribed");
    update(&stage, dearer(&plan))
        .await
        .expect("a second version");
    let refused = archive(&stage, &plan)
        .await
        .expect_err("somebody is on version 1");
    assert_eq!(refused.reason(), ErrorReason::PlanHasSubscriptions);
    let detail = refused
        .data_as::<PlanHasSubscriptions>()
        .expect("its detail");
    assert_eq!(detail.live_subscriptions, 1);
}

#[tokio::test]
async fn archiving_and_subscribing_at_once_never_both_succeed() {
    let stage = Stage::start().await;
    for round in 0..8 {
        let mut request = pro();
        request.name = Some(format!("Plan {round}"));
        let plan = stage.plan(request).await;
        let client = mainstay_types::ClientId::generate();
        stage.identity.add(&client.to_string());
        let mut order = stage.order(&plan, Some("pm_card_visa"));
        order.client_id = client.to_string();
        let (archived, subscribed) = join(archive(&stage, &plan), stage.subscribe(order)).await;
        match (archived, subscribed) {
            (Ok(archived), Err(refused)) => {
                assert_eq!(archived.state(), PlanState::Archived);
                assert_eq!(refused.reason(), ErrorReason::PlanArchived, "{refused}");
            }
            (Err(refused), Ok(_)) => {
                assert_eq!(
                    refused.reason(),
                    ErrorReason::PlanHasSubscriptions,
                    "{refused}"
                );
            }
            both => panic!("round {round}: {both:?}"),
        }
    }
}

#[tokio::test]
async fn lists_go_page_by_page_and_show_one_agency() {
    let stage = Stage::start().await;
    for name in ["A", "B", "C"] {
        let mut request = pro();
        request.name = Some(name.to_owned());
        stage.plan(request).await;
    }
    let mut names = Vec::new();
    let mut token = None;
    loop {
        let request = ListPlansRequest {
            page_size: Some(2),
            page_token: token,
            state: None,
        };
        let page = stage
            .plans()
            .list_plans(stage.owner(request))
            .await
            .expect("a page")
            .into_inner();
        names.extend(page.data.into_iter().filter_map(|plan| plan.name));
        token = page.next_page_token;
        if token.is_none() {
            break;
        }
    }
    assert_eq!(names, ["C", "B", "A"], "newest first");
}
