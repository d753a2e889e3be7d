//! The whole story, in order: somebody signs in; a client is sold to, renewed and fails to pay; a lead of it is answered by the model
//! and then by a person; the person leaves, the lead says STOP, and the client leaves.
//! Deliberately absent: sleeping for luck. Where something happens afterwards, it is polled for until a deadline.

use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Told, leaving, money, people, talk};
use crate::api::{Answer, Api};
use crate::failure::refuse;

/// How long what happens afterwards may take. It takes a second or two; a slow machine gets its time, and one that was killed too.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// One playing of the story.
pub struct Play<'a> {
    /// With the owner's key.
    pub owner: Api,
    /// What was told so far.
    pub told: &'a mut Told,
    run: Uuid,
}

/// The client that the story is about.
pub struct Client {
    /// Its id.
    pub id: String,
    /// The number that it texts from.
    pub number: String,
    /// The sender that this number is.
    pub sender: String,
}

/// Plays it.
pub async fn play(api: Api, told: &mut Told) -> anyhow::Result<()> {
    if api.dev.clients.is_empty() || api.dev.twilio.is_none() {
        return Err(refuse(
            "this instance has no demo client and no account at the simulated Twilio",
            "start it without --no-demo",
        ));
    }
    let mut play = Play {
        owner: api.patient(PATIENCE),
        told,
        run: Uuid::new_v4(),
    };
    let play = &mut play;
    let dana = people::manager(play).await?;
    let id = client(play, &dana.api, "Acme Roofing").await?;
    let sold = money::sell(play, &dana.api, &id).await?;
    money::life(play, &dana.api, &id, &sold).await?;

    let client = talk::number(play, &dana.api, id).await?;
    let team = people::team(play, &dana.api, &client).await?;
    let talk = talk::answered(play, &dana.api, &client).await?;
    let owner = people::claimed(play, &dana.api, &client, &team, &talk).await?;
    people::moves_on(play, &dana.api, &client, &team, &owner).await?;
    talk::stopped(play, &dana.api, &client, &talk).await?;
    leaving::leaves(play, &dana.api, &client, &team).await?;
    people::goes(play, &dana).await
}

impl Play<'_> {
    /// The idempotency key of a step.
    pub fn key(&self, what: &str) -> String {
        format!("demo-{}-{what}", self.run.simple())
    }

    /// What tells this run from others.
    pub fn run(&self) -> String {
        self.run.simple().to_string()
    }

    /// A trace of its own for a part of the story.
    pub fn trace(&self, part: u128) -> String {
        Uuid::from_u128(self.run.as_u128() ^ part)
            .simple()
            .to_string()
    }

    /// A telephone number that no other run has, in all likelihood.
    pub fn phone(&self, whose: u128) -> String {
        let of_run = self.run.as_u128() >> 64;
        // No exchange ends in 11: those are services.
        let exchange = 220 + of_run % 78 * 10;
        let line = (of_run / 78 % 900) * 10 + whose;
        format!("+1512{exchange}{line:04}")
    }

    /// Reads until the answer is as wanted, or the time is up.
    pub async fn until(
        &self,
        api: &Api,
        path: &str,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        let found = self
            .eventually(what, async || {
                let answer = api.get(path).await?.expect(&[200])?;
                Ok(match wanted(&answer.body) {
                    true => Ok(answer.body),
                    false => Err(format!("GET {path} answers {}", answer.body)),
                })
            })
            .await?;
        Ok(found)
    }

    /// Looks until it is there, or the time is up.
    pub async fn eventually<T>(
        &self,
        what: &str,
        mut look: impl AsyncFnMut() -> anyhow::Result<Result<T, String>>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = Duration::from_millis(50);
        loop {
            let stands = match look().await? {
                Ok(found) => return Ok(found),
                Err(stands) => stands,
            };
            if Instant::now() > deadline {
                return Err(refuse(
                    format!("waited {} s for {what}; {stands}", PATIENCE.as_secs()),
                    "see `mainstay saga list`, `mainstay webhook list`, and the log in the data directory",
                ));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// What the simulated carriers brought to an address, the oldest first.
    pub async fn arrived(&self, to: &str) -> anyhow::Result<Vec<String>> {
        let path = format!("/_/messages?to={}", crate::saga::query_value(to));
        let all = self.owner.sandbox(&path).await?;
        let all = all["data"].as_array().context("a list of messages")?;
        let bodies = all.iter().filter_map(|message| message["body"].as_str());
        Ok(bodies.map(str::to_owned).collect())
    }

    /// A message to an address that is as wanted, once it is there.
    pub async fn message(
        &self,
        to: &str,
        what: &str,
        wanted: impl Fn(&[String]) -> Option<String>,
    ) -> anyhow::Result<String> {
        self.eventually(what, async || {
            let all = self.arrived(to).await?;
            Ok(wanted(&all).ok_or_else(|| format!("{to} got {all:?}")))
        })
        .await
    }
}

/// A new client.
pub async fn client(play: &mut Play<'_>, api: &Api, name: &str) -> anyhow::Result<String> {
    let mailbox = name.split(' ').next().unwrap_or("client").to_lowercase();
    let body = json!({
        "name": name,
        "email": format!("owner+{}@{mailbox}.test", play.run()),
        "phone": "+15125550100",
        "time_zone": "America/Chicago",
    });
    let key = play.key(&name.replace(' ', "-"));
    let client = api.post("/v1/clients", &body, &key).await?;
    let client = client.expect(&[201])?;
    let id = client.text("id")?;
    anyhow::ensure!(
        client.text("state")? == "active",
        "the new client is not active: {}",
        client.body
    );
    let read = api
        .get(&format!("/v1/clients/{id}"))
        .await?
        .expect(&[200])?;
    anyhow::ensure!(
        read.body == client.body,
        "the client reads back otherwise than it was made: {}",
        read.body
    );
    play.told.step(
        format!("Created the client {name}: {id}"),
        "it is active at once, and reads back as it was made",
    );
    Ok(id)
}

/// Where the first fault of a refused request is.
pub fn first_field(refused: &Answer) -> &str {
    refused
        .body
        .pointer("/errors/0/field")
        .and_then(Value::as_str)
        .unwrap_or("–")
}

/// The rows of a list.
pub fn rows(page: &Value) -> impl Iterator<Item = &Value> {
    page["data"].as_array().into_iter().flatten()
}
