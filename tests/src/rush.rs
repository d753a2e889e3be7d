//! Many clients want a coupon that has places for a few, all at once; some cards are declined after a place was taken.
//! Whoever is refused tries again for as long as there are places. In the end exactly as many hold one as there were.
//! Deliberately absent: a client without the coupon. Each of Stripe's payments here must show the discount.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures_util::future::try_join_all;
use serde_json::json;

use crate::rest::Patient;
use crate::{Platform, Rest, world};

/// Off the price of [`world::plan`].
const PERCENT_OFF: i64 = 20;
const PRICE: i64 = 99_700;

/// How large it is.
#[derive(Debug, Clone, Copy)]
pub struct Rush {
    /// Clients, one redemption each.
    pub clients: u64,
    /// Places.
    pub places: u64,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Orders that were refused because all places were taken at that moment.
    pub exhausted: u64,
    /// Orders whose card was declined after they had taken a place.
    pub declined: u64,
    /// How often the counter was compared with the rows meanwhile.
    pub looks: u64,
}

/// Plays it.
///
/// # Errors
/// When it cannot be played, or when anything is not as it must be.
pub async fn run(platform: &Platform, rush: Rush) -> anyhow::Result<Outcome> {
    let owner = platform.owner()?;
    let plan = owner
        .post("/v1/plans", &world::plan("rush"))
        .await?
        .expect(201)?;
    let plan_id = world::text(&plan, "id")?;
    let coupon = json!({"code": "RUSH", "percent_off": PERCENT_OFF, "duration": "once", "max_redemptions": rush.places});
    let coupon = owner.post("/v1/coupons", &coupon).await?.expect(201)?;
    let coupon_id: mainstay_types::CouponId = world::text(&coupon, "id")?.parse()?;
    let rows = format!(
        "billing.coupon_redemption where coupon_id = '{}'",
        coupon_id.uuid()
    );
    let patient = Patient::new(owner.clone());
    let make = async |number| {
        let body = world::client(&format!("rush{number}"));
        let key = format!("rush-{number}");
        let client = patient.ask("/v1/clients", &body, &key).await?;
        world::text(&client.expect(201)?, "id")
    };
    let clients = try_join_all((0..rush.clients).map(make)).await?;

    let stage = Stage {
        owner,
        patient,
        plan_id,
        taken: AtomicU64::new(0),
        places: rush.places,
        exhausted: AtomicU64::new(0),
        declined: AtomicU64::new(0),
    };
    let over = AtomicBool::new(false);
    let all = async {
        let lives = clients.iter().zip(0..);
        try_join_all(lives.map(|(client, number)| stage.live(client, number))).await?;
        over.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    let watch = async {
        let counter = format!(
            "select abs(times_redeemed - (select count(*) from {rows} and state <> 'released'))
             from billing.coupon where id = '{}'",
            coupon_id.uuid()
        );
        let held = format!("select count(*) from {rows} and state <> 'released'");
        let mut looks = 0;
        // Without a pause whoever watches is what the machine is busy with.
        let mut pace = tokio::time::interval(Duration::from_millis(100));
        while !over.load(Ordering::Relaxed) {
            pace.tick().await;
            ensure!(
                platform.count(&counter).await? == 0,
                "the counter differs from the rows"
            );
            let held = platform.count(&held).await?;
            ensure!(held <= i64::try_from(rush.places)?, "{held} hold a place");
            looks += 1;
        }
        anyhow::Ok(looks)
    };
    let ((), looks) = tokio::try_join!(all, watch)?;

    let redeemed = platform
        .count(&format!(
            "select count(*) from {rows} and state = 'redeemed'"
        ))
        .await?;
    ensure!(
        redeemed == i64::try_from(rush.places)?,
        "{redeemed} redeemed it"
    );
    let reserved = platform
        .count(&format!(
            "select count(*) from {rows} and state = 'reserved'"
        ))
        .await?;
    ensure!(reserved == 0, "{reserved} places are held by nobody");
    paid_with_discount(platform, &clients, rush.places).await?;
    Ok(Outcome {
        exhausted: stage.exhausted.load(Ordering::Relaxed),
        declined: stage.declined.load(Ordering::Relaxed),
        looks,
    })
}

struct Stage {
    owner: Rest,
    /// Whoever is busy says so, and is asked again under the same key.
    patient: Patient,
    plan_id: String,
    taken: AtomicU64,
    places: u64,
    exhausted: AtomicU64,
    declined: AtomicU64,
}

impl Stage {
    /// Orders until it has a place, or all are taken for good. Every fourth has a card that is declined once.
    async fn live(&self, client: &str, number: u64) -> anyhow::Result<()> {
        let path = format!("/v1/clients/{client}/subscriptions");
        let mut card = match number % 4 {
            0 => "pm_card_chargeDeclined",
            _ => "pm_card_visa",
        };
        let mut pace = tokio::time::interval(Duration::from_millis(500));
        for attempt in 0.. {
            pace.tick().await;
            let order = json!({"plan_id": self.plan_id, "currency": "usd", "interval": "month", "payment_method_id": card, "coupon_code": "RUSH"});
            let key = format!("rush-{client}-{attempt}");
            let answer = self.patient.ask(&path, &order, &key).await?;
            match (answer.status, answer.code()) {
                (201 | 202, _) => {
                    let id = world::text(&answer.body, "id")?;
                    if self.comes_to_be(&format!("{path}/{id}")).await? {
                        self.taken.fetch_add(1, Ordering::Relaxed);
                        return Ok(());
                    }
                    self.declined.fetch_add(1, Ordering::Relaxed);
                    card = "pm_card_visa";
                }
                (_, "coupon_exhausted") => {
                    self.exhausted.fetch_add(1, Ordering::Relaxed);
                }
                (_, "payment_declined") => {
                    self.declined.fetch_add(1, Ordering::Relaxed);
                    card = "pm_card_visa";
                }
                _ => anyhow::bail!("client {number}: {answer:?}"),
            }
            if self.taken.load(Ordering::Relaxed) >= self.places {
                return Ok(());
            }
        }
        Ok(())
    }

    /// What an order that was answered before its end came to: a subscription, or nothing.
    async fn comes_to_be(&self, path: &str) -> anyhow::Result<bool> {
        world::until("the order comes to an end", async || {
            let seen = self.owner.get(path).await?;
            Ok(match seen.text("/status") {
                "active" => Some(true),
                "failed" => Some(false),
                _ => None,
            })
        })
        .await
    }
}

/// At Stripe as many of these clients have paid as there were places, each the price less the discount.
async fn paid_with_discount(
    platform: &Platform,
    clients: &[String],
    places: u64,
) -> anyhow::Result<()> {
    let ledger = platform.sandbox("/_/stripe/ledger").await?;
    let list = |name: &str| ledger[name].as_array().cloned().context(name.to_owned());
    let mut ours = std::collections::BTreeSet::new();
    for customer in list("customers")? {
        let client = customer["metadata"]["mainstay_client_id"].as_str();
        if client.is_some_and(|client| clients.iter().any(|one| one == client)) {
            ours.insert(customer["id"].to_string());
        }
    }
    let mut paid = 0;
    for invoice in list("invoices")? {
        if invoice["status"] != "paid" || !ours.contains(&invoice["customer"].to_string()) {
            continue;
        }
        paid += 1;
        ensure!(
            invoice["amount_paid"] == PRICE * (100 - PERCENT_OFF) / 100,
            "an invoice without the discount: {invoice}"
        );
    }
    ensure!(
        paid == places,
        "{paid} invoices are paid for {places} places"
    );
    Ok(())
}
