//! Canned replies (MSG-25): kept under a shortcut of their own, and filled in for whom they are sent to.
//! Deliberately absent: automations' texts, which are filled in by the same rules.

use futures_util::future::join_all;
use mainstay_proto::messaging::v1 as proto;
use mainstay_rpc::ErrorReason;
use tonic::{Code, Status};

use crate::carried::Providers;
use crate::sending::{client, lead, quick, reached, until};
use crate::world::{Agency, World, existing, fields, keyed, reason};

async fn make(
    agency: &Agency<'_>,
    shortcut: &str,
    body: &str,
) -> Result<proto::CannedReply, Status> {
    let request = proto::CreateCannedReplyRequest {
        client_id: agency.client.to_string(),
        shortcut: Some(shortcut.to_owned()),
        body: Some(body.to_owned()),
    };
    let made = agency.canned_replies().create_canned_reply(request).await?;
    Ok(made.into_inner())
}

async fn update(
    agency: &Agency<'_>,
    reply: &proto::CannedReply,
    change: proto::UpdateCannedReplyRequest,
) -> Result<proto::CannedReply, Status> {
    let request = proto::UpdateCannedReplyRequest {
        client_id: agency.client.to_string(),
        canned_reply_id: reply.id().to_owned(),
        ..change
    };
    let changed = agency.canned_replies().update_canned_reply(request).await?;
    Ok(changed.into_inner())
}

fn by_shortcut(agency: &Agency<'_>, lead: &str, shortcut: &str) -> proto::CreateMessageRequest {
    proto::CreateMessageRequest {
        client_id: agency.client.to_string(),
        lead_id: Some(lead.to_owned()),
        channel: Some(proto::Channel::Sms.into()),
        template: Some(shortcut.to_owned()),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canned_reply_is_filled_in_for_whom_it_is_sent_to() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, 10.0).await;
    let mike = lead(&agency, "+15125550123").await;
    let body = "Hi {{ lead.first_name }}, we are on our way.";
    let reply = make(&agency, "on_our_way", body).await.expect("made");
    assert_eq!((reply.shortcut(), reply.body()), ("on_our_way", body));
    let wanted = by_shortcut(&agency, &mike, "on_our_way");
    let mut sender = agency.messages();
    let made = sender.create_message(wanted.clone()).await.expect("taken");
    let made = made.into_inner();
    assert_eq!(made.body(), "Hi Mike, we are on our way.");
    until(&agency, made.id(), proto::MessageStatus::Delivered).await;
    let arrived = providers.arrived("+15125550123").await;
    assert_eq!(arrived, ["Hi Mike, we are on our way."]);

    // What it says from now on changes nothing about what was said.
    let change = proto::UpdateCannedReplyRequest {
        body: Some("{{ lead.name }}: five more minutes.".to_owned()),
        etag: reply.etag.clone(),
        ..Default::default()
    };
    let changed = update(&agency, &reply, change.clone()).await;
    assert_eq!(changed.expect("changed").etag(), "v2");
    let stale = update(&agency, &reply, change).await;
    assert_eq!(
        reason(&stale.expect_err("stale")),
        ErrorReason::EtagMismatch
    );
    let repeat = || keyed(wanted.clone(), "on our way");
    let first = sender.create_message(repeat()).await.expect("taken");
    let again = sender.create_message(repeat()).await.expect("the same");
    assert_eq!(first.into_inner(), again.into_inner());
    let said = "select count(*) from messaging.message where body = 'Mike: five more minutes.'";
    reached(&world, said, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_has_a_text_or_a_shortcut_and_what_cannot_be_filled_in_is_not_sent() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, 10.0).await;
    let mike = lead(&agency, "+15125550123").await;
    make(&agency, "hello", "Hi {{ lead.first_name }}")
        .await
        .expect("made");
    let request = proto::CreateLeadRequest {
        client_id: agency.client.to_string(),
        phone: Some("+15125550124".to_owned()),
        ..Default::default()
    };
    let nameless = agency.leads().create_lead(request).await.expect("a lead");
    let nameless = nameless.into_inner().id.expect("an id");
    let both = proto::CreateMessageRequest {
        body: Some("Hi".to_owned()),
        ..by_shortcut(&agency, &mike, "hello")
    };
    let neither = proto::CreateMessageRequest {
        template: None,
        ..by_shortcut(&agency, &mike, "hello")
    };
    for (wrong, field) in [
        (both, "template"),
        (neither, "body"),
        (by_shortcut(&agency, &mike, "unknown"), "template"),
        (by_shortcut(&agency, &nameless, "hello"), "template"),
    ] {
        let refused = agency.messages().create_message(wrong).await;
        assert_eq!(fields(&refused.expect_err("not to be sent")), [field]);
    }
    let said = "select count(*) from messaging.message";
    assert_eq!(world.postgres.count(said).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shortcut_stands_for_one_text_of_a_client_however_many_make_it_at_once() {
    let world = World::new().await;
    let agency = world.agency("canned").await;
    let made = join_all((0..10).map(|_| make(&agency, "hours", "We open at nine."))).await;
    let (done, refused): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
    assert_eq!((done.len(), refused.len()), (1, 9));
    let first = done.into_iter().next().expect("one").expect("made");
    for refusal in refused {
        let refusal = refusal.expect_err("taken");
        assert_eq!(reason(&refusal), ErrorReason::CannedReplyShortcutTaken);
        assert_eq!(existing(&refusal), first.id);
    }
    let second = make(&agency, "address", "Main Street 1.").await;
    let second = second.expect("made");
    let rename = proto::UpdateCannedReplyRequest {
        shortcut: Some("hours".to_owned()),
        ..Default::default()
    };
    let refused = update(&agency, &second, rename.clone()).await;
    let refused = refused.expect_err("taken");
    assert_eq!(reason(&refused), ErrorReason::CannedReplyShortcutTaken);
    assert_eq!(existing(&refused), first.id);

    let which = || proto::DeleteCannedReplyRequest {
        client_id: agency.client.to_string(),
        canned_reply_id: first.id().to_owned(),
    };
    let mut keeper = agency.canned_replies();
    keeper.delete_canned_reply(which()).await.expect("deleted");
    let again = keeper.delete_canned_reply(which()).await;
    assert_eq!(again.expect_err("gone").code(), Code::NotFound);
    let renamed = update(&agency, &second, rename).await.expect("free again");
    assert_eq!((renamed.shortcut(), renamed.etag()), ("hours", "v2"));
    let request = proto::ListCannedRepliesRequest {
        client_id: agency.client.to_string(),
        ..Default::default()
    };
    let all = keeper.list_canned_replies(request).await.expect("listed");
    assert_eq!(all.into_inner().data, [renamed]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_text_cannot_know_of_a_lead_is_named_when_it_is_written() {
    let world = World::new().await;
    let agency = world.agency("canned").await;
    for wrong in ["Hi {{ lead.nick }}", "Hi {{ lead.name", "{{ form.budget }}"] {
        let refused = make(&agency, "hello", wrong).await;
        assert_eq!(fields(&refused.expect_err(wrong)), ["body"]);
    }
    let reply = make(&agency, "hello", "Hi").await.expect("made");
    let change = proto::UpdateCannedReplyRequest {
        body: Some("{{ lead.nick }}".to_owned()),
        ..Default::default()
    };
    let refused = update(&agency, &reply, change).await;
    assert_eq!(fields(&refused.expect_err("unknown")), ["body"]);
    let refused = make(&agency, "Not One Word", "Hi").await;
    assert_eq!(fields(&refused.expect_err("no shortcut")), ["shortcut"]);
}
