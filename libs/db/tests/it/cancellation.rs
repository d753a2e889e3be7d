//! Requests are dropped at any await. The storm below drops ten thousand of them at random points and then looks at what
//! the next borrower of a connection finds. The same storm on a bare pool shows that the storm would notice.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use mainstay_db::Worker;
use mainstay_testkit::TestDatabase;
use mainstay_types::{AgencyId, ClientId, Tenant};
use sqlx::{PgConnection, PgPool, Row, postgres::PgPoolOptions};

/// Drops what it drives after so many polls: a deadline without a clock.
struct DroppedAfter<F> {
    inner: Option<Pin<Box<F>>>,
    polls: u32,
}

impl<F: Future> Future for DroppedAfter<F> {
    /// None: it was dropped before it was done.
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(inner) = self.inner.as_mut() else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(output) = inner.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        if self.polls == 0 {
            self.inner = None;
            return Poll::Ready(None);
        }
        self.polls -= 1;
        Poll::Pending
    }
}

/// Pseudo-random, seeded: the same storm each time.
fn polls(step: usize) -> u32 {
    let mixed = (step as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
    (mixed % 7) as u32
}

/// What must never be found on a borrowed connection: somebody's name, or a transaction that began before us.
async fn is_dirty(connection: &mut PgConnection) -> bool {
    // Simple protocol: outside a transaction the statement's own one starts at exactly its timestamp.
    let found = sqlx::raw_sql(
        "select coalesce(current_setting('mainstay.tenant_id', true), '') <> '' or now() <> statement_timestamp()",
    )
    .fetch_one(connection)
    .await;
    // A connection left in a failed transaction refuses even this.
    found.map_or(true, |row| row.get(0))
}

fn tenant() -> Tenant {
    Tenant {
        agency: AgencyId::generate(),
        client: ClientId::generate(),
    }
}

const CANCELLATIONS: usize = 10_000;

async fn request(worker: Worker) {
    let Ok(mut tx) = worker.tenant(tenant()).await else {
        return;
    };
    let _ = sqlx::query("select count(*) from job")
        .execute(tx.conn())
        .await;
    let _ = sqlx::query("select pg_sleep(0.001)")
        .execute(tx.conn())
        .await;
    let _ = tx.commit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_cancelled_requests_leak_no_transaction() {
    let test = TestDatabase::new().await;
    let database = test.database("billing").await;
    let worker = database.worker();
    let cancelled = Arc::new(AtomicUsize::new(0));
    let dirty = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let (worker, cancelled, dirty) = (worker.clone(), cancelled.clone(), dirty.clone());
            tokio::spawn(async move {
                let mut step = task;
                while cancelled.load(Ordering::Relaxed) < CANCELLATIONS {
                    step += 16;
                    let request = DroppedAfter {
                        inner: Some(Box::pin(request(worker.clone()))),
                        polls: polls(step),
                    };
                    if request.await.is_none() {
                        cancelled.fetch_add(1, Ordering::Relaxed);
                    }
                    if step % 64 < 16 {
                        let mut connection = worker.connection().await.unwrap();
                        if is_dirty(connection.conn()).await {
                            dirty.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    // All connections at once: whatever is still being released is waited for.
    let mut all = Vec::new();
    for _ in 0..database.status()[1].limit {
        all.push(worker.connection().await.unwrap());
    }
    for connection in &mut all {
        assert!(!is_dirty(connection.conn()).await);
    }
    assert!(cancelled.load(Ordering::Relaxed) >= CANCELLATIONS);
    assert_eq!(dirty.load(Ordering::Relaxed), 0);
    let open = "select count(*) from pg_stat_activity
                where datname = current_database() and state like 'idle in transaction%'";
    assert_eq!(test.count(open).await, 0);
}

/// The pool as it would be without our loans.
fn bare_pool(url: &str) -> PgPool {
    PgPoolOptions::new()
        .max_connections(4)
        .connect_lazy(url)
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_bare_pool_the_same_storm_leaks() {
    let test = TestDatabase::new().await;
    let pool = bare_pool(&test.config("billing").worker_url);
    let mut dirty = 0;
    for step in 0..2_000 {
        // sqlx's own begin, which is what one would write.
        let request = DroppedAfter {
            inner: Some(Box::pin(async {
                let mut tx = pool
                    .begin_with("begin; select set_config('mainstay.tenant_id', 'c0ffee00-0000-7000-8000-000000000000', true)")
                    .await?;
                sqlx::query("select 1").execute(&mut *tx).await?;
                tx.commit().await
            })),
            polls: polls(step),
        };
        let _ = request.await;
        let mut connection = pool.acquire().await.unwrap();
        if is_dirty(&mut connection).await {
            dirty += 1;
        }
    }
    assert!(
        dirty > 0,
        "sqlx no longer leaks: our loans may go, and this test with them"
    );
}
