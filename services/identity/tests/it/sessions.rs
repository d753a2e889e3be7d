//! Sessions (IDN-04): tokens that follow each other, and what ends them from the next exchange on.
//! Deliberately absent: the second that the gateway keeps an exchange for. `tests/` has that, through REST.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use mainstay_proto::identity::v1 as proto;
use mainstay_rpc::ErrorReason;
use mainstay_rpc::token::access::AccessKeys;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use crate::sign_in::{mail, sign_in};
use crate::world::{World, reason};

async fn refresh(world: &World, token: &Option<String>) -> Result<proto::SignedIn, Status> {
    let request = proto::RefreshSessionRequest {
        refresh_token: token.clone(),
    };
    Ok(world
        .stranger()
        .refresh_session(request)
        .await?
        .into_inner())
}

/// Whether an access token opens something now.
async fn opens(world: &World, token: &Option<String>) -> bool {
    match world.exchange(token.as_deref().expect("a token")).await {
        Ok(_) => true,
        Err(status) => {
            assert_eq!(status.code(), Code::Unauthenticated);
            false
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_access_token_acts_as_its_member_for_a_quarter_of_an_hour() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let opened = sign_in(&world, mail("owner@one.test")).await;
    let token = opened.access_token.clone().expect("one");
    let holder = world.holder(&token).await;
    let me = holder.account().get_me(proto::GetMeRequest {}).await;
    let me = me.expect("itself").into_inner();
    assert_eq!(me.principal, Some(agency.ensured.owner.to_string()));
    assert_eq!(me.person, opened.person);
    assert!(
        me.grants[0]
            .permissions
            .contains(&"identity.members.deactivate".to_owned())
    );
    world.hand.advance(TimeDelta::seconds(890));
    let short = world.exchange(&token).await.expect("still");
    let ends = short.expires_at.expect("an end").seconds;
    assert!(ends <= mainstay_runtime::Clock::system(0).now().timestamp() + 10);
    world.hand.advance(TimeDelta::seconds(10));
    assert!(!opens(&world, &opened.access_token).await);
    // A token with another signature, and one whose claims were changed, open nothing.
    let mut parts: Vec<&str> = token.split('.').collect();
    let foreign = AccessKeys::new(&[1; 32]);
    assert_ne!(foreign.public_hex(), AccessKeys::new(&[8; 32]).public_hex());
    parts[1] = "e30";
    assert!(!opens(&world, &Some(parts.join("."))).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_token_used_by_many_at_once_has_one_successor() {
    let world = World::new().await;
    world.agency("one").await;
    let mut token = sign_in(&world, mail("owner@one.test")).await.refresh_token;
    for round in 1..=20 {
        let mut at_once = JoinSet::new();
        for _ in 0..20 {
            let mut stranger = world.stranger();
            let request = proto::RefreshSessionRequest {
                refresh_token: token.clone(),
            };
            at_once.spawn(async move { stranger.refresh_session(request).await });
        }
        let mut successors = Vec::new();
        while let Some(answer) = at_once.join_next().await {
            let answer = answer.expect("no panic").expect("a successor");
            let answer = answer.into_inner();
            assert!(opens(&world, &answer.access_token).await);
            successors.push(answer.refresh_token);
        }
        successors.dedup();
        assert_eq!(successors.len(), 1);
        assert_ne!(successors[0], token);
        token = successors.remove(0);
        let rows = "select count(*) from identity.refresh_token";
        assert_eq!(world.postgres.count(rows).await, round + 1);
    }
    let sessions = "select count(*) from identity.sign_in_session where revoked_at is null";
    assert_eq!(world.postgres.count(sessions).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_token_that_comes_again_later_ends_the_session_whoever_has_it() {
    let world = World::new().await;
    world.agency("one").await;
    let first = sign_in(&world, mail("owner@one.test")).await;
    let second = refresh(&world, &first.refresh_token)
        .await
        .expect("the next");
    world.hand.advance(TimeDelta::seconds(30));
    let again = refresh(&world, &first.refresh_token)
        .await
        .expect("within the grace");
    assert_eq!(again.refresh_token, second.refresh_token);
    world.hand.advance(TimeDelta::seconds(1));
    let third = refresh(&world, &second.refresh_token)
        .await
        .expect("the next");
    assert!(opens(&world, &third.access_token).await);
    let stolen = refresh(&world, &first.refresh_token).await;
    assert_eq!(
        reason(&stolen.expect_err("again")),
        ErrorReason::SessionEnded
    );
    // Nothing of the family is left.
    for access in [&second, &third] {
        assert!(!opens(&world, &access.access_token).await);
        let ended = refresh(&world, &access.refresh_token).await;
        assert_eq!(
            reason(&ended.expect_err("ended")),
            ErrorReason::SessionEnded
        );
    }
    let told = "select count(*) from identity.outbox_event
                where type = 'identity.session.revoked' and payload->>'ended_because' = 'refresh_token_reused'";
    assert_eq!(world.postgres.count(told).await, 1);
    // Another session of the same person goes on.
    let other = sign_in(&world, mail("owner@one.test")).await;
    assert!(opens(&world, &other.access_token).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_after_thirty_days_without_use() {
    let world = World::new().await;
    world.agency("one").await;
    let first = sign_in(&world, mail("owner@one.test")).await;
    world.hand.advance(TimeDelta::days(29));
    let second = refresh(&world, &first.refresh_token)
        .await
        .expect("in time");
    world.hand.advance(TimeDelta::days(29));
    let third = refresh(&world, &second.refresh_token)
        .await
        .expect("in time");
    world.hand.advance(TimeDelta::days(30));
    let late = refresh(&world, &third.refresh_token).await;
    assert_eq!(reason(&late.expect_err("late")), ErrorReason::SessionEnded);
    for nothing in ["", "mrt_", &format!("mrt_{}", "0".repeat(64))] {
        let refused = refresh(&world, &Some(nothing.to_owned())).await;
        refused.expect_err("no token");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signing_out_and_revoking_end_a_session_from_the_next_exchange_on() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let (one, other) = (
        sign_in(&world, mail("owner@one.test")).await,
        sign_in(&world, mail("owner@one.test")).await,
    );
    let holder = world
        .holder(one.access_token.as_deref().expect("one"))
        .await;
    let list = async || {
        let request = proto::ListSessionsRequest::default();
        let listed = holder.sessions().list_sessions(request).await;
        listed.expect("a page").into_inner().data
    };
    let both = list().await;
    let current: Vec<bool> = both.iter().filter_map(|session| session.current).collect();
    assert_eq!(current, [false, true], "newest first");
    // The other, from here.
    let revoke = || proto::RevokeSessionRequest {
        session_id: other.session_id.clone().expect("an id"),
    };
    for _ in 0..2 {
        holder
            .sessions()
            .revoke_session(revoke())
            .await
            .expect("ended");
    }
    assert!(!opens(&world, &other.access_token).await);
    assert!(refresh(&world, &other.refresh_token).await.is_err());
    assert_eq!(list().await.len(), 1);
    // The owner's key is the owner; another agency's owner sees none of these.
    let listed = agency.owner.sessions();
    let listed = { listed }
        .list_sessions(proto::ListSessionsRequest::default())
        .await;
    assert_eq!(listed.expect("a page").into_inner().data.len(), 1);
    let foreign = world.agency("two").await;
    let refused = foreign.owner.sessions().revoke_session(revoke()).await;
    assert_eq!(refused.expect_err("not theirs").code(), Code::NotFound);

    for _ in 0..2 {
        let out = holder
            .sessions()
            .sign_out(proto::SignOutRequest::default())
            .await;
        out.expect("out");
    }
    assert!(!opens(&world, &one.access_token).await);
    assert!(refresh(&world, &one.refresh_token).await.is_err());
    let told = "select count(*) from identity.outbox_event where type = 'identity.session.revoked'";
    assert_eq!(world.postgres.count(told).await, 2);
    // A key is no session.
    let key = agency
        .owner
        .sessions()
        .sign_out(proto::SignOutRequest::default())
        .await;
    key.expect("nothing to end");
    world.exchange(&agency.secret).await.expect("it opens");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_role_is_in_the_next_exchange() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    agency.add("Second", "owner").await;
    let opened = sign_in(&world, mail("owner@one.test")).await;
    let token = opened.access_token.expect("one");
    let demote = proto::SetMemberRoleRequest {
        member_id: agency.ensured.owner.to_string(),
        role: Some("viewer".into()),
        client_ids: None,
    };
    let done = agency.owner.members().set_member_role(demote).await;
    done.expect("a second owner remains");
    let me = world.holder(&token).await;
    let me = me.account().get_me(proto::GetMeRequest {}).await;
    let grants = me.expect("itself").into_inner().grants;
    assert!(
        !grants[0]
            .permissions
            .contains(&"identity.members.create".to_owned())
    );
    // Nor does a token outlive its agency.
    world
        .postgres
        .execute("update identity.agency set state = 'closed'")
        .await;
    assert!(!opens(&world, &Some(token)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_published_keys_are_those_that_tokens_name() {
    let world = World::new().await;
    world.agency("one").await;
    let set = world
        .stranger()
        .get_key_set(proto::GetKeySetRequest {})
        .await;
    let set = set.expect("published").into_inner();
    let [key] = set.keys.as_slice() else {
        panic!("one key: {:?}", set.keys);
    };
    let told = (key.kty.as_deref(), key.crv.as_deref(), key.alg.as_deref());
    assert_eq!(told, (Some("OKP"), Some("Ed25519"), Some("EdDSA")));
    let token = sign_in(&world, mail("owner@one.test")).await.access_token;
    let token = token.expect("one");
    let header = token.split('.').next().expect("a header");
    let header = URL_SAFE_NO_PAD.decode(header).expect("base64url");
    let header: serde_json::Value = serde_json::from_slice(&header).expect("JSON");
    assert_eq!(header["kid"].as_str(), key.kid.as_deref());
    assert_eq!(
        (header["alg"].as_str(), header["typ"].as_str()),
        (Some("EdDSA"), Some("at+jwt"))
    );
    let public = hex::decode(AccessKeys::new(&[8; 32]).public_hex()).expect("hex");
    assert_eq!(key.x, Some(URL_SAFE_NO_PAD.encode(public)));
}
