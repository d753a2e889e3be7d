//! A connection on loan from the pool. A request can be dropped at any await (deadline, client reset); sqlx 0.9.0 then hands
//! the connection on with its transaction open, tenant and all. Here it is rolled back before another may have it, unless
//! its transaction is known to have ended.
//! Deliberately absent: a rollback after each loan. It would be one round trip more for every transaction that was committed.

use std::time::Duration;

use sqlx::PgConnection;

use crate::{
    Result,
    warm::{Lent, WarmPool},
};

/// A connection whose server still works on the abandoned statement after that is closed.
const ROLLBACK_WITHIN: Duration = Duration::from_secs(5);

/// Rolled back when it is dropped, unless [`Borrowed::has_ended`] was said of what it did last.
#[derive(Debug)]
pub(crate) struct Borrowed {
    /// None once it is given back.
    lent: Option<Lent>,
    pool: WarmPool,
    ended: bool,
}

impl Borrowed {
    pub(crate) async fn from(pool: &WarmPool) -> Result<Self> {
        Ok(Self {
            lent: Some(pool.lend().await?),
            pool: pool.clone(),
            ended: false,
        })
    }

    pub(crate) fn conn(&mut self) -> &mut PgConnection {
        // Whatever is asked now may leave something open.
        self.ended = false;
        let lent = self.lent.as_mut().expect("it is taken by Drop alone");
        &mut lent.connection
    }

    /// The server has answered that nothing is open.
    pub(crate) fn has_ended(&mut self) {
        self.ended = true;
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        let Some(lent) = self.lent.take() else {
            return;
        };
        if self.ended {
            return self.pool.rest(lent);
        }
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(roll_back(lent, self.pool.clone()))),
            // The process ends, and with it the connection.
            Err(_) => drop(lent.connection.detach()),
        }
    }
}

async fn roll_back(mut lent: Lent, pool: WarmPool) {
    let rollback = sqlx::raw_sql("rollback").execute(&mut *lent.connection);
    match tokio::time::timeout(ROLLBACK_WITHIN, rollback).await {
        Ok(Ok(_)) => pool.rest(lent),
        // What cannot be rolled back is ended by its end; the pool opens another.
        Ok(Err(_)) | Err(_) => {
            lent.connection.close_on_drop();
            pool.doubt();
        }
    }
}
