//! The inbox by public doors alone: what somebody texts is found, given to a member, noted, answered with a canned reply, closed
//! with a question, rated, put away and brought back.
//! Deliberately absent: races and everything that is refused; messaging's own tests have those.

use anyhow::{Context as _, ensure};
use mainstay_tests::{Answer, world};
use serde_json::{Value, json};

use crate::messages::Story;

const PERSON: &str = "+15125550171";

/// The inbox of the story's client.
struct Inbox<'a> {
    story: &'a Story,
    path: String,
}

impl Inbox<'_> {
    /// Until a list shows so many; those.
    async fn until(&self, filter: &str, count: usize) -> anyhow::Result<Vec<Value>> {
        let path = format!("{}?{filter}", self.path);
        world::until(&format!("{count} conversations by {filter}"), async || {
            let page = self.story.owner.get(&path).await?.expect(200)?;
            let data = page["data"].as_array().context("a list")?;
            Ok((data.len() == count).then(|| data.clone()))
        })
        .await
    }

    async fn ask(&self, verb: &str, below: &str, body: Option<Value>) -> anyhow::Result<Answer> {
        let path = format!("{}/{below}", self.path);
        let owner = &self.story.owner;
        owner.send(verb, &path, body.as_ref(), None).await
    }

    async fn texts(&self, body: &str) -> anyhow::Result<()> {
        let text = json!({"from": PERSON, "to": self.story.number, "body": body});
        let platform = &self.story.platform;
        platform.sandbox_post("/_/inbound/sms", &text).await?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_work_in_conversations_from_the_first_text_to_the_rating() -> anyhow::Result<()> {
    let story = Story::begin("inbox", &[]).await?;
    let client = format!("/v1/clients/{}", story.client);
    let inbox = Inbox {
        story: &story,
        path: format!("{client}/conversations"),
    };
    let lead = story.lead(PERSON).await?;
    inbox.texts("my roof leaks, can you come").await?;
    let found = inbox.until("q=roof%20lea&unread=true", 1).await?;
    let id = world::text(&found[0], "id")?;
    ensure!(found[0]["lead_name"] == "Mike", "{found:?}");
    ensure!(found[0]["lead_id"] == lead.as_str(), "{found:?}");
    inbox.until("q=5550171", 1).await?;
    inbox.until("q=tomato", 0).await?;

    let ana = json!({"name": "Ana", "email": "ana@inbox.test", "role": "agent", "client_ids": [story.client]});
    let ana = story.owner.post("/v1/members", &ana).await?.expect(201)?;
    let change = json!({"assigned_to": ana["id"], "labels": ["Roof"], "etag": found[0]["etag"]});
    let changed = inbox.ask("PATCH", &id, Some(change.clone())).await?;
    let changed = changed.expect(200)?;
    ensure!(changed["labels"] == json!(["roof"]), "{changed}");
    let stale = inbox.ask("PATCH", &id, Some(change)).await?;
    ensure!(
        (stale.status, stale.code()) == (412, "etag_mismatch"),
        "{stale:?}"
    );
    let hers = format!("label=roof&assigned_to={}", world::text(&ana, "id")?);
    inbox.until(&hers, 1).await?;
    inbox.until("unassigned=true", 0).await?;

    let notes = format!("{id}/notes");
    let note = json!({"body": "Prefers mornings."});
    let note = inbox.ask("POST", &notes, Some(note)).await?.expect(201)?;
    let kept = inbox.ask("GET", &notes, None).await?.expect(200)?;
    ensure!(kept["data"] == json!([note]), "{kept}");
    let gone = format!("{notes}/{}", world::text(&note, "id")?);
    inbox.ask("DELETE", &gone, None).await?.expect(200)?;
    let gone = inbox.ask("DELETE", &gone, None).await?;
    ensure!(gone.status == 404, "{gone:?}");

    let reply =
        json!({"shortcut": "on_our_way", "body": "Hi {{ lead.first_name }}, we are on our way."});
    let replies = format!("{client}/canned_replies");
    story.owner.post(&replies, &reply).await?.expect(201)?;
    let taken = story.owner.post(&replies, &reply).await?;
    ensure!(
        (taken.status, taken.code()) == (409, "canned_reply_shortcut_taken"),
        "{taken:?}"
    );
    let message = json!({"lead_id": lead, "channel": "sms", "template": "on_our_way"});
    let path = format!("{client}/messages");
    let sent = story.owner.post(&path, &message).await?.expect(202)?;
    story.until(&world::text(&sent, "id")?, "delivered").await?;
    ensure!(sent["conversation_id"] == id.as_str(), "{sent}");

    let close = format!("{id}/close");
    let ask = json!({"ask_rating": true});
    let closed = inbox.ask("POST", &close, Some(ask)).await?.expect(200)?;
    ensure!(closed["state"] == "closed", "{closed}");
    let wanted = [
        "Hi Mike, we are on our way.",
        "How did we do? Reply with a number from 1 to 5.",
    ];
    world::until("they are asked", async || {
        let arrived = story.arrived(PERSON).await?;
        Ok((arrived == wanted).then_some(()))
    })
    .await?;
    inbox.texts("5").await?;
    world::until("it is rated", async || {
        let now = inbox.ask("GET", &id, None).await?.expect(200)?;
        Ok((now["rating"] == 5).then_some(()))
    })
    .await?;
    inbox.until("state=open", 0).await?;

    inbox.ask("DELETE", &id, None).await?.expect(200)?;
    let gone = inbox.ask("GET", &id, None).await?;
    ensure!(gone.status == 404, "{gone:?}");
    inbox.until("q=roof", 0).await?;
    inbox.until("deleted=true", 1).await?;
    let restore = format!("{id}/restore");
    let back = inbox.ask("POST", &restore, Some(json!({}))).await?;
    ensure!(back.expect(200)?["rating"] == 5);
    inbox.until("q=roof", 1).await?;
    Ok(())
}
