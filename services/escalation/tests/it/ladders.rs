//! Who is called, and that nobody is forgotten: each step in its time, whatever dies (ESC-01, ESC-04).

use std::collections::BTreeSet;

use futures_util::future::join_all;
use mainstay_proto::escalation::v1::{
    EscalationStatus, GetLadderRequest, LadderStep, ListEscalationsRequest, PutLadderRequest,
};
use mainstay_rpc::ErrorReason;
use mainstay_types::{ClientId, LeadId, MemberId, ServiceName};
use serde_json::json;

use crate::world::{World, refused, until};

fn step(members: &[String], channels: &[&str], wait_seconds: i32) -> LadderStep {
    LadderStep {
        member_ids: members.to_vec(),
        roles: Vec::new(),
        channels: channels.iter().map(|how| (*how).to_owned()).collect(),
        wait_seconds: Some(wait_seconds),
    }
}

async fn put(world: &World, steps: Vec<LadderStep>, rounds: i32) {
    let request = PutLadderRequest {
        client_id: world.client.to_string(),
        steps,
        rounds: Some(rounds),
        etag: None,
    };
    world.ladders().put_ladder(request).await.expect("a ladder");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_silence_the_next_is_called_and_in_the_end_everybody_knows_that_nobody_took_it() {
    let world = World::new().await;
    let (ana, bob) = (world.add_member(1).await, world.add_member(2).await);
    let steps = vec![
        step(&[ana.id.to_string()], &["sms"], 60),
        step(&[bob.id.to_string()], &["sms", "email"], 60),
    ];
    put(&world, steps, 2).await;
    // Messaging is away for the first few tries, and hears of all of it in the end.
    world.sent.away(2);
    let raised = world.raise("roof 7").await;
    let calls = |address: &str| {
        let told = world.sent.to(address);
        told.iter()
            .filter(|body| body.contains("Take it: "))
            .count()
    };
    for (round, wanted) in [
        (1, (1, 0, 0)),
        (2, (1, 1, 1)),
        (3, (2, 1, 1)),
        (4, (2, 2, 2)),
    ] {
        until("whose turn it is, is called", async || {
            // Retries have their time as well.
            world.pass(i64::from(round == 1));
            let mail = calls("member2@acme.test");
            ((calls(&ana.phone), calls(&bob.phone), mail) == wanted).then_some(())
        })
        .await;
        until("the next step has its time", async || {
            let found = world.get(raised.id()).await;
            found.next_step_at.is_some().then_some(())
        })
        .await;
        world.pass(61);
    }
    until("it expires", async || {
        let found = world.get(raised.id()).await;
        (found.status() == EscalationStatus::Expired).then_some(())
    })
    .await;
    for address in [&ana.phone, &bob.phone] {
        until("they are told", async || {
            let told = world.sent.to(address);
            let wanted = "Nobody took it in time: roof 7 needs a person";
            (told.iter().filter(|body| *body == wanted).count() == 1).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_twenty_times_at_once_has_one_person_called() {
    let world = World::new().await;
    let ana = world.add_member(1).await;
    let mut doors: Vec<_> = (0..20).map(|_| world.escalations()).collect();
    let asks = doors
        .iter_mut()
        .map(|door| door.raise_escalation(world.wanted("roof 7")));
    let raised = join_all(asks).await.into_iter();
    let ids: BTreeSet<String> = raised
        .map(|raised| raised.expect("raised").into_inner().id().to_owned())
        .collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let id = ids.first().expect("one");
    assert_eq!(world.get(id).await.occurrences(), 20);
    until("she is called", async || {
        (!world.sent.to(&ana.phone).is_empty()).then_some(())
    })
    .await;
    assert_eq!(world.sent.to(&ana.phone).len(), 1, "once");
    // Another thing is another call.
    assert_ne!(world.raise("roof 8").await.id(), id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lead_that_needs_a_person_has_one_called_once() {
    let world = World::new().await;
    let ana = world.add_member(1).await;
    let lead = LeadId::generate();
    let payload = json!({"lead_id": lead, "lead_name": "Mike", "conversation_id": null,
        "reason": "wants to talk to somebody"});
    world
        .tell(
            ServiceName::Messaging,
            "messaging.hand_over.requested",
            ("automation_run", "arun_1"),
            &payload,
        )
        .await;
    let list = ListEscalationsRequest {
        client_id: world.client.to_string(),
        ..Default::default()
    };
    let found = world.escalations().list_escalations(list).await;
    let found = found.expect("a list").into_inner().data;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].lead_id(), lead.to_string());
    assert_eq!(found[0].occurrences(), 1);
    until("she is called", async || {
        let told = world.sent.to(&ana.phone);
        let call = "Mike needs a person: wants to talk to somebody.\nTake it: ";
        told.iter().any(|body| body.starts_with(call)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_escalation_whose_timer_is_gone_is_found_and_goes_on() {
    let world = World::new().await;
    let ana = world.add_member(1).await;
    put(&world, vec![step(&[], &["sms"], 600)], 3).await;
    let raised = world.raise("roof 7").await;
    until("she is called", async || {
        (!world.sent.to(&ana.phone).is_empty()).then_some(())
    })
    .await;
    until("the next step has its timer", async || {
        let timers = "select count(*) from escalation.job where kind = 'advance_escalation' and run_at > now()";
        (world.postgres.count(timers).await == 1).then_some(())
    })
    .await;
    world
        .postgres
        .execute("delete from escalation.job where kind = 'advance_escalation'")
        .await;
    world.pass(600 + 61);
    until("it is found and she is called again", async || {
        // The auditor looks again and again.
        world.pass(1);
        (world.sent.to(&ana.phone).len() == 2).then_some(())
    })
    .await;
    let history = world.get(raised.id()).await.history;
    let found = history.iter().filter(|line| line.kind() == "found");
    assert_eq!(found.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ladder_is_replaced_as_a_whole_and_by_who_has_read_it() {
    let world = World::new().await;
    let read = || GetLadderRequest {
        client_id: world.client.to_string(),
    };
    let standing = world.ladders().get_ladder(read()).await.expect("one");
    assert_eq!(standing.into_inner().etag, None, "it is nobody's own");
    put(&world, vec![step(&[], &["sms"], 60)], 3).await;
    let own = world
        .ladders()
        .get_ladder(read())
        .await
        .expect("one")
        .into_inner();
    let mut doors: Vec<_> = (0..8).map(|_| world.ladders()).collect();
    let puts = doors.iter_mut().enumerate().map(|(at, door)| {
        let wait = 100 + i32::try_from(at).unwrap_or(0);
        door.put_ladder(PutLadderRequest {
            client_id: world.client.to_string(),
            steps: vec![step(&[], &["email"], wait)],
            rounds: None,
            etag: own.etag.clone(),
        })
    });
    let (won, lost): (Vec<_>, Vec<_>) = join_all(puts).await.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 7));
    for answer in lost {
        let problem = refused(&answer.expect_err("refused"));
        assert_eq!(problem.reason(), ErrorReason::EtagMismatch);
    }
    let wrong = PutLadderRequest {
        client_id: ClientId::generate().to_string(),
        ..Default::default()
    };
    assert!(world.ladders().put_ladder(wrong).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ladder_calls_only_members_who_could_come() {
    let world = World::new().await;
    let ana = world.add_member(1).await.id.to_string();
    let nobody = MemberId::generate().to_string();
    let request = PutLadderRequest {
        client_id: world.client.to_string(),
        steps: vec![
            step(std::slice::from_ref(&ana), &["sms"], 60),
            step(&[ana, nobody], &["sms"], 60),
        ],
        rounds: Some(1),
        etag: None,
    };
    let answer = world.ladders().put_ladder(request).await;
    let problem = refused(&answer.expect_err("refused"));
    let fields: Vec<&str> = problem
        .errors()
        .iter()
        .map(|violation| violation.field.as_str())
        .collect();
    assert_eq!(fields, ["steps[1].member_ids[1]"]);
}
