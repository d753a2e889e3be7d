//! Somebody calls a client, by public doors alone: the simulated Twilio rings, is told where to put the call through, and tells
//! with signed callbacks what became of it.
//! Deliberately absent: callbacks in every order; messaging's own tests have those.

use anyhow::ensure;
use mainstay_tests::{Platform, world};
use serde_json::{Value, json};

const PERSON: &str = "+15125550123";
const OFFICE: &str = "+15125550142";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_put_through_where_its_number_says_and_whoever_nobody_talks_with_is_missed()
-> anyhow::Result<()> {
    let platform = Platform::start("calls").await?;
    let owner = platform.owner()?;
    let client = platform.dev_text("/clients/0/id")?.to_owned();
    let number = platform.dev_text("/twilio/numbers/0")?.to_owned();
    let path = format!("/v1/clients/{client}/calls");
    // One after the other; each is the newest when it has ended, however many there were.
    let mut before = Value::Null;
    let mut call = async |outcome: &str| {
        let ring =
            json!({"from": PERSON, "to": number, "outcome": outcome, "duration_seconds": 42});
        platform.sandbox_post("/_/inbound/call", &ring).await?;
        let ended = world::until(&format!("a call has ended: {outcome}"), async || {
            let page = owner
                .get(&format!("{path}?page_size=1"))
                .await?
                .expect(200)?;
            let newest = page.pointer("/data/0").cloned().unwrap_or_default();
            let ended = !newest["ended_at"].is_null() && newest["id"] != before;
            Ok(ended.then_some(newest))
        })
        .await?;
        before = ended["id"].clone();
        anyhow::Ok(ended)
    };
    // Nobody has said where to: it is busy.
    let turned_away = call("completed").await?;
    ensure!(turned_away["missed_because"] == "busy", "{turned_away}");

    let query = format!("/v1/senders?client_id={client}&channel=sms");
    let senders = owner.get(&query).await?.expect(200)?;
    let sender = format!("/v1/senders/{}", world::text(&senders["data"][0], "id")?);
    let forward = json!({"forward_calls_to": OFFICE});
    let changed = owner.send("PATCH", &sender, Some(&forward), None).await?;
    ensure!(changed.expect(200)?["forward_calls_to"] == OFFICE);
    // What is known of the account is kept for some seconds; until then calls are turned away as before.
    let mut calls = 1;
    let answered = loop {
        ensure!(calls < 2_000, "{calls} calls were turned away");
        calls += 1;
        let ended = call("completed").await?;
        if ended["status"] == "completed" {
            break ended;
        }
    };
    ensure!(answered["missed_because"].is_null(), "{answered}");
    let settled = world::until("how long they talked is known", async || {
        let one = format!("{path}/{}", world::text(&answered, "id")?);
        let call = owner.get(&one).await?.expect(200)?;
        Ok((call["duration_seconds"] == 42).then_some(call))
    })
    .await?;
    ensure!(
        settled["address"] == PERSON && settled["sender"] == number.as_str(),
        "{settled}"
    );
    let rang = platform
        .sandbox(&format!("/_/messages?to={}", OFFICE.replace('+', "%2B")))
        .await?;
    ensure!(rang["data"][0]["channel"] == "voice", "{rang}");

    for (outcome, because) in [("no-answer", "no_answer"), ("busy", "busy")] {
        // That the caller's side has ended may be heard before what became of the other one.
        let ended = call(outcome).await?;
        let one = format!("{path}/{}", world::text(&ended, "id")?);
        world::until(&format!("it is missed: {outcome}"), async || {
            let call = owner.get(&one).await?.expect(200)?;
            Ok((call["missed_because"] == because).then_some(()))
        })
        .await?;
    }
    let missed = "select count(*) from messaging.call where status = 'missed'";
    let missed = platform.count(missed).await?;
    let told = "select count(*) from messaging.outbox_event where type = 'messaging.call.missed'";
    let told = platform.count(told).await?;
    ensure!(missed == told, "{missed} missed, {told} told");
    let leads = owner
        .get(&format!("/v1/clients/{client}/leads?source=inbound_call"))
        .await?;
    let leads = leads.expect(200)?;
    ensure!(
        leads["data"].as_array().is_some_and(|all| all.len() == 1),
        "{leads}"
    );
    let talks = owner
        .get(&format!("/v1/clients/{client}/conversations"))
        .await?;
    ensure!(talks.expect(200)?["data"] == json!([]), "a call opens none");
    Ok(())
}
