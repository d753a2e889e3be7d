//! A client leaves, by public doors alone: Stripe, what waits, its leads, its numbers, its keys and its calls for a person; and one
//! that was to leave with its period stays after all.
//! Deliberately absent: crashes between the steps; billing's prover has those.

use anyhow::{Context as _, ensure};
use mainstay_tests::world;
use serde_json::{Value, json};

use crate::messages::Story;

const PERSON: &str = "+15125550161";

/// The state of the client's off-boarding, once it is this one.
async fn until(story: &Story, client: &str, state: &str) -> anyhow::Result<Value> {
    let path = format!("/v1/clients/{client}/offboarding");
    world::until(&format!("the off-boarding is {state}"), async || {
        let found = story.owner.get(&path).await?.expect(200)?;
        Ok((found["state"] == state).then_some(found))
    })
    .await
}

async fn live_at_stripe(story: &Story, client: &str) -> anyhow::Result<usize> {
    let ledger = story.platform.sandbox("/_/stripe/ledger").await?;
    let list = |name: &'static str| ledger[name].as_array().context(name);
    let customers = list("customers")?;
    let ours = |one: &&Value| one["metadata"]["mainstay_client_id"] == client;
    let ids: Vec<&Value> = customers
        .iter()
        .filter(ours)
        .map(|one| &one["id"])
        .collect();
    let live = |one: &Value| ids.contains(&&one["customer"]) && one["status"] != "canceled";
    let subscriptions = list("subscriptions")?;
    Ok(subscriptions.iter().filter(|one| live(one)).count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_is_ended_everywhere_and_for_ever() -> anyhow::Result<()> {
    let story = Story::begin("offboarding", &[]).await?;
    let (owner, client) = (&story.owner, story.client.as_str());
    let of_client = |rest: &str| format!("/v1/clients/{client}{rest}");
    let mike = story.lead(PERSON).await?;
    let later = mainstay_runtime::Clock::system(0).now() + chrono::TimeDelta::days(2);
    let later = json!({"send_at": later.to_rfc3339()});
    let waiting = story
        .send(&mike, "Still there?", later)
        .await?
        .expect(202)?;
    let automation = json!({
        "name": "Missed calls", "template": "missed_call_text_back", "variables": {"business_name": "Acme"},
    });
    let made = owner.post(&of_client("/automations"), &automation).await?;
    let automation = of_client(&format!(
        "/automations/{}",
        world::text(&made.expect(201)?, "id")?
    ));
    let activate = format!("{automation}/activate");
    owner.post(&activate, &json!({})).await?.expect(200)?;
    // Another has paused itself, which is an alert; a third was paused by a person.
    for name in ["Failing", "Unused"] {
        let another = json!({
            "name": name, "template": "form_response", "variables": {"business_name": "Acme"},
        });
        let made = owner.post(&of_client("/automations"), &another).await?;
        made.expect(201)?;
    }
    let failing = "update messaging.automation set paused_because = 'most of it failed' where name = 'Failing'";
    story.platform.execute(failing).await?;
    let call =
        json!({"lead_id": mike, "reason": "callback_requested", "summary": "Mike wants a call."});
    let raised = owner.post(&of_client("/escalations"), &call).await?;
    let raised = format!(
        "/v1/escalations/{}",
        world::text(&raised.expect(201)?, "id")?
    );
    let key = json!({"name": "Site", "client_id": client, "permissions": ["messaging.leads.read"]});
    let key = owner.post("/v1/api_keys", &key).await?.expect(201)?;
    let site = story.platform.with_key(&world::text(&key, "secret")?)?;
    site.get(&of_client("/leads")).await?.expect(200)?;
    let staff =
        json!({"name": "Own", "email": "own@acme.test", "role": "viewer", "client_ids": [client]});
    let staff = owner.post("/v1/members", &staff).await?.expect(201)?;
    let senders = format!("/v1/senders?client_id={client}&channel=sms");
    let sender = owner.get(&senders).await?.expect(200)?["data"][0].clone();
    ensure!(live_at_stripe(&story, client).await? == 1);

    let leaves = format!("/v1/clients/{client}?when=now&reason=sold");
    let asked = owner.send("DELETE", &leaves, None, None).await?;
    ensure!(matches!(asked.status, 200 | 202), "{asked:?}");
    let left = until(&story, client, "completed").await?;
    ensure!(left["when"] == "now" && left["reason"] == "sold", "{left}");

    // Each part of it.
    ensure!(live_at_stripe(&story, client).await? == 0);
    let stands = owner.get(&of_client("")).await?.expect(200)?;
    ensure!(stands["state"] == "canceled", "{stands}");
    let canceled = story
        .until(&world::text(&waiting, "id")?, "canceled")
        .await?;
    ensure!(canceled["error_code"] == "client_not_active", "{canceled}");
    world::until("its leads are lost", async || {
        let lead = owner.get(&of_client(&format!("/leads/{mike}"))).await?;
        Ok((lead.expect(200)?["status"] == "lost").then_some(()))
    })
    .await?;
    let paused = owner.get(&automation).await?.expect(200)?;
    ensure!(
        paused["state"] == "paused" && paused["paused_because"] == "the client has left",
        "{paused}"
    );
    // Nobody is asked to mend them, and what was asked is over.
    let told = "select type, aggregate_id from messaging.outbox_event where type like 'messaging.automation.%'";
    let told = story.platform.pairs(told).await?;
    let ended = |kind: &str| told.iter().filter(|(told, _)| told.ends_with(kind)).count();
    ensure!(
        (ended(".ended"), ended(".paused"), ended(".failed")) == (2, 0, 0),
        "{told:?}"
    );
    world::until("nobody is called any more", async || {
        let escalation = owner.get(&raised).await?.expect(200)?;
        Ok((escalation["status"] == "resolved").then_some(()))
    })
    .await?;
    world::until("its key opens nothing", async || {
        Ok((site.get(&of_client("/leads")).await?.status == 401).then_some(()))
    })
    .await?;
    let member = format!("/v1/members/{}", world::text(&staff, "id")?);
    let member = owner.get(&member).await?.expect(200)?;
    ensure!(member["state"] == "deactivated", "{member}");

    // Its number is nobody's for a while.
    let id = world::text(&sender, "id")?;
    let parked = owner.get(&senders).await?.expect(200)?["data"][0].clone();
    ensure!(
        parked["state"] == "disabled" && parked["parked_until"].is_string(),
        "{parked}"
    );
    let path = format!("/v1/senders/{id}");
    let back = json!({"state": "active"});
    let refused = owner.send("PATCH", &path, Some(&back), None).await?;
    ensure!(
        (refused.status, refused.code()) == (409, "sender_parked"),
        "{refused:?}"
    );
    let again =
        json!({"account_id": sender["account_id"], "channel": "sms", "address": story.number});
    let refused = owner.post("/v1/senders", &again).await?;
    ensure!(
        (refused.status, refused.code()) == (409, "sender_parked"),
        "{refused:?}"
    );

    // What comes in is kept, and nothing starts; nothing can be sent or sold.
    let said = story.arrived(PERSON).await?.len();
    let text = json!({"from": PERSON, "to": story.number, "body": "Are you there?"});
    story.platform.sandbox_post("/_/inbound/sms", &text).await?;
    world::until("the text is kept", async || {
        let kept = "select count(*) from messaging.message where direction = 'inbound'";
        Ok((story.platform.count(kept).await? == 1).then_some(()))
    })
    .await?;
    let refused = story.send(&mike, "Hello", json!({})).await?;
    ensure!(
        refused.status == 409 && refused.body["reasons"][0] == "client_not_active",
        "{refused:?}"
    );
    ensure!(story.arrived(PERSON).await?.len() == said);
    let runs = "select count(*) from messaging.automation_run";
    ensure!(story.platform.count(runs).await? == 0);
    let plans = owner.get("/v1/plans").await?.expect(200)?;
    let plan = world::text(&plans["data"][0], "id")?;
    let sale = json!({"plan_id": plan, "currency": "usd", "interval": "month", "payment_method_id": "pm_card_visa"});
    let refused = owner.post(&of_client("/subscriptions"), &sale).await?;
    ensure!(
        (refused.status, refused.code()) == (409, "client_not_active"),
        "{refused:?}"
    );

    // Twice is once.
    let asked = owner.send("DELETE", &of_client(""), None, None).await?;
    ensure!(asked.expect(200)?["saga_id"] == left["saga_id"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_with_its_period_can_stay_or_leave_at_once() -> anyhow::Result<()> {
    let story = Story::begin("offboarding-later", &[]).await?;
    let (owner, client) = (&story.owner, story.client.as_str());
    let later = format!("/v1/clients/{client}?when=period_end");
    let asked = owner
        .send("DELETE", &later, None, None)
        .await?
        .expect(202)?;
    ensure!(
        asked["state"] == "pending" && asked["when"] == "period_end",
        "{asked}"
    );
    let subscriptions = format!("/v1/clients/{client}/subscriptions");
    let ending = world::until("it ends with its period", async || {
        let all = owner.get(&subscriptions).await?.expect(200)?;
        let first = all["data"][0].clone();
        Ok((first["cancel_at_period_end"] == true).then_some(first))
    })
    .await?;
    // It is served until then.
    let mike = story.lead(PERSON).await?;
    let sent = story.send(&mike, "Hi", json!({})).await?.expect(202)?;
    story.until(&world::text(&sent, "id")?, "delivered").await?;

    let reactivate = format!("{subscriptions}/{}/reactivate", world::text(&ending, "id")?);
    let stays = owner.post(&reactivate, &json!({})).await?;
    ensure!(matches!(stays.status, 200 | 202), "{stays:?}");
    let withdrawn = until(&story, client, "withdrawn").await?;
    let because = withdrawn["withdrawn_because"].as_str().context("why")?;
    ensure!(because.contains("reactivated"), "{withdrawn}");
    ensure!(live_at_stripe(&story, client).await? == 1);

    // Asked anew, and then for now.
    let asked = owner
        .send("DELETE", &later, None, None)
        .await?
        .expect(202)?;
    ensure!(asked["saga_id"] != withdrawn["saga_id"], "{asked}");
    let now = format!("/v1/clients/{client}");
    let hurried = owner.send("DELETE", &now, None, None).await?;
    ensure!(matches!(hurried.status, 200 | 202), "{hurried:?}");
    ensure!(hurried.body["saga_id"] == asked["saga_id"], "{hurried:?}");
    let left = until(&story, client, "completed").await?;
    ensure!(left["when"] == "now", "{left}");
    ensure!(live_at_stripe(&story, client).await? == 0);
    Ok(())
}
