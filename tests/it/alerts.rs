//! A payment fails, by public doors alone: the owner gets one mail of it however often it fails, and one when it is paid. A job that was
//! given up is told as well.
//! Deliberately absent: routes, races and other kinds; escalation's own tests have those.

use anyhow::{Context as _, ensure};
use mainstay_tests::{rest, world};
use serde_json::{Value, json};

use crate::messages::Story;

/// What everybody else of the demo agency would do with Stripe's own page.
struct Payer<'a> {
    story: &'a Story,
    key: String,
}

impl<'a> Payer<'a> {
    fn of(story: &'a Story) -> anyhow::Result<Self> {
        let settings = std::fs::read_to_string(story.platform.data_dir().join("settings.toml"))?;
        let line = settings
            .lines()
            .find_map(|line| line.strip_prefix("stripe_secret_key"));
        let key = line.and_then(|line| line.split('"').nth(1));
        let key = key.context("the simulated Stripe's key")?.to_owned();
        Ok(Payer { story, key })
    }

    async fn at_stripe(&self, path: &str, form: &str) -> anyhow::Result<Value> {
        let base = self.story.platform.dev_text("/sandbox_url")?;
        let answer = rest::http()?
            .post(format!("{base}/stripe/v1/{path}"))
            .bearer_auth(&self.key)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.to_owned())
            .send()
            .await?;
        let status = answer.status();
        let body: Value = serde_json::from_str(&answer.text().await?)?;
        ensure!(status.is_success(), "{path}: {status} {body}");
        Ok(body)
    }

    /// From now on this card pays.
    async fn pays_with(&self, card: &str) -> anyhow::Result<()> {
        let ledger = self.story.platform.sandbox("/_/stripe/ledger").await?;
        let customer = world::text(&ledger["customers"][0], "id")?;
        let subscription = world::text(&ledger["subscriptions"][0], "id")?;
        let path = format!("payment_methods/{card}/attach");
        let method = self
            .at_stripe(&path, &format!("customer={customer}"))
            .await?;
        let form = format!("default_payment_method={}", world::text(&method, "id")?);
        self.at_stripe(&format!("subscriptions/{subscription}"), &form)
            .await?;
        Ok(())
    }
}

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
    let payer = Payer::of(&story)?;
    payer.pays_with("pm_card_chargeCustomerFail").await?;
    let month = json!({"seconds": 32 * 86_400});
    story
        .platform
        .sandbox_post("/_/clock/advance", &month)
        .await?;
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

    let ledger = story.platform.sandbox("/_/stripe/ledger").await?;
    let invoices = ledger["invoices"].as_array().context("invoices")?;
    let open = invoices.iter().find(|invoice| invoice["status"] == "open");
    let open = world::text(open.context("an open invoice")?, "id")?;
    payer.pays_with("pm_card_visa").await?;
    payer.at_stripe(&format!("invoices/{open}/pay"), "").await?;
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
