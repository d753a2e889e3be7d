//! A payment fails, by public doors alone: the owner gets one mail of it however often it fails, and one when it is paid. A job that was
//! given up is told as well.
//! Deliberately absent: routes, races and other kinds; escalation's own tests have those.

use anyhow::{Context as _, ensure};
use mainstay_tests::world;
use serde_json::{Value, json};

use crate::messages::Story;

async fn mails(story: &Story, subject: &str) -> anyhow::Result<Vec<String>> {
    let owner = story.platform.dev_text("/owner/email")?;
    let all = story.platform.sandbox("/_/messages").await?;
    let all = all["data"].as_array().context("a list")?;
    let ours = all
        .iter()
        .filter(|mail| mail["to"] == owner && mail["subject"] == subject);
    Ok(ours
        .filter_map(|mail| mail["body"].as_str().map(str::to_owned))
        .collect())
}

/// The bank of the one customer refuses every charge, or takes them again.
async fn bank(story: &Story, declines: bool) -> anyhow::Result<()> {
    let ledger = story.platform.sandbox("/_/stripe/ledger").await?;
    let customer = world::text(&ledger["customers"][0], "id")?;
    let path = format!("/_/stripe/customers/{customer}/bank");
    let body = json!({"declines": declines});
    story.platform.sandbox_post(&path, &body).await?;
    Ok(())
}

/// Days go by at Stripe.
async fn pass(story: &Story, days: i64) -> anyhow::Result<()> {
    let body = json!({"seconds": days * 86_400});
    story
        .platform
        .sandbox_post("/_/clock/advance", &body)
        .await?;
    Ok(())
}

async fn alert(story: &Story, kind: &str) -> anyhow::Result<Option<Value>> {
    let path = format!("/v1/alerts?kind={kind}");
    let listed = story.owner.get(&path).await?.expect(200)?;
    let all = listed["data"].as_array().context("a list")?;
    ensure!(all.len() <= 1, "{listed}");
    Ok(all.first().cloned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_that_fails_is_told_to_the_owner_once_and_so_is_its_end() -> anyhow::Result<()> {
    let story = Story::begin("alerts", &[]).await?;
    bank(&story, true).await?;
    pass(&story, 32).await?;
    let failed = world::until("the alert is there", async || {
        alert(&story, "payment_failed").await
    })
    .await?;
    ensure!(failed["severity"] == "critical", "{failed}");
    ensure!(failed["client_id"] == story.client.as_str(), "{failed}");
    let subject = "Critical: a payment failed";
    let mail = world::until("the owner has mail", async || {
        Ok(mails(&story, subject).await?.pop())
    })
    .await?;
    let id = world::text(&failed, "id")?;
    ensure!(mail.contains(&id), "{mail}");

    // Stripe tries again by itself.
    bank(&story, false).await?;
    pass(&story, 8).await?;
    let over = world::until("it is over", async || {
        let found = alert(&story, "payment_failed").await?;
        Ok(found.filter(|alert| alert["state"] == "resolved"))
    })
    .await?;
    ensure!(over["resolved_by"] == "service:escalation", "{over}");
    let over = "Over: a payment failed";
    world::until("the owner hears that it is over", async || {
        Ok(mails(&story, over).await?.pop())
    })
    .await?;
    for subject in [subject, over] {
        ensure!(mails(&story, subject).await?.len() == 1, "{subject}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_was_given_up_is_told_and_is_over_when_it_is_queued_again() -> anyhow::Result<()>
{
    let story = Story::begin("alerts-jobs", &[]).await?;
    let agency = story.platform.dev_text("/agency_id")?;
    let agency: mainstay_types::AgencyId = agency.parse()?;
    // A job that no try can mend: it names no escalation.
    story
        .platform
        .execute(&format!(
            "insert into escalation.job (id, kind, run_at, payload, agency_id, max_attempts)
             values (gen_random_uuid(), 'tell_notices', now(), '{{}}', '{}', 20)",
            agency.uuid()
        ))
        .await?;
    let dead = world::until("the alert is there", async || {
        alert(&story, "job_dead").await
    })
    .await?;
    ensure!(dead["subject"] == "escalation/tell_notices", "{dead}");
    world::until("the owner has mail", async || {
        Ok(mails(&story, "Critical: jobs were given up").await?.pop())
    })
    .await?;
    let letters = story.owner.get("/v1/dead_letters").await?.expect(200)?;
    let id = world::text(&letters["data"][0], "id")?;
    let path = format!("/v1/dead_letters/{id}/replay");
    let replayed = story.owner.post(&path, &json!({})).await?;
    ensure!(replayed.status < 300, "{replayed:?}");
    // It is over, and then it is given up anew: another alert.
    world::until("the first is over and there is another", async || {
        let listed = story
            .owner
            .get("/v1/alerts?kind=job_dead")
            .await?
            .expect(200)?;
        let all = listed["data"].as_array().context("a list")?;
        let states: Vec<&str> = all.iter().filter_map(|one| one["state"].as_str()).collect();
        Ok((states == ["open", "resolved"]).then_some(()))
    })
    .await
}
