//! Connections that were given back last are lent first. sqlx's pool lends what has rested longest, so that a service which
//! needs two at once walks through all of its dozen, each of them a process of PostgreSQL whose caches have gone cold; and
//! it asks after each loan whether the connection still answers, which is a round trip.
//! Deliberately absent: making, counting, testing and ending connections. The pool does, and has each back now and then.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use sqlx::{PgPool, Postgres, pool::PoolConnection};
use tokio::runtime::Handle;

use crate::Result;

/// The pool, and what rests before it.
#[derive(Clone)]
pub(crate) struct WarmPool(Arc<Inner>);

struct Inner {
    pool: PgPool,
    /// For so long a connection is lent again and again before the pool has it back.
    rest: Duration,
    warm: Mutex<Warm>,
}

#[derive(Default)]
struct Warm {
    /// What rested last is last. Empty while anyone waits.
    resting: Vec<Lent>,
    /// Who waits for the pool. What is given back meanwhile goes to the pool, which knows whose turn it is.
    waiting: usize,
    closed: bool,
}

/// A connection that the pool has lent.
#[derive(Debug)]
pub(crate) struct Lent {
    pub(crate) connection: PoolConnection<Postgres>,
    since: Instant,
}

impl WarmPool {
    /// Must run inside a tokio runtime.
    pub(crate) fn new(pool: PgPool, rest: Duration) -> Self {
        let inner = Arc::new(Inner {
            pool,
            rest,
            warm: Mutex::default(),
        });
        if !rest.is_zero() {
            tokio::spawn(hand_back_in_time(Arc::downgrade(&inner), rest));
        }
        Self(inner)
    }

    pub(crate) async fn lend(&self) -> Result<Lent> {
        let _waiting = {
            let mut warm = self.0.warm();
            if let Some(lent) = warm.resting.pop() {
                return Ok(lent);
            }
            warm.waiting += 1;
            Waiting(&self.0)
        };
        let connection = self.0.pool.acquire().await?;
        let since = Instant::now();
        Ok(Lent { connection, since })
    }

    /// Takes back what is in the middle of nothing and has answered everything it was asked.
    pub(crate) fn rest(&self, lent: Lent) {
        let mut warm = self.0.warm();
        if warm.closed || warm.waiting > 0 || lent.since.elapsed() >= self.0.rest {
            drop(warm);
            to_pool(lent);
        } else {
            warm.resting.push(lent);
        }
    }

    /// One was broken: the pool asks each of the others whether it still answers before it is lent again.
    pub(crate) fn doubt(&self) {
        let doubted = std::mem::take(&mut self.0.warm().resting);
        doubted.into_iter().for_each(to_pool);
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.0.pool
    }

    pub(crate) fn rests_for(&self) -> Duration {
        self.0.rest
    }

    /// How many rest here.
    pub(crate) fn warm(&self) -> usize {
        self.0.warm().resting.len()
    }

    /// Closes the pool, waiting for what is lent.
    pub(crate) async fn close(&self) {
        self.0.warm().closed = true;
        self.doubt();
        self.0.pool.close().await;
    }
}

impl fmt::Debug for WarmPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WarmPool").field(&self.0.pool).finish()
    }
}

impl Inner {
    fn warm(&self) -> MutexGuard<'_, Warm> {
        self.warm.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The last handle is gone, perhaps after the runtime: nobody is left to take them back.
        for lent in self.warm().resting.drain(..) {
            drop(lent.connection.detach());
        }
    }
}

struct Waiting<'a>(&'a Inner);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.warm().waiting -= 1;
    }
}

/// The pool does its work on what it gets back in a task of its own.
fn to_pool(lent: Lent) {
    match Handle::try_current() {
        Ok(_) => drop(lent.connection),
        // The process ends, and with it the connection.
        Err(_) => drop(lent.connection.detach()),
    }
}

/// Those that nobody borrows any more are not kept from the pool, which ends what is idle or old.
async fn hand_back_in_time(inner: Weak<Inner>, rest: Duration) {
    let mut tick = tokio::time::interval(rest);
    loop {
        tick.tick().await;
        let Some(inner) = inner.upgrade() else {
            return;
        };
        let old: Vec<Lent> = inner
            .warm()
            .resting
            .extract_if(.., |lent| lent.since.elapsed() >= rest)
            .collect();
        old.into_iter().for_each(to_pool);
    }
}
