//! Members: one register of who works in an agency, what each may, and always somebody who owns it.

use mainstay_proto::errors::v1::ObjectExists;
use mainstay_proto::identity::v1 as proto;
use mainstay_rpc::{ErrorReason, Grant, Problem};
use mainstay_types::{ClientId, MemberId};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tonic::Code;

use crate::world::{Agency, Caller, World, new_member, reason};

fn role(
    member: MemberId,
    role: &str,
    clients: Option<Vec<ClientId>>,
) -> proto::SetMemberRoleRequest {
    proto::SetMemberRoleRequest {
        member_id: member.to_string(),
        role: Some(role.to_owned()),
        client_ids: clients.map(|list| proto::ClientIds {
            values: list.iter().map(ToString::to_string).collect(),
        }),
    }
}

/// The member, signed in as an owner.
fn owner(agency: &Agency<'_>, member: MemberId) -> Caller {
    let permissions: Vec<&str> = mainstay_identity::permission::all()
        .iter()
        .map(|known| known.name)
        .collect();
    agency.signed_in(member, &permissions, None)
}

#[tokio::test]
async fn reps_agents_and_staff_are_members_by_role() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let client = agency.client("Acme").await;
    for name in ["admin", "agent", "rep_full_time", "rep_part_time", "viewer"] {
        agency
            .owner
            .members()
            .create_member(new_member(name, name, Some(vec![client])))
            .await
            .expect(name);
    }
    let list = agency
        .owner
        .members()
        .list_members(proto::ListMembersRequest::default())
        .await
        .expect("a page")
        .into_inner();
    let roles: Vec<&str> = list
        .data
        .iter()
        .filter_map(|member| member.role.as_deref())
        .collect();
    assert_eq!(
        roles,
        [
            "viewer",
            "rep_part_time",
            "rep_full_time",
            "agent",
            "admin",
            "owner"
        ]
    );
    let viewer = &list.data[0];
    assert_eq!(
        viewer.client_ids.as_ref().expect("a list").values,
        [client.to_string()]
    );
    assert_eq!(list.data[5].client_ids, None);
    let get = proto::GetMemberRequest {
        member_id: viewer.id.clone().expect("an id"),
    };
    assert_eq!(
        &agency
            .owner
            .members()
            .get_member(get)
            .await
            .expect("read")
            .into_inner(),
        viewer
    );
}

#[tokio::test]
async fn one_person_is_one_member_of_an_agency_and_the_same_person_in_two() {
    let world = World::new().await;
    let (one, two) = (world.agency("one").await, world.agency("two").await);
    let first = one
        .owner
        .members()
        .create_member(new_member("Ana", "agent", None))
        .await
        .expect("made")
        .into_inner();
    let mut again = new_member("Anna", "viewer", None);
    again.email = Some("ANA@staff.test".to_owned());
    let problem = Problem::from_status(
        &one.owner
            .members()
            .create_member(again.clone())
            .await
            .expect_err("the same person"),
    );
    assert_eq!(problem.reason(), ErrorReason::MemberEmailTaken);
    assert_eq!(
        problem
            .data_as::<ObjectExists>()
            .expect("detail")
            .existing_id,
        first.id
    );
    let there = two
        .owner
        .members()
        .create_member(again)
        .await
        .expect("another agency")
        .into_inner();
    assert_eq!(there.person_id, first.person_id);
    // What one agency wrote down is not the other's to read.
    assert_eq!(there.name.as_deref(), Some("Anna"));
}

#[tokio::test]
async fn of_thirty_invitations_of_one_person_one_makes_a_member() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let mut members = agency.owner.members();
        calls.spawn(async move {
            members
                .create_member(new_member("Ana", "agent", None))
                .await
        });
    }
    let (made, refused): (Vec<_>, Vec<_>) =
        calls.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!((made.len(), refused.len()), (1, 29));
    for status in refused {
        assert_eq!(
            reason(&status.expect_err("refused")),
            ErrorReason::MemberEmailTaken
        );
    }
}

#[tokio::test]
async fn what_cannot_be_is_said_by_field() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let client = agency.client("Acme").await;
    let cases = [
        (new_member("Ana", "superuser", None), "role"),
        (new_member("Ana", "owner", Some(vec![client])), "client_ids"),
    ];
    for (request, field) in cases {
        let problem = Problem::from_status(
            &agency
                .owner
                .members()
                .create_member(request)
                .await
                .expect_err(field),
        );
        assert_eq!(problem.reason(), ErrorReason::InvalidRequest);
        assert_eq!(problem.errors()[0].field, field);
    }
    let theirs = world.agency("two").await.client("Theirs").await;
    let foreign = agency
        .owner
        .members()
        .create_member(new_member("Ana", "agent", Some(vec![theirs])))
        .await
        .expect_err("foreign");
    let nobodys = new_member("Ana", "agent", Some(vec![ClientId::generate()]));
    let unknown = agency
        .owner
        .members()
        .create_member(nobodys)
        .await
        .expect_err("unknown");
    assert_eq!(
        (foreign.code(), foreign.message(), foreign.details()),
        (unknown.code(), unknown.message(), unknown.details())
    );
    assert_eq!(foreign.code(), Code::NotFound);
}

#[tokio::test]
async fn an_admin_makes_no_owner_and_unmakes_none() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let admin = agency.add("Adam", "admin").await;
    let permissions = mainstay_identity::role::BuiltIn::Admin.permissions();
    let admin = agency.signed_in(admin, &permissions, None);
    let made = admin
        .members()
        .create_member(new_member("Eve", "owner", None))
        .await
        .expect_err("more than its own");
    assert_eq!(reason(&made), ErrorReason::GrantExceedsOwn);
    agency.add("Second", "owner").await;
    let demoted = admin
        .members()
        .set_member_role(role(agency.ensured.owner, "viewer", None))
        .await
        .expect_err("above it");
    assert_eq!(reason(&demoted), ErrorReason::GrantExceedsOwn);
    admin
        .members()
        .create_member(new_member("Ada", "agent", None))
        .await
        .expect("what it has");
}

#[tokio::test]
async fn what_is_held_for_some_clients_is_given_for_those_alone() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let (mine, yours) = (agency.client("Mine").await, agency.client("Yours").await);
    let rep = mainstay_identity::role::BuiltIn::RepPartTime.permissions();
    let grants = vec![
        Grant {
            permissions: vec!["identity.members.create".into()],
            clients: None,
        },
        Grant {
            permissions: rep.into_iter().map(str::to_owned).collect(),
            clients: Some(vec![mine]),
        },
    ];
    let caller = world.member(agency.id, MemberId::generate(), grants);
    caller
        .members()
        .create_member(new_member("Ana", "rep_part_time", Some(vec![mine])))
        .await
        .expect("for mine");
    for reach in [None, Some(vec![yours]), Some(vec![mine, yours])] {
        let refused = caller
            .members()
            .create_member(new_member("Ben", "rep_part_time", reach))
            .await;
        assert_eq!(
            reason(&refused.expect_err("beyond mine")),
            ErrorReason::GrantExceedsOwn
        );
    }
}

#[tokio::test]
async fn a_role_is_set_again_and_again_to_one_effect() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let client = agency.client("Acme").await;
    let ana = agency.add("Ana", "agent").await;
    for _ in 0..3 {
        let set = agency
            .owner
            .members()
            .set_member_role(role(ana, "rep_full_time", Some(vec![client])))
            .await;
        assert_eq!(
            set.expect("set").into_inner().role.as_deref(),
            Some("rep_full_time")
        );
    }
    let events =
        "select count(*) from identity.outbox_event where type = 'identity.member.role_set'";
    assert_eq!(world.postgres.count(events).await, 1);
}

#[tokio::test]
async fn the_last_owner_stays_one() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let refused = agency
        .owner
        .members()
        .set_member_role(role(agency.ensured.owner, "admin", None))
        .await;
    assert_eq!(
        reason(&refused.expect_err("the last")),
        ErrorReason::LastOwner
    );
    let same = agency
        .owner
        .members()
        .set_member_role(role(agency.ensured.owner, "owner", None))
        .await;
    assert_eq!(
        same.expect("nothing changes").into_inner().role.as_deref(),
        Some("owner")
    );
}

#[tokio::test]
async fn of_two_owners_who_demote_each_other_at_once_one_succeeds() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    for round in 0..10 {
        let second = agency.add(&format!("Second{round}"), "owner").await;
        let first = agency.ensured.owner;
        let (mut by_first, mut by_second) = (
            owner(&agency, first).members(),
            owner(&agency, second).members(),
        );
        let (one, two) = tokio::join!(
            by_first.set_member_role(role(second, "viewer", None)),
            by_second.set_member_role(role(first, "viewer", None)),
        );
        let (won, lost) = if one.is_ok() { (one, two) } else { (two, one) };
        won.expect("one succeeds");
        assert_eq!(reason(&lost.expect_err("not both")), ErrorReason::LastOwner);
        let owners = "select count(*) from identity.role_binding where built_in = 'owner'";
        assert_eq!(world.postgres.count(owners).await, 1);
        // Back to the beginning: the first owner again.
        world
            .postgres
            .execute(&format!(
                "set search_path = identity;
                 begin; delete from identity.role_binding where member_id in ('{0}', '{1}');
                 insert into identity.role_binding (agency_id, id, member_id, built_in) values
                   ('{2}', gen_random_uuid(), '{0}', 'owner'), ('{2}', gen_random_uuid(), '{1}', 'viewer'); commit",
                first.uuid(),
                second.uuid(),
                agency.id.uuid()
            ))
            .await;
    }
}

/// Past the operation and its lock: the wall itself.
#[tokio::test]
async fn the_database_keeps_an_owner_whoever_writes() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let second = agency.add("Second", "owner").await;
    let begin = async |member: MemberId| {
        let mut connection: PgConnection = world.postgres.admin().await;
        let sql = format!(
            "begin; delete from identity.role_binding where member_id = '{}'",
            member.uuid()
        );
        sqlx::raw_sql(AssertSqlSafe(format!("set search_path = identity; {sql}")))
            .execute(&mut connection)
            .await
            .expect("not yet");
        connection
    };
    let mut one = begin(agency.ensured.owner).await;
    let mut two = begin(second).await;
    let (first, then) = tokio::join!(
        sqlx::raw_sql("commit").execute(&mut one),
        sqlx::raw_sql("commit").execute(&mut two),
    );
    assert_eq!(
        [first.is_ok(), then.is_ok()]
            .iter()
            .filter(|ok| **ok)
            .count(),
        1
    );
    assert_eq!(
        world
            .postgres
            .count("select count(*) from identity.role_binding where built_in = 'owner'")
            .await,
        1
    );
    let gone = "set search_path = identity; update identity.member set state = 'deactivated'";
    let refused = sqlx::raw_sql(gone)
        .execute(&mut world.postgres.admin().await)
        .await;
    assert!(
        refused
            .expect_err("nobody would own it")
            .to_string()
            .contains("no active owner")
    );
    one.close().await.expect("closed");
    two.close().await.expect("closed");
}
