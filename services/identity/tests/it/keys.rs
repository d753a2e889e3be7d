//! API keys from making to revoking (IDN-06).

use chrono::TimeDelta;
use mainstay_proto::identity::v1 as proto;
use mainstay_rpc::ErrorReason;
use prost_types::Timestamp;
use tonic::Code;

use crate::world::{Agency, World, keyed, new_key, reason};

pub async fn make(
    agency: &Agency<'_>,
    request: proto::CreateApiKeyRequest,
) -> proto::CreateApiKeyResponse {
    agency
        .owner
        .keys()
        .create_api_key(request)
        .await
        .expect("a key")
        .into_inner()
}

pub fn get(id: &Option<String>) -> proto::GetApiKeyRequest {
    proto::GetApiKeyRequest {
        api_key_id: id.clone().expect("an id"),
    }
}

pub fn rotate(id: &Option<String>, overlap_seconds: Option<i64>) -> proto::RotateApiKeyRequest {
    proto::RotateApiKeyRequest {
        api_key_id: id.clone().expect("an id"),
        overlap_seconds,
    }
}

pub fn revoke(id: &Option<String>) -> proto::RevokeApiKeyRequest {
    proto::RevokeApiKeyRequest {
        api_key_id: id.clone().expect("an id"),
    }
}

#[tokio::test]
async fn the_secret_is_nowhere_but_in_the_first_answer() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let request = || keyed("k", new_key(None, &["identity.clients.read"]));
    let first = agency
        .owner
        .keys()
        .create_api_key(request())
        .await
        .expect("made")
        .into_inner();
    let again = agency
        .owner
        .keys()
        .create_api_key(request())
        .await
        .expect("the same")
        .into_inner();
    assert_eq!((again.id, again.secret), (first.id.clone(), None));
    let secret = first.secret.expect("shown once");
    let read = agency
        .owner
        .keys()
        .get_api_key(get(&first.id))
        .await
        .expect("read")
        .into_inner();
    assert_eq!(read.prefix.as_deref(), Some(&secret[..12]));
    let dump = "select count(*) from (
        select t::text as row from identity.api_key t union all select t::text from identity.api_key_secret t
        union all select t::text from identity.idempotency_key t union all select t::text from identity.outbox_event t
        union all select t::text from identity.audit_outbox t) all_rows";
    let hits = world
        .postgres
        .count(&format!("{dump} where row like '%{}%'", &secret[12..]))
        .await;
    assert_eq!(hits, 0);
    // Answers are stored as bytes, which print as hex.
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        world
            .postgres
            .count(&format!("{dump} where row like '%{hex}%'"))
            .await,
        0
    );
}

#[tokio::test]
async fn a_revoked_key_opens_nothing_from_the_next_exchange_on() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let made = make(&agency, new_key(None, &["identity.clients.read"])).await;
    let secret = made.secret.expect("shown once");
    world.exchange(&secret).await.expect("it opens");
    let revoked = agency
        .owner
        .keys()
        .revoke_api_key(revoke(&made.id))
        .await
        .expect("revoked")
        .into_inner();
    assert!(revoked.revoked_at.is_some());
    assert_eq!(
        world.exchange(&secret).await.expect_err("ended").code(),
        Code::Unauthenticated
    );
    let again = agency
        .owner
        .keys()
        .revoke_api_key(revoke(&made.id))
        .await
        .expect("nothing more")
        .into_inner();
    assert_eq!(again.revoked_at, revoked.revoked_at);
    let events =
        "select count(*) from identity.outbox_event where type = 'identity.api_key.revoked'";
    assert_eq!(world.postgres.count(events).await, 1);
    let rotated = agency
        .owner
        .keys()
        .rotate_api_key(rotate(&made.id, None))
        .await
        .expect_err("it has ended");
    assert_eq!(reason(&rotated), ErrorReason::Conflict);
}

#[tokio::test]
async fn a_key_ends_by_itself_and_no_token_outlives_it() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let ends = world.clock.now() + TimeDelta::seconds(10);
    let mut request = new_key(None, &["identity.clients.read"]);
    request.expires_at = Some(Timestamp {
        seconds: ends.timestamp() + 1,
        nanos: 0,
    });
    let secret = make(&agency, request).await.secret.expect("shown once");
    let token = world.exchange(&secret).await.expect("it opens");
    assert!(token.expires_at.expect("an end").seconds <= ends.timestamp() + 2);
    world.hand.advance(TimeDelta::seconds(12));
    assert_eq!(
        world.exchange(&secret).await.expect_err("expired").code(),
        Code::Unauthenticated
    );
}

#[tokio::test]
async fn a_rotated_key_has_two_secrets_until_the_overlap_ends() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let made = make(&agency, new_key(None, &["identity.clients.read"])).await;
    let old = made.secret.expect("shown once");
    let rotated = agency
        .owner
        .keys()
        .rotate_api_key(rotate(&made.id, Some(600)))
        .await
        .expect("rotated")
        .into_inner();
    assert_eq!(rotated.id, made.id);
    let new = rotated.secret.expect("shown once");
    world.exchange(&old).await.expect("still");
    world.exchange(&new).await.expect("already");
    world.hand.advance(TimeDelta::seconds(601));
    assert_eq!(
        world.exchange(&old).await.expect_err("over").code(),
        Code::Unauthenticated
    );
    world.exchange(&new).await.expect("on");
    // Rotated again and again, a key never has more than two.
    for _ in 0..3 {
        agency
            .owner
            .keys()
            .rotate_api_key(rotate(&made.id, None))
            .await
            .expect("rotated");
    }
    let secrets = "select max(n) from (select count(*) as n from identity.api_key_secret group by api_key_id) per_key";
    assert_eq!(world.postgres.count(secrets).await, 2);
    let at_once = agency
        .owner
        .keys()
        .rotate_api_key(rotate(&made.id, Some(0)))
        .await
        .expect("rotated")
        .into_inner();
    assert_eq!(
        world.exchange(&new).await.expect_err("over").code(),
        Code::Unauthenticated
    );
    world
        .exchange(&at_once.secret.expect("shown once"))
        .await
        .expect("on");
}

#[tokio::test]
async fn the_minute_of_use_is_noted_once_a_minute() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let made = make(&agency, new_key(None, &["identity.clients.read"])).await;
    let secret = made.secret.expect("shown once");
    let unused = agency
        .owner
        .keys()
        .get_api_key(get(&made.id))
        .await
        .expect("read")
        .into_inner();
    assert_eq!(unused.last_used_at, None);
    let writes = "select count(*) from (select distinct xmin::text from identity.api_key_secret where last_used_at is not null) x";
    for _ in 0..5 {
        world.exchange(&secret).await.expect("it opens");
    }
    let used = agency
        .owner
        .keys()
        .get_api_key(get(&made.id))
        .await
        .expect("read")
        .into_inner();
    let first = used.last_used_at.expect("used").seconds;
    assert_eq!(first % 60, 0);
    assert!((0..60).contains(&(world.clock.now().timestamp() - first)));
    assert!(world.postgres.count(writes).await >= 1);
    world.hand.advance(TimeDelta::seconds(120));
    world.exchange(&secret).await.expect("it opens");
    let later = agency
        .owner
        .keys()
        .get_api_key(get(&made.id))
        .await
        .expect("read")
        .into_inner();
    assert_eq!(later.last_used_at.expect("used").seconds, first + 120);
}

#[tokio::test]
async fn a_credential_that_is_no_key_costs_no_query() {
    let world = World::new().await;
    world.agency("one").await;
    // With the schema gone, whatever asks the database gets 503 or 500, not 401.
    world
        .postgres
        .execute("alter table identity.api_key_secret rename to elsewhere")
        .await;
    for typed in ["msk_x", "nonsense", &format!("msk_{}", "a".repeat(46))] {
        assert_eq!(
            world.exchange(typed).await.expect_err("no key").code(),
            Code::Unauthenticated,
            "{typed}"
        );
    }
}

#[tokio::test]
async fn a_well_formed_key_of_nobody_opens_nothing() {
    let world = World::new().await;
    let secret = mainstay_identity::api_key::secret::Secret::generate(&mut rand::rng());
    assert_eq!(
        world
            .exchange(secret.expose())
            .await
            .expect_err("unknown")
            .code(),
        Code::Unauthenticated
    );
}
