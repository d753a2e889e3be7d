//! A person signs in by public doors alone: the code read where the simulated providers delivered it, tokens used and renewed
//! through the gateway, and everything ended within its one second.
//! Deliberately absent: races and guesses; identity's own tests have those.

use anyhow::{Context as _, ensure};
use mainstay_tests::{Platform, Rest, world};
use serde_json::{Value, json};

const PHONE: &str = "+15125550111";
const MAIL: &str = "ana@agency.test";

/// What a message to an address begins with, once there is one more than so many.
async fn code(platform: &Platform, to: &str, before: usize) -> anyhow::Result<String> {
    let body = world::until(&format!("a code arrives at {to}"), async || {
        let all = platform.sandbox("/_/messages").await?;
        let all = all["data"].as_array().context("a list")?;
        let mut ours = all.iter().filter(|message| message["to"] == to);
        let body = ours
            .nth(before)
            .and_then(|message| message["body"].as_str());
        Ok(body.map(str::to_owned))
    })
    .await?;
    let code: String = body.chars().take(6).collect();
    ensure!(code.bytes().all(|b| b.is_ascii_digit()), "{body}");
    ensure!(body.contains("is your code to sign in"), "{body}");
    Ok(code)
}

async fn sign_in(
    platform: &Platform,
    channel: &str,
    identifier: &str,
    before: usize,
) -> anyhow::Result<Value> {
    let stranger = platform.with_key("nobody")?;
    let ask = json!({"channel": channel, "identifier": identifier});
    let asked = stranger.post("/v1/auth/otp", &ask).await?.expect(202)?;
    let code = code(platform, identifier, before).await?;
    let tried = json!({"challenge_id": asked["challenge_id"], "code": code});
    let path = "/v1/auth/otp/verify";
    let opened = stranger.post(path, &tried).await?.expect(200)?;
    let again = stranger.post(path, &tried).await?;
    ensure!(
        (again.status, again.code()) == (401, "sign_in_refused"),
        "{again:?}"
    );
    Ok(opened)
}

fn holder(platform: &Platform, opened: &Value) -> anyhow::Result<Rest> {
    platform.with_key(&world::text(opened, "access_token")?)
}

/// Until a credential opens nothing, in no service.
async fn dead(rest: &Rest) -> anyhow::Result<()> {
    for path in ["/v1/me", "/v1/plans", "/v1/senders", "/v1/do_not_contact"] {
        world::until(&format!("{path} is closed"), async || {
            let answer = rest.get(path).await?;
            Ok((answer.status == 401).then_some(()))
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_signs_in_renews_and_is_out_everywhere_when_that_is_ended() -> anyhow::Result<()> {
    let platform = Platform::start("sign-in").await?;
    let owner = platform.owner()?;
    let ana = json!({"name": "Ana", "email": MAIL, "phone": PHONE, "role": "admin"});
    let ana = owner.post("/v1/members", &ana).await?.expect(201)?;

    // By text and by mail, from the agency's house.
    let by_text = sign_in(&platform, "sms", PHONE, 0).await?;
    ensure!(by_text["expires_in_seconds"] == 900, "{by_text}");
    ensure!(by_text["person"]["name"] == "Ana", "{by_text}");
    let by_mail = sign_in(&platform, "email", MAIL, 0).await?;
    let (texting, mailing) = (holder(&platform, &by_text)?, holder(&platform, &by_mail)?);
    let me = texting.get("/v1/me").await?.expect(200)?;
    ensure!(
        me["principal"] == ana["id"] && me["person"]["id"] == ana["person_id"],
        "{me}"
    );
    for path in ["/v1/plans", "/v1/senders", "/v1/do_not_contact"] {
        mailing.get(path).await?.expect(200)?;
    }
    let sessions = texting.get("/v1/sessions").await?.expect(200)?;
    ensure!(
        sessions["data"]
            .as_array()
            .is_some_and(|all| all.len() == 2),
        "{sessions}"
    );
    let keys = owner.get("/.well-known/jwks.json").await?.expect(200)?;
    ensure!(keys["keys"][0]["crv"] == "Ed25519", "{keys}");

    // Renewed: the next token, the same to whoever asks twice at once.
    let stranger = platform.with_key("nobody")?;
    let used = json!({"refresh_token": by_text["refresh_token"]});
    let (one, other) = tokio::join!(
        stranger.post("/v1/auth/refresh", &used),
        stranger.post("/v1/auth/refresh", &used),
    );
    let (one, other) = (one?.expect(200)?, other?.expect(200)?);
    ensure!(one["refresh_token"] == other["refresh_token"]);
    ensure!(one["refresh_token"] != by_text["refresh_token"]);

    // What opened something is in no log and no trace.
    for file in ["mainstay.log", "traces.jsonl"] {
        let text = std::fs::read_to_string(platform.data_dir().join(file))?;
        ensure!(!text.is_empty() && !text.contains("is your code"), "{file}");
        for name in ["access_token", "refresh_token"] {
            ensure!(!text.contains(&world::text(&by_text, name)?), "{name}");
        }
        ensure!(!text.contains(&world::text(&one, "refresh_token")?));
    }
    let codes = "select count(*) from messaging.message where purpose = 'security_code' and body <> '(a code)'";
    ensure!(platform.count(codes).await? == 0, "a code is at rest");

    // Out: the one, then by the end of the membership the other.
    let out = texting.post("/v1/auth/logout", &json!({})).await?;
    ensure!(out.status == 204, "{out:?}");
    dead(&texting).await?;
    let ended = json!({"refresh_token": one["refresh_token"]});
    let ended = stranger.post("/v1/auth/refresh", &ended).await?;
    ensure!(
        (ended.status, ended.code()) == (401, "session_ended"),
        "{ended:?}"
    );
    mailing.get("/v1/me").await?.expect(200)?;
    let path = format!("/v1/members/{}/deactivate", world::text(&ana, "id")?);
    let gone = owner.post(&path, &json!({})).await?.expect(200)?;
    ensure!(gone["state"] == "deactivated", "{gone}");
    dead(&mailing).await?;
    let known = format!("/v1/members/{}", world::text(&ana, "id")?);
    let known = owner.get(&known).await?.expect(200)?;
    ensure!(known["name"] == "Ana", "{known}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_unknown_is_answered_as_who_is_known_until_the_limit_of_both() -> anyhow::Result<()>
{
    let platform = Platform::start("sign-in-unknown").await?;
    let owner = platform.owner()?;
    let ana = json!({"name": "Ana", "email": MAIL, "role": "agent"});
    owner.post("/v1/members", &ana).await?.expect(201)?;
    let stranger = platform.with_key("nobody")?;
    let mut told = Vec::new();
    for identifier in [MAIL, "nobody@agency.test"] {
        let ask = json!({"channel": "email", "identifier": identifier});
        let mut answers = Vec::new();
        for _ in 0..4 {
            let answer = stranger.post("/v1/auth/otp", &ask).await?;
            let (id, ends) = (answer.text("/challenge_id"), answer.text("/expires_at"));
            let shape = (
                answer.status,
                answer.code().to_owned(),
                id.len(),
                ends.is_empty(),
            );
            let header = answer.headers.iter().any(|(name, _)| name == "retry-after");
            answers.push((shape, header));
        }
        told.push(answers);
    }
    ensure!(told[0] == told[1], "{told:?}");
    let statuses: Vec<u16> = told[0].iter().map(|((status, ..), _)| *status).collect();
    ensure!(statuses == [202, 202, 202, 429], "{told:?}");
    Ok(())
}
