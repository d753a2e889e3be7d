//! Messages from being wanted to having arrived, on simulated providers that fail as real ones do (MSG-11, 12, 20 to 23).
//! Deliberately absent: killed processes and ten thousand messages; the long run has those.

use std::collections::HashMap;

use futures_util::future::join_all;
use mainstay_proto::errors::v1 as errors;
use mainstay_proto::messaging::v1 as proto;
use mainstay_rpc::{ErrorReason, Problem};
use mainstay_runtime::Clock;
use serde_json::json;
use tonic::Status;

use crate::carried::Providers;
use crate::sending::{OURS, client, lead, looks, quick, reached, read, send, until};
use crate::world::{World, reason};

pub fn blocked(status: &Status) -> Vec<String> {
    assert_eq!(reason(status), ErrorReason::BlockedByConsent, "{status:?}");
    let problem = Problem::from_status(status);
    problem
        .data_as::<errors::SendBlocked>()
        .expect("the reasons")
        .reasons
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_leaves_with_a_permit_arrives_and_tells_how() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, 10.0).await;
    let mike = lead(&agency, "+15125550123").await;
    let made = send(&agency, &mike, "Hi Mike", None).await.expect("taken");
    assert_eq!(made.status(), proto::MessageStatus::Queued);
    let id = made.id.expect("an id");
    let message = until(&agency, &id, proto::MessageStatus::Delivered).await;
    assert_eq!(providers.arrived("+15125550123").await, ["Hi Mike"]);
    assert_eq!((message.attempts, message.permits.len()), (Some(1), 1));
    let rules: Vec<_> = message.permits[0]
        .checks
        .iter()
        .map(|check| check.rule().to_owned())
        .collect();
    assert_eq!(
        rules,
        [
            "client_active",
            "sending_hold",
            "opt_out",
            "do_not_contact",
            "consent",
            "suppression",
            "monthly_limit",
            "quiet_hours"
        ]
    );
    let told: Vec<_> = message
        .history
        .iter()
        .map(proto::MessageEvent::status)
        .collect();
    assert_eq!(told.first(), Some(&proto::MessageStatus::Queued));
    assert_eq!(told.last(), Some(&proto::MessageStatus::Delivered));
    let counted = "select sent from messaging.message_counter";
    assert_eq!(world.postgres.count(counted).await, 1);
    let left = "select count(*) from messaging.send_queue";
    assert_eq!(world.postgres.count(left).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_must_not_be_written_to_is_not_and_whoever_asks_hears_why() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, 10.0).await;
    let stopped = lead(&agency, "+15125550123").await;
    providers.text("+15125550123", OURS, " Stop. ").await;
    let opted_out = "select count(*) from messaging.consent_standing where opted_out_at is not null and channel = 'sms'";
    reached(&world, opted_out, 1).await;
    let refused = send(&agency, &stopped, "Hi", None)
        .await
        .expect_err("stopped");
    assert_eq!(blocked(&refused), ["opted_out"]);
    let request = proto::CreateLeadRequest {
        client_id: agency.client.to_string(),
        phone: Some("+15125550124".to_owned()),
        ..Default::default()
    };
    let stranger = agency.leads().create_lead(request).await.expect("a lead");
    let stranger = stranger.into_inner().id.expect("an id");
    let refused = send(&agency, &stranger, "Hi", None)
        .await
        .expect_err("no consent");
    assert_eq!(blocked(&refused), ["no_consent"]);
    let listed = lead(&agency, "+15125550125").await;
    let request = proto::AddClientDoNotContactRequest {
        client_id: agency.client.to_string(),
        address: Some("+15125550125".to_owned()),
        reason: Some("a lawyer wrote".to_owned()),
    };
    agency
        .lists()
        .add_client_do_not_contact(request)
        .await
        .expect("listed");
    let refused = send(&agency, &listed, "Hi", None)
        .await
        .expect_err("listed");
    assert_eq!(blocked(&refused), ["do_not_contact"]);
    for number in ["+15125550123", "+15125550124", "+15125550125"] {
        let arrived = providers.arrived(number).await;
        assert!(!arrived.contains(&"Hi".to_owned()), "{number}: {arrived:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_takes_back_all_that_waits_is_confirmed_once_and_start_opens_again() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, 10.0).await;
    let mike = lead(&agency, "+15125550123").await;
    let ann = lead(&agency, "+15125550126").await;
    let later = prost_types::Timestamp {
        seconds: Clock::system(0).now().timestamp() + 3 * 86_400,
        nanos: 0,
    };
    let mut waiting = Vec::new();
    for turn in 0..5 {
        let made = send(&agency, &mike, &format!("later {turn}"), Some(later)).await;
        waiting.push(made.expect("taken").id.expect("an id"));
    }
    let others = send(&agency, &ann, "later", Some(later))
        .await
        .expect("taken");
    // Nobody's keyword, and yet clear.
    providers
        .text("+15125550123", OURS, "please stop texting me")
        .await;
    for id in &waiting {
        let message = until(&agency, id, proto::MessageStatus::Canceled).await;
        assert_eq!(message.error_code(), "opted_out");
    }
    let others = read(&agency, others.id()).await;
    assert_eq!(others.status(), proto::MessageStatus::Scheduled);
    providers
        .text("+15125550123", OURS, "I said STOP texting me!")
        .await;
    let inbound = "select count(*) from messaging.message where direction = 'inbound'";
    reached(&world, inbound, 2).await;
    let replies = "select count(*) from messaging.message where purpose = 'keyword_reply'";
    assert_eq!(world.postgres.count(replies).await, 1, "confirmed once");
    providers.text("+15125550123", OURS, "START").await;
    let sent = async || send(&agency, &mike, "welcome back", None).await;
    let mut looks = looks();
    let made = loop {
        assert!(looks.again().await, "START never undid STOP");
        match sent().await {
            Ok(made) => break made,
            Err(refused) => assert_eq!(blocked(&refused), ["opted_out"]),
        }
    };
    until(&agency, made.id(), proto::MessageStatus::Delivered).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_on_a_provider_that_is_busy_half_the_time_arrives_whole_and_in_order() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, 1000.0).await;
    let people: Vec<String> = (0..10).map(|n| format!("+1512555013{n}")).collect();
    let leads: HashMap<String, String> = join_all(
        people
            .iter()
            .map(async |phone| (phone.clone(), lead(&agency, phone).await)),
    )
    .await
    .into_iter()
    .collect();
    let busy = json!({"provider": "twilio", "operation": "messages.create", "kind": "status", "value": 429, "rate": 0.5, "seed": 7});
    providers.fault(busy).await;
    let mut last = Vec::new();
    for turn in 0..10 {
        for phone in &people {
            let made = send(&agency, &leads[phone.as_str()], &format!("{turn}"), None).await;
            last.push(made.expect("taken").id.expect("an id"));
        }
    }
    for id in &last {
        until(&agency, id, proto::MessageStatus::Delivered).await;
    }
    let wanted: Vec<String> = (0..10).map(|turn| turn.to_string()).collect();
    for phone in &people {
        assert_eq!(providers.arrived(phone).await, wanted, "{phone}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_provider_took_without_saying_so_is_found_there_and_not_sent_again() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, 1000.0).await;
    let mike = lead(&agency, "+15125550123").await;
    let ann = lead(&agency, "+15125550124").await;
    // Taken, not answered, and no callback says so either.
    providers.fault(json!({"provider": "twilio", "operation": "messages.create", "kind": "timeout_after_effect", "value": 30, "count": 1})).await;
    providers
        .fault(json!({"provider": "twilio", "operation": "*", "kind": "never_webhook"}))
        .await;
    let taken = send(&agency, &mike, "are you there", None)
        .await
        .expect("taken");
    until(&agency, taken.id(), proto::MessageStatus::Ambiguous).await;
    let found = until(&agency, taken.id(), proto::MessageStatus::Delivered).await;
    assert_eq!((found.attempts(), found.error.as_deref()), (1, None));
    assert_eq!(providers.arrived("+15125550123").await, ["are you there"]);
    providers.mend().await;
    // Not taken, and not answered: it is not there, so it goes again.
    providers.fault(json!({"provider": "twilio", "operation": "messages.create", "kind": "drop", "count": 1})).await;
    let lost = send(&agency, &ann, "hello", None).await.expect("taken");
    let sent = until(&agency, lost.id(), proto::MessageStatus::Delivered).await;
    assert_eq!(sent.attempts(), 2);
    assert_eq!(sent.permits.len(), 2, "each try was decided");
    assert_eq!(providers.arrived("+15125550124").await, ["hello"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_that_was_not_taken_is_told_again_because_our_address_asks_for_it() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, 1000.0).await;
    let mike = lead(&agency, "+15125550123").await;
    // Connected and refused: by itself Twilio would leave it at that.
    providers.refuse_callbacks(3);
    let made = send(&agency, &mike, "hello", None).await.expect("taken");
    until(&agency, made.id(), proto::MessageStatus::Delivered).await;
    assert_eq!(providers.refusals_left(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_gate_cannot_look_nothing_leaves_and_what_is_too_late_never_does() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, 1000.0).await;
    let mike = lead(&agency, "+15125550123").await;
    let ann = lead(&agency, "+15125550124").await;
    let later = |seconds: i64| prost_types::Timestamp {
        seconds: world.clock.now().timestamp() + seconds,
        nanos: 0,
    };
    let deferred = send(&agency, &mike, "deferred", Some(later(3)))
        .await
        .expect("taken");
    let request = proto::CreateMessageRequest {
        client_id: agency.client.to_string(),
        lead_id: Some(ann),
        channel: Some(proto::Channel::Sms.into()),
        body: Some("too late".to_owned()),
        purpose: Some(proto::Purpose::Transactional.into()),
        send_at: Some(later(3)),
        expires_at: Some(later(20)),
        ..Default::default()
    };
    let late = agency
        .messages()
        .create_message(request)
        .await
        .expect("taken")
        .into_inner();
    // Whoever looks waits: as slow as a check can be.
    let mut admin = world.postgres.admin().await;
    sqlx::raw_sql("begin; lock table messaging.agency_do_not_contact in access exclusive mode")
        .execute(&mut admin)
        .await
        .expect("locked");
    let refused = send(&agency, &mike, "now", None)
        .await
        .expect_err("cannot look");
    assert_eq!(blocked(&refused), ["check_unavailable"]);
    assert!(
        Problem::from_status(&refused)
            .retry_after_seconds()
            .is_some()
    );
    // Both come up, and nobody can say that they may leave.
    let put_off =
        "select count(*) from messaging.send_queue where due_at > ready_at + interval '30 seconds'";
    reached(&world, put_off, 1).await;
    let late = until(&agency, late.id(), proto::MessageStatus::Expired).await;
    assert_eq!(
        late.error_code(),
        "too_late",
        "the next look would be too late"
    );
    sqlx::raw_sql("rollback")
        .execute(&mut admin)
        .await
        .expect("open again");
    assert_eq!(
        providers.arrived("+15125550123").await,
        Vec::<String>::new()
    );
    let made = send(&agency, &mike, "again", None).await.expect("taken");
    // Their next look is a minute away; the test does not wait for it.
    world
        .postgres
        .execute("update messaging.send_queue set due_at = ready_at")
        .await;
    until(&agency, deferred.id(), proto::MessageStatus::Delivered).await;
    until(&agency, made.id(), proto::MessageStatus::Delivered).await;
    let late = providers.arrived("+15125550124").await;
    assert_eq!(late, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_texts_of_somebody_new_are_one_lead_with_one_open_conversation() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, 10.0).await;
    let texts = ["hi", "my roof leaks", "can you come"];
    join_all(texts.map(|text| providers.text("+15125550177", OURS, text))).await;
    let inbound = "select count(*) from messaging.message where direction = 'inbound'";
    reached(&world, inbound, 3).await;
    for (what, count) in [("lead", 1), ("conversation", 1), ("message", 3)] {
        let sql = format!("select count(*) from messaging.{what}");
        assert_eq!(world.postgres.count(&sql).await, count, "{what}");
    }
    let request = proto::ListConversationsRequest {
        client_id: agency.client.to_string(),
        unread: Some(true),
        ..Default::default()
    };
    let listed = agency.conversations().list_conversations(request).await;
    let listed = listed.expect("a page").into_inner().data;
    assert_eq!(listed[0].unread(), 3);
}
