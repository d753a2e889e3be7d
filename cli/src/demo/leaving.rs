//! The end of the story: the client leaves, and is ended everywhere.
//! Deliberately absent: leaving with the period. It ends the same, a month later.

use anyhow::ensure;

use super::ledger::Ledger;
use super::people::{Team, dead};
use super::story::{Client, Play, rows};
use crate::api::Api;

/// Off-boards the client and looks everywhere.
pub async fn leaves(
    play: &mut Play<'_>,
    api: &Api,
    client: &Client,
    team: &Team,
) -> anyhow::Result<()> {
    let path = format!("/v1/clients/{}", client.id);
    let asked = api.delete(&format!("{path}?when=now&reason=sold")).await?;
    asked.expect(&[200, 202])?;
    let state = format!("{path}/offboarding");
    play.until(api, &state, "the client to have left", |left| {
        left["state"] == "completed"
    })
    .await?;
    let ledger = Ledger::of(&play.owner, &client.id).await?;
    ensure!(
        ledger.live().is_empty(),
        "Stripe still has {:?} for a client that left",
        ledger.live()
    );
    let gone = api.get(&path).await?.expect(&[200])?;
    ensure!(gone.text("state")? == "canceled", "{}", gone.body);
    let senders = format!("/v1/senders?client_id={}&channel=sms", client.id);
    let senders = api.get(&senders).await?.expect(&[200])?.body;
    ensure!(
        rows(&senders).any(|sender| {
            sender["id"] == client.sender.as_str() && sender["parked_until"].is_string()
        }),
        "its number is not parked: {senders}"
    );
    let escalations = format!("{path}/escalations");
    play.until(api, &escalations, "nobody to be called for it", |page| {
        rows(page).all(|one| one["status"] == "resolved")
    })
    .await?;
    dead(play, &team.carla).await?;
    let carla = format!("/v1/members/{}", team.carla.member);
    let carla = api.get(&carla).await?.expect(&[200])?;
    ensure!(carla.text("state")? == "deactivated", "{}", carla.body);
    play.told.step(
        format!("Off-boarded the client: {}", client.id),
        "canceled at Stripe, its number parked, its talks and calls ended, Carla's session dead",
    );
    Ok(())
}
