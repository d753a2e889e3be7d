//! Automations by public doors alone: a call that nobody takes is texted back, what they write is answered once by the simulated
//! model, and who asks for a person gets one called.
//! Deliberately absent: win-backs, reminders and every way to fail; messaging's own tests have those.

use anyhow::{Context as _, ensure};
use mainstay_tests::world;
use serde_json::{Value, json};

use crate::messages::Story;

const PERSON: &str = "+15125550161";

async fn activate(story: &Story, body: &Value) -> anyhow::Result<String> {
    let path = format!("/v1/clients/{}/automations", story.client);
    let made = story.owner.post(&path, body).await?.expect(201)?;
    ensure!(made["state"] == "paused", "{made}");
    let id = world::text(&made, "id")?;
    let path = format!("{path}/{id}/activate");
    let active = story.owner.post(&path, &json!({})).await?.expect(200)?;
    ensure!(active["state"] == "active", "{active}");
    Ok(id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missed_call_becomes_a_talk_with_a_model_and_then_with_a_person() -> anyhow::Result<()> {
    let story = Story::begin("automations", &[("MAINSTAY_MESSAGING_BURST_SECONDS", "3")]).await?;
    let text_back = json!({"name": "Missed calls", "template": "missed_call_text_back", "variables": {"business_name": "Acme"}});
    activate(&story, &text_back).await?;
    let replies = activate(&story, &json!({"name": "Replies", "template": "ai_reply"})).await?;

    let ring = json!({"from": PERSON, "to": story.number, "outcome": "completed"});
    story
        .platform
        .sandbox_post("/_/inbound/call", &ring)
        .await?;
    let said = until_said(&story, 1).await?;
    ensure!(
        said[0].starts_with("Hi, this is Acme. Sorry we missed your call."),
        "{said:?}"
    );

    for text in ["my roof leaks", "since yesterday", "can you come"] {
        let text = json!({"from": PERSON, "to": story.number, "body": text});
        story.platform.sandbox_post("/_/inbound/sms", &text).await?;
    }
    let said = until_said(&story, 2).await?;
    for fragment in ["my roof leaks", "since yesterday", "can you come"] {
        ensure!(said[1].contains(fragment), "{said:?}");
    }

    let text = json!({"from": PERSON, "to": story.number, "body": "can I talk to a person"});
    story.platform.sandbox_post("/_/inbound/sms", &text).await?;
    let said = until_said(&story, 3).await?;
    ensure!(said[2].starts_with("Thanks for your message."), "{said:?}");
    let path = format!("/v1/clients/{}/automations/{replies}/runs", story.client);
    let runs = story.owner.get(&path).await?.expect(200)?;
    let reasons: Vec<_> = runs["data"]
        .as_array()
        .context("a list")?
        .iter()
        .map(|run| run["reason"].as_str().unwrap_or("done").to_owned())
        .collect();
    ensure!(
        reasons.len() == 2 && reasons[0].starts_with("handed_over: ") && reasons[1] == "done",
        "{reasons:?}"
    );
    Ok(())
}

/// What the person has been told, once it is so much.
async fn until_said(story: &Story, count: usize) -> anyhow::Result<Vec<String>> {
    world::until(&format!("{count} messages arrive"), async || {
        let said = story.arrived(PERSON).await?;
        ensure!(said.len() <= count, "too many: {said:?}");
        Ok((said.len() == count).then_some(said))
    })
    .await
}
