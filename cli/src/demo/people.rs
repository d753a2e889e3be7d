//! The people of the story: the agency's manager signs in with a code; three of the team are called for a lead, one has it, leaves, and
//! the next one has it.
//! Deliberately absent: tokens kept anywhere. They live as long as the story.

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::story::{Client, Play, rows};
use super::talk::Talk;
use crate::api::Api;

/// Somebody who is signed in.
pub struct SignedIn {
    /// With their access token.
    pub api: Api,
    /// Which member they are.
    pub member: String,
}

/// Somebody of the team.
pub struct Colleague {
    /// Which member.
    pub member: String,
    /// What people call them.
    pub name: &'static str,
    /// Where texts reach them.
    pub phone: String,
}

/// Those who work for the client, and the client's own Carla, who may look.
pub struct Team {
    /// Who is called.
    pub called: Vec<Colleague>,
    /// Signed in.
    pub carla: SignedIn,
}

/// Makes a manager of the agency and signs her in with a code.
pub async fn manager(play: &mut Play<'_>) -> anyhow::Result<SignedIn> {
    let me = play.owner.get("/v1/me").await?.expect(&[200])?;
    let agency = me.body.pointer("/agency/id").and_then(Value::as_str);
    let agency = agency.unwrap_or_default().to_owned();
    ensure!(
        agency == play.owner.dev.agency_id,
        "GET /v1/me speaks of agency {agency:?}, dev.json of {:?}",
        play.owner.dev.agency_id
    );
    let phone = play.phone(1);
    let body = json!({
        "name": "Dana Manager", "email": mailbox(play, "dana"), "phone": phone, "role": "admin",
    });
    let key = play.key("dana");
    let made = play.owner.post("/v1/members", &body, &key).await?;
    let member = made.expect(&[201])?.text("id")?;
    let api = sign_in(play, "sms", &phone).await?;
    let me = api.get("/v1/me").await?.expect(&[200])?;
    ensure!(
        me.text("principal")? == member,
        "GET /v1/me says {}, where {member} signed in",
        me.body
    );
    play.told.step(
        format!("Signed in Dana, {member} of agency {agency}, with the code that she was texted"),
        "the code was in no log; it opened one session, and opens nothing a second time",
    );
    Ok(SignedIn { api, member })
}

fn mailbox(play: &Play<'_>, who: &str) -> String {
    format!("{who}+{}@agency.test", play.run())
}

/// Asks for a code, reads it where it was delivered, and opens a session with it.
async fn sign_in(play: &Play<'_>, channel: &str, identifier: &str) -> anyhow::Result<Api> {
    let stranger = play.owner.with_credential(None);
    // An answer that was lost on its way leaves a session that nobody has: a new code opens another.
    for _ in 0..3 {
        let before = play.arrived(identifier).await?.len();
        let ask = json!({"channel": channel, "identifier": identifier});
        let asked = stranger.write("/v1/auth/otp", &ask).await?.expect(&[202])?;
        let said = play
            .message(identifier, "the code to arrive", |all| {
                all.get(before..)?.last().cloned()
            })
            .await?;
        let code: String = said.chars().take_while(char::is_ascii_digit).collect();
        let tried = json!({"challenge_id": asked.text("challenge_id")?, "code": code});
        let opened = stranger.write("/v1/auth/otp/verify", &tried).await?;
        if opened.status == 401 {
            continue;
        }
        let token = opened.expect(&[200])?.text("access_token")?;
        let again = stranger.write("/v1/auth/otp/verify", &tried).await?;
        again.expect(&[401])?;
        return Ok(play.owner.with_credential(Some(&token)));
    }
    anyhow::bail!("three codes to {identifier} opened nothing")
}

/// Makes the team of a client and says in which order it is called.
pub async fn team(play: &mut Play<'_>, api: &Api, client: &Client) -> anyhow::Result<Team> {
    let mut called = Vec::new();
    for (at, name) in (2..).zip(["Ana", "Ben", "Cem"]) {
        let phone = play.phone(at);
        let body = json!({
            "name": name, "email": mailbox(play, &name.to_lowercase()), "phone": phone, "role": "agent", "client_ids": [client.id],
        });
        let made = api.post("/v1/members", &body, &play.key(name)).await?;
        let member = made.expect(&[201])?.text("id")?;
        called.push(Colleague {
            member,
            name,
            phone,
        });
    }
    let ids: Vec<&str> = called.iter().map(|one| one.member.as_str()).collect();
    let ladder = json!({"steps": [{"member_ids": ids, "channels": ["sms"], "wait_seconds": 300}], "rounds": 3});
    let path = format!("/v1/clients/{}/escalation_ladder", client.id);
    api.put(&path, &ladder).await?.expect(&[200])?;
    let email = mailbox(play, "carla");
    let body = json!({"name": "Carla Client", "email": email, "role": "viewer", "client_ids": [client.id]});
    let made = api.post("/v1/members", &body, &play.key("carla")).await?;
    let member = made.expect(&[201])?.text("id")?;
    let carla = SignedIn {
        api: sign_in(play, "email", &email).await?,
        member,
    };
    let path = format!("/v1/clients/{}", client.id);
    carla.api.get(&path).await?.expect(&[200])?;
    let elsewhere = format!("/v1/clients/{}", play.owner.dev.clients[0].id);
    carla.api.get(&elsewhere).await?.expect(&[404])?;
    play.told.step(
        "Made a team of three and a ladder, and signed in the client's own Carla by mail",
        "Carla sees her company, and no other: 404, as for one that does not exist",
    );
    Ok(Team { called, carla })
}

/// The links that somebody was texted, the oldest first.
fn links(texts: &[String]) -> Vec<String> {
    let tokens = texts.iter().filter_map(|text| text.split_once("/claims/"));
    tokens
        .map(|(_, token)| format!("/claims/{}", token.trim()))
        .collect()
}

/// The next link to each, beyond those they had before.
async fn called(
    play: &Play<'_>,
    team: &[&Colleague],
    before: usize,
) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for one in team {
        let what = format!("{} to be texted", one.name);
        let link = play
            .message(&one.phone, &what, |texts| {
                links(texts).get(before..)?.last().cloned()
            })
            .await?;
        found.push(link);
    }
    Ok(found)
}

/// Presses everybody's link at once; who has it now.
async fn press<'a>(
    play: &Play<'_>,
    team: &[&'a Colleague],
    links: &[String],
) -> anyhow::Result<&'a Colleague> {
    let api = play.owner.with_credential(None);
    for link in links {
        let (status, page) = api.page(Method::GET, link).await?;
        ensure!(
            status == 200 && page.contains("I take it"),
            "looking at {link} answered {status}: {page}"
        );
    }
    let presses = links.iter().map(|link| api.page(Method::POST, link));
    let pressed = try_join_all(presses).await?;
    let won: Vec<usize> = (0..team.len()).filter(|at| pressed[*at].0 == 200).collect();
    ensure!(
        won.len() == 1
            && pressed
                .iter()
                .all(|(status, _)| [200, 409].contains(status)),
        "one of {} was to win: {pressed:?}",
        team.len()
    );
    let winner = team[won[0]];
    for (at, one) in team.iter().enumerate() {
        let wanted = match at == won[0] {
            true => "You have it: ".to_owned(),
            false => format!("{} has it: ", winner.name),
        };
        let what = format!("{} to be told who has it", one.name);
        play.message(&one.phone, &what, |texts| {
            texts.iter().find(|text| text.starts_with(&wanted)).cloned()
        })
        .await?;
    }
    Ok(winner)
}

async fn claimed_by(
    play: &Play<'_>,
    api: &Api,
    client: &Client,
    winner: &Colleague,
) -> anyhow::Result<()> {
    let path = format!("/v1/clients/{}/escalations", client.id);
    let what = format!("{} to have it", winner.name);
    play.until(api, &path, &what, |page| {
        rows(page).count() == 1
            && rows(page).all(|one| {
                one["status"] == "claimed" && one["claimed_by"]["id"] == winner.member.as_str()
            })
    })
    .await?;
    Ok(())
}

/// Three are texted and press at once: one has it, and the others hear who.
pub async fn claimed(
    play: &mut Play<'_>,
    api: &Api,
    client: &Client,
    team: &Team,
    talk: &Talk,
) -> anyhow::Result<String> {
    let everybody: Vec<&Colleague> = team.called.iter().collect();
    let links = called(play, &everybody, 0).await?;
    let winner = press(play, &everybody, &links).await?;
    claimed_by(play, api, client, winner).await?;
    play.told.claim_trace_id = Some(talk.trace_id.clone());
    play.told.step(
        format!(
            "Three were texted and pressed their links at once: {} has it",
            winner.name
        ),
        "looking at a link took nothing; one won, and the others were told who",
    );
    Ok(winner.member.clone())
}

/// Whoever has it leaves the agency: the rest are called, and one of them has it.
pub async fn moves_on(
    play: &mut Play<'_>,
    api: &Api,
    client: &Client,
    team: &Team,
    owner: &str,
) -> anyhow::Result<()> {
    let path = format!("/v1/members/{owner}/deactivate");
    api.write(&path, &json!({})).await?.expect(&[200])?;
    let gone = team.called.iter().find(|one| one.member == owner);
    let gone = gone.context("the winner is of the team")?;
    let rest: Vec<&Colleague> = team
        .called
        .iter()
        .filter(|one| one.member != owner)
        .collect();
    let links = called(play, &rest, 1).await?;
    let next = press(play, &rest, &links).await?;
    claimed_by(play, api, client, next).await?;
    play.told.step(
        format!("Deactivated {}: {} has it now", gone.name, next.name),
        "what somebody had when they left is not lost with them: the ladder began anew without them",
    );
    Ok(())
}

/// Until a credential opens nothing.
pub async fn dead(play: &Play<'_>, whose: &SignedIn) -> anyhow::Result<()> {
    play.eventually("the session to be over", async || {
        let asked = whose.api.get("/v1/me").await?;
        Ok(match asked.status {
            401 => Ok(()),
            other => Err(format!("GET /v1/me answers {other}")),
        })
    })
    .await
}

/// The manager leaves as well, so that each playing ends as it began.
pub async fn goes(play: &mut Play<'_>, dana: &SignedIn) -> anyhow::Result<()> {
    let path = format!("/v1/members/{}/deactivate", dana.member);
    play.owner.write(&path, &json!({})).await?.expect(&[200])?;
    dead(play, dana).await?;
    play.told.step(
        "Deactivated Dana",
        "her access token opens nothing any more, long before it would have expired",
    );
    Ok(())
}
