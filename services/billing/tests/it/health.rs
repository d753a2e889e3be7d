//! What health tells of the saga log.

use mainstay_billing::saga::SagaProbe;
use mainstay_runtime::health::{Finding, Probe, Severity, alerts_of};
use mainstay_testkit::TestDatabase;

#[tokio::test]
async fn sagas_are_counted_by_whether_they_wait_go_on_or_need_a_person() {
    let test = TestDatabase::new().await;
    let probe = SagaProbe::new(&test.database("billing").await);
    let sagas = [
        ("running", "now() - interval '5 minutes'", "null"),
        ("running", "now()", "now() + interval '1 minute'"),
        // Whoever held it is gone.
        ("compensating", "now()", "now() - interval '1 second'"),
        ("waiting", "now() + interval '1 hour'", "null"),
        ("parked", "now()", "null"),
    ];
    for (state, due, leased) in sagas {
        test.execute(&format!(
            "insert into billing.saga
               (id, agency_id, tenant_id, definition, version, state, step, input, next_run_at, leased_until, lease_owner)
             select gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'start_subscription', 1, '{state}', 'plan',
                    '{{}}', {due}, leased, case when leased is not null then gen_random_uuid() end
             from (select ({leased})::timestamptz as leased) l"
        ))
        .await;
    }
    let found = probe.probe().await;
    let [Finding::Queue(queue)] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!((queue.ready, queue.running, queue.dead), (2, 1, 1));
    assert!(queue.oldest_ready >= Some(std::time::Duration::from_secs(300)));
    let alerts: Vec<(String, Severity)> = alerts_of(&found[0])
        .into_iter()
        .map(|alert| (alert.code, alert.severity))
        .collect();
    assert_eq!(
        alerts,
        [
            ("sagas_dead".to_owned(), Severity::Critical),
            ("sagas_late".to_owned(), Severity::Warning)
        ]
    );
}
