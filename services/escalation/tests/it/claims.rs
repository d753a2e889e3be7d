//! Who has an escalation: one, whoever tries how and when, and everybody hears of it once (ESC-02, ESC-03, ESC-08).

use futures_util::future::join_all;
use mainstay_proto::errors::v1::Claimed;
use mainstay_proto::escalation::v1::{
    ClaimByLinkRequest, ClaimEscalationRequest, ClaimState, Escalation, EscalationStatus,
    LadderStep, PutLadderRequest, ReassignEscalationRequest, ReleaseEscalationRequest,
    ResolveEscalationRequest, ShowClaimRequest,
};
use mainstay_rpc::ErrorReason;
use mainstay_types::ServiceName;
use serde_json::json;

use crate::world::{Member, World, refused, until};

/// The token in what a member was told.
async fn token(world: &World, member: &Member) -> String {
    until("they are called", async || {
        let told = world.sent.to(&member.phone);
        let call = told
            .iter()
            .find_map(|body| body.split_once("https://gate.test/claims/"));
        call.map(|(_, token)| token.to_owned())
    })
    .await
}

fn owner(found: &Escalation) -> Option<String> {
    found.claimed_by.as_ref().and_then(|owner| owner.id.clone())
}

fn claim(id: &str) -> ClaimEscalationRequest {
    ClaimEscalationRequest {
        escalation_id: id.to_owned(),
        member_id: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_hundred_who_claim_at_once_one_has_it_and_everybody_is_told_once() {
    let world = World::new().await;
    let mut members = Vec::new();
    for number in 0..200 {
        members.push(world.add_member(number).await);
    }
    let escalation = world.raise("roof 7").await;
    let id = escalation.id().to_owned();
    until("everybody is called", async || {
        (world.sent.all().len() == 200).then_some(())
    })
    .await;

    // Every other one by the link, the rest signed in.
    let mut tokens = Vec::new();
    for member in &members {
        tokens.push(token(&world, member).await);
    }
    let tries = members
        .iter()
        .zip(&tokens)
        .enumerate()
        .map(|(at, (member, token))| {
            let (world, id) = (&world, id.as_str());
            async move {
                if at % 2 == 0 {
                    let request = ClaimByLinkRequest {
                        token: token.clone(),
                    };
                    world
                        .links()
                        .claim_by_link(request)
                        .await
                        .map(|_| member.clone())
                } else {
                    let mut door = world.as_member(member);
                    door.claim_escalation(claim(id))
                        .await
                        .map(|_| member.clone())
                }
            }
        });
    let (won, lost): (Vec<_>, Vec<_>) = join_all(tries).await.into_iter().partition(Result::is_ok);
    let won: Vec<Member> = won.into_iter().flatten().collect();
    let [winner] = won.as_slice() else {
        panic!("{} have it", won.len());
    };
    assert_eq!(lost.len(), 199);
    for answer in lost {
        let problem = refused(&answer.expect_err("refused"));
        assert_eq!(problem.reason(), ErrorReason::AlreadyClaimed, "{problem}");
        let told: Claimed = problem.data_as().expect("who has it");
        let who = told.claimed_by.expect("who");
        assert_eq!(
            (who.id, who.name),
            (winner.id.to_string(), winner.name.clone())
        );
    }

    // One "you have it", everybody else once who has it, and nobody anything else.
    until("everybody is told", async || {
        (world.sent.all().len() == 400).then_some(())
    })
    .await;
    for member in &members {
        let mut told = world.sent.to(&member.phone);
        told.retain(|body| !body.contains("Take it: "));
        let wanted = match member == winner {
            true => "You have it: roof 7 needs a person".to_owned(),
            false => format!("{} has it: roof 7 needs a person", winner.name),
        };
        assert_eq!(told, [wanted], "{}", member.name);
    }
    let found = world.get(&id).await;
    assert_eq!(found.status(), EscalationStatus::Claimed);
    assert_eq!(owner(&found), Some(winner.id.to_string()));
    let claimed = found.history.iter().filter(|line| line.kind() == "claimed");
    assert_eq!(claimed.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_at_a_link_takes_nothing_and_one_that_is_used_foreign_or_old_says_so() {
    let world = World::new().await;
    let (ana, bob) = (world.add_member(1).await, world.add_member(2).await);
    // Longer than a link lasts.
    let request = PutLadderRequest {
        client_id: world.client.to_string(),
        steps: vec![LadderStep {
            channels: vec!["sms".to_owned()],
            wait_seconds: Some(86_400),
            ..Default::default()
        }],
        rounds: Some(20),
        etag: None,
    };
    world.ladders().put_ladder(request).await.expect("a ladder");
    let escalation = world.raise("roof 7").await;
    let (of_ana, of_bob) = (token(&world, &ana).await, token(&world, &bob).await);
    let show = async |token: &str| {
        let request = ShowClaimRequest {
            token: token.to_owned(),
        };
        world
            .links()
            .show_claim(request)
            .await
            .map(tonic::Response::into_inner)
    };
    let take = async |token: &str| {
        let request = ClaimByLinkRequest {
            token: token.to_owned(),
        };
        world
            .links()
            .claim_by_link(request)
            .await
            .map(tonic::Response::into_inner)
    };
    for _ in 0..3 {
        let seen = show(&of_ana).await.expect("a link");
        assert_eq!(seen.state(), ClaimState::Open);
        assert_eq!(seen.summary(), "roof 7 needs a person");
    }
    let found = world.get(escalation.id()).await;
    assert_eq!(found.status(), EscalationStatus::Pending, "nobody has it");

    // Foreign.
    let mut forged = of_ana.clone().into_bytes();
    forged[40] = if forged[40] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).expect("ASCII");
    for wrong in [forged.as_str(), "x", &of_ana[..of_ana.len() - 1]] {
        for answer in [show(wrong).await, take(wrong).await] {
            let problem = refused(&answer.expect_err("refused"));
            assert_eq!(problem.reason(), ErrorReason::NotFound, "{wrong}");
        }
    }

    // Used: by whoever has it again and again, by anybody else never.
    for _ in 0..2 {
        assert_eq!(
            take(&of_ana).await.expect("hers").state(),
            ClaimState::Yours
        );
    }
    let problem = refused(&take(&of_bob).await.expect_err("taken"));
    assert_eq!(problem.reason(), ErrorReason::AlreadyClaimed);
    let seen = show(&of_bob).await.expect("a link");
    assert_eq!(
        (seen.state(), seen.claimed_by_name()),
        (ClaimState::Taken, ana.name.as_str())
    );
    assert_eq!(seen.summary, None, "it is no longer his to know");

    // Old.
    let release = ReleaseEscalationRequest {
        escalation_id: escalation.id().to_owned(),
        reason: None,
    };
    world
        .as_member(&ana)
        .release_escalation(release)
        .await
        .expect("given back");
    world.pass(3 * 86_400 + 1);
    let problem = refused(&take(&of_bob).await.expect_err("old"));
    assert_eq!(problem.reason(), ErrorReason::ClaimLinkExpired, "{problem}");
    let seen = show(&of_bob).await.expect("a link");
    assert_eq!(seen.state(), ClaimState::Expired);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_has_only_they_give_back_and_only_who_may_assign_gives_on() {
    let world = World::new().await;
    let (ana, bob) = (world.add_member(1).await, world.add_member(2).await);
    let escalation = world.raise("roof 7").await;
    let id = escalation.id().to_owned();
    let release = || ReleaseEscalationRequest {
        escalation_id: id.clone(),
        reason: Some("lunch".to_owned()),
    };
    let resolve = || ResolveEscalationRequest {
        escalation_id: id.clone(),
        resolution: Some("called back".to_owned()),
    };

    let problem = world.as_member(&ana).release_escalation(release()).await;
    let problem = refused(&problem.expect_err("nobody has it"));
    assert_eq!(problem.reason(), ErrorReason::EscalationUnclaimed);
    // A key has no self, and a member none but their own.
    let problem = refused(
        &world
            .escalations()
            .claim_escalation(claim(&id))
            .await
            .expect_err("whom?"),
    );
    assert_eq!(problem.reason(), ErrorReason::InvalidRequest);
    let for_bob = ClaimEscalationRequest {
        member_id: Some(bob.id.to_string()),
        ..claim(&id)
    };
    let problem = world.as_member(&ana).claim_escalation(for_bob).await;
    let problem = refused(&problem.expect_err("not hers to give"));
    assert_eq!(problem.reason(), ErrorReason::PermissionDenied);

    world
        .as_member(&ana)
        .claim_escalation(claim(&id))
        .await
        .expect("hers");
    for problem in [
        world.as_member(&bob).release_escalation(release()).await,
        world.as_member(&bob).resolve_escalation(resolve()).await,
    ] {
        let problem = refused(&problem.expect_err("not his"));
        assert_eq!(problem.reason(), ErrorReason::AlreadyClaimed);
    }
    let after = world.as_member(&ana).release_escalation(release()).await;
    let after = after.expect("given back").into_inner();
    assert_eq!(after.status(), EscalationStatus::Pending);

    let give = ReassignEscalationRequest {
        escalation_id: id.clone(),
        member_id: Some(bob.id.to_string()),
        reason: Some("knows the roof".to_owned()),
    };
    let problem = world
        .as_member(&ana)
        .reassign_escalation(give.clone())
        .await;
    let problem = refused(&problem.expect_err("not hers to give"));
    assert_eq!(problem.reason(), ErrorReason::PermissionDenied);
    let after = world.escalations().reassign_escalation(give).await;
    let after = after.expect("given").into_inner();
    assert_eq!(owner(&after), Some(bob.id.to_string()));

    for _ in 0..2 {
        let after = world.as_member(&bob).resolve_escalation(resolve()).await;
        let after = after.expect("done").into_inner();
        assert_eq!(after.status(), EscalationStatus::Resolved);
        assert_eq!(after.resolution(), "called back");
    }
    let problem = world.as_member(&ana).claim_escalation(claim(&id)).await;
    let problem = refused(&problem.expect_err("over"));
    assert_eq!(problem.reason(), ErrorReason::EscalationEnded);
    let history = world.get(&id).await.history;
    let mut kinds: Vec<&str> = history.iter().map(|line| line.kind()).collect();
    kinds.retain(|kind| *kind != "called");
    assert_eq!(
        kinds,
        ["raised", "claimed", "released", "reassigned", "resolved"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_had_who_left_waits_for_the_next_and_they_take_nothing_more() {
    let world = World::new().await;
    let (ana, bob) = (world.add_member(1).await, world.add_member(2).await);
    let mut ids = Vec::new();
    for number in 0..5 {
        let raised = world.raise(&format!("roof {number}")).await;
        world
            .as_member(&ana)
            .claim_escalation(claim(raised.id()))
            .await
            .expect("hers");
        ids.push(raised.id().to_owned());
    }
    let waiting = world.raise("roof 9").await;
    let of_ana = token(&world, &ana).await;

    let about = ana.id.to_string();
    world
        .tell(
            ServiceName::Identity,
            "identity.member.deactivated",
            ("member", &about),
            &json!({}),
        )
        .await;
    for id in &ids {
        until("it waits again", async || {
            let found = world.get(id).await;
            (found.status() == EscalationStatus::Pending).then_some(())
        })
        .await;
        let history = world.get(id).await.history;
        let released = history.iter().filter(|line| line.kind() == "released");
        assert_eq!(released.count(), 1);
    }
    let by_link = world
        .links()
        .claim_by_link(ClaimByLinkRequest { token: of_ana })
        .await;
    let own = world
        .as_member(&ana)
        .claim_escalation(claim(waiting.id()))
        .await;
    assert!(by_link.is_err() && own.is_err(), "she has left");
    for id in &ids {
        world
            .as_member(&bob)
            .claim_escalation(claim(id))
            .await
            .expect("his");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_takes_something_as_they_leave_is_left_with_nothing() {
    let world = World::new().await;
    for round in 0..10 {
        let member = world.add_member(round).await;
        let raised = world.raise(&format!("roof {round}")).await;
        let about = member.id.to_string();
        let nothing = json!({});
        let leaves = world.tell(
            ServiceName::Identity,
            "identity.member.deactivated",
            ("member", &about),
            &nothing,
        );
        let mut door = world.as_member(&member);
        let (taken, ()) = tokio::join!(door.claim_escalation(claim(raised.id())), leaves);
        until("nobody who left has it", async || {
            let found = world.get(raised.id()).await;
            (found.status() == EscalationStatus::Pending).then_some(())
        })
        .await;
        drop(taken);
    }
}
