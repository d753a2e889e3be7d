//! Coordinators killed with -9 while clients subscribe, change their mind and cancel, against a Stripe that is slow, silent
//! and busy. Afterwards nothing is stuck, nobody was charged twice, nothing is left at Stripe, and the sums agree.
//! Deliberately absent: mercy for what is not in the database. Stripe's ledger is asked, and every client is counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use mainstay_types::ClientId;
use serde_json::{Value, json};
use tokio::process::Child;
use tokio::sync::Mutex;

use crate::platform::simulators;
use crate::rest::Patient;
use crate::rush::{self, Rush};
use crate::{Platform, Starting, world};

/// How much of it.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Whatever is left to chance follows from it.
    pub seed: u64,
    /// Clients that live through it.
    pub clients: u64,
    /// Processes to be killed, at least.
    pub kills: u64,
    /// Clients that act at once.
    pub at_once: u64,
    /// Redemptions that the coupon has, and the one that as many clients want at once when the killing is over.
    pub coupons: u64,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    /// Processes that were killed.
    pub kills: u64,
    /// Requests of clients, with those that were tried again.
    pub requests: u64,
    /// Those that came to nothing and were tried again under the same key.
    pub repeats: u64,
    /// How often the counter of the coupon was compared with its rows while all this went on.
    pub looks: u64,
    /// Sagas, by definition and state.
    pub sagas: BTreeMap<String, i64>,
    /// Charges that succeeded, and what was given back, in minor units.
    pub charged: i64,
    /// What was given back.
    pub refunded: i64,
    /// What became of those who all wanted a coupon at once.
    pub rush: rush::Outcome,
    /// What must not be, in words.
    pub wrong: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

/// Chance that can be had again: splitmix64.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Less than `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n.max(1)
    }
}

struct Stage {
    platform: Mutex<Platform>,
    second: Mutex<Option<Child>>,
    plan: Plan,
    over: AtomicBool,
    kills: AtomicU64,
    patient: Patient,
}

/// Plays it through.
///
/// # Errors
/// When it cannot be played; what it finds wrong is in the report.
pub async fn run(plan: Plan) -> anyhow::Result<Report> {
    let began = Instant::now();
    let (mut sandbox, sandbox_url) = simulators("chaos").await?;
    let starting = Starting {
        no_demo: true,
        env: vec![
            ("SANDBOX_URL".to_owned(), sandbox_url.clone()),
            ("MAINSTAY_TRACE_SAMPLE_RATIO".to_owned(), "0".to_owned()),
        ],
        ..Starting::default()
    };
    let platform = Platform::start_with("chaos", starting).await?;
    let owner = platform.owner()?;
    let sold = owner
        .post("/v1/plans", &world::plan("chaos"))
        .await?
        .expect(201)?;
    let plan_id = world::text(&sold, "id")?;
    let coupon = json!({"code": "CHAOS20", "percent_off": 20, "duration": "once", "max_redemptions": plan.coupons});
    owner.post("/v1/coupons", &coupon).await?.expect(201)?;
    for fault in [
        json!({"provider": "stripe", "operation": "*", "kind": "latency", "value": 150, "rate": 1.0, "seed": plan.seed}),
        json!({"provider": "stripe", "operation": "*", "kind": "timeout_after_effect", "value": 10, "rate": 0.1, "seed": plan.seed + 1}),
        json!({"provider": "stripe", "operation": "*", "kind": "status", "value": 429, "rate": 0.1, "seed": plan.seed + 2}),
        json!({"provider": "stripe", "operation": "*", "kind": "reorder_webhooks", "value": 700, "rate": 0.5, "seed": plan.seed + 3}),
    ] {
        platform.sandbox_post("/_/faults", &fault).await?;
    }
    let stage = Arc::new(Stage {
        patient: Patient::new(owner),
        platform: Mutex::new(platform),
        second: Mutex::new(None),
        plan,
        over: AtomicBool::new(false),
        kills: AtomicU64::new(0),
    });
    stage.start_second().await?;

    let killer = tokio::spawn({
        let stage = Arc::clone(&stage);
        async move { stage.kill_at_random().await }
    });
    let watcher = tokio::spawn({
        let stage = Arc::clone(&stage);
        async move { stage.watch_the_coupon().await }
    });
    let next = Arc::new(AtomicU64::new(0));
    let mut lives = Vec::new();
    for _ in 0..plan.at_once {
        let (stage, next, plan_id) = (Arc::clone(&stage), Arc::clone(&next), plan_id.clone());
        lives.push(tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let enough = stage.kills.load(Ordering::Relaxed) >= stage.plan.kills;
                // Those beyond the plan only keep it lively until enough has been killed.
                if number >= stage.plan.clients && enough {
                    return Ok::<_, anyhow::Error>(());
                }
                stage
                    .live(number, &plan_id)
                    .await
                    .with_context(|| format!("client {number}"))?;
            }
        }));
    }
    for life in lives {
        life.await??;
    }
    stage.over.store(true, Ordering::Relaxed);
    killer.await??;
    let (looks, mut wrong) = watcher.await??;

    let stage = Arc::into_inner(stage).context("all tasks have ended")?;
    let platform = stage.platform.into_inner();
    let http = crate::rest::http()?;
    http.delete(format!("{sandbox_url}/_/faults"))
        .send()
        .await?;
    settle(&platform, &mut wrong).await?;
    let (requests, repeats) = stage.patient.told();
    let mut report = Report {
        kills: stage.kills.into_inner(),
        requests,
        repeats,
        looks,
        wrong,
        ..Report::default()
    };
    agree(&platform, &mut report).await?;
    let late = json!({"provider": "stripe", "operation": "*", "kind": "latency", "value": 150, "rate": 1.0});
    platform.sandbox_post("/_/faults", &late).await?;
    let rush = Rush {
        clients: plan.clients,
        places: plan.coupons,
    };
    match rush::run(&platform, rush).await {
        Ok(outcome) => report.rush = outcome,
        Err(error) => report.wrong.push(format!("the rush: {error:#}")),
    }
    report.took = began.elapsed();
    sandbox.kill().await?;
    Ok(report)
}

impl Stage {
    /// Another billing on the same database, beside the one that runs with everything else.
    async fn start_second(&self) -> anyhow::Result<()> {
        let child = self.platform.lock().await.replica("billing")?;
        *self.second.lock().await = Some(child);
        Ok(())
    }

    async fn kill_at_random(&self) -> anyhow::Result<()> {
        let mut chance = Chance::new(self.plan.seed ^ 0xdead);
        while !self.over.load(Ordering::Relaxed) {
            // A process lives long enough to have begun something.
            tokio::time::sleep(Duration::from_millis(400 + chance.below(2_600))).await;
            if chance.below(3) == 0 {
                let mut platform = self.platform.lock().await;
                platform.kill().await?;
                platform.restart().await?;
                self.patient.turn_to(platform.owner()?).await;
            } else {
                if let Some(mut second) = self.second.lock().await.take() {
                    second.kill().await?;
                }
                self.start_second().await?;
            }
            self.kills.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// In one snapshot, the counter is what the rows say, and never more than there are.
    async fn watch_the_coupon(&self) -> anyhow::Result<(u64, Vec<String>)> {
        let sql = "select coalesce(max(abs(c.times_redeemed - r.held)), 0)
                   from billing.coupon c,
                     lateral (select count(*) as held from billing.coupon_redemption r
                              where r.agency_id = c.agency_id and r.coupon_id = c.id and r.state <> 'released') r";
        let most =
            "select coalesce(max(times_redeemed - max_redemptions), 0)::bigint from billing.coupon
                    where max_redemptions is not null";
        let (mut looks, mut wrong) = (0, Vec::new());
        while !self.over.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let platform = self.platform.lock().await;
            let (differs, beyond) = (platform.count(sql).await?, platform.count(most).await?);
            looks += 1;
            if differs != 0 {
                wrong.push(format!(
                    "a coupon's counter differs from its rows by {differs}"
                ));
            }
            if beyond > 0 {
                wrong.push(format!("a coupon was redeemed {beyond} times too often"));
            }
        }
        Ok((looks, wrong))
    }

    /// One client: it subscribes, and then does what chance has it do.
    async fn live(&self, number: u64, plan_id: &str) -> anyhow::Result<()> {
        let mut chance = Chance::new(self.plan.seed.wrapping_add(number.wrapping_mul(0x51_7c_c1)));
        let key = |what: &str| format!("chaos-{number}-{what}");
        let body = world::client(&format!("chaos{number}"));
        let client = self
            .patient
            .ask("/v1/clients", &body, &key("client"))
            .await?
            .expect(201)?;
        let base = format!("/v1/clients/{}/subscriptions", world::text(&client, "id")?);
        let rounds = 1 + chance.below(2);
        for round in 0..rounds {
            let card = match chance.below(10) {
                0 => "pm_card_chargeDeclined",
                _ => "pm_card_visa",
            };
            let coupon = (chance.below(2) == 0).then_some("CHAOS20");
            let order = json!({"plan_id": plan_id, "currency": "usd", "interval": "month", "payment_method_id": card, "coupon_code": coupon});
            let name = key(&format!("order{round}"));
            let mut answer = self.patient.ask(&base, &order, &name).await?;
            if answer.code().starts_with("coupon_") {
                let order = json!({"plan_id": plan_id, "currency": "usd", "interval": "month", "payment_method_id": card});
                answer = self
                    .patient
                    .ask(&base, &order, &format!("{name}-full"))
                    .await?;
            }
            if !matches!(answer.status, 201 | 202) {
                ensure!(answer.status == 409, "{answer:?}");
                continue;
            }
            let id = world::text(&answer.body, "id")?;
            let acts: &[(&str, Value)] = &match chance.below(6) {
                0 => vec![("cancel", json!({"when": "now"}))],
                1 => vec![
                    ("cancel", json!({"when": "period_end"})),
                    ("reactivate", json!({})),
                ],
                2 => vec![("pause", json!({})), ("resume", json!({}))],
                3 => vec![("pause", json!({})), ("cancel", json!({"when": "now"}))],
                4 => vec![
                    ("cancel", json!({"when": "period_end"})),
                    ("cancel", json!({"when": "now"})),
                ],
                _ => Vec::new(),
            };
            for (place, (act, body)) in acts.iter().enumerate() {
                let path = format!("{base}/{id}/{act}");
                let answer = self
                    .patient
                    .ask(&path, body, &format!("{name}-{place}"))
                    .await?;
                // Also a conflict is an answer: what is still running, or was undone, cannot be paused.
                ensure!(
                    matches!(answer.status, 200 | 202 | 409),
                    "{act}: {answer:?}"
                );
            }
        }
        Ok(())
    }
}

/// Waits until nothing is under way any more.
async fn settle(platform: &Platform, wrong: &mut Vec<String>) -> anyhow::Result<()> {
    let moving = "select (select count(*) from billing.saga where state in ('running', 'compensating')
                            or (state = 'waiting' and definition <> 'end_grace'))
                       + (select count(*) from integrations.webhook_event where state in ('received', 'failed'))
                       + (select count(*) from billing.outbox_delivery)";
    let until = Instant::now() + Duration::from_secs(600);
    while platform.count(moving).await? > 0 {
        if Instant::now() > until {
            wrong.push(format!(
                "{} things are stuck",
                platform.count(moving).await?
            ));
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let parked = platform
        .count("select count(*) from billing.saga where state = 'parked'")
        .await?;
    if parked > 0 {
        wrong.push(format!("{parked} sagas are parked"));
    }
    Ok(())
}

/// Holds Stripe's ledger against the database.
async fn agree(platform: &Platform, report: &mut Report) -> anyhow::Result<()> {
    let ledger = platform.sandbox("/_/stripe/ledger").await?;
    let list = |name: &str| ledger[name].as_array().cloned().unwrap_or_default();
    let number = |one: &Value, name: &str| one[name].as_i64().unwrap_or_default();
    let owner_of: BTreeMap<String, String> = list("customers")
        .iter()
        .filter_map(|customer| {
            let client = customer["metadata"]["mainstay_client_id"].as_str()?;
            Some((customer["id"].as_str()?.to_owned(), client.to_owned()))
        })
        .collect();

    let mut kept: BTreeMap<String, i64> = BTreeMap::new();
    for charge in list("charges")
        .iter()
        .filter(|charge| charge["status"] != "failed")
    {
        report.charged += number(charge, "amount");
        report.refunded += number(charge, "amount_refunded");
        if number(charge, "amount") > number(charge, "amount_refunded") {
            let customer = charge["customer"].as_str().unwrap_or_default();
            let client = owner_of.get(customer).cloned().unwrap_or_default();
            *kept.entry(client).or_default() += 1;
        }
    }
    // Each subscription that came to be was paid once; nobody kept a payment for one that did not.
    let mut sold: BTreeMap<String, i64> = BTreeMap::new();
    for (client, _) in rows(platform, "select tenant_id, status from billing.subscription where status not in ('failed', 'incomplete_expired')").await? {
        let client = ClientId::from_uuid(client.parse().context("an id")?);
        *sold.entry(client.to_string()).or_default() += 1;
    }
    for (client, charges) in &kept {
        let subscriptions = sold.get(client).copied().unwrap_or_default();
        if *charges != subscriptions {
            report.wrong.push(format!(
                "{client}: {charges} charges kept for {subscriptions} subscriptions"
            ));
        }
    }
    let live_here: BTreeMap<String, String> = rows(
        platform,
        "select id, stripe_subscription_id from billing.subscription
         where status in ('trialing', 'active', 'past_due', 'unpaid', 'paused', 'incomplete')",
    )
    .await?
    .into_iter()
    .map(|(id, stripe)| (stripe, id))
    .collect();
    let ended = ["canceled", "incomplete_expired"];
    let mut live_there = Vec::new();
    for subscription in list("subscriptions") {
        let id = subscription["id"].as_str().unwrap_or_default().to_owned();
        if !ended.contains(&subscription["status"].as_str().unwrap_or_default()) {
            if !live_here.contains_key(&id) {
                report
                    .wrong
                    .push(format!("{id} lives at Stripe and not here: an orphan"));
            }
            live_there.push(id);
        }
    }
    for stripe in live_here.keys().filter(|id| !live_there.contains(id)) {
        report
            .wrong
            .push(format!("{stripe} lives here and not at Stripe"));
    }
    let ours = platform
        .count("select coalesce(sum(amount_minor - amount_refunded_minor), 0)::bigint from billing.payment where status = 'succeeded'")
        .await?;
    if ours != report.charged - report.refunded {
        report.wrong.push(format!(
            "the database says {ours}, Stripe {} - {}",
            report.charged, report.refunded
        ));
    }
    let sagas = "select definition || ' ' || state, count(*)::text from billing.saga group by 1";
    for (what, count) in rows(platform, sagas).await? {
        report.sagas.insert(what, count.parse().unwrap_or_default());
    }
    Ok(())
}

/// Two columns, as text.
async fn rows(platform: &Platform, sql: &str) -> anyhow::Result<Vec<(String, String)>> {
    platform.pairs(sql).await
}
