//! Deactivating a member (IDN-11): nothing of theirs opens anything, others are told, history keeps the name.
//! Deliberately absent: what the others do about it. Each has that in its own tests.

use mainstay_proto::identity::v1 as proto;
use mainstay_rpc::ErrorReason;
use mainstay_types::MemberId;
use tonic::{Code, Status};

use crate::sign_in::{challenge, mail, sign_in, tried};
use crate::world::{Agency, World, new_key, reason};

async fn deactivate(agency: &Agency<'_>, member: MemberId) -> Result<proto::Member, Status> {
    let request = proto::DeactivateMemberRequest {
        member_id: member.to_string(),
    };
    let done = agency.owner.members().deactivate_member(request).await?;
    Ok(done.into_inner())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_keys_and_codes_of_a_deactivated_member_open_nothing() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let ana = agency.add("Ana", "owner").await;
    let opened = sign_in(&world, mail("ana@staff.test")).await;
    let waiting = challenge(&world, mail("ana@staff.test")).await;
    let code = world.mailbox.code(&waiting).await;
    // The first owner has a key of their own; Ana, an owner too, ends the membership.
    let first = agency.ensured.owner;
    let token = opened.access_token.clone().expect("one");
    let holder = world.holder(&token).await;
    let request = proto::DeactivateMemberRequest {
        member_id: first.to_string(),
    };
    let key = holder
        .keys()
        .create_api_key(new_key(None, &["identity.clients.read"]))
        .await;
    let key = key.expect("a key of the agency's").into_inner();
    holder
        .members()
        .deactivate_member(request)
        .await
        .expect("ended");
    let refused = world.exchange(&agency.secret).await;
    assert_eq!(refused.expect_err("ended").code(), Code::Unauthenticated);
    let revoked = "select count(*) from identity.api_key where revoked_at is not null";
    assert_eq!(world.postgres.count(revoked).await, 1);
    // What was made for the agency stays.
    world
        .exchange(&key.secret.expect("shown once"))
        .await
        .expect("it opens");
    let asked = challenge(&world, mail("owner@one.test")).await;

    // Then Ana herself, by the database: the last owner can end nobody but is ended by nobody either.
    let last = holder.members();
    let last = { last }
        .deactivate_member(proto::DeactivateMemberRequest {
            member_id: ana.to_string(),
        })
        .await;
    assert_eq!(reason(&last.expect_err("the last")), ErrorReason::LastOwner);
    let second = holder
        .members()
        .create_member(crate::world::new_member("Ben", "owner", None))
        .await;
    second.expect("another owner");
    let own = proto::DeactivateMemberRequest {
        member_id: ana.to_string(),
    };
    holder
        .members()
        .deactivate_member(own)
        .await
        .expect("herself");
    assert_eq!(
        world.exchange(&token).await.expect_err("ended").code(),
        Code::Unauthenticated
    );
    let refresh = proto::RefreshSessionRequest {
        refresh_token: opened.refresh_token,
    };
    let refused = world.stranger().refresh_session(refresh).await;
    assert_eq!(
        reason(&refused.expect_err("ended")),
        ErrorReason::SessionEnded
    );
    // The code that was on its way opens nothing either.
    let refused = world.stranger().verify_code(tried(&waiting, &code)).await;
    assert_eq!(
        reason(&refused.expect_err("ended")),
        ErrorReason::SignInRefused
    );
    // And whoever asked after the end was sent nothing.
    assert!(
        world
            .mailbox
            .all()
            .iter()
            .all(|notice| notice.once_key.as_ref() != Some(&asked))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_membership_is_told_once_and_history_still_knows_the_name() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let ana = agency.add("Ana", "agent").await;
    let ended = deactivate(&agency, ana).await.expect("ended");
    assert_eq!(ended.state(), proto::MemberState::Deactivated);
    let again = deactivate(&agency, ana).await.expect("the same");
    assert_eq!(again, ended);
    let read = proto::GetMemberRequest {
        member_id: ana.to_string(),
    };
    let read = agency.owner.members().get_member(read).await;
    let read = read.expect("history").into_inner();
    assert_eq!(
        (read.name.as_deref(), read.state()),
        (Some("Ana"), proto::MemberState::Deactivated)
    );
    let told =
        "select count(*) from identity.outbox_event where type = 'identity.member.deactivated'";
    assert_eq!(world.postgres.count(told).await, 1);
    // Its deliveries go when they are taken; escalation is nowhere here.
    let to_escalation = "select count(*) from identity.outbox_delivery d join identity.outbox_event e on e.id = d.event_id
                         where e.type = 'identity.member.deactivated' and d.consumer = 'escalation'";
    assert_eq!(world.postgres.count(to_escalation).await, 1);
    // Wherever it stands: the log takes it in by itself.
    let recorded = "select count(distinct id) from (
           select id, action from identity.audit_outbox union all select id, action from identity.audit_event) recorded
         where action = 'identity.member.deactivate'";
    assert_eq!(world.postgres.count(recorded).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_ends_the_membership_of_those_above_them_or_of_the_last_owner() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let owner = agency.ensured.owner;
    let refused = deactivate(&agency, owner).await;
    assert_eq!(
        reason(&refused.expect_err("the last")),
        ErrorReason::LastOwner
    );
    let admin = agency.signed_in(MemberId::generate(), &["identity.members.deactivate"], None);
    let request = proto::DeactivateMemberRequest {
        member_id: owner.to_string(),
    };
    let refused = admin.members().deactivate_member(request).await;
    assert_eq!(
        reason(&refused.expect_err("above")),
        ErrorReason::GrantExceedsOwn
    );
    let nobody = deactivate(&agency, MemberId::generate()).await;
    assert_eq!(nobody.expect_err("nobody").code(), Code::NotFound);
    world
        .exchange(&agency.secret)
        .await
        .expect("it opens still");
    let sessions = "select count(*) from identity.sign_in_session where revoked_at is not null";
    assert_eq!(world.postgres.count(sessions).await, 0);
}
