//! A connection on loan from the pool. A request can be dropped at any await (deadline, client reset); sqlx 0.9.0 then hands
//! the connection on with its transaction open, tenant and all. Here it is rolled back before another may have it, unless
//! its transaction is known to have ended.
//! Deliberately absent: a rollback after each loan. It would be one round trip more for every transaction that was committed.

use std::time::Duration;

use sqlx::{PgConnection, PgPool, Postgres, pool::PoolConnection};

use crate::Result;

/// A connection whose server still works on the abandoned statement after that is closed.
const ROLLBACK_WITHIN: Duration = Duration::from_secs(5);

/// Rolled back when it is dropped, unless [`Borrowed::has_ended`] was said of what it did last.
#[derive(Debug)]
pub(crate) struct Borrowed {
    /// None once it is given back.
    connection: Option<PoolConnection<Postgres>>,
    ended: bool,
}

impl Borrowed {
    pub(crate) async fn from(pool: &PgPool) -> Result<Self> {
        Ok(Self {
            connection: Some(pool.acquire().await?),
            ended: false,
        })
    }

    pub(crate) fn conn(&mut self) -> &mut PgConnection {
        // Whatever is asked now may leave something open.
        self.ended = false;
        self.connection.as_mut().expect("it is taken by Drop alone")
    }

    /// The server has answered that nothing is open.
    pub(crate) fn has_ended(&mut self) {
        self.ended = true;
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        if self.ended {
            return;
        }
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(roll_back(connection))),
            // The process ends, and with it the connection.
            Err(_) => drop(connection.detach()),
        }
    }
}

async fn roll_back(mut connection: PoolConnection<Postgres>) {
    let rollback = sqlx::raw_sql("rollback").execute(&mut *connection);
    match tokio::time::timeout(ROLLBACK_WITHIN, rollback).await {
        Ok(Ok(_)) => {}
        // What cannot be rolled back is ended by its end; the pool opens another.
        Ok(Err(_)) | Err(_) => connection.close_on_drop(),
    }
}
