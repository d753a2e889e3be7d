//! Many lives at Stripe, told badly: every event three times and in any order, some never. Afterwards what stands here is
//! what stands there.
//! Deliberately absent: the way of a webhook through gateway and integrations; that is tried where they meet.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use mainstay_billing::stripe_events::{Intake, Outcome, StripeEvent, handle, recover};
use mainstay_types::{ClientId, SubscriptionId};
use serde_json::{Value, json};
use sqlx::Row;

use crate::stage::{Stage, pro};

/// How big.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Clients, each with a subscription.
    pub clients: usize,
    /// Events at Stripe, at least.
    pub events: u64,
    /// Decides the lives, the order and what is lost.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    /// Events at Stripe.
    pub events: usize,
    /// Deliveries of them, shuffled.
    pub deliveries: usize,
    /// Events that were never delivered.
    pub lost: usize,
    /// Those found in Stripe's list.
    pub recovered: u64,
    /// How long the deliveries took.
    pub delivering: Duration,
    /// How long the walk took.
    pub walking: Duration,
    /// What was compared, and how many of each.
    pub compared: Vec<(&'static str, usize)>,
    /// Where here and there differ; empty when all is well.
    pub differences: Vec<String>,
}

/// At once.
const CONCURRENT: usize = 12;

/// A small generator of numbers, so that a seed replays.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(bound.max(1)).unwrap_or(1)).unwrap_or(0)
    }

    fn shuffle<T>(&mut self, all: &mut [T]) {
        for place in (1..all.len()).rev() {
            all.swap(place, self.below(place + 1));
        }
    }
}

/// Makes the lives, delivers their events badly, recovers the lost ones, compares.
pub async fn run(stage: &Stage, size: Size) -> Report {
    let owned = generate(stage, size).await;
    note_owners(stage, &owned).await;
    let intake = stage.intake().await;
    let mut events = all_events(stage).await;
    let mut report = Report {
        events: events.len(),
        ..Report::default()
    };
    let mut dice = Dice(size.seed);
    dice.shuffle(&mut events);
    let lost = events.len() / 100;
    report.lost = lost;
    let mut deliveries: Vec<Arc<StripeEvent>> = Vec::new();
    for event in events.iter().skip(lost) {
        deliveries.extend(std::iter::repeat_n(Arc::clone(event), 3));
    }
    dice.shuffle(&mut deliveries);
    report.deliveries = deliveries.len();
    let begun = Instant::now();
    deliver(&intake, deliveries).await;
    report.delivering = begun.elapsed();

    look_from_the_beginning(stage).await;
    let begun = Instant::now();
    loop {
        let walked = recover::walk(&intake).await.expect("walked");
        report.recovered += walked.recovered;
        // What waited for an event that was lost as well.
        for id in &walked.waiting {
            let again = recover::again(&intake, id).await.expect("asked");
            if again.outcome == Outcome::Retry {
                report
                    .differences
                    .push(format!("{id} never had its effect: {}", again.detail));
            }
        }
        if walked.ended {
            break;
        }
    }
    report.walking = begun.elapsed();
    compare(stage, &owned, &mut report).await;
    compare_events(stage, &events, &mut report).await;
    report
}

/// Clients and subscriptions of ours, with their customers and subscriptions at Stripe.
struct Owned {
    client: ClientId,
    subscription: SubscriptionId,
    stripe_customer: String,
    stripe_subscription: Option<String>,
}

async fn generate(stage: &Stage, size: Size) -> Vec<Owned> {
    let pairs: Vec<(ClientId, SubscriptionId)> = (0..size.clients)
        .map(|_| (ClientId::generate(), SubscriptionId::generate()))
        .collect();
    let named: Vec<Value> = pairs
        .iter()
        .map(|(client, subscription)| {
            json!({ "client": client.to_string(), "subscription": subscription.to_string() })
        })
        .collect();
    let body = json!({
        "customers": size.clients, "events": size.events, "seed": size.seed, "deliver": false,
        "subscriptions": named,
    });
    let url = format!("{}/_/stripe/generate", stage.sandbox_url);
    let answer = stage.http.post(url).json(&body).send().await;
    let made: Value = answer.expect("an answer").json().await.expect("JSON");
    let customers = made["customers"].as_array().expect("customers");
    assert_eq!(customers.len(), pairs.len(), "{}", made["errors"]);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let by_client: HashMap<String, &Value> = customers
        .iter()
        .filter_map(|made| Some((text(&made["client"])?, made)))
        .collect();
    let owned = pairs.into_iter().map(|(client, subscription)| {
        let made = by_client[&client.to_string()];
        Owned {
            client,
            subscription,
            stripe_customer: text(&made["customer"]).expect("an id"),
            stripe_subscription: text(&made["subscriptions"][0]),
        }
    });
    owned.collect()
}

/// As their sagas would have left them: active, and known by Stripe's ids.
async fn note_owners(stage: &Stage, owned: &[Owned]) {
    let plan = stage.plan(pro()).await;
    let plan: mainstay_types::PlanId = plan.id().parse().expect("an id");
    let agency = stage.agency.uuid();
    let mut connection = stage.database.admin().await;
    for one in owned {
        stage.identity.add(&one.client.to_string());
        let client = one.client.uuid();
        sqlx::query("insert into billing.billing_account (agency_id, tenant_id, stripe_customer_id) values ($1, $2, $3)")
            .bind(agency)
            .bind(client)
            .bind(&one.stripe_customer)
            .execute(&mut connection)
            .await
            .expect("an account");
        let sql =
            "insert into billing.stripe_object (lookup_key, agency_id, tenant_id, subscription_id)
                   values (sha256($1::bytea), $2, $3, $4)";
        sqlx::query(sql)
            .bind(one.stripe_customer.as_bytes())
            .bind(agency)
            .bind(client)
            .bind(None::<uuid::Uuid>)
            .execute(&mut connection)
            .await
            .expect("a customer");
        let Some(stripe_subscription) = &one.stripe_subscription else {
            continue;
        };
        sqlx::query(
            "insert into billing.subscription (agency_id, tenant_id, id, plan_id, plan_version, currency, \"interval\",
               amount_minor, status, saga_id, stripe_subscription_id)
             values ($1, $2, $3, $4, 1, 'usd', 'month', 99700, 'active', $3, $5)",
        )
        .bind(agency)
        .bind(client)
        .bind(one.subscription.uuid())
        .bind(plan.uuid())
        .bind(stripe_subscription)
        .execute(&mut connection)
        .await
        .expect("a subscription");
        sqlx::query(sql)
            .bind(stripe_subscription.as_bytes())
            .bind(agency)
            .bind(client)
            .bind(Some(one.subscription.uuid()))
            .execute(&mut connection)
            .await
            .expect("a subscription's owner");
    }
}

async fn all_events(stage: &Stage) -> Vec<Arc<StripeEvent>> {
    let mut all = Vec::new();
    let mut after = String::new();
    loop {
        let url = format!("{}/stripe/v1/events?limit=100{after}", stage.sandbox_url);
        let page = stage
            .http
            .get(url)
            .bearer_auth("sk_test_stage")
            .send()
            .await;
        let page: Value = page.expect("an answer").json().await.expect("JSON");
        let data = page["data"].as_array().expect("a page");
        for event in data {
            let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
            let body = serde_json::to_vec(event).expect("JSON");
            let read = StripeEvent::read(text("id"), text("type"), &body).expect("an event");
            all.push(Arc::new(read));
        }
        match (page["has_more"].as_bool(), data.last()) {
            (Some(true), Some(last)) => {
                after = format!("&starting_after={}", last["id"].as_str().expect("an id"));
            }
            _ => return all,
        }
    }
}

/// As integrations does: what cannot have its effect yet comes again, a bounded number of times.
async fn deliver(intake: &Intake, deliveries: Vec<Arc<StripeEvent>>) {
    let mut due = deliveries;
    for _ in 0..20 {
        let again = Arc::new(AtomicU64::new(0));
        let results = stream::iter(due).map(|event| {
            let (intake, again) = (intake.clone(), Arc::clone(&again));
            async move {
                let handled = handle(&intake, &event).await.expect("handled");
                let waits = handled.outcome == Outcome::Retry;
                again.fetch_add(u64::from(waits), Ordering::Relaxed);
                waits.then_some(event)
            }
        });
        due = results
            .buffer_unordered(CONCURRENT)
            .filter_map(|waiting| async move { waiting })
            .collect()
            .await;
        if due.is_empty() {
            return;
        }
    }
}

async fn look_from_the_beginning(stage: &Stage) {
    let mut connection = stage.database.admin().await;
    let sql = "insert into billing.stripe_event_cursor (read_through) values (0)
               on conflict (singleton) do update set read_through = 0, walk_newest = null, walk_after = null";
    sqlx::query(sql)
        .execute(&mut connection)
        .await
        .expect("a cursor");
}

/// Rows by Stripe's id, as one text each.
async fn rows(stage: &Stage, sql: &'static str) -> HashMap<String, String> {
    let mut connection = stage.database.admin().await;
    let rows = sqlx::query(sql).fetch_all(&mut connection).await;
    let rows = rows.expect("rows");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

fn differ(
    report: &mut Report,
    what: &'static str,
    here: &HashMap<String, String>,
    there: &HashMap<String, String>,
) {
    report.compared.push((what, there.len()));
    for (id, stands) in there {
        match here.get(id) {
            Some(row) if row == stands => {}
            other => report
                .differences
                .push(format!("{what} {id}: at Stripe {stands}, here {other:?}")),
        }
    }
    for id in here.keys().filter(|id| !there.contains_key(*id)) {
        report
            .differences
            .push(format!("{what} {id}: here, and not at Stripe"));
    }
}

async fn compare(stage: &Stage, owned: &[Owned], report: &mut Report) {
    let ours: HashMap<&str, &Owned> = owned
        .iter()
        .map(|one| (one.stripe_customer.as_str(), one))
        .collect();
    let of_ours = |object: &&Value| {
        let customer = object["customer"].as_str().unwrap_or_default();
        ours.contains_key(customer)
    };
    let by = |objects: &[Value], id: &str, told: &dyn Fn(&Value) -> String| {
        let all = objects.iter().map(|object| {
            let id = object[id].as_str().unwrap_or_default().to_owned();
            (id, told(object))
        });
        all.collect::<HashMap<_, _>>()
    };

    let invoices: Vec<Value> = stage.ledger("invoices").await;
    let invoices: Vec<Value> = invoices.iter().filter(of_ours).cloned().collect();
    let there = by(&invoices, "id", &|invoice| {
        let status = invoice["status"].as_str().unwrap_or_default();
        format!(
            "{status} {} {}",
            invoice["amount_due"], invoice["amount_paid"]
        )
    });
    let sql = "select stripe_invoice_id, status || ' ' || amount_due_minor || ' ' || amount_paid_minor from billing.invoice";
    differ(report, "invoice", &rows(stage, sql).await, &there);

    let charges: Vec<Value> = stage.ledger("charges").await;
    let charges: Vec<Value> = charges.iter().filter(of_ours).cloned().collect();
    let there = by(&charges, "id", &|charge| {
        format!(
            "{} {} {}",
            charge["amount_captured"], charge["amount_refunded"], charge["disputed"]
        )
    });
    let sql = "select stripe_charge_id, amount_captured_minor || ' ' || amount_refunded_minor || ' ' || disputed
               from billing.payment where amount_captured_minor > 0";
    differ(report, "charge", &rows(stage, sql).await, &there);
    let known: HashMap<&str, ()> = charges
        .iter()
        .map(|charge| (charge["id"].as_str().unwrap_or_default(), ()))
        .collect();
    let of_known = |object: &&Value| {
        let charge = object["charge"].as_str().unwrap_or_default();
        known.contains_key(charge)
    };

    let refunds: Vec<Value> = stage.ledger("refunds").await;
    let refunds: Vec<Value> = refunds.iter().filter(of_known).cloned().collect();
    let there = by(&refunds, "id", &|refund| {
        format!(
            "{} {}",
            refund["status"].as_str().unwrap_or_default(),
            refund["amount"]
        )
    });
    let sql = "select stripe_refund_id, status || ' ' || amount_minor from billing.refund";
    differ(report, "refund", &rows(stage, sql).await, &there);

    let disputes: Vec<Value> = stage.ledger("disputes").await;
    let disputes: Vec<Value> = disputes.iter().filter(of_known).cloned().collect();
    let there = by(&disputes, "id", &|dispute| {
        format!(
            "{} {}",
            dispute["status"].as_str().unwrap_or_default(),
            dispute["amount"]
        )
    });
    let sql = "select stripe_dispute_id, status || ' ' || amount_minor from billing.dispute";
    differ(report, "dispute", &rows(stage, sql).await, &there);

    // Ours was active before its first event: one that is incomplete there is its saga's to decide, which there is none.
    let subscriptions: Vec<Value> = stage.ledger("subscriptions").await;
    let subscriptions: Vec<Value> = subscriptions
        .iter()
        .filter(of_ours)
        .filter(|one| one["status"] != "incomplete" && one["pause_collection"].is_null())
        .cloned()
        .collect();
    let there = by(&subscriptions, "id", &|subscription| {
        let status = subscription["status"].as_str().unwrap_or_default();
        status.to_owned()
    });
    let sql = "select stripe_subscription_id, status from billing.subscription where stripe_subscription_id is not null";
    let mut here = rows(stage, sql).await;
    here.retain(|id, _| there.contains_key(id));
    differ(report, "subscription", &here, &there);

    let sum = |name: &str| -> i64 {
        let amounts = charges.iter().map(|charge| charge[name].as_i64());
        amounts.map(Option::unwrap_or_default).sum()
    };
    let there = sum("amount_captured") - sum("amount_refunded");
    let sql = "select coalesce(sum(amount_captured_minor - amount_refunded_minor), 0)::bigint from billing.payment";
    let here = stage.database.count(sql).await;
    report.compared.push((
        "minor units taken",
        usize::try_from(there).unwrap_or_default(),
    ));
    if here != there {
        report
            .differences
            .push(format!("taken: at Stripe {there}, here {here}"));
    }
}

/// Every event that was told, or lost, had its effect; and none that Stripe never made. Stripe goes on meanwhile, so there
/// may be more than were told.
async fn compare_events(stage: &Stage, told: &[Arc<StripeEvent>], report: &mut Report) {
    let noted = rows(
        stage,
        "select stripe_event_id, outcome from billing.stripe_event_inbox",
    )
    .await;
    report
        .compared
        .push(("event that had its effect", noted.len()));
    for event in told.iter().filter(|event| !noted.contains_key(&event.id)) {
        report
            .differences
            .push(format!("{} had no effect", event.id));
    }
    let made: HashSet<String> = all_events(stage)
        .await
        .iter()
        .map(|event| event.id.clone())
        .collect();
    for id in noted.keys().filter(|id| !made.contains(*id)) {
        report.differences.push(format!("{id} is not Stripe's"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_events_thrice_shuffled_and_some_lost_end_as_stripe_stands() {
    let stage = Stage::start().await;
    let size = Size {
        clients: 40,
        events: 2_000,
        seed: 20_261_121,
    };
    let report = run(&stage, size).await;
    assert!(report.differences.is_empty(), "{size:?}: {report:#?}");
    assert!(report.events >= 2_000 && report.lost >= 20, "{report:?}");
    assert!(report.recovered > 0);
    for (what, compared) in &report.compared {
        assert!(*compared > 0, "no {what} was compared");
    }
}
