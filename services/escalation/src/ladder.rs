//! Ladders (ESC-04): who is called for a client, one step after the other, and how long each is waited for.
//! Deliberately absent: going on. An open escalation has the ladder that it began with, and goes on by its own timers.

mod rpc;
mod rules;
mod sql;

use chrono::{DateTime, Utc};
use mainstay_jobs::failure;
use mainstay_jobs::record::{self, By, Change};
use mainstay_rpc::{Context, ErrorReason, Problem};
use mainstay_types::Tenant;
use sqlx::PgConnection;

pub use rules::{Channel, Ladder, Member, Place, Step};

use crate::Escalating;

/// A client's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// What it is.
    pub ladder: Ladder,
    /// Rises with each change.
    pub revision: i64,
    /// When it was replaced last.
    pub updated_at: DateTime<Utc>,
}

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It has changed since it was read.
    #[error("the ladder has changed")]
    EtagMismatch {
        /// The etag that would be right; none while there is no ladder.
        current: Option<String>,
    },
    /// The database.
    #[error(transparent)]
    Database(#[from] mainstay_db::Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        match error {
            Error::EtagMismatch { current } => Problem::new(
                ErrorReason::EtagMismatch,
                match current {
                    Some(current) => format!("The ladder's etag is {current} now."),
                    None => "The client has no ladder of its own.".to_owned(),
                },
            ),
            Error::Database(error) => failure::database(error),
        }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Problem::from(error).into()
    }
}

/// For If-Match.
pub(crate) fn etag(revision: i64) -> String {
    format!("v{revision}")
}

/// The ladder that an escalation begins with now.
pub(crate) async fn of(conn: &mut PgConnection, tenant: Tenant) -> mainstay_db::Result<Ladder> {
    let own = sql::find(conn, tenant).await?;
    Ok(own.map(|own| own.ladder).unwrap_or_default())
}

/// The client's own, if it has one.
///
/// # Errors
/// Only the database's.
pub async fn get(escalating: &Escalating, tenant: Tenant) -> Result<Option<Own>, Error> {
    let mut tx = escalating.database.tenant(tenant).await?;
    let found = sql::find(tx.conn(), tenant).await?;
    tx.commit().await?;
    Ok(found)
}

/// Replaces it as a whole. The same again changes nothing.
///
/// # Errors
/// [`Error::EtagMismatch`].
pub async fn put(
    escalating: &Escalating,
    ctx: &Context,
    ladder: Ladder,
    wanted: Option<String>,
) -> Result<Own, Error> {
    let (tenant, by) = (ctx.tenant(), By::actor(ctx, escalating.clock.now()));
    let mut tx = escalating.database.tenant(tenant).await?;
    let before = sql::lock(tx.conn(), tenant).await?;
    let current = before.as_ref().map(|own| etag(own.revision));
    if wanted.is_some() && wanted != current {
        return Err(Error::EtagMismatch { current });
    }
    if let Some(before) = before.as_ref().filter(|own| own.ladder == ladder) {
        return Ok(before.clone());
    }
    let after = Own {
        ladder,
        revision: before.as_ref().map_or(1, |own| own.revision + 1),
        updated_at: by.now,
    };
    sql::put(tx.conn(), tenant, &after).await?;
    let change = Change {
        action: "escalation.ladder.replace",
        event: "escalation.ladder.replaced",
        noun: "ladder",
        target: tenant.client.to_string(),
        client: Some(tenant.client),
        sequence: after.revision,
        before: before.map(|own| record::image(&own.ladder)),
        after: record::image(&after.ladder),
    };
    record::write(tx.conn(), &by, change).await?;
    tx.commit().await?;
    Ok(after)
}
