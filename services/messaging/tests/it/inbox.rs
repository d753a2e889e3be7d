//! Conversations as an inbox (MSG-25): whose each is, what it is about, what people note about it, and what is put away.
//! Deliberately absent: finding them by words and asking how it was; those stand beside this.

use futures_util::future::join_all;
use mainstay_proto::events::v1::event_inbox_service_client::EventInboxServiceClient;
use mainstay_proto::events::v1::{DeliverEventsRequest, EventEnvelope};
use mainstay_proto::messaging::v1 as proto;
use mainstay_rpc::ErrorReason;
use mainstay_types::{ConversationId, EventId, ServiceName};
use tonic::{Code, Status};

use crate::carried::Providers;
use crate::sending::{OURS, client, lead, quick, reached, send};
use crate::world::{Agency, World, fields, keyed, reason};

/// Somebody with this number, and a conversation with them.
pub async fn talk(agency: &Agency<'_>, phone: &str) -> (String, String) {
    let person = lead(agency, phone).await;
    let later = crate::world::at(agency.world.clock.now().timestamp() + 86_400);
    let made = send(agency, &person, "See you tomorrow", Some(later)).await;
    let conversation = made.expect("taken").conversation_id.expect("one");
    (person, conversation)
}

pub async fn get(agency: &Agency<'_>, id: &str) -> Result<proto::Conversation, Status> {
    let request = proto::GetConversationRequest {
        client_id: agency.client.to_string(),
        conversation_id: id.to_owned(),
    };
    let found = agency.conversations().get_conversation(request).await?;
    Ok(found.into_inner())
}

/// The ids of those that a filter lets through.
pub async fn listed(
    agency: &Agency<'_>,
    filter: proto::ListConversationsRequest,
) -> Result<Vec<String>, Status> {
    let request = proto::ListConversationsRequest {
        client_id: agency.client.to_string(),
        ..filter
    };
    let page = agency.conversations().list_conversations(request).await?;
    let data = page.into_inner().data.into_iter();
    Ok(data.map(|one| one.id.expect("an id")).collect())
}

fn labels(labels: &[&str]) -> Option<proto::ConversationLabels> {
    let values = labels.iter().map(|label| (*label).to_owned()).collect();
    Some(proto::ConversationLabels { values })
}

async fn update(
    agency: &Agency<'_>,
    id: &str,
    change: proto::UpdateConversationRequest,
) -> Result<proto::Conversation, Status> {
    let request = proto::UpdateConversationRequest {
        client_id: agency.client.to_string(),
        conversation_id: id.to_owned(),
        ..change
    };
    let changed = agency.conversations().update_conversation(request).await?;
    Ok(changed.into_inner())
}

async fn note(agency: &Agency<'_>, conversation: &str, body: &str) -> Result<String, Status> {
    let request = proto::CreateConversationNoteRequest {
        client_id: agency.client.to_string(),
        conversation_id: conversation.to_owned(),
        body: Some(body.to_owned()),
    };
    let made = agency.notes().create_conversation_note(request).await?;
    Ok(made.into_inner().id.expect("an id"))
}

/// All notes of a conversation, by pages of seven.
async fn notes(agency: &Agency<'_>, conversation: &str) -> Vec<proto::ConversationNote> {
    let (mut all, mut token) = (Vec::new(), None);
    loop {
        let request = proto::ListConversationNotesRequest {
            client_id: agency.client.to_string(),
            conversation_id: conversation.to_owned(),
            page_size: Some(7),
            page_token: token,
        };
        let page = agency.notes().list_conversation_notes(request).await;
        let page = page.expect("a page").into_inner();
        all.extend(page.data);
        token = page.next_page_token;
        if token.is_none() {
            return all;
        }
    }
}

async fn delete(agency: &Agency<'_>, id: &str) -> Result<(), Status> {
    let request = proto::DeleteConversationRequest {
        client_id: agency.client.to_string(),
        conversation_id: id.to_owned(),
    };
    let done = agency.conversations().delete_conversation(request).await;
    done.map(|_| ())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_is_somebodys_and_about_something_and_is_found_by_both() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, 10.0).await;
    let ana = agency.add_member("Ana", Some(vec![agency.client])).await;
    let (mike, first) = talk(&agency, "+15125550123").await;
    let (_, second) = talk(&agency, "+15125550124").await;
    let before = get(&agency, &first).await.expect("there");
    assert_eq!((before.etag(), before.lead_name()), ("v1", "Mike"));
    assert_eq!((before.lead_id(), before.labels.len()), (mike.as_str(), 0));
    let change = proto::UpdateConversationRequest {
        assigned_to: Some(ana.clone()),
        labels: labels(&[" Roof ", "urgent", "ROOF"]),
        etag: before.etag.clone(),
        ..Default::default()
    };
    let changed = update(&agency, &first, change.clone()).await;
    let changed = changed.expect("changed");
    assert_eq!((changed.assigned_to(), changed.etag()), (&*ana, "v2"));
    assert_eq!(changed.labels, ["roof", "urgent"]);
    assert_eq!(get(&agency, &first).await.expect("there"), changed);
    let stale = update(&agency, &first, change).await;
    let stale = stale.expect_err("it has changed since");
    assert_eq!(reason(&stale), ErrorReason::EtagMismatch);

    let of = |filter: proto::ListConversationsRequest| listed(&agency, filter);
    let anas = of(proto::ListConversationsRequest {
        assigned_to: Some(ana.clone()),
        ..Default::default()
    });
    assert_eq!(anas.await.expect("listed"), std::slice::from_ref(&first));
    let nobodys = of(proto::ListConversationsRequest {
        unassigned: Some(true),
        ..Default::default()
    });
    assert_eq!(
        nobodys.await.expect("listed"),
        std::slice::from_ref(&second)
    );
    for (label, found) in [(" Urgent", 1), ("roof", 1), ("urg", 0)] {
        let with = of(proto::ListConversationsRequest {
            label: Some(label.to_owned()),
            ..Default::default()
        });
        assert_eq!(with.await.expect("listed").len(), found, "{label}");
    }
    let both = of(proto::ListConversationsRequest {
        assigned_to: Some(ana.clone()),
        unassigned: Some(true),
        ..Default::default()
    });
    assert_eq!(fields(&both.await.expect_err("neither")), ["unassigned"]);

    // What is left out stays, and what is to be nobody's says so.
    let unassigned = proto::UpdateConversationRequest {
        unassign: Some(true),
        ..Default::default()
    };
    let after = update(&agency, &first, unassigned).await.expect("changed");
    assert_eq!((&after.assigned_to, after.etag()), (&None, "v3"));
    assert_eq!(after.labels, ["roof", "urgent"]);
    let bare = proto::UpdateConversationRequest {
        labels: labels(&[]),
        ..Default::default()
    };
    let after = update(&agency, &first, bare.clone()).await.expect("bare");
    assert_eq!((after.labels.len(), after.etag()), (0, "v4"));
    let same = update(&agency, &first, bare).await.expect("no change");
    assert_eq!(same.etag(), "v4");
    let told =
        "select count(*) from messaging.outbox_event where type = 'messaging.conversation.updated'";
    assert_eq!(world.postgres.count(told).await, 3);
    let audited = "select count(*) from messaging.audit_outbox where action = 'messaging.conversation.update'";
    assert!(world.postgres.count(audited).await <= 3, "each once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_member_who_serves_the_client_is_given_a_conversation() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, 10.0).await;
    let other = agency.add_client("Other").await;
    let (_, conversation) = talk(&agency, "+15125550123").await;
    let ana = agency.add_member("Ana", Some(vec![agency.client])).await;
    let elsewhere = agency.add_member("Ben", Some(vec![other])).await;
    let nobody = mainstay_types::MemberId::generate().to_string();
    let to = |member: &str| proto::UpdateConversationRequest {
        client_id: agency.client.to_string(),
        conversation_id: conversation.clone(),
        assigned_to: Some(member.to_owned()),
        ..Default::default()
    };
    for wrong in [elsewhere, nobody] {
        let refused = update(&agency, &conversation, to(&wrong)).await;
        let refused = refused.expect_err("does not serve");
        assert_eq!(fields(&refused), ["assigned_to"]);
    }
    let both = proto::UpdateConversationRequest {
        unassign: Some(true),
        ..to(&ana)
    };
    let refused = update(&agency, &conversation, both).await;
    assert_eq!(fields(&refused.expect_err("both")), ["unassign"]);
    let mut clerk = agency.conversations();
    let keyed_to_ana = || keyed(to(&ana), "to ana");
    let first = clerk.update_conversation(keyed_to_ana()).await;
    let first = first.expect("hers").into_inner();
    // Whoever asks again hears what was done, whatever became of her; whoever asks anew does not get her.
    world
        .postgres
        .execute("set search_path = identity; update identity.member set state = 'deactivated' where name = 'Ana'")
        .await;
    let again = clerk.update_conversation(keyed_to_ana()).await;
    assert_eq!(again.expect("as it was").into_inner(), first);
    let gone = update(&agency, &conversation, to(&ana)).await;
    assert_eq!(fields(&gone.expect_err("left")), ["assigned_to"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_that_cannot_be_kept_are_named_and_nothing_is_changed() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, 10.0).await;
    let (_, conversation) = talk(&agency, "+15125550123").await;
    let long = "x".repeat(51);
    let many: Vec<String> = (0..21).map(|n| format!("label {n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (given, field) in [
        (vec!["fine", " "], "labels[1]"),
        (vec![long.as_str()], "labels[0]"),
        (many, "labels"),
    ] {
        let change = proto::UpdateConversationRequest {
            labels: labels(&given),
            ..Default::default()
        };
        let refused = update(&agency, &conversation, change).await;
        let named = fields(&refused.expect_err("not to be kept"));
        assert!(named[0].starts_with(field), "{named:?}");
    }
    assert_eq!(
        get(&agency, &conversation).await.expect("there").etag(),
        "v1"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_change_a_conversation_as_they_have_read_it_one_does() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, 10.0).await;
    let (_, conversation) = talk(&agency, "+15125550123").await;
    let tried = join_all((0..10).map(|turn| {
        let change = proto::UpdateConversationRequest {
            labels: labels(&[&format!("turn {turn}")]),
            etag: Some("v1".to_owned()),
            ..Default::default()
        };
        update(&agency, &conversation, change)
    }))
    .await;
    let (done, refused): (Vec<_>, Vec<_>) = tried.into_iter().partition(Result::is_ok);
    assert_eq!((done.len(), refused.len()), (1, 9));
    for refusal in refused {
        let refusal = refusal.expect_err("too late");
        assert_eq!(reason(&refusal), ErrorReason::EtagMismatch);
    }
    let kept = "select count(*) from messaging.conversation_label";
    assert_eq!(world.postgres.count(kept).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notes_are_kept_for_ours_alone_and_what_a_deleted_one_said_is_in_the_audit() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, 10.0).await;
    let (_, conversation) = talk(&agency, "+15125550123").await;
    let (_, other) = talk(&agency, "+15125550124").await;
    let bodies: Vec<String> = (0..20).map(|n| format!("note {n}")).collect();
    let written = join_all(bodies.iter().map(|body| note(&agency, &conversation, body))).await;
    let mut written: Vec<String> = written.into_iter().map(|id| id.expect("written")).collect();
    let kept = notes(&agency, &conversation).await;
    let ids: Vec<&str> = kept.iter().map(proto::ConversationNote::id).collect();
    written.sort_unstable();
    written.reverse();
    assert_eq!(ids, written, "each once, newest first");
    assert!(kept.iter().all(|one| one.author().starts_with("key_")));
    assert!(notes(&agency, &other).await.is_empty());
    let empty = note(&agency, &conversation, " \n").await;
    assert_eq!(fields(&empty.expect_err("says nothing")), ["body"]);

    let gone = kept[0].clone();
    let of = |conversation: &str| proto::DeleteConversationNoteRequest {
        client_id: agency.client.to_string(),
        conversation_id: conversation.to_owned(),
        note_id: gone.id().to_owned(),
    };
    let mut keeper = agency.notes();
    let wrong = keeper.delete_conversation_note(of(&other)).await;
    assert_eq!(wrong.expect_err("not of that one").code(), Code::NotFound);
    keeper
        .delete_conversation_note(of(&conversation))
        .await
        .expect("deleted");
    let again = keeper.delete_conversation_note(of(&conversation)).await;
    assert_eq!(again.expect_err("gone").code(), Code::NotFound);
    assert_eq!(notes(&agency, &conversation).await.len(), 19);
    let before = format!(
        "select count(*) from identity.audit_image where before ->> 'body' = '{}'",
        gone.body()
    );
    reached(&world, &before, 1).await;
    // Whatever is sent to them, no note is.
    let said = "select count(*) from messaging.message where body like 'note %'";
    assert_eq!(world.postgres.count(said).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_conversation_is_not_there_until_it_is_brought_back_and_what_is_said_opens_another()
 {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, 10.0).await;
    let (mike, conversation) = talk(&agency, "+15125550123").await;
    let kept = note(&agency, &conversation, "likes blue").await;
    kept.expect("written");
    delete(&agency, &conversation).await.expect("deleted");

    let gone = [
        get(&agency, &conversation).await.map(|_| ()),
        delete(&agency, &conversation).await,
        note(&agency, &conversation, "x").await.map(|_| ()),
        update(&agency, &conversation, Default::default())
            .await
            .map(|_| ()),
        agency
            .conversations()
            .list_conversation_messages(proto::ListConversationMessagesRequest {
                client_id: agency.client.to_string(),
                conversation_id: conversation.clone(),
                ..Default::default()
            })
            .await
            .map(|_| ()),
        agency
            .conversations()
            .take_over_conversation(proto::TakeOverConversationRequest {
                client_id: agency.client.to_string(),
                conversation_id: conversation.clone(),
            })
            .await
            .map(|_| ()),
    ];
    for (place, answer) in gone.into_iter().enumerate() {
        let refused = answer.expect_err("it is not there");
        assert_eq!(refused.code(), Code::NotFound, "{place}");
    }
    let all = listed(&agency, Default::default()).await.expect("listed");
    assert_eq!(all, Vec::<String>::new());
    let deleted = || proto::ListConversationsRequest {
        client_id: agency.client.to_string(),
        deleted: Some(true),
        ..Default::default()
    };
    let put_away = listed(&agency, deleted()).await.expect("listed");
    assert_eq!(put_away, std::slice::from_ref(&conversation));
    let mut clerk = agency.clerk(&["messaging.messages.read", "messaging.conversations.manage"]);
    let refused = clerk.list_conversations(deleted()).await;
    let refused = refused.expect_err("may not delete");
    assert_eq!(reason(&refused), ErrorReason::PermissionDenied);
    let messages = "select count(*) from messaging.message";
    assert_eq!(world.postgres.count(messages).await, 1, "the record stays");

    providers.text("+15125550123", OURS, "hello again").await;
    reached(&world, messages, 2).await;
    let now = listed(&agency, Default::default()).await.expect("listed");
    assert_eq!(now.len(), 1);
    assert_ne!(now[0], conversation);

    let restore = || proto::RestoreConversationRequest {
        client_id: agency.client.to_string(),
        conversation_id: conversation.clone(),
    };
    let refused = clerk.restore_conversation(restore()).await;
    let refused = refused.expect_err("may not delete");
    assert_eq!(reason(&refused), ErrorReason::PermissionDenied);
    for _ in 0..2 {
        let back = agency.conversations().restore_conversation(restore()).await;
        let back = back.expect("restored").into_inner();
        assert_eq!(back.state(), proto::ConversationState::Closed);
        assert_eq!((&back.deleted_at, back.lead_id()), (&None, mike.as_str()));
    }
    assert_eq!(notes(&agency, &conversation).await.len(), 1);
    let all = listed(&agency, Default::default()).await.expect("listed");
    assert_eq!(all.len(), 2);
    let told = "select count(*) from messaging.outbox_event where type in ('messaging.conversation.deleted', 'messaging.conversation.restored')";
    assert_eq!(world.postgres.count(told).await, 2, "each once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_member_had_who_left_is_nobodys_and_automations_answer_in_it_again() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, 10.0).await;
    let ana = agency.add_member("Ana", Some(vec![agency.client])).await;
    let (_, first) = talk(&agency, "+15125550123").await;
    let (_, second) = talk(&agency, "+15125550124").await;
    let (_, third) = talk(&agency, "+15125550125").await;
    for id in [&first, &second] {
        let change = proto::UpdateConversationRequest {
            assigned_to: Some(ana.clone()),
            ..Default::default()
        };
        update(&agency, id, change).await.expect("hers");
    }
    let close = proto::CloseConversationRequest {
        client_id: agency.client.to_string(),
        conversation_id: second.clone(),
        ..Default::default()
    };
    let closed = agency.conversations().close_conversation(close).await;
    closed.expect("closed");
    // Taken over by her, and nobody's.
    world
        .postgres
        .execute(&format!(
            "update messaging.conversation set taken_over_by = '{ana}', taken_over_at = now()
             where id = '{}'",
            third.parse::<ConversationId>().expect("an id").uuid()
        ))
        .await;
    let event = EventEnvelope {
        event_id: EventId::generate().to_string(),
        r#type: "identity.member.deactivated".to_owned(),
        schema_version: 1,
        agency_id: agency.id.to_string(),
        aggregate_type: "member".to_owned(),
        aggregate_id: ana.clone(),
        aggregate_sequence: 2,
        occurred_at: Some(prost_types::Timestamp::default()),
        actor: "service:identity".to_owned(),
        payload_json: "{}".to_owned(),
        ..EventEnvelope::default()
    };
    let channel = world
        .stage
        .channel(ServiceName::Identity, ServiceName::Messaging);
    for _ in 0..2 {
        let request = DeliverEventsRequest {
            events: vec![event.clone()],
        };
        let told = EventInboxServiceClient::new(channel.clone())
            .deliver_events(request)
            .await;
        told.expect("delivered");
    }
    let let_go = "select count(*) from messaging.outbox_event where type = 'messaging.conversation.released'";
    reached(&world, let_go, 2).await;
    assert_eq!(get(&agency, &first).await.expect("there").assigned_to, None);
    let third = get(&agency, &third).await.expect("there");
    assert_eq!(third.taken_over_by, None);
    // What is over stays as it was.
    let second = get(&agency, &second).await.expect("there");
    assert_eq!(second.assigned_to(), ana);
}
