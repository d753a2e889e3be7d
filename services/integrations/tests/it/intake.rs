//! Stored once, then answered (INT-01, INT-04).

use std::collections::HashSet;

use futures_util::future::join_all;
use mainstay_proto::integrations::v1::ListVerificationSecretsRequest;
use tonic::Code;

use crate::stage::{Stage, webhook};

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_delivered_a_hundred_times_at_once_is_one_row_and_one_effect() {
    let mut stage = Stage::start().await;
    let deliveries = (0..100).map(|_| stage.store(vec![webhook("evt_1", "invoice.paid")]));
    let mut ids = HashSet::new();
    let mut first_ones = 0;
    for stored in join_all(deliveries).await {
        let stored = stored.expect("stored or known").remove(0);
        first_ones += usize::from(!stored.duplicate);
        ids.insert(stored.id);
    }
    assert_eq!(first_ones, 1, "exactly one delivery is the first");
    assert_eq!(ids.len(), 1, "all are told the first one's id");
    assert_eq!(stage.billing_hears().await.event.stripe_event_id, "evt_1");
    let again = stage
        .store(vec![webhook("evt_1", "invoice.paid")])
        .await
        .expect("known");
    assert!(again[0].duplicate, "also after it had its effect");
    assert!(!stage.billing_heard_more(), "billing is handed it once");
    let database = stage.stop().await;
    assert_eq!(
        database
            .count("select count(*) from integrations.webhook_event")
            .await,
        1
    );
    assert_eq!(
        database
            .count("select count(*) from integrations.webhook_dedup")
            .await,
        1
    );
    assert_eq!(
        database
            .count("select count(*) from integrations.webhook_event where due_at is not null")
            .await,
        0
    );
    assert_eq!(
        database
            .count("select count(*) from integrations.webhook_lease")
            .await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_stored_while_all_else_has_used_up_the_connections() {
    let stage = Stage::start().await;
    // It serves: what a start needs of the other connections, it has had.
    stage
        .store(vec![webhook("evt_0", "invoice.paid")])
        .await
        .expect("stored");
    let used_up = stage.own.status()[1].limit;
    let worker = stage.own.worker();
    let mut held = Vec::new();
    for _ in 0..used_up {
        held.push(worker.tx().await.expect("a connection"));
    }
    stage
        .store(vec![webhook("evt_1", "invoice.paid")])
        .await
        .expect("stored");
    let pools: Vec<_> = stage.own.status().iter().map(|pool| pool.role).collect();
    assert_eq!(pools, ["app", "worker", "inbox"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_that_overlap_in_every_order_do_not_stand_in_each_others_way() {
    let stage = Stage::start().await;
    let key = |n: usize| format!("evt_{n}");
    // Twenty batches of the same 64 events, each turned further, half of them backwards; each names its first one twice.
    let batches = (0..20).map(|turn| {
        let mut keys: Vec<usize> = (0..63).map(|n| (n + turn * 3) % 63).collect();
        if turn % 2 == 1 {
            keys.reverse();
        }
        keys.push(keys[0]);
        stage.store(
            keys.into_iter()
                .map(|n| webhook(&key(n), "charge.succeeded"))
                .collect(),
        )
    });
    let stored: Vec<_> = join_all(batches)
        .await
        .into_iter()
        .map(|batch| batch.expect("stored or known"))
        .collect();
    assert_eq!(
        stored.iter().flatten().filter(|one| !one.duplicate).count(),
        63
    );
    for batch in &stored {
        assert_eq!(batch.len(), 64);
        assert_eq!(
            batch[0].id, batch[63].id,
            "a repetition within a batch is one of the first"
        );
        assert!(batch[63].duplicate);
    }
    let database = stage.stop().await;
    assert_eq!(
        database
            .count("select count(*) from integrations.webhook_event")
            .await,
        63
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_webhook_fails_its_batch_whole_and_alone_fails_only_itself() {
    let stage = Stage::start().await;
    let poisoned = || webhook("evt_\0", "invoice.paid");
    let batch = || {
        vec![
            webhook("evt_1", "invoice.paid"),
            poisoned(),
            webhook("evt_2", "invoice.paid"),
        ]
    };
    let refusal = stage
        .store(batch())
        .await
        .expect_err("no text holds U+0000");
    assert_eq!(refusal.code(), Code::InvalidArgument, "{refusal}");
    assert_eq!(
        stage
            .database
            .count("select count(*) from integrations.webhook_dedup")
            .await,
        0,
        "all or nothing"
    );
    // What the gateway does then.
    let mut stored = 0;
    for alone in batch() {
        stored += usize::from(stage.store(vec![alone]).await.is_ok());
    }
    assert_eq!(stored, 2);
    let database = stage.stop().await;
    assert_eq!(
        database
            .count("select count(*) from integrations.webhook_event")
            .await,
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_cannot_be_kept_is_not_remembered_either() {
    let stage = Stage::start().await;
    stage
        .store(vec![webhook("evt_1", "invoice.paid")])
        .await
        .expect("stored");
    stage.database.execute("alter table integrations.webhook_event add constraint no_more check (event_key <> 'evt_2') not valid").await;
    let refusal = stage
        .store(vec![webhook("evt_2", "invoice.paid")])
        .await
        .expect_err("it cannot be kept");
    assert_eq!(refusal.code(), Code::Internal);
    assert_eq!(
        refusal.message(),
        "Internal error.",
        "nothing of ours is told"
    );
    assert_eq!(
        stage
            .database
            .count("select count(*) from integrations.webhook_dedup where event_key = 'evt_2'")
            .await,
        0
    );
    stage
        .database
        .execute("alter table integrations.webhook_event drop constraint no_more")
        .await;
    let stored = stage
        .store(vec![webhook("evt_2", "invoice.paid")])
        .await
        .expect("stored at the sender's next try");
    assert!(
        !stored[0].duplicate,
        "a webhook that was not stored is not taken for known"
    );
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_event_of_another_account_is_another_event() {
    let stage = Stage::start().await;
    let mut other = webhook("evt_1", "invoice.paid");
    other.account = "acct_2".to_owned();
    let stored = stage
        .store(vec![webhook("evt_1", "invoice.paid"), other])
        .await
        .expect("stored");
    assert_ne!(stored[0].id, stored[1].id);
    assert!(!stored[0].duplicate && !stored[1].duplicate);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_alone_is_given_the_secrets_and_takes_webhooks_in() {
    let stage = Stage::start().await;
    let ask = |provider: &str, token: &str| ListVerificationSecretsRequest {
        provider: provider.to_owned(),
        endpoint_token: token.to_owned(),
    };
    let secrets = stage
        .intake()
        .list_verification_secrets(ask("stripe", ""))
        .await
        .expect("known")
        .into_inner();
    assert_eq!(
        secrets.secrets,
        ["whsec_new", "whsec_old"],
        "both while one replaces the other"
    );
    assert_eq!(secrets.account, "default");
    for (provider, token) in [("stripe", "somebody-elses"), ("twilio", "")] {
        let refusal = stage
            .intake()
            .list_verification_secrets(ask(provider, token))
            .await
            .expect_err("unknown");
        assert_eq!(
            refusal.code(),
            Code::NotFound,
            "never an empty list, which would look like a valid answer"
        );
    }
    let refusal = stage
        .intake_for_billing()
        .list_verification_secrets(ask("stripe", ""))
        .await
        .expect_err("not billing's");
    assert_eq!(refusal.code(), Code::PermissionDenied);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_repeats_what_was_not_confirmed_loses_nothing_when_the_database_restarts() {
    let stage = Stage::start().await;
    let send = async |n: usize| {
        let mut refusals = 0;
        // As a sender does: again until it is told that it is stored.
        while let Err(refusal) = stage
            .store(vec![webhook(&format!("evt_{n}"), "invoice.paid")])
            .await
        {
            assert_eq!(refusal.code(), Code::Unavailable, "{refusal}");
            refusals += 1;
            assert!(refusals < 100, "{refusal}");
        }
    };
    for round in 0..5 {
        let senders = join_all((0..20).map(|n| send(round * 20 + n)));
        tokio::join!(senders, stage.database.cut_connections());
    }
    let database = stage.stop().await;
    assert_eq!(
        database
            .count("select count(*) from integrations.webhook_event")
            .await,
        100
    );
    let forgotten = "select count(*) from integrations.webhook_event where state <> 'processed' and due_at is null";
    assert_eq!(
        database.count(forgotten).await,
        0,
        "each is queued or had its effect"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_repeats_a_webhook_is_remembered_from_then_on() {
    let stage = Stage::start().await;
    let known = || webhook("evt_1", "invoice.paid");
    let first = stage.store(vec![known()]).await.expect("stored").remove(0);
    stage
        .database
        .execute("update integrations.webhook_dedup set expires_at = now() + interval '1 day'")
        .await;
    let stored = stage
        .store(vec![
            webhook("evt_2", "invoice.paid"),
            known(),
            webhook("evt_3", "invoice.paid"),
        ])
        .await
        .expect("stored or known");
    let duplicates: Vec<bool> = stored.iter().map(|one| one.duplicate).collect();
    assert_eq!(duplicates, [false, true, false]);
    assert_eq!(stored[1].id, first.id);
    let long = "select count(*) from integrations.webhook_dedup where expires_at > now() + interval '119 days'";
    assert_eq!(stage.database.count(long).await, 3);
    stage.stop().await;
}
