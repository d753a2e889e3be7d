//! The prover proved: a saga that is right passes every case, and each of three classic mistakes is caught: an undo that
//! is missing, a key that is minted anew for each try, a write that no fence guards.
//! Deliberately absent: Stripe. The other side is a till in memory, so that nothing but the mistake can be at fault.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay_billing::saga::prover::{Ended, Prover, Sabotage, World, cases};
use mainstay_billing::saga::{Call, Definition, Engine, EngineLimits, Probed, Step, Stop};
use mainstay_runtime::{Clock, Shutdown};
use mainstay_testkit::{PATIENCE, TestDatabase};
use mainstay_types::{AgencyId, ClientId, SagaId, Tenant};
use serde_json::{Value, json};
use uuid::Uuid;

/// How the saga is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Rightly,
    WithoutAnUndo,
    WithFreshKeys,
    WithoutAFence,
}

/// The other side: it remembers keys, as providers do.
#[derive(Default)]
struct Till {
    held: HashSet<ClientId>,
    /// By key: whose, and whether it was given back.
    charges: HashMap<String, (ClientId, bool)>,
    stamps: HashMap<ClientId, u32>,
}

#[derive(Clone)]
struct AtTill {
    name: &'static str,
    written: Written,
    till: Arc<Mutex<Till>>,
}

impl AtTill {
    fn till<T>(&self, with: impl FnOnce(&mut Till) -> T) -> T {
        with(&mut self.till.lock().expect("no test panics here"))
    }
}

#[tonic::async_trait]
impl Step for AtTill {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn run(&self, call: &Call<'_>) -> Result<Value, Stop> {
        let client = call.tenant.client;
        let key = match self.written {
            Written::WithFreshKeys => Uuid::new_v4().to_string(),
            _ => call.key(),
        };
        self.till(|till| match self.name {
            "hold" => {
                till.held.insert(client);
            }
            "charge" => {
                till.charges.entry(key.clone()).or_insert((client, false));
            }
            _ => {
                let stamps = till.stamps.entry(client).or_default();
                *stamps = match self.written {
                    Written::WithoutAFence => *stamps + 1,
                    _ => 1,
                };
            }
        });
        Ok(json!(key))
    }

    async fn probe(&self, call: &Call<'_>) -> Result<Probed, Stop> {
        let known = self.till(|till| till.charges.contains_key(&call.key()));
        Ok(match (self.name, known) {
            ("charge", true) => Probed::Done(json!(call.key())),
            ("charge", false) => Probed::NotDone,
            _ => Probed::Unknowable,
        })
    }

    fn undoable(&self) -> bool {
        match self.name {
            "hold" => true,
            "charge" => self.written != Written::WithoutAnUndo,
            _ => false,
        }
    }

    async fn undo(&self, call: &Call<'_>) -> Result<(), Stop> {
        let key: Option<String> = call.output(self.name).ok();
        self.till(|till| match self.name {
            "hold" => {
                till.held.remove(&call.tenant.client);
            }
            _ => {
                if let Some(charge) = key.and_then(|key| till.charges.get_mut(&key)) {
                    charge.1 = true;
                }
            }
        });
        Ok(())
    }
}

fn saga(written: Written, till: &Arc<Mutex<Till>>) -> Definition {
    let step = |name| -> Box<dyn Step> {
        Box::new(AtTill {
            name,
            written,
            till: Arc::clone(till),
        })
    };
    Definition {
        name: "sell",
        version: 1,
        steps: vec![step("hold"), step("charge"), step("stamp")],
        pivot: 1,
        followed_by: None,
    }
}

struct Shop {
    database: TestDatabase,
    first: Engine,
    till: Arc<Mutex<Till>>,
}

#[tonic::async_trait]
impl World for Shop {
    fn saga(&self) -> &'static str {
        "sell"
    }

    async fn client(&self) -> ClientId {
        ClientId::generate()
    }

    async fn begin(&self, client: ClientId) -> SagaId {
        let tenant = Tenant {
            agency: AgencyId::generate(),
            client,
        };
        let saga = SagaId::generate();
        let mut connection = self.database.admin().await;
        sqlx::query("set search_path = billing")
            .execute(&mut connection)
            .await
            .expect("a schema");
        let nothing = json!({});
        let started = self
            .first
            .start(&mut connection, tenant, "sell", saga, &nothing);
        self.first.launch(started.await.expect("it is written"));
        saga
    }

    async fn disagreements(&self, client: ClientId, _: SagaId, ended: Ended) -> Vec<String> {
        let till = self.till.lock().expect("no test panics here");
        let mut wrong = Vec::new();
        let taken = till
            .charges
            .values()
            .filter(|(whose, back)| *whose == client && !back);
        let (taken, sold) = (taken.count(), usize::from(ended == Ended::Completed));
        if taken != sold {
            wrong.push(format!("charged {taken} times instead of {sold}"));
        }
        if till.held.contains(&client) != (sold == 1) {
            wrong.push("what is held does not agree".to_owned());
        }
        if till.stamps.get(&client).is_some_and(|stamps| *stamps > 1) {
            wrong.push("stamped twice".to_owned());
        }
        wrong
    }
}

/// What the prover finds wrong with a saga that is written so.
async fn found(written: Written) -> Vec<String> {
    let database = TestDatabase::new().await;
    let config = mainstay_db::DatabaseConfig {
        app_connections: 1,
        worker_connections: 6,
        ..database.config("billing")
    };
    let own = mainstay_db::Database::connect(&config)
        .await
        .expect("billing's roles");
    let (till, sabotage) = (Arc::default(), Sabotage::default());
    let limits = EngineLimits {
        step: Duration::from_millis(1_500),
        lease: Duration::from_secs(60),
        poll: Duration::from_millis(50),
        at_once: 32,
    };
    let engine = || {
        let definitions = vec![sabotage.over(saga(written, &till))];
        let (worker, clock, shutdown) = (own.worker(), Clock::system(0), Shutdown::new());
        let interruption = Some(Arc::new(sabotage.clone()) as _);
        Engine::interrupted(worker, clock, shutdown, definitions, limits, interruption)
    };
    let (first, second) = (engine(), engine());
    for engine in [first.clone(), second.clone()] {
        tokio::spawn(async move { engine.run().await });
    }
    let prover = Prover {
        sabotage,
        second,
        worker: own.worker(),
        patience: PATIENCE,
    };
    let shop = Shop {
        database,
        first,
        till: Arc::clone(&till),
    };
    let mut wrong = Vec::new();
    for case in cases(&saga(written, &till)) {
        let here = prover.prove(&shop, case).await.expect("a database");
        wrong.extend(here.into_iter().map(|what| format!("{case}: {what}")));
    }
    wrong
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saga_that_is_right_passes_every_case() {
    let wrong = found(Written::Rightly).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_undo_that_is_missing_is_caught() {
    let wrong = found(Written::WithoutAnUndo).await;
    let caught = wrong.iter().any(|what| what.contains("stamp refuses"));
    assert!(caught, "{wrong:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_minted_anew_is_caught() {
    let wrong = found(Written::WithFreshKeys).await;
    let caught = wrong.iter().any(|what| what.contains("charged 2 times"));
    assert!(caught, "{wrong:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_no_fence_guards_is_caught() {
    let wrong = found(Written::WithoutAFence).await;
    let caught = wrong.iter().any(|what| what.contains("stamped twice"));
    assert!(caught, "{wrong:?}");
}
