//! Two agencies with everything in them that an id can name, so that the matrices have something foreign to
//! ask for. A resource that is in no world fails the matrix by name: a new noun cannot slip past the walls.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use mainstay_testkit::PATIENCE;
use serde_json::{Value, json};

use crate::{Platform, Rest, sample::Ids};

/// One agency and an id of every resource in it.
pub struct World {
    /// The agency's id.
    pub agency: String,
    /// Its owner's credential.
    pub owner: Rest,
    /// One id of each resource, by resource, around the first client.
    pub first: Ids,
    /// The same around its second client.
    pub second: Ids,
}

impl World {
    /// Fills an agency through REST, and waits until all that follows from it is done.
    pub async fn build(
        platform: &Platform,
        agency: &str,
        owner: Rest,
        name: &str,
    ) -> anyhow::Result<Self> {
        let plan = owner.post("/v1/plans", &plan(name)).await?.expect(201)?;
        let role = owner
            .post("/v1/roles", &json!({"name": format!("keeper_{name}"), "permissions": ["identity.clients.read"]}))
            .await?
            .expect(201)?;
        let mut sides = Vec::new();
        for side in ["first", "second"] {
            let client = owner
                .post("/v1/clients", &client(&format!("{name}-{side}")))
                .await?
                .expect(201)?;
            let client_id = text(&client, "id")?;
            let subscription = subscribe(&owner, &client_id, &text(&plan, "id")?).await?;
            let member = owner
                .post(
                    "/v1/members",
                    &json!({"name": side, "email": format!("{name}-{side}-member@walls.test"), "role": "agent", "client_ids": [client_id]}),
                )
                .await?
                .expect(201)?;
            let key = owner
                .post("/v1/api_keys", &json!({"name": side, "client_id": client_id, "permissions": ["identity.clients.read"]}))
                .await?
                .expect(201)?;
            let lead = owner
                .post(
                    &format!("/v1/clients/{client_id}/leads"),
                    &json!({"name": side, "phone": "+15125550123", "email": format!("{name}-{side}-lead@walls.test"),
                        "consents": [{"channel": "sms", "basis": "express_written", "source": "form"}]}),
                )
                .await?
                .expect(201)?;
            let (account, sender) = sends(&owner, &client_id, side).await?;
            let message = scheduled(&owner, &client_id, &text(&lead, "id")?).await?;
            let conversation = text(&message, "conversation_id")?;
            let note = owner
                .post(
                    &format!("/v1/clients/{client_id}/conversations/{conversation}/notes"),
                    &json!({"body": side}),
                )
                .await?
                .expect(201)?;
            let canned = owner
                .post(
                    &format!("/v1/clients/{client_id}/canned_replies"),
                    &json!({"shortcut": "on_our_way", "body": "Hi {{ lead.first_name }}, we are on our way."}),
                )
                .await?
                .expect(201)?;
            let call = rung(platform, agency, &client_id, &text(&lead, "id")?).await?;
            let escalation = called(&owner, &client_id).await?;
            let form = owner
                .post(
                    &format!("/v1/clients/{client_id}/form_endpoints"),
                    &json!({"name": side, "allowed_origins": ["https://walls.test"]}),
                )
                .await?
                .expect(201)?;
            let automation = owner
                .post(
                    &format!("/v1/clients/{client_id}/automations"),
                    &json!({"name": side, "template": "missed_call_text_back", "variables": {"business_name": "Acme"}}),
                )
                .await?
                .expect(201)?;
            let appointment = owner
                .post(
                    &format!("/v1/clients/{client_id}/appointments"),
                    &json!({"lead_id": text(&lead, "id")?, "title": side, "starts_at": "2031-05-01T15:00:00Z", "time_zone": "America/Chicago"}),
                )
                .await?
                .expect(201)?;
            let ids: Ids = [
                ("automation", text(&automation, "id")?),
                ("appointment", text(&appointment, "id")?),
                ("form_endpoint", text(&form, "id")?),
                (
                    "form_submission",
                    submitted(&owner, &client_id, &form).await?,
                ),
                ("provider_account", account),
                ("sender", sender),
                ("client", client_id),
                ("plan", text(&plan, "id")?),
                ("role", text(&role, "id")?),
                ("subscription", text(&subscription, "id")?),
                ("saga", text(&subscription, "saga_id")?),
                ("member", text(&member, "id")?),
                ("person", text(&member, "person_id")?),
                ("api_key", text(&key, "id")?),
                ("session", signed_in(platform, agency).await?),
                (
                    "sign_in_challenge",
                    asked(&owner, &format!("{name}-{side}")).await?,
                ),
                ("call", call),
                ("lead", text(&lead, "id")?),
                ("message", text(&message, "id")?),
                ("conversation", conversation),
                ("note", text(&note, "id")?),
                ("canned_reply", text(&canned, "id")?),
                ("escalation", escalation),
                ("alert_route", routed(&owner, side).await?),
                ("agency", agency.to_owned()),
            ]
            .into_iter()
            .map(|(resource, id)| (resource.to_owned(), id))
            .collect();
            sides.push(ids);
        }
        for ids in &mut sides {
            let dispute = disputed(platform, &owner, &ids["client"]).await?;
            ids.insert("dispute".into(), dispute);
            ids.insert("alert".into(), alerted(&owner, &ids["client"]).await?);
        }
        let webhook = settled(&owner).await?;
        let replay = owner
            .post("/v1/webhook_replays", &json!({}))
            .await?
            .expect(202)?;
        let dead_letter = dead_letter(platform, agency).await?;
        let reconciliation = reconciled(&owner).await?;
        for ids in &mut sides {
            ids.insert("webhook_event".into(), webhook.clone());
            ids.insert("webhook_replay".into(), text(&replay, "id")?);
            ids.insert("job".into(), dead_letter.clone());
            ids.insert("reconciliation".into(), reconciliation.clone());
        }
        let (second, first) = (
            sides.pop().context("two sides")?,
            sides.pop().context("two sides")?,
        );
        Ok(Self {
            agency: agency.to_owned(),
            owner,
            first,
            second,
        })
    }
}

/// An account that a client's messages leave through, and a sender on it; another sender stays whatever becomes of that one.
async fn sends(owner: &Rest, client_id: &str, side: &str) -> anyhow::Result<(String, String)> {
    let credentials = json!({"account_sid": format!("AC{:032x}", side.len()), "auth_token": "b3a1f0c2d4e5968778695a4b3c2d1e0f"});
    let account = owner
        .post(
            "/v1/provider_accounts",
            &json!({"provider": "twilio", "name": side, "credentials": credentials}),
        )
        .await?
        .expect(201)?;
    let number = |last: usize| format!("+1512555020{}", last + side.len() - 5);
    let sender = async |address: String| {
        let body = json!({"account_id": account["id"], "channel": "sms", "address": address, "client_id": client_id});
        owner.post("/v1/senders", &body).await?.expect(201)
    };
    sender(number(5)).await?;
    let sender = sender(number(0)).await?;
    Ok((text(&account, "id")?, text(&sender, "id")?))
}

/// Business hours, and a call for a person that nobody makes for a day: its ladder changes nothing while walls are looked at.
async fn called(owner: &Rest, client_id: &str) -> anyhow::Result<String> {
    let ladder = json!({"steps": [{"channels": ["email"], "wait_seconds": 86400}], "rounds": 1});
    let path = format!("/v1/clients/{client_id}/escalation_ladder");
    owner
        .send("PUT", &path, Some(&ladder), None)
        .await?
        .expect(200)?;
    let hours = json!({
        "time_zone": "America/Chicago", "week": [{"day": "monday", "opens": "09:00", "closes": "17:00"}],
    });
    let path = format!("/v1/clients/{client_id}/business_hours");
    owner
        .send("PUT", &path, Some(&hours), None)
        .await?
        .expect(200)?;
    let raised = owner
        .post(
            &format!("/v1/clients/{client_id}/escalations"),
            &json!({"summary": "Somebody is needed."}),
        )
        .await?
        .expect(201)?;
    text(&raised, "id")
}

/// Who hears of what is no news to anybody here: nothing is sent while walls are looked at.
async fn routed(owner: &Rest, side: &str) -> anyhow::Result<String> {
    let body = json!({"name": side, "kinds": ["health_unknown"], "channel": "email", "address": format!("{side}@walls.test")});
    let made = owner.post("/v1/alert_routes", &body).await?.expect(201)?;
    text(&made, "id")
}

/// The alert that a client's dispute is.
async fn alerted(owner: &Rest, client_id: &str) -> anyhow::Result<String> {
    until("the dispute is an alert", async || {
        let page = owner
            .get("/v1/alerts?kind=dispute_opened&page_size=100")
            .await?
            .expect(200)?;
        let all = page["data"].as_array().cloned().unwrap_or_default();
        let ours = all.iter().find(|alert| alert["client_id"] == client_id);
        ours.map(|alert| text(alert, "id")).transpose()
    })
    .await
}

/// A message that is to leave in a month.
async fn scheduled(owner: &Rest, client_id: &str, lead_id: &str) -> anyhow::Result<Value> {
    let send_at = mainstay_runtime::Clock::system(0).now() + chrono::TimeDelta::days(30);
    let message = json!({
        "lead_id": lead_id, "channel": "sms", "body": "See you tomorrow.", "purpose": "transactional",
        "send_at": send_at.to_rfc3339(),
    });
    owner
        .post(&format!("/v1/clients/{client_id}/messages"), &message)
        .await?
        .expect(202)
}

/// What somebody sent to a form's address, once messaging has it.
async fn submitted(owner: &Rest, client_id: &str, form: &Value) -> anyhow::Result<String> {
    let address = format!("{}/webhooks/forms/{}", owner.base(), text(form, "token")?);
    let sent = crate::rest::http()?
        .post(address)
        .header("origin", "https://walls.test")
        .json(&json!({"name": "Ann", "email": "ann@walls.test"}))
        .send()
        .await?;
    ensure!(sent.status() == 200, "sending a form: {sent:?}");
    until("the form is kept", async || {
        let path = format!("/v1/clients/{client_id}/form_submissions");
        let all = owner.get(&path).await?.expect(200)?;
        let first = all["data"].as_array().and_then(|all| all.first().cloned());
        first.map(|first| text(&first, "id")).transpose()
    })
    .await
}

/// A call of a lead's. Only a provider can make one, and the numbers here are known to none.
async fn rung(
    platform: &Platform,
    agency: &str,
    client: &str,
    lead: &str,
) -> anyhow::Result<String> {
    let agency: mainstay_types::AgencyId = agency.parse()?;
    let client: mainstay_types::ClientId = client.parse()?;
    let lead: mainstay_types::LeadId = lead.parse()?;
    let id = mainstay_types::CallId::generate();
    platform
        .execute(&format!(
            "insert into messaging.call (agency_id, tenant_id, id, lead_id, provider, provider_id, sender, address, status,
               started_at)
             values ('{}', '{}', '{}', '{}', 'twilio', 'CA{}', '+15125550200', '+15125550123', 'ringing', now())",
            agency.uuid(),
            client.uuid(),
            id.uuid(),
            lead.uuid(),
            id.uuid().simple(),
        ))
        .await?;
    Ok(id.to_string())
}

/// A session of the agency's owner. Signing in takes a code that only the owner gets.
async fn signed_in(platform: &Platform, agency: &str) -> anyhow::Result<String> {
    let agency: mainstay_types::AgencyId = agency.parse()?;
    let id = mainstay_types::SessionId::generate();
    platform
        .execute(&format!(
            "insert into identity.sign_in_session (id, person_id, agency_id, member_id, last_used_at, expires_at)
             select '{}', m.person_id, m.agency_id, m.id, now(), now() + interval '30 days'
             from identity.member m join identity.role_binding b on b.agency_id = m.agency_id and b.member_id = m.id
             where m.agency_id = '{}' and b.built_in = 'owner' limit 1",
            id.uuid(),
            agency.uuid(),
        ))
        .await?;
    Ok(id.to_string())
}

/// A code that was asked for with an address that nobody has.
async fn asked(rest: &Rest, name: &str) -> anyhow::Result<String> {
    let body = json!({"channel": "email", "identifier": format!("{name}@nobody.test")});
    let asked = rest.post("/v1/auth/otp", &body).await?.expect(202)?;
    text(&asked, "challenge_id")
}

/// A job of the agency that was given up. No request makes one, as long as everything works.
async fn dead_letter(platform: &Platform, agency: &str) -> anyhow::Result<String> {
    let agency: mainstay_types::AgencyId = agency.parse()?;
    let id = mainstay_types::JobId::generate();
    platform
        .execute(&format!(
            "insert into integrations.job_dead_letter (id, kind, priority, payload, agency_id, attempt, max_attempts,
               last_error, enqueued_at)
             values ('{}', 'forgotten_work', 1, '{{}}', '{}', 20, 20, 'it failed', now())",
            id.uuid(),
            agency.uuid()
        ))
        .await?;
    Ok(id.to_string())
}

/// A second agency beside the demo one, made with the operator's command.
pub async fn second_agency(platform: &Platform, name: &str) -> anyhow::Result<(String, Rest)> {
    let output = platform
        .command(&[
            "agency",
            "create",
            "--slug",
            name,
            "--name",
            name,
            "--owner-name",
            "Olga",
            "--owner-email",
            &format!("{name}@agency.test"),
            "--json",
        ])
        .await?;
    ensure!(
        output.status.success(),
        "agency create: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let made: Value = serde_json::from_slice(&output.stdout)?;
    let key = text(&made, "api_key")?;
    Ok((text(&made, "agency_id")?, platform.with_key(&key)?))
}

/// A plan that is paid at once.
pub fn plan(name: &str) -> Value {
    json!({
        "name": format!("Pro {name}"),
        "prices": [{"currency": "usd", "interval": "month", "amount_minor": 99700}],
        "entitlements": {"features": ["ai_replies"], "limits": {"messages": {"included": 1000, "beyond": "block"}}},
    })
}

/// A client of that name.
pub fn client(name: &str) -> Value {
    json!({"name": name, "email": format!("{name}@client.test"), "phone": "+15125550100", "time_zone": "America/Chicago"})
}

/// Subscribes a client with a card that pays, and waits until it is active.
pub async fn subscribe(owner: &Rest, client_id: &str, plan_id: &str) -> anyhow::Result<Value> {
    let body = json!({"plan_id": plan_id, "currency": "usd", "interval": "month", "payment_method_id": "pm_card_visa"});
    let answer = owner
        .post(&format!("/v1/clients/{client_id}/subscriptions"), &body)
        .await?;
    ensure!(
        matches!(answer.status, 201 | 202),
        "subscribing: {} {}",
        answer.status,
        answer.body
    );
    let id = text(&answer.body, "id")?;
    until("the subscription is active", async || {
        let now = owner
            .get(&format!("/v1/clients/{client_id}/subscriptions/{id}"))
            .await?
            .expect(200)?;
        Ok((now["status"] == "active").then_some(now))
    })
    .await
}

/// The payment of a client's subscription is disputed by its holder, and billing has heard of it.
async fn disputed(platform: &Platform, owner: &Rest, client_id: &str) -> anyhow::Result<String> {
    let charge = until("the client was charged", async || {
        let ledger = platform.sandbox("/_/stripe/ledger").await?;
        let list = |name: &str| ledger[name].as_array().cloned().unwrap_or_default();
        let customer = list("customers")
            .into_iter()
            .find(|customer| customer["metadata"]["mainstay_client_id"] == client_id);
        let customer = customer.context("the client's customer")?;
        let charge = list("charges")
            .into_iter()
            .find(|charge| charge["customer"] == customer["id"]);
        Ok(charge)
    })
    .await?;
    let body = json!({"charge": charge["id"], "reason": "fraudulent"});
    platform.sandbox_post("/_/stripe/disputes", &body).await?;
    let dispute = until("the dispute is known", async || {
        let page = owner.get("/v1/disputes?page_size=100").await?.expect(200)?;
        let all = page["data"].as_array().cloned().unwrap_or_default();
        let ours = |dispute: &Value| dispute["client_id"] == client_id;
        Ok(all.into_iter().find(ours))
    })
    .await?;
    text(&dispute, "id")
}

/// Waits until every webhook of the agency is processed and every saga ended; the id of one webhook.
pub async fn settled(owner: &Rest) -> anyhow::Result<String> {
    until("webhooks processed and sagas ended", async || {
        let events = owner
            .get("/v1/webhook_events?page_size=100")
            .await?
            .expect(200)?;
        let events = events["data"].as_array().cloned().unwrap_or_default();
        let paid = events
            .iter()
            .filter(|event| event["type"] == "invoice.paid")
            .count();
        let open = events.iter().any(|event| event["state"] != "processed");
        let sagas = owner.get("/v1/sagas?page_size=100").await?.expect(200)?;
        let ended =
            |saga: &Value| matches!(saga["state"].as_str(), Some("completed" | "compensated"));
        let running = sagas["data"]
            .as_array()
            .is_none_or(|sagas| !sagas.iter().all(ended));
        let id = events
            .first()
            .and_then(|event| event["id"].as_str())
            .map(str::to_owned);
        Ok(id.filter(|_| paid > 0 && !open && !running))
    })
    .await
}

/// Compares Stripe with the agency's rows, without touching either; the id of the run, ended.
pub async fn reconciled(owner: &Rest) -> anyhow::Result<String> {
    let body = json!({"provider": "stripe", "dry_run": true});
    let run = owner
        .post("/v1/reconciliations", &body)
        .await?
        .expect(202)?;
    let id = text(&run, "id")?;
    until("the reconciliation has ended", async || {
        let run = owner
            .get(&format!("/v1/reconciliations/{id}"))
            .await?
            .expect(200)?;
        Ok((run["state"] == "completed").then(|| id.clone()))
    })
    .await
}

/// Asks again until it is so. On a busy machine everything comes later, and a lease of something that was killed may have to end
/// first; what does not come at all fails the test.
pub async fn until<T>(
    what: &str,
    mut ask: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let limit = tokio::time::Instant::now() + PATIENCE;
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    loop {
        pace.tick().await;
        if let Some(found) = ask().await? {
            return Ok(found);
        }
        ensure!(
            tokio::time::Instant::now() < limit,
            "it did not come about within five minutes: {what}"
        );
    }
}

/// A text of an answer.
pub fn text(body: &Value, field: &str) -> anyhow::Result<String> {
    let found = body.get(field).and_then(Value::as_str);
    Ok(found
        .with_context(|| format!("no {field} in {body}"))?
        .to_owned())
}

/// A zone in which it is three in the afternoon now, give or take half an hour: no quiet hours hinder the test.
pub fn afternoon() -> String {
    let hour = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs() / 3600 % 24);
    // Etc's zones have their signs the other way round: Etc/GMT-3 is three hours ahead.
    match 15_i64 - i64::try_from(hour).unwrap_or(0) {
        0 => "Etc/UTC".to_owned(),
        ahead if ahead > 12 => format!("Etc/GMT+{}", 24 - ahead),
        ahead if ahead > 0 => format!("Etc/GMT-{ahead}"),
        behind => format!("Etc/GMT+{}", -behind),
    }
}
