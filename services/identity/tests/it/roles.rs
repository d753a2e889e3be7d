//! Roles: the built-in ones for everybody, an agency's own beside them; permissions as the protos declare them.

use mainstay_proto::errors::v1::{GrantExceedsOwn, ObjectExists};
use mainstay_proto::identity::v1 as proto;
use mainstay_rpc::{ErrorReason, Problem};
use mainstay_types::MemberId;
use tonic::Code;

use crate::world::{World, new_member, reason};

fn bookkeeper(permissions: &[&str]) -> proto::CreateRoleRequest {
    proto::CreateRoleRequest {
        name: Some("bookkeeper".to_owned()),
        description: Some("Reads the money".to_owned()),
        permissions: permissions.iter().map(|p| (*p).to_owned()).collect(),
    }
}

#[tokio::test]
async fn everybody_signed_in_may_read_which_permissions_there_are() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let nobody = agency.signed_in(MemberId::generate(), &[], None);
    let all = nobody
        .roles()
        .list_permissions(proto::ListPermissionsRequest {})
        .await
        .expect("all")
        .into_inner()
        .data;
    assert_eq!(all.len(), mainstay_identity::permission::all().len());
    assert!(all.iter().all(|known| {
        known
            .description
            .as_deref()
            .is_some_and(|text| !text.is_empty())
    }));
    let read = all
        .iter()
        .find(|known| known.name.as_deref() == Some("identity.clients.read"))
        .expect("one");
    assert_eq!(read.scope(), proto::PermissionScope::Client);
}

#[tokio::test]
async fn an_agencys_own_role_works_as_a_built_in_one_does() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let made = agency
        .owner
        .roles()
        .create_role(bookkeeper(&["billing.invoices.read", "billing.plans.read"]))
        .await
        .expect("made")
        .into_inner();
    assert_eq!((made.built_in, made.permissions.len()), (Some(false), 2));
    let list = agency
        .owner
        .roles()
        .list_roles(proto::ListRolesRequest::default())
        .await
        .expect("a page")
        .into_inner()
        .data;
    let names: Vec<&str> = list
        .iter()
        .filter_map(|role| role.name.as_deref())
        .collect();
    assert_eq!(
        names,
        [
            "bookkeeper",
            "owner",
            "admin",
            "agent",
            "rep_full_time",
            "rep_part_time",
            "viewer"
        ]
    );
    for role in &list {
        let get = proto::GetRoleRequest {
            role_id: role.id.clone().expect("an id"),
        };
        assert_eq!(
            &agency
                .owner
                .roles()
                .get_role(get)
                .await
                .expect("read")
                .into_inner(),
            role
        );
    }
    let ana = agency
        .owner
        .members()
        .create_member(new_member("Ana", "bookkeeper", None))
        .await
        .expect("bound")
        .into_inner();
    assert_eq!(ana.role.as_deref(), Some("bookkeeper"));
    // Another agency knows nothing of it.
    let two = world.agency("two").await;
    let get = proto::GetRoleRequest {
        role_id: made.id.expect("an id"),
    };
    assert_eq!(
        two.owner
            .roles()
            .get_role(get)
            .await
            .expect_err("not theirs")
            .code(),
        Code::NotFound
    );
    let foreign = two
        .owner
        .members()
        .create_member(new_member("Ben", "bookkeeper", None))
        .await
        .expect_err("not theirs");
    assert_eq!(reason(&foreign), ErrorReason::InvalidRequest);
}

#[tokio::test]
async fn a_name_means_one_role() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let first = agency
        .owner
        .roles()
        .create_role(bookkeeper(&["billing.plans.read"]))
        .await
        .expect("made")
        .into_inner();
    let again = agency
        .owner
        .roles()
        .create_role(bookkeeper(&["billing.plans.read"]))
        .await
        .expect_err("taken");
    let problem = Problem::from_status(&again);
    assert_eq!(problem.reason(), ErrorReason::RoleNameTaken);
    assert_eq!(
        problem
            .data_as::<ObjectExists>()
            .expect("detail")
            .existing_id,
        first.id
    );
    let mut request = bookkeeper(&["billing.plans.read"]);
    request.name = Some("owner".to_owned());
    assert_eq!(
        reason(
            &agency
                .owner
                .roles()
                .create_role(request)
                .await
                .expect_err("built in")
        ),
        ErrorReason::RoleNameTaken
    );
}

#[tokio::test]
async fn of_twenty_who_want_one_name_one_gets_it() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let mut roles = agency.owner.roles();
        calls.spawn(async move { roles.create_role(bookkeeper(&["billing.plans.read"])).await });
    }
    let (made, refused): (Vec<_>, Vec<_>) =
        calls.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!((made.len(), refused.len()), (1, 19));
    for status in refused {
        let status = status.expect_err("refused");
        assert_eq!(reason(&status), ErrorReason::RoleNameTaken);
    }
}

#[tokio::test]
async fn nobody_makes_a_role_that_may_more_than_they() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let client = agency.client("Acme").await;
    let own = ["identity.roles.create", "billing.plans.read"];
    let maker = agency.signed_in(MemberId::generate(), &own, None);
    maker
        .roles()
        .create_role(bookkeeper(&["billing.plans.read"]))
        .await
        .expect("what it has");
    let more = maker
        .roles()
        .create_role(bookkeeper(&["billing.plans.read", "billing.plans.create"]))
        .await
        .expect_err("more");
    let problem = Problem::from_status(&more);
    assert_eq!(problem.reason(), ErrorReason::GrantExceedsOwn);
    assert_eq!(
        problem
            .data_as::<GrantExceedsOwn>()
            .expect("detail")
            .permissions,
        ["billing.plans.create"]
    );
    // Held for some clients only, a permission cannot go into a role that might be bound to any.
    let grants = vec![
        mainstay_rpc::Grant {
            permissions: vec!["identity.roles.create".into()],
            clients: None,
        },
        mainstay_rpc::Grant {
            permissions: vec!["billing.subscriptions.read".into()],
            clients: Some(vec![client]),
        },
    ];
    let some = world.member(agency.id, MemberId::generate(), grants);
    let refused = some
        .roles()
        .create_role(bookkeeper(&["billing.subscriptions.read"]))
        .await
        .expect_err("for some only");
    assert_eq!(reason(&refused), ErrorReason::GrantExceedsOwn);
}

#[tokio::test]
async fn a_permission_that_does_not_exist_is_named_by_its_place() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let refused = agency
        .owner
        .roles()
        .create_role(bookkeeper(&["billing.plans.read", "billing.money.print"]))
        .await;
    let problem = Problem::from_status(&refused.expect_err("unknown"));
    assert_eq!(problem.errors()[0].field, "permissions[1]");
}
