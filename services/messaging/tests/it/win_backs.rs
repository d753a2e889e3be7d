//! Win-backs: a look at all silent leads, set-wise, resumed where it was left, stopped where too many fail (MSG-31, 32).
//! Deliberately absent: how long it takes. What is counted is what the database is asked.

use mainstay_messaging::sending::Pace;
use mainstay_proto::messaging::v1 as proto;
use serde_json::json;

use crate::automations::{activate, active, ended, make};
use crate::carried::Providers;
use crate::sending::{client, looks, quick, reached, until};
use crate::world::{Agency, World};

/// All messages of a run at once: what is counted does not hang on how fast this machine is.
fn gathering() -> Pace {
    Pace {
        gather: std::time::Duration::from_secs(60),
        patience: std::time::Duration::from_secs(30),
        lease: std::time::Duration::from_secs(120),
        ..quick()
    }
}

async fn sweep(agency: &Agency<'_>, automation: &proto::Automation) -> proto::AutomationSweep {
    let request = proto::ListAutomationSweepsRequest {
        client_id: agency.client.to_string(),
        automation_id: automation.id().to_owned(),
        ..Default::default()
    };
    let sweeps = agency.automations().list_automation_sweeps(request).await;
    let sweeps = sweeps.expect("sweeps").into_inner().data;
    assert_eq!(sweeps.len(), 1, "one a day");
    sweeps.into_iter().next().expect("one")
}

/// Leads with whom nothing was said for a year, who signed that they may be written to.
async fn silent_leads(agency: &Agency<'_>, count: u32) {
    let (tenant, id) = (agency.tenant(), agency.client.uuid());
    let owner = tenant.agency.uuid();
    for sql in [
        format!(
            "insert into messaging.lead (agency_id, tenant_id, id, name, name_key, status, source, time_zone, state, engagement,
               task_priority, created_at)
             select '{owner}', '{id}', ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, 'Lead ' || n, 'lead ' || n,
               'engaged', 'import', 'America/Chicago', 'TX', 'cold', 'low', now() - interval '1 year'
             from generate_series(1, {count}) n"
        ),
        format!(
            "insert into messaging.lead_identity (agency_id, tenant_id, address, kind, lead_id, is_primary)
             select '{owner}', '{id}', '+1512' || (5600000 + n), 'phone',
               ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, true
             from generate_series(1, {count}) n"
        ),
        format!(
            "insert into messaging.consent_standing (agency_id, tenant_id, channel, address, basis, given_at, revision)
             select '{owner}', '{id}', 'sms', '+1512' || (5600000 + n), 'express_written', now() - interval '1 year', 1
             from generate_series(1, {count}) n"
        ),
    ] {
        agency.world.postgres.execute(&sql).await;
    }
}

async fn win_back(agency: &Agency<'_>) -> proto::Automation {
    let variables = [("business_name", "Acme"), ("offer", "ten off.")];
    active(agency, "win_back", &variables).await
}

/// What was asked of messaging's database, but for looks for work and what begins and ends transactions.
async fn statements(world: &World, idle: &[String]) -> (i64, Vec<String>) {
    let sql = "select coalesce(jsonb_agg(jsonb_build_array(query, calls)), '[]')::text
               from (select query, sum(calls)::bigint as calls from pg_stat_statements s
                     join pg_roles r on r.oid = s.userid
                     where dbid = (select oid from pg_database where datname = current_database()) and rolname ~ 'messaging'
                       and query !~* '^(begin|commit|rollback|savepoint|release|set|discard)'
                     group by query) q";
    let text: String = sqlx::query_scalar(sql)
        .fetch_one(&mut world.postgres.admin().await)
        .await
        .expect("counted");
    let rows: Vec<(String, i64)> = serde_json::from_str(&text).expect("JSON");
    let rows: Vec<_> = rows
        .into_iter()
        .filter(|(query, _)| !idle.contains(query) && !looks_for_work(query))
        .collect();
    let queries = rows
        .iter()
        .map(|(query, calls)| format!("{calls} × {query}"));
    (rows.iter().map(|(_, calls)| calls).sum(), queries.collect())
}

/// What is asked as often whether there is anything to do or not.
fn looks_for_work(query: &str) -> bool {
    [
        "with free as",
        "with expired as",
        "with due as",
        "with head as",
        "with lane as",
        // How long a job has been under way.
        "update job_lease",
    ]
    .iter()
    .any(|look| query.starts_with(look))
}

async fn counted_win_back(leads: u32, most: i64) {
    let providers = Providers::start().await;
    let world = World::sending_and_counting(&providers, gathering()).await;
    let agency = client(&world, &providers, 100_000.0).await;
    silent_leads(&agency, leads).await;
    // The job that is never done has had its turn, and has none while others are counted.
    let now = world.clock.now();
    let had_its_turn = format!(
        "select count(*) from messaging.job where kind = 'reconcile_deliveries' and run_at > '{now}'"
    );
    reached(&world, &had_its_turn, 1).await;
    world
        .postgres
        .execute("update messaging.job set run_at = run_at + interval '1 day' where kind = 'reconcile_deliveries'")
        .await;
    // What becomes of a message later is not the run's.
    let silent = json!({"provider": "twilio", "operation": "*", "kind": "never_webhook"});
    providers.fault(silent).await;
    let made = make(
        &agency,
        "win_back",
        &[("business_name", "Acme"), ("offer", "ten off.")],
    )
    .await
    .expect("made");
    // What is asked while nothing happens.
    let mut looks = looks();
    for _ in 0..40 {
        looks.again().await;
    }
    let idle: Vec<String> = statements(&world, &[])
        .await
        .1
        .into_iter()
        .filter_map(|line| Some(line.split_once(" × ")?.1.to_owned()))
        .collect();
    world.forget_statements().await;
    activate(&agency, &made).await;
    let sent = "select count(*) from messaging.message where sent_at is not null";
    reached(&world, sent, leads.into()).await;
    let (asked, queries) = statements(&world, &idle).await;
    let listed = queries.join("\n");
    assert!(
        asked < most,
        "{asked} statements for {leads} leads:\n{listed}"
    );
    assert!(asked > 10, "what is not counted proves nothing");
    let permits = "select count(*) from messaging.send_permit";
    assert_eq!(world.postgres.count(permits).await, i64::from(leads));
    let sweep = sweep(&agency, &made).await;
    assert_eq!(sweep.state(), proto::AutomationSweepState::Done);
    assert_eq!(sweep.taken_in(), i64::from(leads));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_win_back_of_a_hundred_takes_less_than_fifty_statements() {
    counted_win_back(100, 50).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_win_back_of_a_thousand_takes_less_than_a_hundred_and_twenty_statements() {
    counted_win_back(1000, 120).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_win_back_passes_over_whom_it_may_never_write_to() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, 1000.0).await;
    silent_leads(&agency, 5).await;
    for sql in [
        "update messaging.consent_standing set opted_out_at = now() where address = '+15125600001'",
        "update messaging.consent_standing set basis = 'inquiry' where address = '+15125600002'",
        "update messaging.lead set status = 'won' where name = 'Lead 3'",
    ] {
        world.postgres.execute(sql).await;
    }
    let automation = win_back(&agency).await;
    let done = ended(&agency, &automation).await;
    assert_eq!(done.len(), 2);
    for run in &done {
        assert_eq!(run.state(), proto::AutomationRunState::Done, "{run:?}");
        let id = run.message_ids.first().expect("a message");
        until(&agency, id, proto::MessageStatus::Delivered).await;
    }
    let said = providers.arrived("+15125600004").await;
    assert!(said[0].starts_with("Hi Lead, it's Acme."), "{said:?}");
    for silent in ["+15125600001", "+15125600002", "+15125600003"] {
        assert_eq!(providers.arrived(silent).await, Vec::<String>::new());
    }
    let sweep = sweep(&agency, &automation).await;
    let counts = (sweep.looked_at(), sweep.taken_in(), sweep.passed_over());
    assert_eq!(counts, (4, 2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_win_back_of_which_more_than_one_in_ten_fail_stops_itself() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    // Slow enough that most wait when the first have failed.
    let agency = client(&world, &providers, 40.0).await;
    silent_leads(&agency, 200).await;
    let refused = json!({"provider": "twilio", "operation": "messages.create", "kind": "status", "value": 400, "rate": 0.5, "seed": 3});
    providers.fault(refused).await;
    let automation = win_back(&agency).await;
    let stopped = "select count(*) from messaging.automation_sweep where state = 'stopped'";
    reached(&world, stopped, 1).await;
    let waiting = "select count(*) from messaging.send_queue";
    reached(&world, waiting, 0).await;
    let taken_back = "select count(*) from messaging.message where status = 'canceled' and error_code = 'automation_paused'";
    assert!(world.postgres.count(taken_back).await > 50, "most waited");
    let request = proto::GetAutomationRequest {
        client_id: agency.client.to_string(),
        automation_id: automation.id().to_owned(),
    };
    let now = agency.automations().get_automation(request).await;
    let now = now.expect("there").into_inner();
    assert_eq!(now.state(), proto::AutomationState::Paused);
    assert!(now.paused_because().contains("have failed"), "{now:?}");
    let told =
        "select count(*) from messaging.outbox_event where type = 'messaging.automation.failed'";
    assert_eq!(world.postgres.count(told).await, 1, "it is an alert");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_that_is_cut_off_goes_on_where_it_was_and_repeats_nobody() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    // What is queued is looked at, not what has left.
    let agency = client(&world, &providers, 0.1).await;
    silent_leads(&agency, 1300).await;
    let automation = win_back(&agency).await;
    // As a server that is killed cuts them: in the middle of whatever was under way, again and again.
    let mut looks = looks();
    let taken = "select count(*) from messaging.automation_run";
    for _ in 0..6 {
        looks.again().await;
        world.postgres.cut_connections().await;
    }
    reached(&world, taken, 1300).await;
    reached(&world, "select count(*) from messaging.message", 1300).await;
    let twice = "select count(*) from (select address from messaging.message group by address having count(*) > 1) twice";
    assert_eq!(world.postgres.count(twice).await, 0);
    assert_eq!(sweep(&agency, &automation).await.taken_in(), 1300);
}
