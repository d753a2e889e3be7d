//! Codes to sign in with (IDN-03): one opens one session, few may be tried, and nobody learns who is known.
//! Deliberately absent: sending, which is messaging's, and what a session does, which is beside this.

use chrono::TimeDelta;
use mainstay_identity::sign_in::rules::Limits;
use mainstay_proto::identity::v1 as proto;
use mainstay_proto::identity::v1::sign_in_service_client::SignInServiceClient;
use mainstay_proto::messaging::v1 as messaging;
use mainstay_rpc::{ErrorReason, Problem, ServiceChannel};
use tokio::task::JoinSet;

use crate::world::{World, keyed, new_member, reason};

const PHONE: &str = "+15125550111";

pub fn ask(channel: proto::SignInChannel, identifier: &str) -> proto::RequestCodeRequest {
    proto::RequestCodeRequest {
        channel: Some(channel.into()),
        identifier: Some(identifier.to_owned()),
        agency: None,
    }
}

pub fn mail(identifier: &str) -> proto::RequestCodeRequest {
    ask(proto::SignInChannel::Email, identifier)
}

pub fn tried(challenge: &str, code: &str) -> proto::VerifyCodeRequest {
    proto::VerifyCodeRequest {
        challenge_id: Some(challenge.to_owned()),
        code: Some(code.to_owned()),
    }
}

/// Asks for a code; gives the challenge.
pub async fn challenge(world: &World, request: proto::RequestCodeRequest) -> String {
    let asked = world.stranger().request_code(request).await;
    let asked = asked.expect("asked for").into_inner();
    asked.challenge_id.expect("an id")
}

/// Signs in.
pub async fn sign_in(world: &World, request: proto::RequestCodeRequest) -> proto::SignedIn {
    let challenge = challenge(world, request).await;
    let code = world.mailbox.code(&challenge).await;
    let opened = world.stranger().verify_code(tried(&challenge, &code)).await;
    opened.expect("the code is right").into_inner()
}

/// Some code that is not this one.
fn wrong(code: &str) -> String {
    let number: u32 = code.parse().expect("six digits");
    format!("{:06}", (number + 1) % 1_000_000)
}

fn two(world: &World, replica: &ServiceChannel) -> [SignInServiceClient<ServiceChannel>; 2] {
    [world.stranger(), SignInServiceClient::new(replica.clone())]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_right_codes_at_once_open_one_session_fifty_times() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let replica = world.replica().await;
    for round in 1..=50 {
        let challenge = challenge(&world, mail("owner@one.test")).await;
        let code = world.mailbox.code(&challenge).await;
        let mut at_once = JoinSet::new();
        for place in 0..200_usize {
            let mut stranger = two(&world, &replica)[place % 2].clone();
            let request = tried(&challenge, &code);
            at_once.spawn(async move { stranger.verify_code(request).await });
        }
        let mut opened = Vec::new();
        while let Some(answer) = at_once.join_next().await {
            match answer.expect("no panic") {
                Ok(answer) => opened.push(answer.into_inner()),
                Err(status) => assert_eq!(reason(&status), ErrorReason::SignInRefused),
            }
        }
        assert_eq!(opened.len(), 1, "round {round}");
        assert_eq!(opened[0].agency_id, Some(agency.text()));
        let sessions = "select count(*) from identity.sign_in_session";
        assert_eq!(world.postgres.count(sessions).await, round);
        world.hand.advance(TimeDelta::minutes(16));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_thousand_guesses_over_many_challenges_and_two_replicas_five_count_and_none_opens() {
    let limits = Limits {
        per_address: 100,
        per_minute: 1000,
    };
    let world = World::with(limits).await;
    world.agency("one").await;
    let replica = world.replica().await;
    let mut challenges = Vec::new();
    for _ in 0..20 {
        let challenge = challenge(&world, mail("owner@one.test")).await;
        let code = world.mailbox.code(&challenge).await;
        challenges.push((challenge, code));
    }
    let mut guesses = JoinSet::new();
    for guess in 0..2000_usize {
        let (challenge, code) = &challenges[guess % challenges.len()];
        let mut tried_code = format!("{:06}", guess * 499 % 1_000_000);
        if tried_code == *code {
            tried_code = wrong(code);
        }
        let request = tried(challenge, &tried_code);
        let mut stranger = two(&world, &replica)[guess / 7 % 2].clone();
        guesses.spawn(async move { stranger.verify_code(request).await });
        if guesses.len() >= 100 {
            let answer = guesses.join_next().await.expect("one of them");
            let refused = answer.expect("no panic").expect_err("a guess");
            assert_eq!(reason(&refused), ErrorReason::SignInRefused);
        }
    }
    while let Some(answer) = guesses.join_next().await {
        let refused = answer.expect("no panic").expect_err("a guess");
        assert_eq!(reason(&refused), ErrorReason::SignInRefused);
    }
    let most = "select max(cardinality(hits))::bigint from identity.sign_in_limit where cardinality(hits) <> 20";
    assert_eq!(world.postgres.count(most).await, 5);
    // By now even the right one opens nothing, of whatever challenge.
    for (challenge, code) in &challenges {
        let refused = world.stranger().verify_code(tried(challenge, code)).await;
        let refused = refused.expect_err("too many were tried");
        assert_eq!(reason(&refused), ErrorReason::SignInRefused);
    }
    let sessions = "select count(*) from identity.sign_in_session";
    assert_eq!(world.postgres.count(sessions).await, 0);
    world.hand.advance(TimeDelta::minutes(16));
    sign_in(&world, mail("owner@one.test")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn known_and_unknown_addresses_are_answered_by_the_same_words_and_rows() {
    let world = World::new().await;
    world.agency("one").await;
    let rows = async || {
        let of = async |table: &str| {
            let sql = format!("select count(*) from identity.{table}");
            world.postgres.count(&sql).await
        };
        (of("sign_in_challenge").await, of("sign_in_limit").await)
    };
    let mut grew = Vec::new();
    for address in ["owner@one.test", "nobody@one.test"] {
        let before = rows().await;
        let told = world.stranger().request_code(mail(address)).await;
        let told = told.expect("the same").into_inner();
        let after = rows().await;
        grew.push((after.0 - before.0, after.1 - before.1));
        let id = told.challenge_id.expect("an id");
        let ends = told.expires_at.expect("an end").seconds;
        assert_eq!(
            ends,
            (world.clock.now() + TimeDelta::minutes(10)).timestamp()
        );
        let tried_wrong = tried(&id, "not it");
        let refused = world.stranger().verify_code(tried_wrong).await;
        assert_eq!(
            reason(&refused.expect_err("wrong")),
            ErrorReason::SignInRefused
        );
    }
    // The first of them brought the row that counts for all.
    assert_eq!(grew, [(1, 2), (1, 1)]);
    // To the one a code was sent, to the other nothing.
    let challenge = challenge(&world, mail("OWNER@One.test")).await;
    let notice = world.mailbox.notice(&challenge).await;
    assert_eq!(notice.address.as_deref(), Some("owner@one.test"));
    assert_eq!(notice.purpose(), messaging::Purpose::SecurityCode);
    let jobs = "select count(*) from identity.job where kind = 'send_sign_in_code'";
    let mut pace = tokio::time::interval(std::time::Duration::from_millis(20));
    while world.postgres.count(jobs).await > 0 {
        pace.tick().await;
    }
    assert_eq!(world.mailbox.all().len(), 2);
    assert!(
        world
            .mailbox
            .all()
            .iter()
            .all(|notice| notice.address.as_deref() == Some("owner@one.test"))
    );

    // The limit of an address holds for both alike.
    for address in ["owner@one.test", "nobody@one.test"] {
        let mut refusals = Vec::new();
        for _ in 0..4 {
            if let Err(status) = world.stranger().request_code(mail(address)).await {
                let problem = Problem::from_status(&status);
                refusals.push((problem.reason(), problem.retry_after_seconds()));
            }
        }
        let (why, wait) = refusals.pop().expect("three in a quarter of an hour");
        assert_eq!(why, ErrorReason::RateLimited);
        assert_eq!(wait, Some(901), "{address}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_of_all_holds_over_two_replicas() {
    let limits = Limits {
        per_address: 3,
        per_minute: 10,
    };
    let world = World::with(limits).await;
    let replica = world.replica().await;
    let mut asked = JoinSet::new();
    for place in 0..60_usize {
        let mut stranger = two(&world, &replica)[place % 2].clone();
        let request = mail(&format!("nobody{place}@one.test"));
        asked.spawn(async move { stranger.request_code(request).await });
    }
    let mut taken = 0;
    while let Some(answer) = asked.join_next().await {
        match answer.expect("no panic") {
            Ok(_) => taken += 1,
            Err(status) => assert_eq!(reason(&status), ErrorReason::RateLimited),
        }
    }
    assert_eq!(taken, 10);
    world.hand.advance(TimeDelta::seconds(61));
    challenge(&world, mail("nobody@one.test")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_holds_ten_minutes_for_its_challenge_and_once() {
    let world = World::new().await;
    world.agency("one").await;
    let refused = async |challenge: &str, code: &str| {
        let tried = world.stranger().verify_code(tried(challenge, code)).await;
        reason(&tried.expect_err("refused")) == ErrorReason::SignInRefused
    };
    let first = challenge(&world, mail("owner@one.test")).await;
    let second = challenge(&world, mail("owner@one.test")).await;
    let (of_first, of_second) = (
        world.mailbox.code(&first).await,
        world.mailbox.code(&second).await,
    );
    if of_first != of_second {
        assert!(refused(&first, &of_second).await);
    }
    let nothing = mainstay_types::ChallengeId::generate().to_string();
    assert!(refused(&nothing, &of_first).await);
    let opened = world.stranger().verify_code(tried(&first, &of_first)).await;
    let opened = opened.expect("right").into_inner();
    assert_eq!(opened.expires_in_seconds, Some(900));
    let person = opened.person.expect("somebody");
    assert_eq!(person.email.as_deref(), Some("owner@one.test"));
    assert!(refused(&first, &of_first).await, "it was used");
    world.hand.advance(TimeDelta::minutes(10));
    assert!(refused(&second, &of_second).await, "it has expired");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_code_and_no_token_is_at_rest() {
    let world = World::new().await;
    world.agency("one").await;
    let challenge = challenge(&world, mail("owner@one.test")).await;
    let code = world.mailbox.code(&challenge).await;
    let opened = world.stranger().verify_code(tried(&challenge, &code)).await;
    let opened = opened.expect("right").into_inner();
    let refresh = opened.refresh_token.expect("one");
    let hex = refresh.trim_start_matches("mrt_");
    for table in [
        "sign_in_challenge",
        "sign_in_session",
        "refresh_token",
        "job",
        "job_dead_letter",
        "outbox_event",
        "audit_outbox",
        "audit_event",
        "audit_image",
        "idempotency_key",
    ] {
        let sql = format!(
            "select count(*) from identity.{table} t where to_jsonb(t)::text like '%\"{code}\"%' or t::text like '%{hex}%'"
        );
        assert_eq!(world.postgres.count(&sql).await, 0, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_opens_the_agency_that_carried_it_and_no_other() {
    let world = World::new().await;
    let (one, two) = (world.agency("one").await, world.agency("two").await);
    // Agency two writes down that the owner of agency one is a member of its own, with a number of its own choosing.
    let mut theirs = new_member("Olga", "agent", None);
    theirs.email = Some("owner@one.test".to_owned());
    theirs.phone = Some(PHONE.to_owned());
    let made = two.owner.members().create_member(theirs).await;
    let member = made.expect("a member").into_inner();
    let by_number = sign_in(&world, ask(proto::SignInChannel::Sms, PHONE)).await;
    assert_eq!(by_number.agency_id, Some(two.text()));
    let token = by_number.access_token.expect("one");
    let holder = world.holder(&token).await;
    let me = holder.account().get_me(proto::GetMeRequest {}).await;
    let me = me.expect("itself").into_inner();
    assert_eq!(
        (me.principal, me.agency.and_then(|a| a.id)),
        (member.id, Some(two.text()))
    );
    // By mail the one joined first, unless another is named.
    let first = sign_in(&world, mail("owner@one.test")).await;
    assert_eq!(first.agency_id, Some(one.text()));
    let named = proto::RequestCodeRequest {
        agency: Some("two".to_owned()),
        ..mail("owner@one.test")
    };
    let second = sign_in(&world, named).await;
    assert_eq!(second.agency_id, Some(two.text()));
    let carried: Vec<String> = world
        .mailbox
        .all()
        .into_iter()
        .map(|notice| notice.agency_id)
        .collect();
    assert_eq!(carried, [two.text(), one.text(), two.text()]);
    // A name that means nothing is answered the same, and sends nothing.
    let unknown = proto::RequestCodeRequest {
        agency: Some("three".to_owned()),
        ..mail("owner@two.test")
    };
    challenge(&world, unknown).await;
    let sent = sign_in(&world, mail("owner@two.test")).await;
    assert_eq!(sent.agency_id, Some(two.text()));
    assert_eq!(world.mailbox.all().len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asking_again_with_the_same_key_is_asking_once() {
    let world = World::new().await;
    world.agency("one").await;
    let ask = async |key: &str, address: &str| {
        let asked = world
            .stranger()
            .request_code(keyed(key, mail(address)))
            .await;
        asked.expect("asked for").into_inner().challenge_id
    };
    let first = ask("k", "owner@one.test").await;
    for _ in 0..5 {
        assert_eq!(ask("k", "owner@one.test").await, first);
    }
    assert_ne!(ask("k", "nobody@one.test").await, first);
    assert_ne!(ask("other", "owner@one.test").await, first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_joined_before_there_was_signing_in_can_sign_in() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let mut ana = new_member("Ana", "agent", None);
    ana.phone = Some(PHONE.to_owned());
    agency
        .owner
        .members()
        .create_member(ana)
        .await
        .expect("Ana");
    world
        .postgres
        .execute("delete from identity.sign_in_address")
        .await;
    // The next start looks through them.
    world.replica().await;
    let written = "select count(*) from identity.sign_in_address where active";
    let mut pace = tokio::time::interval(std::time::Duration::from_millis(20));
    while world.postgres.count(written).await < 3 {
        pace.tick().await;
    }
    let opened = sign_in(&world, ask(proto::SignInChannel::Sms, PHONE)).await;
    assert_eq!(opened.person.and_then(|p| p.name).as_deref(), Some("Ana"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identifier_that_is_none_of_its_channel_is_refused_by_name() {
    let world = World::new().await;
    for request in [
        ask(proto::SignInChannel::Sms, "owner@one.test"),
        ask(proto::SignInChannel::Email, PHONE),
        ask(proto::SignInChannel::Unspecified, PHONE),
    ] {
        let refused = world.stranger().request_code(request).await;
        let problem = Problem::from_status(&refused.expect_err("no address"));
        assert_eq!(problem.reason(), ErrorReason::InvalidRequest);
    }
}
