//! The first agency, its owner and its key: made once, whoever asks how often.

use mainstay_identity::bootstrap::{Error, ensure_agency};
use tonic::Code;

use crate::world::{World, wanted};

#[tokio::test]
async fn run_again_with_the_key_it_changes_nothing() {
    let world = World::new().await;
    let first = ensure_agency(&world.identity, &wanted("demo"), None)
        .await
        .expect("made");
    let secret = first.secret.expect("new");
    for _ in 0..2 {
        let again = ensure_agency(&world.identity, &wanted("demo"), Some(&secret))
            .await
            .expect("there");
        assert_eq!(
            (again.agency, again.owner, again.person),
            (first.agency, first.owner, first.person)
        );
        assert_eq!((again.api_key, again.secret), (first.api_key, None));
    }
    assert_eq!(
        world
            .postgres
            .count("select count(*) from identity.agency")
            .await,
        1
    );
    assert_eq!(
        world
            .postgres
            .count("select count(*) from identity.api_key")
            .await,
        1
    );
    world.exchange(&secret).await.expect("the key opens");
}

#[tokio::test]
async fn a_lost_key_is_replaced_and_opens_nothing_any_more() {
    let world = World::new().await;
    let first = ensure_agency(&world.identity, &wanted("demo"), None)
        .await
        .expect("made");
    let lost = first.secret.expect("new");
    let again = ensure_agency(&world.identity, &wanted("demo"), None)
        .await
        .expect("there");
    assert_eq!((again.agency, again.owner), (first.agency, first.owner));
    world
        .exchange(&again.secret.expect("a new one"))
        .await
        .expect("it opens");
    assert_eq!(
        world.exchange(&lost).await.expect_err("replaced").code(),
        Code::Unauthenticated
    );
    // A key of another agency is no key of this one.
    let other = ensure_agency(&world.identity, &wanted("other"), None)
        .await
        .expect("made")
        .secret
        .expect("new");
    let third = ensure_agency(&world.identity, &wanted("demo"), Some(&other))
        .await
        .expect("there");
    assert!(third.secret.is_some());
    world
        .exchange(&other)
        .await
        .expect("the other's key is left alone");
}

#[tokio::test]
async fn of_ten_that_start_at_once_all_go_on_with_the_same_agency() {
    let world = World::new().await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let identity = world.identity.clone();
        calls.spawn(async move { ensure_agency(&identity, &wanted("demo"), None).await });
    }
    let made: Vec<_> = calls
        .join_all()
        .await
        .into_iter()
        .map(|made| made.expect("made"))
        .collect();
    assert!(
        made.iter()
            .all(|one| (one.agency, one.owner) == (made[0].agency, made[0].owner))
    );
    assert_eq!(
        world
            .postgres
            .count("select count(*) from identity.agency")
            .await,
        1
    );
    assert_eq!(
        world
            .postgres
            .count("select count(*) from identity.member")
            .await,
        1
    );
    assert_eq!(
        world
            .postgres
            .count("select count(*) from identity.api_key where revoked_at is null")
            .await,
        1
    );
}

#[tokio::test]
async fn a_slug_is_a_slug() {
    let world = World::new().await;
    let refused = ensure_agency(&world.identity, &wanted("Not a slug"), None).await;
    assert!(matches!(refused, Err(Error::Slug)));
}

/// Past the operation: no agency without an owner.
#[tokio::test]
async fn the_database_refuses_an_agency_without_an_owner() {
    let world = World::new().await;
    let sql = "set search_path = identity;
        insert into identity.agency (agency_id, slug, name) values (gen_random_uuid(), 'ghost', 'Ghost')";
    let refused = sqlx::raw_sql(sql)
        .execute(&mut world.postgres.admin().await)
        .await;
    assert!(
        refused
            .expect_err("refused")
            .to_string()
            .contains("begins with an owner")
    );
}
