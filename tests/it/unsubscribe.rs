//! One click out of mail (RFC 8058), by public doors alone: mail out through the simulated Resend, its header read there, the
//! page looked at, the address posted to.
//! Deliberately absent: which mail carries the link, and forged tokens one by one; messaging's own tests have those.

use anyhow::{Context as _, ensure};
use mainstay_tests::{rest, world};
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::messages::Story;

const ANN: &str = "ann@example.test";

impl Story {
    async fn mail(&self, lead: &str, more: Value) -> anyhow::Result<mainstay_tests::Answer> {
        let mut mail = json!({"channel": "email", "subject": "Roofs", "purpose": "marketing"});
        for (name, value) in more.as_object().into_iter().flatten() {
            mail[name] = value.clone();
        }
        self.send(lead, "Spring sale", mail).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_click_ends_mail_and_takes_back_what_waits_while_a_look_changes_nothing()
-> anyhow::Result<()> {
    let story = Story::begin("unsubscribe", &[]).await?;
    let lead = json!({
        "name": "Ann", "email": ANN,
        "consents": [{"channel": "email", "basis": "express", "source": "form"}],
    });
    let path = format!("/v1/clients/{}/leads", story.client);
    let lead = world::text(&story.owner.post(&path, &lead).await?.expect(201)?, "id")?;
    let sent = story.mail(&lead, json!({})).await?.expect(202)?;
    story.until(&world::text(&sent, "id")?, "delivered").await?;

    let ledger = story.platform.sandbox("/_/email/ledger").await?;
    let mail = &ledger["emails"][0];
    ensure!(
        mail["headers"]["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click",
        "{mail}"
    );
    let link = mail["headers"]["List-Unsubscribe"].as_str();
    let link = link
        .and_then(|header| header.strip_prefix('<')?.strip_suffix('>'))
        .with_context(|| format!("no address in {mail}"))?;
    ensure!(
        link.starts_with(&format!("{}/unsubscribe/", story.owner.base())),
        "{link}"
    );
    let text = mail["text"].as_str().context("a text")?;
    ensure!(text.ends_with(&format!("Unsubscribe: {link}\n")), "{text}");

    let later = mainstay_runtime::Clock::system(0).now() + chrono::TimeDelta::days(2);
    let later = json!({"send_at": later.to_rfc3339()});
    let waiting = story.mail(&lead, later).await?.expect(202)?;
    let waiting = world::text(&waiting, "id")?;
    let http = rest::http()?;

    let page = http.get(link).send().await?;
    ensure!(page.status() == 200, "{page:?}");
    let policy = page.headers().get("content-security-policy").cloned();
    let policy = policy.context("a policy")?;
    ensure!(
        policy.to_str()?.contains("form-action 'self'"),
        "{policy:?}"
    );
    let page = page.text().await?;
    for wanted in ["<form method=\"post\">", "List-Unsubscribe", "One-Click"] {
        ensure!(page.contains(wanted), "{page}");
    }
    ensure!(!page.contains(ANN), "{page}");
    let form = "application/x-www-form-urlencoded";
    let post = async |address: &str, body: &'static str| {
        let request = http.post(address).header(CONTENT_TYPE, form).body(body);
        request.send().await
    };
    ensure!(post(link, "").await?.status() == 400, "it did not say so");
    // Cut, and another character at its end.
    let cut = &link[..link.len() - 1];
    for wrong in [cut.to_owned(), format!("{cut}_"), format!("{link}A")] {
        if wrong == link {
            continue;
        }
        for answer in [
            http.get(&wrong).send().await?,
            post(&wrong, "List-Unsubscribe=One-Click").await?,
        ] {
            ensure!(answer.status() == 404, "{wrong}: {answer:?}");
            let page = answer.text().await?;
            ensure!(!page.contains(ANN) && !page.contains("Acme"), "{page}");
        }
    }
    let path = format!("/v1/clients/{}/messages/{waiting}", story.client);
    let still = story.owner.get(&path).await?.expect(200)?;
    ensure!(still["status"] == "scheduled", "{still}");

    let mut pages = Vec::new();
    for _ in 0..3 {
        let answer = post(link, "List-Unsubscribe=One-Click").await?;
        ensure!(answer.status() == 200, "{answer:?}");
        pages.push(answer.text().await?);
    }
    pages.dedup();
    ensure!(pages.len() == 1, "the same each time: {pages:?}");
    let canceled = story.until(&waiting, "canceled").await?;
    ensure!(canceled["error_code"] == "opted_out", "{canceled}");
    let refused = story.mail(&lead, json!({})).await?;
    ensure!(
        (refused.status, refused.code()) == (409, "blocked_by_consent")
            && refused.body["reasons"] == json!(["opted_out"]),
        "{refused:?}"
    );
    let path = format!("/v1/clients/{}/consent_events?address={ANN}", story.client);
    let told = story.owner.get(&path).await?.expect(200)?;
    let ends: Vec<&Value> = told["data"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|entry| entry["kind"] == "opt_out")
        .collect();
    ensure!(
        ends.len() == 1 && ends[0]["source"] == "unsubscribe_link",
        "{told}"
    );
    // What stands in a link opens it: it is nowhere but in the mail.
    let token = link.rsplit('/').next().unwrap_or_default();
    for file in ["mainstay.log", "traces.jsonl"] {
        let text = std::fs::read_to_string(story.platform.data_dir().join(file))?;
        ensure!(!text.is_empty() && !text.contains(token), "it is in {file}");
    }
    Ok(())
}
