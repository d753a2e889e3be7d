//! A lead asks for a person, by public doors alone: everybody who may is texted, all take it at once by their links, one has it, the
//! others hear who, and one trace goes from the lead's text to the claim.
//! Deliberately absent: ladders and every way to fail; escalation's own tests have those.

use anyhow::ensure;
use futures_util::future::try_join_all;
use mainstay_tests::{rest, world};
use serde_json::{Value, json};

use crate::messages::Story;

const PERSON: &str = "+15125550171";
const PHONES: [&str; 3] = ["+15125550181", "+15125550182", "+15125550183"];

/// The token in what somebody was texted.
async fn token(story: &Story, phone: &str) -> anyhow::Result<String> {
    world::until(&format!("{phone} is called"), async || {
        let said = story.arrived(phone).await?;
        let call = said.iter().find_map(|text| text.split_once("/claims/"));
        Ok(call.map(|(_, token)| token.to_owned()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lead_who_asks_for_a_person_gets_one_and_everybody_knows_who() -> anyhow::Result<()> {
    let story = Story::begin("escalations", &[("MAINSTAY_MESSAGING_BURST_SECONDS", "1")]).await?;
    for (at, phone) in PHONES.iter().enumerate() {
        let member = json!({"name": format!("Member {at}"), "email": format!("member{at}@escalations.test"), "phone": phone, "role": "agent"});
        story
            .owner
            .post("/v1/members", &member)
            .await?
            .expect(201)?;
    }
    let path = format!("/v1/clients/{}/automations", story.client);
    let body = json!({"name": "Replies", "template": "ai_reply"});
    let made = story.owner.post(&path, &body).await?.expect(201)?;
    let path = format!("{path}/{}/activate", world::text(&made, "id")?);
    story.owner.post(&path, &json!({})).await?.expect(200)?;

    let text = json!({"from": PERSON, "to": story.number, "body": "can I talk to a person"});
    story.platform.sandbox_post("/_/inbound/sms", &text).await?;
    let mut tokens = Vec::new();
    for phone in PHONES {
        tokens.push(token(&story, phone).await?);
    }

    // Looking takes nothing, however often.
    let http = rest::http()?;
    let page = |token: &str| format!("{}/claims/{token}", story.owner.base());
    for token in &tokens {
        let shown = http.get(page(token)).send().await?;
        ensure!(shown.status() == 200, "{shown:?}");
        let shown = shown.text().await?;
        ensure!(
            shown.contains("I take it") && shown.contains("needs a person"),
            "{shown}"
        );
    }
    let path = format!("/v1/clients/{}/escalations", story.client);
    let listed = story.owner.get(&path).await?.expect(200)?;
    ensure!(
        listed["data"].as_array().is_some_and(|all| all.len() == 1),
        "{listed}"
    );
    ensure!(listed["data"][0]["status"] == "pending", "{listed}");

    // All at once.
    let presses = tokens.iter().map(|token| http.post(page(token)).send());
    let pressed = try_join_all(presses).await?;
    let won: Vec<usize> = (0..3).filter(|at| pressed[*at].status() == 200).collect();
    let lost = pressed.iter().filter(|page| page.status() == 409);
    ensure!((won.len(), lost.count()) == (1, 2), "{pressed:?}");
    let winner = format!("Member {}", won[0]);
    let id = world::text(&listed["data"][0], "id")?;
    let found = story
        .owner
        .get(&format!("/v1/escalations/{id}"))
        .await?
        .expect(200)?;
    ensure!(
        found["status"] == "claimed" && found["claimed_by"]["name"] == winner,
        "{found}"
    );
    for (at, phone) in PHONES.iter().enumerate() {
        let wanted = match at == won[0] {
            true => "You have it: ".to_owned(),
            false => format!("{winner} has it: "),
        };
        world::until(&format!("{phone} is told"), async || {
            let said = story.arrived(phone).await?;
            ensure!(said.len() <= 2, "too much: {said:?}");
            Ok(said
                .iter()
                .any(|text| text.starts_with(&wanted))
                .then_some(()))
        })
        .await?;
    }
    // By the API the same link says the same.
    let again = story
        .owner
        .get(&format!("/v1/claims/{}", tokens[won[0]]))
        .await?
        .expect(200)?;
    ensure!(again["state"] == "yours", "{again}");

    // One trace, from the text to the claim.
    world::until("the claim stands in the trace of the text", async || {
        let spans = std::fs::read_to_string(story.platform.data_dir().join("traces.jsonl"))?;
        let spans: Vec<Value> = spans
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        let claim = spans
            .iter()
            .find(|span| span["name"] == "escalation claimed");
        let Some(trace) = claim.map(|span| &span["trace_id"]) else {
            return Ok(None);
        };
        let of_trace = spans.iter().filter(|span| span["trace_id"] == *trace);
        let names: Vec<&str> = of_trace.filter_map(|span| span["name"].as_str()).collect();
        let webhook = names.iter().any(|name| name.contains("/webhooks/twilio"));
        Ok(webhook.then_some(()))
    })
    .await
}
