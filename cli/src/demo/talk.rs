//! The talk of the story: a number is bought, a lead texts in fragments, the model answers once, the lead asks for a person, and at the
//! end says STOP.
//! Deliberately absent: what the model thinks. It is simulated, and repeats what it heard.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use mainstay_runtime::Clock;
use serde_json::{Value, json};

use super::story::{Client, Play, rows};
use crate::api::Api;

const FRAGMENTS: [&str; 3] = ["my roof leaks", "since yesterday", "can you come"];
/// Shorter than any burst's window. When the instance was killed between two fragments it was more: then they may be answered one by
/// one.
const BREATH: Duration = Duration::from_secs(1);

/// A talk with a lead.
pub struct Talk {
    /// The lead.
    pub lead: String,
    /// Their number.
    pub phone: String,
    /// What waits to be sent.
    pub follow_up: String,
    /// The trace of what they asked last.
    pub trace_id: String,
    /// How many answers they had.
    pub answers: usize,
}

/// Buys a number at Twilio for the client, as its agency would.
pub async fn number(play: &mut Play<'_>, api: &Api, id: String) -> anyhow::Result<Client> {
    let twilio = play.owner.dev.twilio.clone();
    let twilio = twilio.context("dev.json says nothing of Twilio: was `up` run with --no-demo?")?;
    let of_account = |name: &str| {
        let found = twilio[name].as_str().map(str::to_owned);
        found.with_context(|| format!("dev.json names no twilio.{name}"))
    };
    let (sid, token) = (of_account("account_sid")?, of_account("auth_token")?);
    let accounts = "/v1/provider_accounts?provider=twilio&page_size=100";
    let accounts = play.owner.get(accounts).await?.expect(&[200])?.body;
    let account = rows(&accounts).find(|account| account["name"] == "Simulated twilio");
    let account = account.context("an account at the simulated Twilio")?;
    let text = |field: &str| {
        let found = account[field].as_str();
        found.with_context(|| format!("the account at the simulated Twilio has no {field}"))
    };
    let webhooks = format!(
        "{}/webhooks/twilio/{}",
        play.owner.dev.gateway_url,
        text("endpoint_token")?
    );
    let number = play.phone(0);
    let sms = format!("{webhooks}/sms#rc=3&rp=all");
    let form = [("PhoneNumber", number.as_str()), ("SmsUrl", sms.as_str())];
    play.owner
        .twilio((&sid, &token), "IncomingPhoneNumbers.json", &form)
        .await?;
    let body =
        json!({"account_id": text("id")?, "channel": "sms", "address": number, "client_id": id});
    let sender = api.post("/v1/senders", &body, &play.key("sender")).await?;
    let sender = sender.expect(&[201])?.text("id")?;
    play.until(
        api,
        &format!("/v1/clients/{id}/limits"),
        "messages to be granted",
        |limits| !limits["entitlements"]["limits"]["messages"].is_null(),
    )
    .await?;
    play.told.step(
        format!("Bought {number} at Twilio and made it the client's sender {sender}"),
        "its texts leave by the one gate, and what people text to it comes in signed",
    );
    Ok(Client { id, number, sender })
}

async fn says(play: &Play<'_>, api: &Api, client: &Client, body: &str) -> anyhow::Result<Value> {
    let text = json!({"from": play.phone(9), "to": client.number, "body": body});
    api.sandbox_post("/_/inbound/sms", &text).await
}

/// A lead texts in three fragments and has one answer; then asks for a person.
pub async fn answered(play: &mut Play<'_>, api: &Api, client: &Client) -> anyhow::Result<Talk> {
    let of_client = |rest: &str| format!("/v1/clients/{}{rest}", client.id);
    let body = json!({"name": "Replies", "template": "ai_reply"});
    let made = api
        .post(&of_client("/automations"), &body, &play.key("replies"))
        .await?;
    let replies = made.expect(&[201])?.text("id")?;
    let activate = of_client(&format!("/automations/{replies}/activate"));
    api.write(&activate, &json!({})).await?.expect(&[200])?;

    let phone = play.phone(9);
    let body = json!({
        "name": "Mike", "phone": phone, "time_zone": afternoon(),
        "consents": [{"channel": "sms", "basis": "express_written", "source": "form"}],
    });
    let lead = api
        .post(&of_client("/leads"), &body, &play.key("lead"))
        .await?;
    let lead = lead.expect(&[201])?.text("id")?;
    let later = Clock::system(0).now() + Duration::from_secs(2 * 86_400);
    let body = json!({"lead_id": lead, "channel": "sms", "body": "Shall we come by?", "send_at": later.to_rfc3339()});
    let waiting = api
        .post(&of_client("/messages"), &body, &play.key("follow-up"))
        .await?;
    let waiting = waiting.expect(&[202])?;
    ensure!(waiting.text("status")? == "scheduled", "{}", waiting.body);

    let began = Instant::now();
    for fragment in FRAGMENTS {
        says(play, &play.owner, client, fragment).await?;
    }
    let in_one_breath = began.elapsed() < BREATH;
    play.message(&phone, "an answer to all that Mike said", |all| {
        let answered = |fragment: &&str| all.iter().any(|answer| answer.contains(fragment));
        let all_of_it = FRAGMENTS.iter().all(answered);
        all.last().filter(|_| all_of_it).cloned()
    })
    .await?;
    let answers = play.arrived(&phone).await?;
    ensure!(
        answers.len() == 1 || !in_one_breath,
        "what Mike said in one breath was not answered as one: {answers:?}"
    );
    let answers = answers.len();
    play.told.step(
        match answers {
            1 => format!("Mike texted in three fragments and got one answer: {lead}"),
            _ => {
                format!("Mike texted in three fragments, slowly, and got {answers} answers: {lead}")
            }
        },
        "a burst is answered as one thing, once it is over, by the model",
    );

    let trace_id = play.trace(2);
    let traced = play.owner.under(&trace_id);
    says(play, &traced, client, "can I talk to a person").await?;
    let answer = play
        .message(&phone, "one more answer to Mike", |all| {
            all.get(answers).cloned()
        })
        .await?;
    let raised = play
        .until(
            api,
            &of_client("/escalations"),
            "a person to be called",
            |page| rows(page).count() == 1,
        )
        .await?;
    let raised = rows(&raised).next().context("a person to be called")?;
    ensure!(
        raised["lead_id"] == lead.as_str(),
        "it is not about Mike: {raised}"
    );
    play.told.step(
        format!("Mike asked for a person, and was told: {answer}"),
        format!(
            "the model handed over: {} is raised",
            raised["id"].as_str().unwrap_or("–")
        ),
    );
    Ok(Talk {
        lead,
        phone,
        follow_up: waiting.text("id")?,
        trace_id,
        answers: answers + 1,
    })
}

/// The lead says STOP: what waits is gone, and nothing leaves any more.
pub async fn stopped(
    play: &mut Play<'_>,
    api: &Api,
    client: &Client,
    talk: &Talk,
) -> anyhow::Result<()> {
    says(play, &play.owner, client, " Stop. ").await?;
    let messages = format!("/v1/clients/{}/messages", client.id);
    let path = format!("{messages}/{}", talk.follow_up);
    let gone = play
        .until(api, &path, "the follow-up to be canceled", |message| {
            message["status"] == "canceled"
        })
        .await?;
    ensure!(gone["error_code"] == "opted_out", "{gone}");
    let body = json!({"lead_id": talk.lead, "channel": "sms", "body": "One more thing"});
    let refused = api.post(&messages, &body, &play.key("after-stop")).await?;
    let refused = refused.expect(&[409])?;
    ensure!(
        refused.code() == Some("blocked_by_consent"),
        "{}",
        refused.unexpected("409 blocked_by_consent")
    );
    let said = play.arrived(&talk.phone).await?;
    ensure!(
        said.len() <= talk.answers + 1,
        "Mike was to hear {} answers and at most one confirmation: {said:?}",
        talk.answers
    );
    play.told.step(
        "Mike texted STOP: the follow-up is canceled, and another message is 409 blocked_by_consent",
        "what waited was taken back with the wish itself, in one transaction",
    );
    Ok(())
}

/// A zone in which it is three in the afternoon now, give or take half an hour: nothing of the story waits for the morning.
fn afternoon() -> String {
    let hour = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs() / 3600 % 24);
    // Etc's zones have their signs the other way round: Etc/GMT-3 is three hours ahead.
    match 15_i64 - i64::try_from(hour).unwrap_or(0) {
        0 => "Etc/UTC".to_owned(),
        ahead if ahead > 12 => format!("Etc/GMT+{}", 24 - ahead),
        ahead if ahead > 0 => format!("Etc/GMT-{ahead}"),
        behind => format!("Etc/GMT+{}", -behind),
    }
}
