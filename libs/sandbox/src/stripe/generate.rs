//! Owns `POST /_/stripe/generate`: many customers whose subscriptions walk through random lawful lives, without a
//! request per step, until there are as many events as asked for.
//!
//! - `customers`: how many (required). `events`: until there are at least this many new ones (required). A life has
//!   about 30 even if nothing but time happens to it.
//! - `seed`: decides the lives; printed back. Ids are random all the same.
//! - `deliver` (true): whether webhooks are sent. Without, the events are read from `/v1/events`.
//! - `metadata`: an object of texts that every generated customer and subscription takes.
//! - `clients`: texts; customer n takes the nth as `mainstay_client_id`, starting over at the end of the list.
//! - `subscriptions`: objects `{client, subscription}` in place of `clients`; customer n and its one subscription take
//!   `mainstay_client_id`, and the subscription `mainstay_subscription_id`. Such a customer never subscribes again.
//!
//! The lives fill the 29 days that end now, so that the events API still tells of them: each event is `created` at its
//! second of that past. While they are made the customers live by a clock of their own; afterwards by everybody's.
//! Each step is a transaction of the simulators like any other, and what falls due between steps is done in its turn.
//!
//! The answer: `{seed, events, customers: [{customer, client, subscription, subscriptions: [ids]}], steps}`.
//!
//! Deliberately absent: HTTP, idempotency keys and faults of requests. Faults of webhooks strike as ever.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Map, Value, json};

use super::errors::Result;
use super::params::Params;
use super::{Call, RESOURCES, dispute, kind, lifecycle, payment_intent};
use crate::control::Fields;
use crate::core::Core;
use crate::store::{By, Origin, Record, Tx};

pub(super) const FIELDS: [&str; 7] = [
    "customers",
    "events",
    "seed",
    "deliver",
    "metadata",
    "clients",
    "subscriptions",
];
pub(super) const MOST_CUSTOMERS: u64 = 20_000;
pub(super) const MOST_EVENTS: u64 = 200_000;
pub(super) const MOST_SEED: u64 = (1 << 53) - 1;
const WINDOW_SECONDS: i64 = 29 * 86_400;
/// A step of a life causes about this many events; the steps are spread accordingly.
const EVENTS_PER_STEP: f64 = 3.0;
const OPERATION: &str = "generate";

/// Whose a generated customer is.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    client: String,
    subscription: Option<String>,
}

/// What to generate.
#[derive(Debug)]
pub(super) struct Plan {
    pub customers: u64,
    pub events: u64,
    pub seed: u64,
    pub deliver: bool,
    pub metadata: Map<String, Value>,
    pub owners: Vec<Owner>,
}

pub(super) fn read_metadata(
    body: &Map<String, Value>,
) -> std::result::Result<Map<String, Value>, Fields> {
    match body.get("metadata") {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(metadata)) if metadata.values().all(Value::is_string) => {
            Ok(metadata.clone())
        }
        Some(_) => Err(vec![(
            "metadata".into(),
            "must be an object of strings".into(),
        )]),
    }
}

pub(super) fn read_owners(body: &Map<String, Value>) -> std::result::Result<Vec<Owner>, Fields> {
    let mut errors = Fields::new();
    let list = |name: &str, errors: &mut Fields| match body.get(name) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(values)) => values.clone(),
        Some(_) => {
            errors.push((name.into(), "must be a list".into()));
            Vec::new()
        }
    };
    let clients = list("clients", &mut errors);
    let subscriptions = list("subscriptions", &mut errors);
    if !clients.is_empty() && !subscriptions.is_empty() {
        errors.push((
            "clients".into(),
            "give either clients or subscriptions".into(),
        ));
    }
    let mut owners = Vec::new();
    for (at, client) in clients.iter().enumerate() {
        match client.as_str() {
            Some(client) => owners.push(Owner {
                client: client.to_owned(),
                subscription: None,
            }),
            None => errors.push((format!("clients[{at}]"), "must be a string".into())),
        }
    }
    for (at, pair) in subscriptions.iter().enumerate() {
        match (pair["client"].as_str(), pair["subscription"].as_str()) {
            (Some(client), Some(subscription)) => owners.push(Owner {
                client: client.to_owned(),
                subscription: Some(subscription.to_owned()),
            }),
            _ => errors.push((
                format!("subscriptions[{at}]"),
                "must be {client, subscription}, both strings".into(),
            )),
        }
    }
    if errors.is_empty() {
        Ok(owners)
    } else {
        Err(errors)
    }
}

/// One generated customer.
#[derive(Debug, Default)]
struct Life {
    customer: String,
    owner: Option<Owner>,
    subscriptions: Vec<String>,
    good_card: String,
    bad_card: String,
}

struct Generator<'a> {
    core: &'a Core,
    plan: &'a Plan,
    random: StdRng,
    clock: String,
    /// The last quarter of the time begins.
    late: i64,
    prices: Vec<String>,
    coupon: String,
    events: u64,
    steps: u64,
}

pub(super) fn generate(core: &Arc<Core>, plan: &Plan) -> std::io::Result<Value> {
    let end = core.read(crate::store::World::now);
    let start = end - WINDOW_SECONDS;
    let mut generator = Generator {
        core,
        plan,
        random: StdRng::seed_from_u64(plan.seed),
        clock: crate::ids::stripe("generator"),
        late: end - WINDOW_SECONDS / 4,
        prices: Vec::new(),
        coupon: String::new(),
        events: 0,
        steps: 0,
    };
    generator.catalog(start)?;
    let lives = generator.live(start, end)?;
    generator.rejoin(&lives)?;
    let customers: Vec<Value> = lives
        .iter()
        .map(|life| {
            let owner = life.owner.as_ref();
            json!({
                "customer": life.customer,
                "client": owner.map(|owner| &owner.client),
                "subscription": owner.and_then(|owner| owner.subscription.as_ref()),
                "subscriptions": life.subscriptions,
            })
        })
        .collect();
    Ok(json!({
        "seed": plan.seed, "events": generator.events, "steps": generator.steps, "customers": customers,
    }))
}

/// Runs an operation of the API as if it had been asked for with these parameters, a tree of texts.
fn call(tx: &mut Tx<'_>, name: &str, id: &str, tree: &Value) -> Result<Value> {
    let mut operations = RESOURCES.iter().flat_map(|operations| operations.iter());
    let operation = operations.find(|operation| operation.name == name);
    let Some(operation) = operation else {
        return Err(super::StripeError::internal());
    };
    let call = Call {
        id,
        url: operation.path,
        params: Params::new(tree),
    };
    (operation.run)(tx, &call)
}

impl Generator<'_> {
    /// One transaction at its second. What is refused leaves no trace, as with a request.
    fn step<T>(
        &mut self,
        at: i64,
        act: impl FnOnce(&mut Tx<'_>) -> Result<T>,
    ) -> std::io::Result<Option<T>> {
        let mut made = 0;
        let result = self.core.commit_and(self.plan.deliver, |world| {
            let origin = Origin {
                operation: OPERATION.to_owned(),
                ..Origin::default()
            };
            let mut tx = Tx::new(world, at, origin);
            let (keep, result) = match act(&mut tx) {
                Ok(result) => (true, Some(result)),
                Err(error) => (error.keeps_effects, None),
            };
            let record = if keep {
                tx.into_record()
            } else {
                Record::default()
            };
            made = record.events.len() as u64;
            (record, result)
        })?;
        self.events += made;
        self.steps += 1;
        Ok(result)
    }

    fn catalog(&mut self, at: i64) -> std::io::Result<()> {
        for (interval, amount) in [
            ("week", "900"),
            ("week", "2500"),
            ("week", "4900"),
            ("month", "9900"),
            ("month", "24900"),
        ] {
            let price = self.step(at, |tx| {
                let tree = json!({
                    "currency": "usd", "unit_amount": amount, "recurring": { "interval": interval },
                    "product_data": { "name": format!("Generated {interval} {amount}") },
                });
                call(tx, "prices.create", "", &tree)
            })?;
            let price = price.and_then(|price| price["id"].as_str().map(str::to_owned));
            self.prices.extend(price);
        }
        let tree =
            json!({ "percent_off": "25", "duration": "repeating", "duration_in_months": "2" });
        let coupon = self.step(at, |tx| call(tx, "coupons.create", "", &tree))?;
        self.coupon = coupon
            .and_then(|coupon| coupon["id"].as_str().map(str::to_owned))
            .unwrap_or_default();
        Ok(())
    }

    fn live(&mut self, start: i64, end: i64) -> std::io::Result<Vec<Life>> {
        let count = usize::try_from(self.plan.customers).unwrap_or(usize::MAX);
        let mut lives: Vec<Life> = Vec::with_capacity(count);
        let mut next: BinaryHeap<Reverse<(i64, usize)>> = BinaryHeap::with_capacity(count);
        for index in 0..count {
            let joins = start + self.random.random_range(0..WINDOW_SECONDS / 4);
            next.push(Reverse((joins, index)));
            lives.push(Life {
                owner: match self.plan.owners.len() {
                    0 => None,
                    owners => Some(self.plan.owners[index % owners].clone()),
                },
                ..Life::default()
            });
        }
        let pause = self.pause();
        while let Some(Reverse((at, index))) = next.pop() {
            self.catch_up(at)?;
            if lives[index].customer.is_empty() {
                self.join(at, &mut lives[index])?;
            } else if self.events < self.plan.events {
                self.act(at, &mut lives[index])?;
            } else {
                continue;
            }
            // Whoever reaches the end of the time goes on in its last second, if events are still wanted.
            let later = at + self.random.random_range(1..=2 * pause);
            next.push(Reverse((later.min(end), index)));
        }
        self.catch_up(end)?;
        Ok(lives)
    }

    /// Seconds between two steps of one life, on average.
    fn pause(&self) -> i64 {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            reason = "an estimate of a few thousand seconds"
        )]
        let pause = {
            let steps = self.plan.events as f64 / EVENTS_PER_STEP / self.plan.customers as f64;
            (0.8 * WINDOW_SECONDS as f64 / steps.max(1.0)) as i64
        };
        pause.clamp(1, 7 * 86_400)
    }

    /// What falls due by then in the time of the generated, each in its second.
    fn catch_up(&mut self, until: i64) -> std::io::Result<()> {
        let clock = self.clock.clone();
        loop {
            let due = self.core.read(|world| world.next_due(Some(&clock), until));
            let Some((at, kind, id)) = due else {
                return Ok(());
            };
            self.step(at, |tx| {
                lifecycle::perform(tx, &kind, &id);
                Ok(())
            })?;
        }
    }

    fn metadata(&self, life: &Life, of_subscription: bool) -> Value {
        let mut metadata = self.plan.metadata.clone();
        if let Some(owner) = &life.owner {
            metadata.insert("mainstay_client_id".into(), json!(owner.client));
            if let Some(subscription) = owner.subscription.as_ref().filter(|_| of_subscription) {
                metadata.insert("mainstay_subscription_id".into(), json!(subscription));
            }
        }
        Value::Object(metadata)
    }

    fn join(&mut self, at: i64, life: &mut Life) -> std::io::Result<()> {
        let metadata = self.metadata(life, false);
        let (clock, number) = (self.clock.clone(), self.steps);
        let made = self.step(at, |tx| {
            let tree = json!({
                "name": format!("Generated {number}"), "email": format!("generated-{number}@example.com"), "metadata": metadata,
            });
            let mut customer = call(tx, "customers.create", "", &tree)?;
            customer["_clock"] = json!(clock);
            tx.put(kind::CUSTOMER, customer.clone());
            let id = customer["id"].as_str().unwrap_or_default();
            let own = json!({ "customer": id });
            let good = call(tx, "payment_methods.attach", "pm_card_visa", &own)?;
            let bad = "pm_card_chargeCustomerFail";
            let bad = call(tx, "payment_methods.attach", bad, &own)?;
            let tree = json!({ "invoice_settings": { "default_payment_method": good["id"] } });
            call(tx, "customers.update", id, &tree)?;
            Ok((customer, good, bad))
        })?;
        if let Some((customer, good, bad)) = made {
            let id = |object: &Value| object["id"].as_str().unwrap_or_default().to_owned();
            (life.customer, life.good_card, life.bad_card) = (id(&customer), id(&good), id(&bad));
            self.subscribe(at, life)?;
        }
        Ok(())
    }

    fn subscribe(&mut self, at: i64, life: &mut Life) -> std::io::Result<()> {
        let price = self.prices.choose(&mut self.random).cloned();
        let mut tree = json!({
            "customer": life.customer,
            "items": [{ "price": price, "quantity": self.random.random_range(1..=3_u8).to_string() }],
            "metadata": self.metadata(life, true),
            "default_payment_method": life.good_card,
        });
        if self.random.random_bool(0.25) {
            let days: u8 = self.random.random_range(1..=10);
            tree["trial_period_days"] = json!(days.to_string());
        }
        if self.random.random_bool(0.2) {
            tree["discounts"] = json!([{ "coupon": self.coupon }]);
        }
        let made = self.step(at, |tx| call(tx, "subscriptions.create", "", &tree))?;
        let made = made.and_then(|made| made["id"].as_str().map(str::to_owned));
        life.subscriptions.extend(made);
        Ok(())
    }

    /// One thing that may happen to somebody. What the state does not allow is refused, and nothing happened.
    fn act(&mut self, at: i64, life: &mut Life) -> std::io::Result<()> {
        let now = life.subscriptions.last().and_then(|id| {
            self.core
                .read(|world| world.get(kind::SUBSCRIPTION, id).cloned())
        });
        let live = now.filter(super::subscription::is_live);
        let Some(subscription) = live else {
            let owned = life
                .owner
                .as_ref()
                .is_some_and(|owner| owner.subscription.is_some());
            if owned && !life.subscriptions.is_empty() {
                return self.rename(at, life);
            }
            return self.subscribe(at, life);
        };
        let id = subscription["id"].as_str().unwrap_or_default().to_owned();
        let item = &subscription["items"]["data"][0];
        // One that stands for a subscription of somebody's must not end before there was something to tell of it.
        let may_end = at >= self.late
            || life
                .owner
                .as_ref()
                .is_none_or(|owner| owner.subscription.is_none());
        let tree = match self.random.random_range(0..100_u8) {
            0..20 => {
                json!({ "metadata": { "note": self.random.random_range(0..1000_u16).to_string() } })
            }
            20..35 => {
                let price = self.prices.choose(&mut self.random);
                let proration = ["always_invoice", "create_prorations", "none"];
                let proration = proration.choose(&mut self.random);
                json!({ "items": [{ "id": item["id"], "price": price }], "proration_behavior": proration })
            }
            35..43 => {
                let quantity: u8 = self.random.random_range(1..=5);
                json!({ "items": [{ "id": item["id"], "quantity": quantity.to_string() }] })
            }
            43..51 => match subscription["pause_collection"].is_null() {
                true => {
                    let behavior = ["void", "keep_as_draft", "mark_uncollectible"];
                    let resumes_at = at + self.random.random_range(3_600..=5 * 86_400);
                    json!({ "pause_collection": {
                        "behavior": behavior.choose(&mut self.random), "resumes_at": resumes_at.to_string(),
                    } })
                }
                false => json!({ "pause_collection": "" }),
            },
            51..57 if may_end => {
                let ends = subscription["cancel_at_period_end"] == true;
                json!({ "cancel_at_period_end": if ends { "false" } else { "true" } })
            }
            57..65 => {
                let broken = subscription["default_payment_method"] == *life.bad_card;
                json!({ "default_payment_method": if broken { &life.good_card } else { &life.bad_card } })
            }
            65..67 => {
                let trial_end = at + self.random.random_range(3_600..=10 * 86_400);
                json!({ "trial_end": trial_end.to_string(), "proration_behavior": "none" })
            }
            67..69 => json!({ "discounts": [{ "coupon": self.coupon }] }),
            69..71 if may_end => {
                self.step(at, |tx| call(tx, "subscriptions.cancel", &id, &json!({})))?;
                return Ok(());
            }
            71..80 => return self.pay(at, &subscription, &life.good_card),
            80..88 => return self.refund(at, life),
            88..92 => return self.dispute(at, life),
            _ => return self.rename(at, life),
        };
        self.step(at, |tx| call(tx, "subscriptions.update", &id, &tree))?;
        Ok(())
    }

    fn rename(&mut self, at: i64, life: &Life) -> std::io::Result<()> {
        let name = format!("Renamed {}", self.steps);
        let tree = json!({ "name": name });
        self.step(at, |tx| call(tx, "customers.update", &life.customer, &tree))?;
        Ok(())
    }

    fn pay(&mut self, at: i64, subscription: &Value, card: &str) -> std::io::Result<()> {
        let invoice = subscription["latest_invoice"].as_str().unwrap_or_default();
        let tree = json!({ "payment_method": card });
        self.step(at, |tx| {
            let intent = tx
                .get(kind::INVOICE, invoice)
                .and_then(|invoice| invoice["_payment_intent"].as_str())
                .and_then(|id| tx.get(kind::PAYMENT_INTENT, id));
            match intent.filter(|intent| intent["status"] == "requires_action") {
                Some(intent) => {
                    let id = intent["id"].as_str().unwrap_or_default().to_owned();
                    payment_intent::authenticate(tx, &id, true)
                }
                None => call(tx, "invoices.pay", invoice, &tree),
            }
        })?;
        Ok(())
    }

    fn refund(&mut self, at: i64, life: &Life) -> std::io::Result<()> {
        let Some(charge) = self.some_charge(life) else {
            return self.rename(at, life);
        };
        let amount: u16 = self.random.random_range(1..=200);
        let tree = json!({ "charge": charge, "amount": amount.to_string() });
        self.step(at, |tx| call(tx, "refunds.create", "", &tree))?;
        Ok(())
    }

    /// Disputes a charge, or has the bank decide about one that is disputed.
    fn dispute(&mut self, at: i64, life: &Life) -> std::io::Result<()> {
        let Some(charge) = self.some_charge(life) else {
            return self.rename(at, life);
        };
        let won = self.random.random_bool(0.5);
        self.step(at, |tx| {
            let open = tx
                .select(
                    kind::DISPUTE,
                    By::field("charge", &charge).as_ref(),
                    |dispute| dispute["status"] != "won" && dispute["status"] != "lost",
                )
                .first()
                .and_then(|dispute| dispute["id"].as_str().map(str::to_owned));
            match open {
                Some(open) => dispute::resolve(tx, &open, won),
                None => dispute::open(tx, &charge, "fraudulent", None),
            }
        })?;
        Ok(())
    }

    fn some_charge(&mut self, life: &Life) -> Option<String> {
        let charges: Vec<String> = self.core.read(|world| {
            world
                .newest_first(kind::CHARGE, By::customer(&life.customer).as_ref(), None)
                .filter(|(_, charge)| charge["status"] == "succeeded")
                .filter_map(|(_, charge)| charge["id"].as_str().map(str::to_owned))
                .take(5)
                .collect()
        });
        charges.choose(&mut self.random).cloned()
    }

    /// The generated live by everybody's clock from now on.
    fn rejoin(&self, lives: &[Life]) -> std::io::Result<()> {
        for life in lives.iter().filter(|life| !life.customer.is_empty()) {
            self.core.commit_and(false, |world| {
                let mut tx = Tx::new(world, world.now(), Origin::default());
                let own = By::customer(&life.customer);
                let mut own: Vec<(&str, Value)> = [kind::SUBSCRIPTION, kind::INVOICE]
                    .into_iter()
                    .flat_map(|kind| {
                        tx.select(kind, own.as_ref(), |_| true)
                            .into_iter()
                            .map(move |object| (kind, object.clone()))
                    })
                    .collect();
                for charge in tx.select(kind::CHARGE, By::customer(&life.customer).as_ref(), |_| {
                    true
                }) {
                    let id = charge["id"].as_str().unwrap_or_default();
                    for kind in [kind::REFUND, kind::DISPUTE] {
                        let found = tx.select(kind, By::field("charge", id).as_ref(), |_| true);
                        own.extend(found.into_iter().map(|object| (kind, object.clone())));
                    }
                }
                let customer = tx.get(kind::CUSTOMER, &life.customer).cloned();
                own.extend(customer.map(|customer| (kind::CUSTOMER, customer)));
                for (kind, mut object) in own {
                    let fields = object.as_object_mut();
                    let clock = fields.and_then(|fields| fields.shift_remove("_clock"));
                    if clock.is_some() {
                        tx.put(kind, object);
                    }
                }
                (tx.into_record(), ())
            })?;
        }
        Ok(())
    }
}
