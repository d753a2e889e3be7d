//! `cargo xtask bench`, its lines about sagas: five steps against a fake that answers at once, each step settled durably
//! before the next. Restate ran the same on such a machine with 312 a second at 32 at once, and 10.3 ms at one.
//! Deliberately absent: assertions. The lines are printed beside their aims.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay_billing::saga::{Call, Definition, Engine, EngineLimits, Step, Stop};
use mainstay_runtime::{Clock, Shutdown};
use mainstay_testkit::TestDatabase;
use mainstay_types::{AgencyId, ClientId, SagaId, Tenant};
use serde_json::{Value, json};
use sqlx::Connection as _;

const STEPS: [&str; 5] = ["one", "two", "three", "four", "five"];

struct AtOnce(&'static str);

#[tonic::async_trait]
impl Step for AtOnce {
    fn name(&self) -> &'static str {
        self.0
    }

    async fn run(&self, call: &Call<'_>) -> Result<Value, Stop> {
        Ok(json!(call.key()))
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let database = TestDatabase::new().await;
    let config = mainstay_db::DatabaseConfig {
        app_connections: 1,
        worker_connections: 36,
        ..database.config("billing")
    };
    let own = mainstay_db::Database::connect(&config)
        .await
        .expect("billing's roles");
    let definition = Definition {
        name: "bench",
        version: 1,
        steps: STEPS
            .map(|name| Box::new(AtOnce(name)) as Box<dyn Step>)
            .into(),
        pivot: 4,
        followed_by: None,
    };
    let (clock, shutdown) = (Clock::system(0), Shutdown::new());
    let limits = EngineLimits::default();
    let engine = Arc::new(Engine::new(
        own.worker(),
        clock,
        shutdown,
        vec![definition],
        limits,
    ));
    let worker = own.worker();
    let durable: (String, String) = {
        let mut admin = sqlx::PgConnection::connect(&database.admin_url())
            .await
            .expect("the server");
        let settings = "select current_setting('fsync'), current_setting('synchronous_commit')";
        sqlx::query_as(settings)
            .fetch_one(&mut admin)
            .await
            .expect("settings")
    };
    for _ in 0..200 {
        run(&engine, &worker).await;
    }
    let mut took = Vec::new();
    for _ in 0..1_000 {
        took.push(run(&engine, &worker).await);
    }
    took.sort();
    let p50 = took[took.len() / 2].as_secs_f64() * 1_000.0;
    line(
        "saga of five steps, p50 at one",
        &format!("{p50:.2} ms"),
        "≤5.15 ms, half of Restate's",
    );

    let (at_once, each) = (32_u32, 125_u32);
    let began = Instant::now();
    let lives: Vec<_> = (0..at_once)
        .map(|_| {
            let (engine, worker) = (Arc::clone(&engine), worker.clone());
            tokio::spawn(async move {
                for _ in 0..each {
                    run(&engine, &worker).await;
                }
            })
        })
        .collect();
    for life in lives {
        life.await.expect("a run holds");
    }
    let rate = f64::from(at_once * each) / began.elapsed().as_secs_f64();
    line(
        &format!(
            "sagas of five steps, 32 at once (fsync {}, synchronous_commit {})",
            durable.0, durable.1
        ),
        &format!("{rate:.0}/s"),
        "≥624/s, twice Restate's",
    );
}

/// From the start to the end, as whoever asked for it sees it.
async fn run(engine: &Engine, worker: &mainstay_db::Worker) -> Duration {
    let tenant = Tenant {
        agency: AgencyId::generate(),
        client: ClientId::generate(),
    };
    let began = Instant::now();
    let saga = SagaId::generate();
    let mut tx = worker.tenant(tenant).await.expect("a connection");
    let input = json!({ "amount_minor": 99_700 });
    let started = engine.start(tx.conn(), tenant, "bench", saga, &input).await;
    let started = started.expect("it is written");
    tx.commit().await.expect("committed");
    engine.launch(started);
    let until = Instant::now() + Duration::from_secs(60);
    let standing = engine.wait(saga, until).await.expect("a saga");
    assert!(standing.completed, "{standing:?}");
    began.elapsed()
}

#[expect(clippy::print_stdout, reason = "printing is what the bench is for")]
fn line(what: &str, figure: &str, aim: &str) {
    println!("{what:<80} {figure:>14}   (aim {aim})");
}
