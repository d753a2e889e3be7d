//! Canned replies (MSG-25): texts that a client's people send again and again, each under a shortcut, filled in for the lead that
//! it is sent to.
//! Deliberately absent: sending. A message takes the text from here, and goes the way of any other.

mod error;
mod rpc;
mod sql;

use chrono::{DateTime, Utc};
use mainstay_db::page::{Page, PageRequest};
use mainstay_jobs::once::Once;
use mainstay_jobs::record::{self, By, Change};
use mainstay_proto::messaging::v1 as proto;
use mainstay_rpc::Context;
use mainstay_types::{CannedReplyId, Tenant};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

pub use error::Error;

use crate::Messaging;
use crate::automation::render;

/// What audit and events call it.
const NOUN: &str = "canned_reply";

/// A text that is sent again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CannedReply {
    /// Its id.
    pub id: CannedReplyId,
    /// What it is called by.
    pub shortcut: String,
    /// The text, a template.
    pub body: String,
    /// Rises with each change.
    pub revision: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

/// What to change.
#[derive(Debug, Clone, Default)]
pub struct Edit {
    /// What it is called by.
    pub shortcut: Option<String>,
    /// The text.
    pub body: Option<String>,
}

/// Whether this can be filled in for somebody whose name is known; if not, what is wrong with it.
///
/// # Errors
/// What is wrong, for whoever wrote it.
pub fn check(body: &str) -> Result<(), String> {
    render::render(body, &told(Some("Mike Smith"))).map(|_| ())
}

/// What these texts see: the lead.
fn told(lead_name: Option<&str>) -> Value {
    json!({"lead": render::lead(lead_name)})
}

/// The text under a shortcut, filled in for a lead; none when there is no such shortcut. In the caller's transaction.
///
/// # Errors
/// Only the database's. Within, what the text names and is not known of the lead.
pub(crate) async fn fill(
    conn: &mut PgConnection,
    tenant: Tenant,
    shortcut: &str,
    lead_name: Option<&str>,
) -> mainstay_db::Result<Option<Result<String, String>>> {
    let body = sql::body(conn, tenant, shortcut).await?;
    Ok(body.map(|body| render::render(&body, &told(lead_name))))
}

/// Makes one.
///
/// # Errors
/// [`Error::Taken`], [`Error::Once`].
pub async fn create(
    messaging: &Messaging,
    ctx: &Context,
    (shortcut, body): (String, String),
    once: &Once,
    answer: impl FnOnce(&CannedReply) -> proto::CannedReply,
) -> Result<proto::CannedReply, Error> {
    let (tenant, by) = (ctx.tenant(), By::actor(ctx, messaging.clock.now()));
    let mut tx = messaging.database.tenant(tenant).await?;
    if let Some(before) = once.begin(tx.conn()).await? {
        return Ok(before);
    }
    let made = CannedReply {
        id: CannedReplyId::generate(),
        shortcut,
        body,
        revision: 1,
        created_at: by.now,
        updated_at: by.now,
    };
    if let Err(error) = sql::insert(tx.conn(), tenant, &made).await {
        tx.rollback().await?;
        return Err(taken(messaging, tenant, &made.shortcut, error).await);
    }
    let names = (
        "messaging.canned_reply.create",
        "messaging.canned_reply.created",
    );
    note(tx.conn(), tenant, &by, names, (None, &made)).await?;
    let answer = answer(&made);
    once.store(tx.conn(), &answer).await?;
    tx.commit().await?;
    Ok(answer)
}

/// One canned reply.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get(
    messaging: &Messaging,
    tenant: Tenant,
    id: CannedReplyId,
) -> Result<CannedReply, Error> {
    let mut tx = messaging.database.tenant(tenant).await?;
    let found = sql::find(tx.conn(), tenant, id).await?;
    tx.commit().await?;
    found.ok_or(Error::NotFound)
}

/// A client's, newest first.
///
/// # Errors
/// Only the database's.
pub async fn list(
    messaging: &Messaging,
    tenant: Tenant,
    page: PageRequest<Uuid>,
) -> Result<Page<CannedReply>, Error> {
    let mut tx = messaging.database.tenant(tenant).await?;
    let rows = sql::list(tx.conn(), tenant, page.after().copied(), page.limit()).await?;
    tx.commit().await?;
    Ok(page.page(rows, |row| row.id.uuid()))
}

/// Changes the fields that are named.
///
/// # Errors
/// [`Error::NotFound`], [`Error::EtagMismatch`], [`Error::Taken`].
pub async fn update(
    messaging: &Messaging,
    ctx: &Context,
    once: &Once,
    id: CannedReplyId,
    (edit, etag, answer): (
        Edit,
        Option<&str>,
        impl FnOnce(&CannedReply) -> proto::CannedReply,
    ),
) -> Result<proto::CannedReply, Error> {
    let (tenant, by) = (ctx.tenant(), By::actor(ctx, messaging.clock.now()));
    let mut tx = messaging.database.tenant(tenant).await?;
    if let Some(before) = once.begin(tx.conn()).await? {
        return Ok(before);
    }
    let before = sql::lock(tx.conn(), tenant, id).await?;
    let before = before.ok_or(Error::NotFound)?;
    let current = self::etag(before.revision);
    // If-Match arrives quoted, the body's etag does not.
    if etag.is_some_and(|etag| etag.trim_matches('"') != current) {
        return Err(Error::EtagMismatch { current });
    }
    let mut after = before.clone();
    after.shortcut = edit.shortcut.unwrap_or(after.shortcut);
    after.body = edit.body.unwrap_or(after.body);
    if after != before {
        after.revision += 1;
        after.updated_at = by.now;
        if let Err(error) = sql::apply(tx.conn(), tenant, &after).await {
            tx.rollback().await?;
            return Err(taken(messaging, tenant, &after.shortcut, error).await);
        }
        let names = (
            "messaging.canned_reply.update",
            "messaging.canned_reply.updated",
        );
        note(tx.conn(), tenant, &by, names, (Some(&before), &after)).await?;
    }
    let answer = answer(&after);
    once.store(tx.conn(), &answer).await?;
    tx.commit().await?;
    Ok(answer)
}

/// Deletes one; what was sent with it stays as it was sent.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn delete(
    messaging: &Messaging,
    ctx: &Context,
    tenant: Tenant,
    id: CannedReplyId,
) -> Result<(), Error> {
    let by = By::actor(ctx, messaging.clock.now());
    let mut tx = messaging.database.tenant(tenant).await?;
    let gone = sql::delete(tx.conn(), tenant, id).await?;
    let gone = gone.ok_or(Error::NotFound)?;
    let change = Change {
        action: "messaging.canned_reply.delete",
        event: "messaging.canned_reply.deleted",
        noun: NOUN,
        target: id.to_string(),
        client: Some(tenant.client),
        sequence: gone.revision + 1,
        before: Some(record::image(&gone)),
        after: json!({"shortcut": gone.shortcut, "deleted": true}),
    };
    record::write(tx.conn(), &by, change).await?;
    tx.commit().await?;
    Ok(())
}

/// For If-Match.
pub(crate) fn etag(revision: i64) -> String {
    format!("v{revision}")
}

/// The failed transaction is gone; a new one finds whose shortcut it is.
async fn taken(
    messaging: &Messaging,
    tenant: Tenant,
    shortcut: &str,
    error: mainstay_db::Error,
) -> Error {
    if error.constraint() != Some("canned_reply_shortcut_key") {
        return error.into();
    }
    let found = async {
        let mut tx = messaging.database.tenant(tenant).await?;
        let found = sql::named(tx.conn(), tenant, shortcut).await?;
        tx.commit().await?;
        Ok(found)
    };
    match found.await {
        Ok(existing) => Error::Taken { existing },
        Err(error) => Error::Database(error),
    }
}

async fn note(
    conn: &mut PgConnection,
    tenant: Tenant,
    by: &By,
    (action, event): (&'static str, &'static str),
    (before, after): (Option<&CannedReply>, &CannedReply),
) -> mainstay_db::Result<()> {
    let change = Change {
        action,
        event,
        noun: NOUN,
        target: after.id.to_string(),
        client: Some(tenant.client),
        sequence: after.revision,
        before: before.map(record::image),
        after: record::image(after),
    };
    record::write(conn, by, change).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_names_what_no_lead_has_is_refused_when_it_is_written() {
        for fine in [
            "Hi {{ lead.first_name }}!",
            "Hi {{ lead.name | default('there') }}",
            "We are on our way.",
            "{% if appointment is defined %}See you.{% else %}Hello.{% endif %}",
        ] {
            assert_eq!(check(fine), Ok(()), "{fine}");
        }
        for wrong in [
            "Hi {{ lead.nick }}",
            "{{ appointment.title }}",
            "{{ lead.name",
            "{# nothing #}",
        ] {
            check(wrong).expect_err(wrong);
        }
    }
}
