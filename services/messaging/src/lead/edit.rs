//! What people do to one lead: make it, edit it, move it on or back.
//! Deliberately absent: what many rows or two leads are about; imports and merges stand beside this.

use mainstay_jobs::once::Once;
use mainstay_jobs::record::By;
use mainstay_proto::messaging::v1 as proto;
use mainstay_rpc::Context;
use mainstay_types::{LeadId, MemberId, Tenant};
use sqlx::PgConnection;

use super::{
    Act, Edit, Error, Given, Lead, Source, Status, fault, fields, identify, lock, moved, note,
    rules, sql, write,
};
use crate::member::{self, NOT_SERVING};
use crate::{Messaging, consent};

/// Makes a lead, with the consent that comes with it.
///
/// # Errors
/// [`Error::Exists`] naming the lead that has an address or the external id.
pub async fn create(
    messaging: &Messaging,
    ctx: &Context,
    once: &Once,
    (source, edit, given): (Source, Edit, Vec<Given>),
) -> Result<proto::Lead, Error> {
    let tenant = ctx.tenant();
    let by = By::actor(ctx, messaging.clock.now());
    if let Some(answer) = serves(messaging, tenant, once, edit.owner).await? {
        return Ok(answer);
    }
    let mut tx = messaging.database.tenant(tenant).await?;
    if let Some(answer) = once.begin(tx.conn()).await? {
        return Ok(answer);
    }
    let lead = match insert(tx.conn(), tenant, &by, Act::Create, (source, edit.clone())).await {
        Err(error) if is_taken(&error) => {
            tx.rollback().await?;
            return Err(taken(messaging, tenant, &edit, None).await?);
        }
        ended => ended?,
    };
    for Given {
        channel,
        consent,
        said,
    } in given
    {
        let address = rules::reached(&lead.identities, channel).ok_or(Error::Unreachable)?;
        let kind = consent::Kind::Consent(consent);
        consent::write(tx.conn(), tenant, &by, address, channel, kind, &said).await?;
    }
    let answer = fields::answer(tenant.client, &lead);
    once.store(tx.conn(), &answer).await?;
    tx.commit().await?;
    Ok(answer)
}

/// Changes the fields that are named.
///
/// # Errors
/// [`Error::EtagMismatch`] when the lead is not the one that was read; [`Error::Exists`], [`Error::Merged`].
pub async fn update(
    messaging: &Messaging,
    ctx: &Context,
    once: &Once,
    id: LeadId,
    (edit, etag): (Edit, Option<&str>),
) -> Result<proto::Lead, Error> {
    let tenant = ctx.tenant();
    let by = By::actor(ctx, messaging.clock.now());
    if let Some(answer) = serves(messaging, tenant, once, edit.owner).await? {
        return Ok(answer);
    }
    let mut tx = messaging.database.tenant(tenant).await?;
    if let Some(answer) = once.begin(tx.conn()).await? {
        return Ok(answer);
    }
    let before = lock_read(tx.conn(), tenant, id, etag).await?;
    let lead = match rules::edit(&before, edit.clone())? {
        None => before,
        Some(after) => match write(tx.conn(), tenant, &by, Act::Update, &before, after).await {
            Err(error) if is_taken(&error) => {
                tx.rollback().await?;
                return Err(taken(messaging, tenant, &edit, Some(id)).await?);
            }
            ended => ended?,
        },
    };
    let answer = fields::answer(tenant.client, &lead);
    once.store(tx.conn(), &answer).await?;
    tx.commit().await?;
    Ok(answer)
}

/// Moves a lead on, or back with a reason.
///
/// # Errors
/// [`Error::Backwards`], [`Error::EtagMismatch`], [`Error::Merged`].
pub async fn set_status(
    messaging: &Messaging,
    ctx: &Context,
    once: &Once,
    id: LeadId,
    (to, reopen, etag): (Status, Option<String>, Option<&str>),
) -> Result<proto::Lead, Error> {
    let tenant = ctx.tenant();
    let by = By::actor(ctx, messaging.clock.now());
    let mut tx = messaging.database.tenant(tenant).await?;
    if let Some(answer) = once.begin(tx.conn()).await? {
        return Ok(answer);
    }
    let before = lock_read(tx.conn(), tenant, id, etag).await?;
    let lead = match rules::change(before.status, to, reopen.is_some()) {
        Err(rules::Backwards) => {
            let status = before.status;
            return Err(Error::Backwards { status });
        }
        Ok(None) => before,
        Ok(Some(to)) => moved(tx.conn(), tenant, &by, &before, to, reopen.as_deref()).await?,
    };
    let answer = fields::answer(tenant.client, &lead);
    once.store(tx.conn(), &answer).await?;
    tx.commit().await?;
    Ok(answer)
}

/// Whether the owner that is named may look after the client's leads; asked before the transaction. Answers at once what a
/// repeat was answered, whatever became of the owner since.
async fn serves(
    messaging: &Messaging,
    tenant: Tenant,
    once: &Once,
    owner: Option<MemberId>,
) -> Result<Option<proto::Lead>, Error> {
    let Some(owner) = owner else { return Ok(None) };
    let mut tx = messaging.database.tenant(tenant).await?;
    let known = once.known(tx.conn()).await?;
    tx.commit().await?;
    if known.is_none() {
        may_own(messaging, tenant, owner).await?;
    }
    Ok(known)
}

/// Whether this member may look after the client's leads.
pub async fn may_own(messaging: &Messaging, tenant: Tenant, owner: MemberId) -> Result<(), Error> {
    let serves = member::serves(messaging, tenant, owner).await;
    match serves.map_err(Error::Directory)? {
        true => Ok(()),
        false => Err(fault("owner_member_id", NOT_SERVING)),
    }
}

/// Writes a new lead with its addresses and tags. One of them may be another's, and then [`is_taken`] says so.
pub async fn insert(
    conn: &mut PgConnection,
    tenant: Tenant,
    by: &By,
    act: Act<'_>,
    (source, edit): (Source, Edit),
) -> Result<Lead, Error> {
    let blank = rules::blank(LeadId::generate(), source, by.now);
    let lead = rules::edit(&blank, edit)?.unwrap_or(blank);
    sql::insert(conn, tenant, &lead).await?;
    sql::tag(conn, tenant, lead.id, &lead.tags).await?;
    identify(conn, tenant, &lead).await?;
    note(conn, tenant, by, act, None, &lead).await?;
    Ok(lead)
}

/// Whether an address or the external id is another lead's.
pub fn is_taken(error: &Error) -> bool {
    match error {
        Error::Taken => true,
        Error::Database(error) => error.constraint() == Some("lead_external_id_key"),
        _ => false,
    }
}

/// Whose it is, when it is not this lead's own.
async fn taken(
    messaging: &Messaging,
    tenant: Tenant,
    edit: &Edit,
    own: Option<LeadId>,
) -> Result<Error, Error> {
    let mut tx = messaging.database.tenant(tenant).await?;
    let found = sql::find(tx.conn(), tenant, edit).await?;
    tx.commit().await?;
    let others = found.iter().map(|known| known.lead);
    // The external id of a lead that was merged into this one stays with that.
    let existing = others.clone().find(|lead| Some(*lead) != own).or(own);
    Ok(existing.map_or(Error::Contended, |existing| Error::Exists { existing }))
}

/// The lead, locked, if it is a lead of its own and the one that was read.
pub async fn lock_read(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: LeadId,
    etag: Option<&str>,
) -> Result<Lead, Error> {
    let lead = lock(conn, tenant, id).await?;
    if let Some(into) = lead.merged_into {
        return Err(Error::Merged { into });
    }
    if !rules::is_current(&lead, etag) {
        let current = rules::etag(lead.revision);
        return Err(Error::EtagMismatch { current });
    }
    Ok(lead)
}
