//! Business hours (ESC-06): when a client is open. A version is one row and replaces the one before in one transaction, so there
//! is never half of one; what held before stays, with who set it.
//! Deliberately absent: deleting. Whoever is closed says so.

mod rpc;
pub mod rules;
mod sql;

use chrono::{DateTime, Utc};
use mainstay_db::page::{Page, PageRequest};
use mainstay_jobs::failure;
use mainstay_jobs::record::{self, By, Change};
use mainstay_rpc::{Context, ErrorReason, Problem};
use mainstay_types::Tenant;

use crate::Escalating;
use rules::Hours;

/// The hours, as they hold or held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// When it is open.
    pub hours: Hours,
    /// From 1.
    pub revision: i64,
    /// Who set them.
    pub set_by: String,
    /// Since when they hold.
    pub valid_from: DateTime<Utc>,
    /// Until when they held.
    pub valid_to: Option<DateTime<Utc>>,
}

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// None were set, or none held then.
    #[error("there are no business hours")]
    NotFound,
    /// They have changed since they were read.
    #[error("the business hours have changed")]
    EtagMismatch {
        /// The etag that would be right; none while there are none.
        current: Option<String>,
    },
    /// The database.
    #[error(transparent)]
    Database(#[from] mainstay_db::Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        match error {
            Error::NotFound => Problem::not_found("version of the business hours"),
            Error::EtagMismatch { current } => Problem::new(
                ErrorReason::EtagMismatch,
                match current {
                    Some(current) => format!("The business hours' etag is {current} now."),
                    None => "No business hours were set yet.".to_owned(),
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
fn etag(revision: i64) -> String {
    format!("v{revision}")
}

/// The hours that hold, or that held at a time.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get(
    escalating: &Escalating,
    tenant: Tenant,
    at: Option<DateTime<Utc>>,
) -> Result<Version, Error> {
    let mut tx = escalating.database.tenant(tenant).await?;
    let found = sql::find(tx.conn(), tenant, at).await?;
    tx.commit().await?;
    found.ok_or(Error::NotFound)
}

/// A page of the versions, the latest first.
///
/// # Errors
/// Only the database's.
pub async fn list(
    escalating: &Escalating,
    tenant: Tenant,
    page: PageRequest<i64>,
) -> Result<Page<Version>, Error> {
    let (after, limit) = (page.after().copied(), page.limit());
    let mut tx = escalating.database.tenant(tenant).await?;
    let rows = sql::list(tx.conn(), tenant, after, limit).await?;
    tx.commit().await?;
    Ok(page.page(rows, |row| row.revision))
}

/// Replaces them as a whole. The same again changes nothing.
///
/// # Errors
/// [`Error::EtagMismatch`].
pub async fn put(
    escalating: &Escalating,
    ctx: &Context,
    hours: Hours,
    wanted: Option<String>,
) -> Result<Version, Error> {
    let (tenant, by) = (ctx.tenant(), By::actor(ctx, escalating.clock.now()));
    let mut tx = escalating.database.tenant(tenant).await?;
    sql::lock(tx.conn(), tenant).await?;
    let before = sql::find(tx.conn(), tenant, None).await?;
    let current = before.as_ref().map(|version| etag(version.revision));
    if wanted.is_some() && wanted != current {
        return Err(Error::EtagMismatch { current });
    }
    if let Some(before) = before.as_ref().filter(|version| version.hours == hours) {
        return Ok(before.clone());
    }
    // One ends when the next begins, whatever the clocks of two replicas say.
    let begun = before
        .as_ref()
        .map_or(by.now, |version| version.valid_from.max(by.now));
    let after = Version {
        hours,
        revision: before.as_ref().map_or(1, |version| version.revision + 1),
        set_by: by.actor.clone(),
        valid_from: begun,
        valid_to: None,
    };
    sql::replace(tx.conn(), tenant, &after).await?;
    let change = Change {
        action: "escalation.business_hours.replace",
        event: "escalation.business_hours.replaced",
        noun: "business_hours",
        target: tenant.client.to_string(),
        client: Some(tenant.client),
        sequence: after.revision,
        before: before.map(|version| record::image(&version.hours)),
        after: record::image(&after.hours),
    };
    record::write(tx.conn(), &by, change).await?;
    tx.commit().await?;
    Ok(after)
}
