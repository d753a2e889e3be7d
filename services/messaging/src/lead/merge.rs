//! Merging: a lead becomes part of another.
//! Deliberately absent: taking it back. What was one person's under two names cannot be told apart again.

use mainstay_jobs::once::Once;
use mainstay_jobs::record::By;
use mainstay_proto::messaging::v1 as proto;
use mainstay_rpc::Context;
use mainstay_types::LeadId;

use super::{Act, Error, fields, moved, rules, sql, write};
use crate::Messaging;

/// Merges a lead into another, and answers the other. Both are locked in the order of their ids, so that of two merges the
/// other way round the second finds the first done and is refused: never a circle, never twice.
///
/// # Errors
/// [`Error::Merged`] when either is part of another already, [`Error::NotMergeable`].
pub async fn merge(
    messaging: &Messaging,
    ctx: &Context,
    once: &Once,
    (from, into): (LeadId, LeadId),
) -> Result<proto::Lead, Error> {
    let tenant = ctx.tenant();
    let by = By::actor(ctx, messaging.clock.now());
    let mut tx = messaging.database.tenant(tenant).await?;
    if let Some(answer) = once.begin(tx.conn()).await? {
        return Ok(answer);
    }
    sql::lock(tx.conn(), tenant, &[from, into]).await?;
    let from = sql::get(tx.conn(), tenant, from).await?;
    let into = sql::get(tx.conn(), tenant, into).await?;
    let (from, into) = from.zip(into).ok_or(Error::NotFound)?;
    for lead in [&from, &into] {
        if let Some(into) = lead.merged_into {
            return Err(Error::Merged { into });
        }
    }
    let (gone, one) = rules::merge(&from, &into).map_err(Error::NotMergeable)?;
    sql::hand_over(tx.conn(), tenant, (gone.id, one.id), by.now).await?;
    write(tx.conn(), tenant, &by, Act::Merge, &from, gone).await?;
    // What the one has gained, and that it has come further, are two facts.
    let gained = write(tx.conn(), tenant, &by, Act::Update, &into, one).await?;
    if let Some(to) = rules::merged_status(from.status, gained.status) {
        moved(tx.conn(), tenant, &by, &gained, to, None).await?;
    }
    // The database tells two changes of one moment apart by their time.
    let lead = sql::get(tx.conn(), tenant, gained.id).await?;
    let lead = lead.ok_or(Error::NotFound)?;
    let answer = fields::answer(tenant.client, &lead);
    once.store(tx.conn(), &answer).await?;
    tx.commit().await?;
    Ok(answer)
}
