//! What health tells of the webhook inbox.

use mainstay_integrations::webhook::WebhookProbe;
use mainstay_runtime::Clock;
use mainstay_runtime::health::{Finding, Probe, Severity, alerts_of};
use mainstay_testkit::TestDatabase;

#[tokio::test]
async fn webhooks_are_counted_by_whether_they_wait_or_were_given_up() {
    let test = TestDatabase::new().await;
    let database = test.database("integrations").await;
    let (clock, _hand) = Clock::fixed("2026-11-21T12:10:00Z".parse().expect("a time"));
    let probe = WebhookProbe::new(&database, &clock);
    for (number, state) in ["received", "failed", "dead", "dead", "processed"]
        .into_iter()
        .enumerate()
    {
        test.execute(&format!(
            "insert into integrations.webhook_event
               (id, slot, provider, account, event_key, type, state, error, processed_at, due_at, content_type, body,
                received_at)
             select id, integrations.webhook_slot(id), 'stripe', 'platform', 'evt_{number}', 'invoice.paid', '{state}',
                    case when '{state}' in ('failed', 'dead') then 'billing did not take it' end,
                    case when '{state}' = 'processed' then now() end,
                    case when '{state}' in ('received', 'failed') then now() end, 'application/json', '', '2026-11-21T12:00:00Z'
             from (select gen_random_uuid() as id) i"
        ))
        .await;
    }
    let found = probe.probe().await;
    let [Finding::Queue(queue)] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!((queue.ready, queue.dead), (2, 2));
    assert_eq!(queue.oldest_ready.map(|age| age.as_secs()), Some(600));
    let alerts: Vec<(String, Severity)> = alerts_of(&found[0])
        .into_iter()
        .map(|alert| (alert.code, alert.severity))
        .collect();
    assert_eq!(
        alerts,
        [
            ("webhooks_dead".to_owned(), Severity::Critical),
            ("webhooks_late".to_owned(), Severity::Warning)
        ]
    );
}
