//! Somebody writes, and no webhook tells of it, by public doors alone: they are a lead all the same, and answered.
//! Deliberately absent: which of what Twilio has is missing, and calls; integrations' own tests have those.

use anyhow::ensure;
use mainstay_tests::world;
use serde_json::json;

use crate::messages::Story;

const PERSON: &str = "+15125550187";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_writes_while_no_webhook_arrives_is_a_lead_and_is_heard() -> anyhow::Result<()> {
    let soon = [("MAINSTAY_INTEGRATIONS_RECOVER_AFTER_SECONDS", "1")];
    let story = Story::begin("lost-webhooks", &soon).await?;
    let lost =
        json!({"provider": "twilio", "operation": "message.received", "kind": "never_webhook"});
    story.platform.sandbox_post("/_/faults", &lost).await?;
    for text in ["My roof leaks & it rains", "STOP"] {
        let text = json!({"from": PERSON, "to": story.number, "body": text});
        story.platform.sandbox_post("/_/inbound/sms", &text).await?;
    }
    let path = format!("/v1/clients/{}/conversations", story.client);
    let talk = world::until("what they wrote is in a conversation", async || {
        let talks = story.owner.get(&path).await?.expect(200)?;
        let talks = talks["data"].as_array().cloned().unwrap_or_default();
        Ok(talks.into_iter().find(|talk| talk["address"] == PERSON))
    })
    .await?;
    let messages = format!("{path}/{}/messages", world::text(&talk, "id")?);
    let said = world::until("both are there", async || {
        let page = story.owner.get(&messages).await?.expect(200)?;
        let all = page["data"].as_array().cloned().unwrap_or_default();
        let inbound = all.iter().filter(|one| one["direction"] == "inbound");
        let said: Vec<_> = inbound.map(|one| one["body"].clone()).collect();
        Ok((said.len() == 2).then_some(said))
    })
    .await?;
    ensure!(
        said == [json!("My roof leaks & it rains"), json!("STOP")],
        "{said:?}"
    );
    let lead = world::text(&talk, "lead_id")?;
    let refused = story.send(&lead, "When suits you?", json!({})).await?;
    ensure!(
        refused.body["reasons"]
            .as_array()
            .is_some_and(|reasons| reasons.contains(&json!("opted_out"))),
        "{refused:?}"
    );
    let stored = "select count(*) from integrations.webhook_event where type = 'message.received'";
    ensure!(story.platform.count(stored).await? == 2);
    Ok(())
}
