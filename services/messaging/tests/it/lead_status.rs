//! How far leads have come: on by themselves, back only when somebody says why (MSG-02).
//! Deliberately absent: the table of all moves, which is proven beside the rule.

use mainstay_messaging::lead::{self, Status};
use mainstay_proto::messaging::v1 as proto;
use mainstay_rpc::ErrorReason;
use mainstay_types::LeadId;
use tokio::task::JoinSet;

use crate::leads::{PHONE, by, events, make, new, read, to};
use crate::world::{World, reason};

#[tokio::test]
async fn a_lead_moves_on_by_itself_and_back_only_with_a_reason() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let id = make(&agency, new(&agency, Some(PHONE))).await.id;
    let id = id.expect("an id");
    let set = async |request| {
        let answer = agency.leads().set_lead_status(request).await;
        answer.map(|lead| lead.into_inner().status())
    };
    let on = set(to(&agency, &id, proto::LeadStatus::Qualified)).await;
    assert_eq!(on.expect("moved"), proto::LeadStatus::Qualified);
    let same = set(to(&agency, &id, proto::LeadStatus::Qualified)).await;
    assert_eq!(same.expect("no change"), proto::LeadStatus::Qualified);
    let back = set(to(&agency, &id, proto::LeadStatus::Contacted)).await;
    let back = back.expect_err("backwards");
    assert_eq!(reason(&back), ErrorReason::LeadStatusBackwards);

    let (tenant, by, lead) = (agency.tenant(), by(&agency), id.parse().expect("an id"));
    let database = world.postgres.database("messaging").await;
    let mut tx = database.tenant(tenant).await.expect("a transaction");
    for (to, moves) in [
        (Status::New, false),
        (Status::Qualified, false),
        (Status::Booked, true),
        (Status::Contacted, false),
    ] {
        let moved = lead::advance(tx.conn(), tenant, &by, lead, to).await;
        assert_eq!(moved.expect("asked"), moves, "{to:?}");
    }
    tx.commit().await.expect("committed");
    assert_eq!(read(&agency, &id).await.status(), proto::LeadStatus::Booked);

    let mut reopen = to(&agency, &id, proto::LeadStatus::Contacted);
    reopen.reopen = Some("called again".to_owned());
    let back = set(reopen).await.expect("reopened");
    assert_eq!(back, proto::LeadStatus::Contacted);
    assert_eq!(events(&world, "messaging.lead.status_changed").await, 3);
    let told = "select count(*) from messaging.outbox_event where type = 'messaging.lead.status_changed'
        and payload ->> 'status_before' = 'booked' and payload ->> 'reopened_because' = 'called again'";
    assert_eq!(world.postgres.count(told).await, 1);
    let won = set(to(&agency, &id, proto::LeadStatus::Won)).await;
    won.expect("won");
    let mut lost = to(&agency, &id, proto::LeadStatus::Lost);
    lost.reopen = Some("changed their mind".to_owned());
    let lost = set(lost).await.expect_err("an end");
    assert_eq!(reason(&lost), ErrorReason::LeadStatusBackwards);
}

#[tokio::test]
async fn of_automations_and_people_at_once_none_moves_a_lead_back() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let id = make(&agency, new(&agency, Some(PHONE))).await.id;
    let lead: LeadId = id.clone().expect("an id").parse().expect("an id");
    let database = world.postgres.database("messaging").await;
    let mut calls = JoinSet::new();
    for at in 0..24 {
        let to = Status::ALL[at % 5];
        let (database, tenant, by) = (database.clone(), agency.tenant(), by(&agency));
        calls.spawn(async move {
            let mut tx = database.tenant(tenant).await.expect("a transaction");
            let moved = lead::advance(tx.conn(), tenant, &by, lead, to).await;
            moved.expect("moved or not");
            tx.commit().await.expect("committed");
        });
    }
    calls.join_all().await;
    let after = read(&agency, &id.expect("an id")).await;
    assert_eq!(after.status(), proto::LeadStatus::Booked);
    let steps = "select count(*) from (
          select payload ->> 'status' as status, payload ->> 'status_before' as before from messaging.outbox_event
          where type = 'messaging.lead.status_changed') step
        where array_position(array['new','contacted','engaged','qualified','booked'], status)
           <= array_position(array['new','contacted','engaged','qualified','booked'], before)";
    assert_eq!(world.postgres.count(steps).await, 0);
}
