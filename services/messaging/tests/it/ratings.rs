//! How they say it was (MSG-25): asked as a conversation is closed, answered once by a number.
//! Deliberately absent: averages.

use futures_util::future::join_all;
use mainstay_proto::messaging::v1 as proto;
use mainstay_rpc::ErrorReason;
use tonic::Status;

use crate::automations::active;
use crate::carried::Providers;
use crate::inbox::{get, listed};
use crate::messages::blocked;
use crate::sending::{OURS, client, lead, looks, quick, reached, send, until};
use crate::world::{Agency, World, fields, reason};

const MIKE: &str = "+15125550123";
const QUESTION: &str = "How did we do? Reply with a number from 1 to 5.";
const RATED: &str =
    "select count(*) from messaging.outbox_event where type = 'messaging.conversation.rated'";
const INBOUND: &str = "select count(*) from messaging.message where direction = 'inbound'";

/// A conversation with Mike, who was written to.
async fn talk(agency: &Agency<'_>) -> String {
    let mike = lead(agency, MIKE).await;
    let made = send(agency, &mike, "All done.", None).await.expect("taken");
    until(agency, made.id(), proto::MessageStatus::Delivered).await;
    made.conversation_id.expect("one")
}

async fn close(
    agency: &Agency<'_>,
    conversation: &str,
    ask_rating: bool,
) -> Result<proto::Conversation, Status> {
    let request = proto::CloseConversationRequest {
        client_id: agency.client.to_string(),
        conversation_id: conversation.to_owned(),
        ask_rating: Some(ask_rating),
    };
    let closed = agency.conversations().close_conversation(request).await?;
    Ok(closed.into_inner())
}

/// A closed conversation with Mike, who has got the question.
async fn asked(agency: &Agency<'_>, providers: &Providers) -> String {
    let conversation = talk(agency).await;
    let closed = close(agency, &conversation, true).await.expect("closed");
    assert_eq!(closed.state(), proto::ConversationState::Closed);
    assert!(closed.rating_asked_at.is_some() && closed.closed_at.is_some());
    let mut looks = looks();
    while looks.again().await {
        let arrived = providers.arrived(MIKE).await;
        if arrived.last().is_some_and(|last| last == QUESTION) {
            return conversation;
        }
    }
    panic!("the question never arrived");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_after_the_question_is_the_rating_and_no_text_like_others() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, 10.0).await;
    active(&agency, "ai_reply", &[]).await;
    let conversation = asked(&agency, &providers).await;
    providers.text(MIKE, OURS, " 4 ").await;
    reached(&world, RATED, 1).await;
    let rated = get(&agency, &conversation).await.expect("there");
    assert_eq!((rated.rating(), rated.unread()), (4, 0));
    assert_eq!(rated.state(), proto::ConversationState::Closed);
    let all = listed(&agency, Default::default()).await.expect("listed");
    assert_eq!(
        all,
        std::slice::from_ref(&conversation),
        "no other was opened"
    );
    for nothing in ["inbound_burst", "automation_run"] {
        let count = format!("select count(*) from messaging.{nothing}");
        assert_eq!(world.postgres.count(&count).await, 0, "{nothing}");
    }
    let request = proto::ListConversationMessagesRequest {
        client_id: agency.client.to_string(),
        conversation_id: conversation.clone(),
        ..Default::default()
    };
    let said = agency
        .conversations()
        .list_conversation_messages(request)
        .await;
    let said = said.expect("a page").into_inner().data;
    let said: Vec<&str> = said.iter().map(proto::Message::body).collect();
    assert_eq!(said, ["All done.", QUESTION, " 4 "]);

    // It was answered: the next number is a text like any other.
    providers.text(MIKE, OURS, "5").await;
    reached(&world, INBOUND, 2).await;
    assert_eq!(
        get(&agency, &conversation).await.expect("there").rating(),
        4
    );
    let all = listed(&agency, Default::default()).await.expect("listed");
    assert_eq!(all.len(), 2);
    assert_eq!(world.postgres.count(RATED).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_numbers_at_once_one_is_the_rating() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, 10.0).await;
    asked(&agency, &providers).await;
    join_all((0..5).map(|_| providers.text(MIKE, OURS, "5"))).await;
    reached(&world, INBOUND, 5).await;
    assert_eq!(world.postgres.count(RATED).await, 1);
    let unread = "select count(*) from messaging.conversation where unread = 4 and rating is null";
    assert_eq!(world.postgres.count(unread).await, 1);
    let conversations = "select count(*) from messaging.conversation";
    assert_eq!(world.postgres.count(conversations).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_number_or_comes_after_something_else_is_an_ordinary_text() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, 10.0).await;
    let conversation = asked(&agency, &providers).await;
    providers.text(MIKE, OURS, "5 stars!").await;
    reached(&world, INBOUND, 1).await;
    providers.text(MIKE, OURS, "5").await;
    reached(&world, INBOUND, 2).await;
    assert_eq!(world.postgres.count(RATED).await, 0);
    let unrated = get(&agency, &conversation).await.expect("there");
    assert_eq!((unrated.rating, unrated.unread()), (None, 0));
    let unread = proto::ListConversationsRequest {
        unread: Some(true),
        ..Default::default()
    };
    let opened = listed(&agency, unread).await.expect("listed");
    assert_eq!(opened.len(), 1, "both stand in one new conversation");
    assert_ne!(opened[0], conversation);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_after_a_week_or_after_we_said_something_else_is_an_ordinary_text() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, 10.0).await;
    let conversation = asked(&agency, &providers).await;
    world
        .postgres
        .execute("update messaging.conversation set rating_asked_at = rating_asked_at - interval '8 days'")
        .await;
    providers.text(MIKE, OURS, "5").await;
    reached(&world, INBOUND, 1).await;
    assert_eq!(world.postgres.count(RATED).await, 0);
    let opened = proto::ListConversationsRequest {
        unread: Some(true),
        ..Default::default()
    };
    let second = listed(&agency, opened).await.expect("listed").remove(0);
    assert_ne!(second, conversation);

    // They are asked again, and told something before they answer.
    close(&agency, &second, true).await.expect("closed");
    let left = "select count(*) from messaging.message where body like 'How did we do%' and delivered_at is not null";
    reached(&world, left, 2).await;
    let mike = get(&agency, &second).await.expect("there");
    let more = send(&agency, mike.lead_id(), "One more thing.", None).await;
    let more = more.expect("taken");
    until(&agency, more.id(), proto::MessageStatus::Delivered).await;
    providers.text(MIKE, OURS, "5").await;
    reached(&world, INBOUND, 2).await;
    assert_eq!(world.postgres.count(RATED).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_closes_a_conversation_at_once_with_others_asks_once() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, 10.0).await;
    let conversation = talk(&agency).await;
    let closed = join_all((0..8).map(|_| close(&agency, &conversation, true))).await;
    for one in closed {
        assert_eq!(
            one.expect("closed").state(),
            proto::ConversationState::Closed
        );
    }
    let again = close(&agency, &conversation, true).await;
    again.expect("it is closed already");
    let questions = "select count(*) from messaging.message where body like 'How did we do%'";
    assert_eq!(world.postgres.count(questions).await, 1);
    let events =
        "select count(*) from messaging.outbox_event where type = 'messaging.conversation.closed'";
    assert_eq!(world.postgres.count(events).await, 1);
    assert_eq!(
        world
            .postgres
            .count("select count(*) from messaging.conversation")
            .await,
        1
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_question_may_not_be_sent_nothing_is_closed() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, 10.0).await;
    let conversation = talk(&agency).await;
    providers.text(MIKE, OURS, "STOP").await;
    let opted_out = "select count(*) from messaging.consent_standing where opted_out_at is not null and channel = 'sms'";
    reached(&world, opted_out, 1).await;
    let refused = close(&agency, &conversation, true).await;
    assert_eq!(blocked(&refused.expect_err("opted out")), ["opted_out"]);
    let open = get(&agency, &conversation).await.expect("there");
    assert_eq!(open.state(), proto::ConversationState::Open);
    assert_eq!(open.rating_asked_at, None);
    let closed = close(&agency, &conversation, false).await.expect("closed");
    assert_eq!(closed.state(), proto::ConversationState::Closed);

    // Nobody answers mail here.
    world
        .postgres
        .execute(
            "update messaging.conversation set channel = 'email', state = 'open', closed_at = null",
        )
        .await;
    let refused = close(&agency, &conversation, true).await;
    let refused = refused.expect_err("no text");
    assert_eq!(reason(&refused), ErrorReason::InvalidRequest);
    assert_eq!(fields(&refused), ["ask_rating"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_keeps_no_rating_that_was_not_asked_for_or_is_none() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, 10.0).await;
    talk(&agency).await;
    let mut admin = world.postgres.admin().await;
    for wrong in [
        "rating = 5",
        "rating = 0, rating_asked_at = now()",
        "rating = 6, rating_asked_at = now()",
        "deleted_at = now()",
        "closed_at = now()",
    ] {
        let sql = format!("update messaging.conversation set {wrong}");
        let refused = sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut admin);
        let refused = refused.await.expect_err(wrong);
        let refused = refused.as_database_error().expect("the database's");
        assert!(refused.is_check_violation(), "{wrong}: {refused:?}");
    }
}
