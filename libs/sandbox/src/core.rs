//! Owns what all simulators share at run time: the world with its journal behind one lock, faults, limits.
//!
//! Deliberately absent: any await under the lock. A transaction is a few microseconds of work and one `write`.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};

use crate::faults::Faults;
use crate::journal::Journal;
use crate::store::{Record, World};
use crate::{SandboxConfig, SandboxError, webhooks};

/// Requests to simulated providers at a time; beyond, the provider's own "too many requests".
const CONCURRENT_REQUESTS: usize = 1024;
/// No webhook waits longer for its answer; most providers give up before.
const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Core {
    state: Mutex<State>,
    pub faults: Faults,
    pub stripe_secret_key: Option<String>,
    /// Idempotency keys of requests being executed.
    pub keys_in_flight: Mutex<HashSet<String>>,
    pub slots: Semaphore,
    pub http: reqwest::Client,
    /// Rung when there may be something to deliver.
    pub deliveries: Notify,
    /// Rung when something is to be done at once, though not in the transaction that caused it.
    pub due: Notify,
}

#[derive(Debug)]
struct State {
    world: World,
    journal: Durability,
}

#[derive(Debug)]
enum Durability {
    MemoryOnly,
    Journaled(Journal),
    /// Serving is over and the directory is another's to take: nothing may change any more.
    Closed,
}

impl Core {
    pub(crate) fn open(config: SandboxConfig) -> Result<Core, SandboxError> {
        let (journal, world) = match &config.data_dir {
            None => (Durability::MemoryOnly, World::default()),
            Some(directory) => {
                let (journal, world) = Journal::open(directory)?;
                (Durability::Journaled(journal), world)
            }
        };
        let http = reqwest::Client::builder()
            .timeout(WEBHOOK_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(SandboxError::Client)?;
        Ok(Core {
            state: Mutex::new(State { world, journal }),
            faults: Faults::default(),
            stripe_secret_key: config.stripe_secret_key,
            keys_in_flight: Mutex::default(),
            slots: Semaphore::new(CONCURRENT_REQUESTS),
            http,
            deliveries: Notify::new(),
            due: Notify::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // State changes only in `apply`, which does not panic; a panic of a reader harms nobody.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of the journal, so that the next one can open it at once, whoever still holds this.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        if matches!(state.journal, Durability::Journaled(_)) {
            state.journal = Durability::Closed;
        }
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&World) -> T) -> T {
        read(&self.state().world)
    }

    /// Runs a transaction: what `change` returns is journaled, then applied, then the answer may leave. If the journal
    /// refuses, nothing happened.
    pub(crate) fn commit<T>(
        &self,
        change: impl FnOnce(&World) -> (Record, T),
    ) -> std::io::Result<T> {
        self.commit_and(true, change)
    }

    /// The same; its events are delivered only if `deliver`.
    pub(crate) fn commit_and<T>(
        &self,
        deliver: bool,
        change: impl FnOnce(&World) -> (Record, T),
    ) -> std::io::Result<T> {
        let mut state = self.state();
        let (mut record, answer) = change(&state.world);
        if record.is_empty() {
            return Ok(answer);
        }
        if deliver {
            webhooks::plan(&state.world, &self.faults, &mut record);
        }
        match &mut state.journal {
            Durability::MemoryOnly => {}
            Durability::Journaled(journal) => journal.append(&record)?,
            Durability::Closed => return Err(std::io::Error::other("the simulators have stopped")),
        }
        let ring = !record.deliveries.is_empty() || !record.settled.is_empty();
        state.world.apply(record);
        let due = state.world.next_due(None, state.world.now()).is_some();
        drop(state);
        if due {
            self.due.notify_one();
        }
        if ring {
            self.deliveries.notify_one();
        }
        Ok(answer)
    }
}
