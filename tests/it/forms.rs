//! A website's form, by public doors alone: its address made, sent to by a browser of the page, and somebody who can be written
//! to afterwards.
//! Deliberately absent: what fields are called, and races; messaging's own tests have those.

use anyhow::{Context as _, ensure};
use mainstay_tests::{Platform, rest, world};
use serde_json::json;

const PAGE: &str = "https://acme-roofing.test";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_becomes_a_lead_with_its_consent_once_however_often_it_is_sent_and_replayed()
-> anyhow::Result<()> {
    let platform = Platform::start("forms").await?;
    let owner = platform.owner()?;
    let client = platform.dev_text("/clients/0/id")?.to_owned();
    let made = owner
        .post(
            &format!("/v1/clients/{client}/form_endpoints"),
            &json!({"name": "Quote", "allowed_origins": [PAGE]}),
        )
        .await?
        .expect(201)?;
    let address = format!(
        "{}/webhooks/forms/{}",
        owner.base(),
        world::text(&made, "token")?
    );
    let http = rest::http()?;
    let form = json!({
        "name": "Ann Lee", "email": "ann@example.test", "phone": "(512) 555-0123", "message": "My roof leaks",
        "sms_consent": true, "sms_consent_text": "I agree to texts.",
    });
    for _ in 0..3 {
        let sent = http.post(&address).header("origin", PAGE).json(&form);
        let sent = sent.send().await?;
        ensure!(sent.status() == 200, "{sent:?}");
    }
    let path = format!("/v1/clients/{client}/form_submissions");
    let kept = world::until("the form is kept", async || {
        let all = owner.get(&path).await?.expect(200)?;
        Ok(all["data"].as_array().and_then(|all| all.first().cloned()))
    })
    .await?;
    ensure!(kept["form_endpoint_id"] == made["id"], "{kept}");
    ensure!(
        kept["problems"].as_array().is_none_or(Vec::is_empty),
        "{kept}"
    );
    let lead = format!(
        "/v1/clients/{client}/leads/{}",
        world::text(&kept, "lead_id")?
    );
    let ann = owner.get(&lead).await?.expect(200)?;
    ensure!(
        ann["name"] == "Ann Lee" && ann["phone"] == "+15125550123" && ann["source"] == "form",
        "{ann}"
    );
    let consents = format!("/v1/clients/{client}/consents/%2B15125550123");
    let consents = owner.get(&consents).await?.expect(200)?;
    let sms = consents["channels"].as_array().into_iter().flatten();
    let sms = sms.into_iter().find(|one| one["channel"] == "sms");
    ensure!(
        sms.context("texts")?["basis"] == "express_written",
        "{consents}"
    );
    // Handed on once more by an operator, it is here.
    let events = owner
        .get("/v1/webhook_events?provider=forms")
        .await?
        .expect(200)?;
    ensure!(
        events["data"].as_array().is_some_and(|all| all.len() == 1),
        "{events}"
    );
    let event = world::text(&events["data"][0], "id")?;
    let replay = format!("/v1/webhook_events/{event}/replay");
    let replayed = owner.post(&replay, &json!({})).await?;
    ensure!(replayed.status < 300, "{replayed:?}");
    world::until("it was handed on again", async || {
        let again = "select count(*) from integrations.webhook_event
                     where provider = 'forms' and state = 'processed' and outcome like 'had its effect before%'";
        Ok((platform.count(again).await? == 1).then_some(()))
    })
    .await?;
    for sql in [
        "select count(*) from messaging.form_submission",
        "select count(*) from messaging.outbox_event where type = 'messaging.form.submitted'",
        "select count(*) from messaging.lead where source = 'form'",
    ] {
        ensure!(platform.count(sql).await? == 1, "{sql}");
    }
    let one = format!("{path}/{}", world::text(&kept, "id")?);
    ensure!(owner.get(&one).await?.expect(200)? == kept);
    Ok(())
}
