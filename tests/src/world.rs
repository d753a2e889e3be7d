//! Two agencies with everything in them that an id can name, so that the matrices have something foreign to
//! ask for. A resource that is in no world fails the matrix by name: a new noun cannot slip past the walls.

use std::time::Duration;

use anyhow::{Context as _, ensure};
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
    pub async fn build(agency: &str, owner: Rest, name: &str) -> anyhow::Result<Self> {
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
            let ids: Ids = [
                ("client", client_id),
                ("plan", text(&plan, "id")?),
                ("role", text(&role, "id")?),
                ("subscription", text(&subscription, "id")?),
                ("saga", text(&subscription, "saga_id")?),
                ("member", text(&member, "id")?),
                ("person", text(&member, "person_id")?),
                ("api_key", text(&key, "id")?),
                ("agency", agency.to_owned()),
            ]
            .into_iter()
            .map(|(resource, id)| (resource.to_owned(), id))
            .collect();
            sides.push(ids);
        }
        let webhook = settled(&owner).await?;
        for ids in &mut sides {
            ids.insert("webhook_event".into(), webhook.clone());
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

/// Asks again until it is so; the platform has two minutes: a lease of something that was killed may have to end first.
pub async fn until<T>(
    what: &str,
    mut ask: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let limit = tokio::time::Instant::now() + Duration::from_secs(120);
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    loop {
        pace.tick().await;
        if let Some(found) = ask().await? {
            return Ok(found);
        }
        ensure!(
            tokio::time::Instant::now() < limit,
            "it did not come about within two minutes: {what}"
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
