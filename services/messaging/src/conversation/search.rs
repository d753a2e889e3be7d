//! Finding conversations by what was said in them, by the lead's name, and by a part of an address (MSG-25). One query a page.
//! Deliberately absent: a rank. What is found comes as the list does, what was said last first.

mod sql;

use mainstay_db::page::{Page, PageRequest};
use mainstay_types::Tenant;

use super::{Conversation, Error, Filter, Place, rules};
use crate::Messaging;

/// A page of what is found by these words, the one that something was said in last first.
///
/// As the worker: what is looked through is machinery's, whose words begin with their tenant.
///
/// # Errors
/// Only the database's.
pub(super) async fn page(
    messaging: &Messaging,
    tenant: Tenant,
    (filter, asked): (&Filter, &str),
    page: PageRequest<Place>,
) -> Result<Page<Conversation>, Error> {
    let part = rules::part(asked);
    let what = (asked, part.as_deref());
    let mut tx = messaging.database.worker().tenant(tenant).await?;
    let rows = sql::find(
        tx.conn(),
        tenant,
        (filter, what),
        page.after(),
        page.limit(),
    );
    let rows = rows.await?;
    tx.commit().await?;
    Ok(page.page(rows, Place::of))
}
