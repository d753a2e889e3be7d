//! What this coordinator walks now, and who waits for it: told how it stands the moment it stops, without a look at the log.
//! Deliberately absent: what others walk. Whoever waits for that looks from time to time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use mainstay_types::SagaId;
use tokio::sync::watch;

use crate::saga::log::Standing;

/// Nothing while it goes on. It ends without a word when it broke off.
type End = watch::Sender<Option<Standing>>;

/// All that is walked here. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Walking(Arc<Mutex<HashMap<SagaId, Arc<End>>>>);

/// One walk. Dropped without a word, as by a panic, it lets whoever waits look at once.
pub(super) struct Walk {
    saga: SagaId,
    end: Arc<End>,
    all: Walking,
}

impl Walking {
    /// It is walked from now on.
    pub(super) fn begin(&self, saga: SagaId) -> Walk {
        let end = Arc::new(watch::Sender::new(None));
        self.all(|all| all.insert(saga, Arc::clone(&end)));
        Walk {
            saga,
            end,
            all: self.clone(),
        }
    }

    /// The end of its walk, if it is walked here.
    pub(super) fn end_of(&self, saga: SagaId) -> Option<watch::Receiver<Option<Standing>>> {
        self.all(|all| all.get(&saga).map(|end| end.subscribe()))
    }

    fn all<T>(&self, act: impl FnOnce(&mut HashMap<SagaId, Arc<End>>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Walk {
    /// It stands so, or nobody knows.
    pub(super) fn end(self, standing: Option<Standing>) {
        let end = Arc::clone(&self.end);
        // Before it is told: whoever hears of it may look for it here.
        drop(self);
        end.send_replace(standing);
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        self.all.all(|all| {
            // A walk that lost its lease may have a successor here.
            if all
                .get(&self.saga)
                .is_some_and(|end| Arc::ptr_eq(end, &self.end))
            {
                all.remove(&self.saga);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_hears_how_it_stands_or_that_it_broke_off() {
        let (walking, saga) = (Walking::default(), SagaId::generate());
        let walk = walking.begin(saga);
        let mut end = walking.end_of(saga).expect("it is walked");
        walk.end(Some(Standing::settled()));
        assert!(walking.end_of(saga).is_none());
        assert!(end.wait_for(Option::is_some).await.is_ok());

        let walk = walking.begin(saga);
        let mut end = walking.end_of(saga).expect("it is walked again");
        drop(walk);
        assert!(walking.end_of(saga).is_none());
        assert!(
            end.wait_for(Option::is_some).await.is_err(),
            "nobody will say"
        );

        // A walk that lost its lease leaves its successor alone.
        let (lost, _successor) = (walking.begin(saga), walking.begin(saga));
        lost.end(None);
        assert!(walking.end_of(saga).is_some());
    }
}
