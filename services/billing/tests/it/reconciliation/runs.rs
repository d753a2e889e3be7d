//! Runs: one at a time, killed, refused, dry, daily, and behind the walls of their agency.
//! Deliberately absent: what differs; see `differences`.

use super::*;

#[tokio::test]
async fn where_nothing_differs_nothing_is_found() {
    let (stage, _, _) = settled().await;
    let (ended, met) = run(&stage, false).await;
    assert_eq!(kinds(&met), []);
    assert_eq!(
        (
            ended.found_count(),
            ended.open_count(),
            ended.repaired_count()
        ),
        (0, 0, 0)
    );
    assert_eq!(
        ended.objects_count(),
        3,
        "a subscription, a customer, an invoice"
    );
    assert!(ended.ended_at.is_some() && ended.phase.is_none());
    assert_eq!(
        stage
            .database
            .count("select count(*) from billing.reconciliation_sighting")
            .await,
        0,
        "what a run met is gone with it"
    );
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_tells_what_a_run_would_find() {
    let (stage, orphan) = orphaned(&[("trial_period_days", "14")]).await;
    let plan = stage
        .plan({
            let mut plan = pro();
            plan.name = Some("Next".into());
            plan
        })
        .await;
    let order = stage.order(&plan, Some("pm_card_visa"));
    stage.subscribe(order).await.expect("subscribed");
    all_at_rest(&stage).await;
    stage
        .database
        .execute(
            "update billing.subscription set current_period_end_at = '2020-01-01' where status = 'active'",
        )
        .await;

    let before = (digests(&stage).await, whole_ledger(&stage).await);
    let (ended, previewed) = run(&stage, true).await;
    let after = (digests(&stage).await, whole_ledger(&stage).await);
    assert_eq!(before, after);
    assert!(ended.dry_run());
    let expected = [
        Kind::SubscriptionDiffers,
        Kind::SubscriptionOrphaned,
        Kind::SubscriptionDuplicated,
        Kind::InvoiceMissing,
    ];
    assert_eq!(
        kinds(&previewed),
        expected.map(|kind| (kind, State::Previewed))
    );
    assert_eq!((ended.found_count(), ended.open_count()), (4, 0));
    assert_eq!(at_stripe(&stage, &orphan).await["status"], "trialing");

    let (_, met) = run(&stage, false).await;
    let repaired = [
        Kind::SubscriptionDiffers,
        Kind::SubscriptionOrphaned,
        Kind::InvoiceMissing,
    ];
    assert_eq!(kinds(&met), repaired.map(|kind| (kind, State::Repaired)));
}

/// Of every table but those in which a run tells of itself.
async fn digests(stage: &Stage) -> Vec<(String, String)> {
    let mut connection = stage.database.admin().await;
    let tables: Vec<(String,)> = sqlx::query_as(
        "select c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where n.nspname = 'billing' and c.relkind = 'r' and c.relname not in
           ('billing_reconciliation', 'billing_discrepancy', 'reconciliation_sighting', 'job', 'job_lease',
            'idempotency_key', 'audit_outbox', 'audit_event', 'outbox_delivery')
         order by 1",
    )
    .fetch_all(&mut connection)
    .await
    .expect("tables");
    let mut digests = Vec::new();
    for (table,) in tables {
        let sql = format!(
            "select coalesce(md5(string_agg(t::text, '|' order by t::text)), '-') from billing.\"{table}\" t"
        );
        let (digest,): (String,) = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .fetch_one(&mut connection)
            .await
            .expect("a digest");
        digests.push((table, digest));
    }
    assert!(digests.len() > 10, "{digests:?}");
    digests
}

async fn whole_ledger(stage: &Stage) -> Vec<Vec<Value>> {
    let mut ledger = Vec::new();
    for noun in [
        "customers",
        "subscriptions",
        "invoices",
        "charges",
        "refunds",
        "payment_intents",
    ] {
        ledger.push(stage.ledger(noun).await);
    }
    ledger
}

#[tokio::test]
async fn what_a_saga_works_on_is_left_alone() {
    let (stage, _, subscription) = settled().await;
    stage
        .database
        .execute("update billing.subscription set status = 'past_due'")
        .await;
    let (agency, client) = (stage.agency.uuid(), stage.client.uuid());
    stage
        .database
        .execute(&format!(
            "insert into billing.saga (id, agency_id, tenant_id, definition, version, state, step, input)
             values (gen_random_uuid(), '{agency}', '{client}', 'some_other_saga', 1, 'parked', 'a_step', '{{}}')"
        ))
        .await;
    let (ended, met) = run(&stage, false).await;
    assert_eq!(kinds(&met), []);
    assert!(ended.in_flight_count() > 0);
    let after = stage.subscription(subscription.id()).await;
    assert_eq!(after.status(), SubscriptionStatus::PastDue);

    stage
        .database
        .execute("delete from billing.saga where definition = 'some_other_saga'")
        .await;
    let (_, met) = run(&stage, false).await;
    assert_eq!(kinds(&met), [(Kind::SubscriptionDiffers, State::Repaired)]);
}

#[tokio::test]
async fn a_purchase_under_way_is_not_disturbed() {
    let stage = Stage::start().await;
    let plan = stage.plan(pro()).await;
    // Stripe takes its time over the payment; the run comes while it does.
    stage.fault("invoices.pay", "latency", 15_000, 1).await;
    let order = stage.order(&plan, Some("pm_card_visa"));
    let accepted = stage.subscribe(order).await.expect("accepted");
    let (ended, met) = run(&stage, false).await;
    let standing = stage.at_rest(accepted.saga_id()).await;
    assert!(standing.completed);
    assert_eq!(kinds(&met), []);
    assert!(ended.in_flight_count() > 0);
    assert_eq!(stage.taken_at_stripe().await, 99_700);
}

#[tokio::test]
async fn another_agency_sees_neither_runs_nor_differences() {
    let (mut stage, _, subscription) = settled().await;
    stage
        .database
        .execute("update billing.subscription set status = 'past_due'")
        .await;
    let (own, client) = (stage.agency, stage.client);
    (stage.agency, stage.client) = (AgencyId::generate(), ClientId::generate());
    let (theirs, met) = run(&stage, false).await;
    assert_eq!(kinds(&met), []);
    assert_eq!(
        theirs.objects_count(),
        0,
        "others' objects are not even counted"
    );

    let foreign = stage.agency;
    (stage.agency, stage.client) = (own, client);
    let missing = read(&stage, theirs.id()).await.expect_err("another's");
    assert_eq!(missing.reason(), ErrorReason::NotFound);
    let (ours, met) = run(&stage, false).await;
    assert_eq!(kinds(&met), [(Kind::SubscriptionDiffers, State::Repaired)]);
    let after = stage.subscription(subscription.id()).await;
    assert_eq!(after.status(), SubscriptionStatus::Active);

    stage.agency = foreign;
    assert_eq!(met_by(&stage, ours.id()).await, []);
    assert_eq!(list(&stage, ListDiscrepanciesRequest::default()).await, []);
    let runs = stage
        .reconciliations()
        .list_reconciliations(stage.owner(ListReconciliationsRequest::default()))
        .await;
    let runs = runs.expect("a list").into_inner().data;
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].id, theirs.id);
}

#[tokio::test]
async fn one_run_at_a_time_and_the_second_is_told_which() {
    let (stage, _, _) = settled().await;
    stage
        .fault("subscriptions.list", "latency", 600_000, 1)
        .await;
    let first = ask(&stage, false).await.expect("accepted");
    let refused = ask(&stage, true).await.expect_err("one at a time");
    assert_eq!(refused.reason(), ErrorReason::ReconciliationRunning);
    let named: ObjectExists = refused.data_as().expect("which");
    assert_eq!(named.existing_id, first.id);
    stage.mend().await;
    let ended = follow(&stage, first.id()).await;
    assert_eq!(ended.state(), ReconciliationState::Completed);
    ask(&stage, true).await.expect("free again");
}

#[tokio::test]
async fn a_killed_run_goes_on_where_it_was_and_finds_the_rest() {
    let (mut stage, _, _) = settled().await;
    stage
        .database
        .execute("update billing.subscription set status = 'past_due'")
        .await;
    stage
        .database
        .execute("update billing.invoice set amount_paid_minor = 1")
        .await;
    // Held at its third phase; the first has repaired by then.
    stage.fault("customers.list", "latency", 600_000, 1).await;
    let started = ask(&stage, false).await.expect("accepted");
    let held = async { while stage.struck().await == 0 {} };
    in_time("the run is at the customers", held).await;
    let met = met_by(&stage, started.id()).await;
    assert_eq!(kinds(&met), [(Kind::SubscriptionDiffers, State::Repaired)]);
    stage.kill_billing();
    stage.mend().await;
    // Would the run begin again, it would not get past this.
    stage.fault("subscriptions.list", "status", 400, 100).await;
    stage.start_billing().await;
    let ended = follow(&stage, started.id()).await;
    assert_eq!(
        ended.state(),
        ReconciliationState::Completed,
        "{:?}",
        ended.error
    );
    assert_eq!(ended.objects_count(), 3, "each once");
    assert_eq!(
        kinds(&met_by(&stage, started.id()).await),
        [
            (Kind::SubscriptionDiffers, State::Repaired),
            (Kind::InvoiceAmountDiffers, State::Open)
        ]
    );
}

#[tokio::test]
async fn a_run_that_stripe_refuses_fails_and_says_why() {
    let (stage, _, _) = settled().await;
    stage
        .fault("subscriptions.list", "status", 400, 1_000)
        .await;
    let started = ask(&stage, false).await.expect("accepted");
    let last_try = "update billing.job set attempt = max_attempts - 1, run_at = '2020-01-01'
                    where kind = 'reconcile_stripe_page'";
    let failed = async {
        loop {
            stage.database.execute(last_try).await;
            let run = read(&stage, started.id()).await.expect("there");
            if run.state() != ReconciliationState::Running {
                return run;
            }
        }
    };
    let failed = in_time("the run fails", failed).await;
    assert_eq!(failed.state(), ReconciliationState::Failed);
    assert!(failed.error().contains("Stripe"), "{}", failed.error());
    stage.mend().await;
    let (_, met) = run(&stage, false).await;
    assert_eq!(kinds(&met), []);
}

#[tokio::test]
async fn the_daily_run_files_each_difference_under_its_agency_and_counts_strangers() {
    let (mut stage, plan, _) = settled().await;
    let first = (stage.agency, stage.client);
    (stage.agency, stage.client) = (AgencyId::generate(), ClientId::generate());
    stage.identity.add(&stage.client.to_string());
    let other_plan = stage.plan(pro()).await;
    assert_ne!(other_plan.id, plan.id);
    let order = stage.order(&other_plan, Some("pm_card_visa"));
    stage.subscribe(order).await.expect("subscribed");
    take_events(&stage).await;
    // Nobody's, beside ours in the same account.
    let price = text(&stage.ledger("prices").await[0], "id").to_owned();
    let stranger = by_hand(&stage, "/customers", &[("name", "Stranger")]).await;
    let form = [
        ("customer", text(&stranger, "id")),
        ("items[0][price]", &price),
        ("trial_period_days", "14"),
    ];
    by_hand(&stage, "/subscriptions", &form).await;
    stage
        .database
        .execute("update billing.subscription set current_period_end_at = '2020-01-01'")
        .await;

    let today =
        "update billing.job set run_at = '2020-01-01' where kind = 'reconcile_stripe_daily'";
    stage.database.execute(today).await;
    let ended = "select count(*) from billing.billing_reconciliation where agency_id is null and state = 'completed'";
    let done = async { while stage.database.count(ended).await == 0 {} };
    in_time("the daily run ends", done).await;
    let foreign = "select count(*) from billing.billing_reconciliation where foreign_count = 2";
    assert_eq!(
        stage.database.count(foreign).await,
        1,
        "a customer and a subscription"
    );
    let told = "select count(*) from billing.billing_discrepancy where kind = 'foreign' and agency_id is null";
    assert_eq!(stage.database.count(told).await, 1);
    let again = "select count(*) from billing.job where kind = 'reconcile_stripe_daily' and run_at > now() + interval '20 hours'";
    let queued = async { while stage.database.count(again).await == 0 {} };
    in_time("tomorrow's is queued", queued).await;
    let second = (stage.agency, stage.client);
    for (agency, client) in [first, second] {
        (stage.agency, stage.client) = (agency, client);
        let met = list(&stage, ListDiscrepanciesRequest::default()).await;
        assert_eq!(kinds(&met), [(Kind::SubscriptionDiffers, State::Repaired)]);
        assert_eq!(met[0].client_id(), client.to_string());
    }
}

#[tokio::test]
async fn the_same_request_starts_one_run() {
    let (stage, _, _) = settled().await;
    let request = || CreateReconciliationRequest {
        provider: Some("stripe".into()),
        dry_run: None,
    };
    let mut ids = Vec::new();
    for _ in 0..2 {
        let run = stage
            .reconciliations()
            .create_reconciliation(stage.keyed("once", request()))
            .await;
        ids.push(run.expect("accepted").into_inner().id);
    }
    assert_eq!(ids[0], ids[1]);
    let other = CreateReconciliationRequest {
        provider: Some("paypal".into()),
        dry_run: None,
    };
    let refused = stage
        .reconciliations()
        .create_reconciliation(stage.owner(other))
        .await;
    let refused = problem(refused.expect_err("not a provider"));
    assert_eq!(refused.errors()[0].field, "provider");
}
