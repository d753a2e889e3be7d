//! A message through the whole platform, by its public doors alone: REST in, the simulated Twilio out, signed callbacks and
//! texts back through the gateway. Killed in between, it leaves once.
//! Deliberately absent: each rule and each failure; messaging's own tests have those.

use anyhow::{Context as _, ensure};
use mainstay_tests::rest::Rest;
use mainstay_tests::{Answer, Platform, Starting, world};
use serde_json::{Value, json};

pub struct Story {
    pub platform: Platform,
    pub owner: Rest,
    pub client: String,
    pub number: String,
}

impl Story {
    /// The demo client, with messages in its plan and the number that `up` gave it.
    pub async fn begin(name: &str, env: &[(&str, &str)]) -> anyhow::Result<Self> {
        let given = env
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()));
        let starting = Starting {
            env: given.collect(),
            ..Starting::default()
        };
        let platform = Platform::start_with(name, starting).await?;
        let owner = platform.owner()?;
        let client = platform.dev_text("/clients/0/id")?.to_owned();
        let number = platform.dev_text("/twilio/numbers/0")?.to_owned();
        let plan = owner
            .post("/v1/plans", &world::plan(name))
            .await?
            .expect(201)?;
        world::subscribe(&owner, &client, &world::text(&plan, "id")?).await?;
        // The subscription can be seen as active before messaging has heard what it may send.
        world::until("messages may be sent", async || {
            let path = format!("/v1/clients/{client}/limits");
            let limits = owner.get(&path).await?;
            Ok((limits.status == 200
                && !limits.body["entitlements"]["limits"]["messages"].is_null())
            .then_some(()))
        })
        .await?;
        Ok(Story {
            platform,
            owner,
            client,
            number,
        })
    }

    pub async fn lead(&self, phone: &str) -> anyhow::Result<String> {
        let lead = json!({
            "name": "Mike", "phone": phone, "time_zone": world::afternoon(),
            "consents": [{"channel": "sms", "basis": "express_written", "source": "form"}],
        });
        let path = format!("/v1/clients/{}/leads", self.client);
        world::text(&self.owner.post(&path, &lead).await?.expect(201)?, "id")
    }

    pub async fn send(&self, lead: &str, body: &str, more: Value) -> anyhow::Result<Answer> {
        let mut message = json!({"lead_id": lead, "channel": "sms", "body": body});
        for (name, value) in more.as_object().into_iter().flatten() {
            message[name] = value.clone();
        }
        let path = format!("/v1/clients/{}/messages", self.client);
        self.owner.post(&path, &message).await
    }

    pub async fn until(&self, id: &str, status: &str) -> anyhow::Result<Value> {
        let path = format!("/v1/clients/{}/messages/{id}", self.client);
        world::until(&format!("the message is {status}"), async || {
            let message = self.owner.get(&path).await?.expect(200)?;
            Ok((message["status"] == status).then_some(message))
        })
        .await
    }

    pub async fn arrived(&self, phone: &str) -> anyhow::Result<Vec<String>> {
        let all = self.platform.sandbox("/_/messages").await?;
        let all = all["data"].as_array().context("a list")?;
        let to = all.iter().filter(|message| message["to"] == phone);
        Ok(to
            .filter_map(|message| message["body"].as_str().map(str::to_owned))
            .collect())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_arrives_by_public_doors_and_stop_takes_back_what_waits() -> anyhow::Result<()> {
    let story = Story::begin("messages", &[]).await?;
    let mike = story.lead("+15125550123").await?;
    let sent = story.send(&mike, "Hi Mike", json!({})).await?.expect(202)?;
    let sent = story.until(&world::text(&sent, "id")?, "delivered").await?;
    ensure!(
        sent["permits"].as_array().is_some_and(|all| all.len() == 1),
        "{sent}"
    );
    ensure!(sent["sender"] == story.number.as_str(), "{sent}");

    let later = mainstay_runtime::Clock::system(0).now() + chrono::TimeDelta::days(2);
    let later = json!({"send_at": later.to_rfc3339()});
    let waiting = story
        .send(&mike, "Still there?", later)
        .await?
        .expect(202)?;
    ensure!(waiting["status"] == "scheduled", "{waiting}");
    let text = json!({"from": "+15125550123", "to": story.number, "body": " Stop. "});
    story.platform.sandbox_post("/_/inbound/sms", &text).await?;
    let canceled = story
        .until(&world::text(&waiting, "id")?, "canceled")
        .await?;
    ensure!(canceled["error_code"] == "opted_out", "{canceled}");
    let refused = story.send(&mike, "One more thing", json!({})).await?;
    ensure!(
        (refused.status, refused.code()) == (409, "blocked_by_consent"),
        "{refused:?}"
    );
    ensure!(
        refused.body["reasons"] == json!(["opted_out"]),
        "{refused:?}"
    );
    let arrived = story.arrived("+15125550123").await?;
    ensure!(
        arrived.first().is_some_and(|first| first == "Hi Mike"),
        "{arrived:?}"
    );
    ensure!(
        arrived.len() <= 2,
        "one message and one confirmation: {arrived:?}"
    );

    let path = format!("/v1/clients/{}/conversations", story.client);
    let talks = story.owner.get(&path).await?.expect(200)?;
    ensure!(
        talks["data"].as_array().is_some_and(|all| all.len() == 1),
        "{talks}"
    );
    let path = format!("{path}/{}/messages", world::text(&talks["data"][0], "id")?);
    let said = story.owner.get(&path).await?.expect(200)?;
    let bodies: Vec<_> = said["data"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|message| message["body"].as_str())
        .collect();
    ensure!(
        bodies.contains(&" Stop. ") || bodies.contains(&"Stop."),
        "{bodies:?}"
    );
    Ok(())
}

/// Twilio holds its answers; the process dies while they are on their way, and is started again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_messages_are_on_their_way_each_leaves_once() -> anyhow::Result<()> {
    // Quick about what waits in life.
    let quick = [
        ("MAINSTAY_MESSAGING_PROVIDER_TIMEOUT_SECONDS", "1"),
        ("MAINSTAY_MESSAGING_LEASE_SECONDS", "5"),
        ("MAINSTAY_MESSAGING_PROBE_AFTER_SECONDS", "2"),
    ];
    let mut story = Story::begin("messages-killed", &quick).await?;
    // Nothing said about rates: the demo number's own are one a second, which would make this long.
    story
        .platform
        .execute("update integrations.sender set rate_per_second = 100")
        .await?;
    let mut ids = Vec::new();
    for person in 0..8 {
        let phone = format!("+1512555{:04}", 200 + person);
        let lead = story.lead(&phone).await?;
        ids.push((phone, lead));
    }
    let slow = json!({"provider": "twilio", "operation": "messages.create", "kind": "timeout_after_effect", "value": 3, "rate": 0.5, "seed": 3});
    story.platform.sandbox_post("/_/faults", &slow).await?;
    let mut sent = Vec::new();
    for (phone, lead) in &ids {
        let made = story
            .send(lead, &format!("for {phone}"), json!({}))
            .await?
            .expect(202)?;
        sent.push((phone.clone(), world::text(&made, "id")?));
    }
    world::until("some have left", async || {
        let left = "select count(*) from messaging.message_attempt";
        Ok((story.platform.count(left).await? > 0).then_some(()))
    })
    .await?;
    story.platform.kill().await?;
    story.platform.restart().await?;
    story.owner = story.platform.owner()?;
    for (phone, id) in &sent {
        let path = format!("/v1/clients/{}/messages/{id}", story.client);
        world::until(&format!("the message to {phone} is through"), async || {
            let message = story.owner.get(&path).await?.expect(200)?;
            let through = matches!(message["status"].as_str(), Some("sent" | "delivered"));
            Ok(through.then_some(()))
        })
        .await?;
    }
    let ledger = story.platform.sandbox("/_/twilio/ledger").await?;
    for (phone, _) in &sent {
        let messages = ledger["messages"].as_array().context("messages")?;
        let to = messages
            .iter()
            .filter(|message| message["to"] == phone.as_str());
        ensure!(to.count() == 1, "{phone}: {ledger}");
    }
    Ok(())
}
