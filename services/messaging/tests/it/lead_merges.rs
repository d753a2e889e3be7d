//! Merging leads: once, never in a circle, and nobody who was known is unknown afterwards (MSG-01).
//! Deliberately absent: what the one gets of the other field by field, which is proven beside the rule.

use mainstay_messaging::gate::Channel;
use mainstay_messaging::lead::{self, Source, Status};
use mainstay_proto::messaging::v1 as proto;
use mainstay_rpc::ErrorReason;
use mainstay_types::LeadId;
use tokio::task::JoinSet;
use tonic::Code;

use crate::leads::{PHONE, address, by, edit, events, make, new, read, to};
use crate::world::{Agency, World, existing, reason};

fn merge(agency: &Agency<'_>, from: &str, into: &str) -> proto::MergeLeadRequest {
    proto::MergeLeadRequest {
        client_id: agency.client.to_string(),
        lead_id: from.to_owned(),
        into_lead_id: Some(into.to_owned()),
    }
}

async fn lead(agency: &Agency<'_>, phone: &str, tag: &str) -> String {
    let mut request = new(agency, Some(phone));
    request.tags = Some(proto::LeadTags {
        values: vec![tag.to_owned()],
    });
    make(agency, request).await.id.expect("an id")
}

#[tokio::test]
async fn a_merged_lead_is_part_of_the_other_and_is_reached_there() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let one = lead(&agency, PHONE, "roof").await;
    let two = lead(&agency, "+15125550124", "hail").await;
    let three = lead(&agency, "+15125550125", "slate").await;
    let engaged = to(&agency, &two, proto::LeadStatus::Engaged);
    agency
        .leads()
        .set_lead_status(engaged)
        .await
        .expect("moved");

    let answer = agency.leads().merge_lead(merge(&agency, &two, &one)).await;
    let merged = answer.expect("merged").into_inner();
    assert_eq!(merged.id.as_ref(), Some(&one));
    assert_eq!(merged.tags, ["hail", "roof"]);
    assert_eq!(merged.identities.len(), 2);
    assert_eq!(merged.phone.as_deref(), Some(PHONE));
    assert_eq!(merged.status(), proto::LeadStatus::Engaged);
    assert_eq!(read(&agency, &one).await, merged);
    let gone = read(&agency, &two).await;
    assert_eq!(gone.merged_into_lead_id.as_ref(), Some(&one));
    assert_eq!(
        (gone.tags.as_slice(), gone.identities.len()),
        (&["hail".to_owned()][..], 0)
    );
    assert_eq!(events(&world, "messaging.lead.merged").await, 1);
    assert_eq!(events(&world, "messaging.lead.status_changed").await, 2);

    // Twice, in a circle, into itself, into nobody; and nothing changes it any more.
    for (from, into, why) in [
        (&two, &one, ErrorReason::LeadMerged),
        (&two, &three, ErrorReason::LeadMerged),
        (&one, &two, ErrorReason::LeadMerged),
        (&three, &two, ErrorReason::LeadMerged),
        (&one, &one, ErrorReason::LeadNotMergeable),
    ] {
        let refused = agency.leads().merge_lead(merge(&agency, from, into)).await;
        let refused = refused.expect_err("refused");
        assert_eq!(reason(&refused), why, "{from} into {into}");
    }
    let nobody = LeadId::generate().to_string();
    let refused = agency
        .leads()
        .merge_lead(merge(&agency, &one, &nobody))
        .await;
    assert_eq!(refused.expect_err("nobody").code(), Code::NotFound);
    let mut late = edit(&agency, &two);
    late.name = Some("Late".to_owned());
    let late = agency.leads().update_lead(late).await.expect_err("merged");
    assert_eq!(existing(&late).as_ref(), Some(&one));

    // And whoever it was merged into may be merged on: all of them are found in one step.
    let answer = agency
        .leads()
        .merge_lead(merge(&agency, &one, &three))
        .await;
    assert_eq!(answer.expect("merged").into_inner().identities.len(), 3);
    let last: LeadId = three.parse().expect("an id");
    let (tenant, by) = (agency.tenant(), by(&agency));
    let database = world.postgres.database("messaging").await;
    let mut tx = database.tenant(tenant).await.expect("a transaction");
    for id in [&one, &two, &three] {
        let id = id.parse().expect("an id");
        let reach = lead::reach(tx.conn(), tenant, id, Channel::Sms).await;
        let reach = reach.expect("read").expect("reached");
        assert_eq!((reach.lead, reach.address), (last, address("+15125550125")));
    }
    for phone in [PHONE, "+15125550124", "+15125550125"] {
        let known = lead::ensure(tx.conn(), tenant, &by, &address(phone), Source::InboundSms).await;
        assert_eq!(known.expect("known"), (last, false));
    }
    let moved = lead::advance(
        tx.conn(),
        tenant,
        &by,
        two.parse().expect("an id"),
        Status::Booked,
    );
    assert!(moved.await.expect("moved"));
    tx.commit().await.expect("committed");
    assert_eq!(
        read(&agency, &three).await.status(),
        proto::LeadStatus::Booked
    );
    let all = proto::ListLeadsRequest {
        client_id: agency.client.to_string(),
        ..Default::default()
    };
    let page = agency.leads().list_leads(all).await;
    assert_eq!(page.expect("listed").into_inner().data.len(), 1);
}

#[tokio::test]
async fn of_many_merges_of_two_leads_either_way_one_is_done() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let one = lead(&agency, PHONE, "roof").await;
    let two = lead(&agency, "+15125550124", "hail").await;
    let mut calls = JoinSet::new();
    for at in 0..20 {
        let request = match at % 2 {
            0 => merge(&agency, &one, &two),
            _ => merge(&agency, &two, &one),
        };
        let mut leads = agency.leads();
        calls.spawn(async move { leads.merge_lead(request).await });
    }
    let (done, refused): (Vec<_>, Vec<_>) =
        calls.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!((done.len(), refused.len()), (1, 19));
    for refused in refused {
        let refused = refused.expect_err("refused");
        assert_eq!(reason(&refused), ErrorReason::LeadMerged);
    }
    for rows in ["merged_into is null", "merged_into is not null"] {
        let count = format!("select count(*) from messaging.lead where {rows}");
        assert_eq!(world.postgres.count(&count).await, 1, "{rows}");
    }
}

#[tokio::test]
async fn an_address_that_comes_while_its_lead_is_merged_is_not_lost() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let one = lead(&agency, PHONE, "roof").await;
    let two = lead(&agency, "+15125550124", "hail").await;
    let mut calls = JoinSet::new();
    for at in 0..12 {
        let mut leads = agency.leads();
        let mut request = edit(&agency, &one);
        request.phone = Some(format!("+151255502{at:02}"));
        calls.spawn(async move { leads.update_lead(request).await.map(|_| ()) });
        if at == 6 {
            let (mut leads, request) = (agency.leads(), merge(&agency, &one, &two));
            calls.spawn(async move { leads.merge_lead(request).await.map(|_| ()) });
        }
    }
    let kept = calls.join_all().await;
    let refused = kept.iter().filter_map(|answer| answer.as_ref().err());
    for refused in refused {
        assert_eq!(reason(refused), ErrorReason::LeadMerged);
    }
    let kept = kept.iter().filter(|answer| answer.is_ok()).count() - 1;
    let two = read(&agency, &two).await;
    assert_eq!(two.identities.len(), 2 + kept, "all that was answered");
    assert!(read(&agency, &one).await.identities.is_empty());
}
