//! API keys: credentials for programs, scoped, expiring, rotated with overlap.
//!
//! Two kinds. An *agency's key* lists its permissions, fixed when it was made and no more than its maker had; it outlives
//! its maker's membership, since programs outlive people, and is ended by revoking it. A *member's key* (made by
//! [`crate::bootstrap`]) belongs to one member and may do what that member may, as that changes.
//! Deliberately absent: reading a secret back. Only the answer that makes one holds it.

mod error;
mod rpc;
pub mod secret;
pub(crate) mod sql;

use chrono::{DateTime, TimeDelta, Utc};
use mainstay_db::{Page, PageRequest};
use mainstay_jobs::record::{self, By, Change};
use mainstay_proto::identity::v1 as proto;
use mainstay_rpc::Context;
use mainstay_types::{AgencyId, AgencyScope, ApiKeyId, ClientId, MemberId, Visible};
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

pub use error::Error;

use crate::grant::{self, Grant};
use crate::keys::Purpose;
use crate::{Identity, member};
use mainstay_jobs::once::Once;
use secret::Secret;

/// A key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// What it is for.
    pub name: String,
    /// The first characters of its newest secret.
    pub prefix: String,
    /// The one client it may reach.
    pub client_id: Option<ClientId>,
    /// Whose key it is, if a member's.
    pub member_id: Option<MemberId>,
    /// What it lists; empty for a member's key that may all the member may.
    pub permissions: Vec<String>,
    /// When it ends by itself.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// Rises with each change; tokens carry it as their epoch.
    pub version: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// A key to be made.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// What it is for.
    pub name: String,
    /// The one client it may reach.
    pub client: Option<ClientId>,
    /// Whose it is; none for the agency's.
    pub member: Option<MemberId>,
    /// What it may do; sorted, each once, each known.
    pub permissions: Vec<String>,
    /// When it ends by itself.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Makes an agency's key. The secret is in this answer and nowhere else: a repeat answers without it.
///
/// # Errors
/// [`Error::ExceedsOwn`], [`Error::NoSuchClient`].
pub async fn create(
    identity: &Identity,
    ctx: &Context,
    once: &Once,
    new: NewKey,
) -> Result<proto::CreateApiKeyResponse, Error> {
    let scope = ctx.agency_scope();
    let now = identity.clock.now();
    let mut tx = identity.database.agency(&scope).await?;
    if let Some(answer) = once.begin(tx.conn()).await? {
        return Ok(answer);
    }
    let reach = new
        .client
        .map_or(Visible::All, |client| Visible::Only(vec![client]));
    let wanted = Grant {
        permissions: new.permissions.clone(),
        reach,
    };
    refuse_more_than_own(ctx, &[wanted])?;
    let (key, secret) = insert(
        tx.conn(),
        identity,
        scope.agency,
        &new,
        &By::actor(ctx, now),
    )
    .await?;
    let mut answer = rpc::made(key);
    once.store(tx.conn(), &answer).await?;
    tx.commit().await?;
    answer.secret = Some(secret.expose().to_owned());
    Ok(answer)
}

/// Gives the key a new secret; the one it has works until the overlap ends, any older one no more.
///
/// # Errors
/// [`Error::Ended`] for a key that was revoked or has expired; [`Error::ExceedsOwn`], because whoever sees a secret must
/// hold all that it opens.
pub async fn rotate(
    identity: &Identity,
    ctx: &Context,
    once: &Once,
    id: ApiKeyId,
    overlap: TimeDelta,
) -> Result<proto::CreateApiKeyResponse, Error> {
    let scope = ctx.agency_scope();
    let now = identity.clock.now();
    let mut tx = identity.database.agency(&scope).await?;
    if let Some(answer) = once.begin(tx.conn()).await? {
        return Ok(answer);
    }
    sql::lock(tx.conn(), scope.agency, id).await?;
    let before = sql::get(tx.conn(), scope.agency, id)
        .await?
        .ok_or(Error::NotFound)?;
    if before.revoked_at.is_some() || before.expires_at.is_some_and(|at| at <= now) {
        return Err(Error::Ended);
    }
    let opens = grants(tx.conn(), scope.agency, &before).await?;
    refuse_more_than_own(ctx, &opens)?;
    let secret = Secret::generate(&mut rand::rng());
    sql::end_secrets(tx.conn(), scope.agency, id, now + overlap).await?;
    let hash = identity.lookup.hash(Purpose::ApiKey, secret.expose());
    sql::insert_secret(tx.conn(), scope.agency, id, &hash).await?;
    sql::renew(tx.conn(), scope.agency, id, &secret.shown(), now).await?;
    let after = sql::get(tx.conn(), scope.agency, id)
        .await?
        .ok_or(Error::NotFound)?;
    let by = By::actor(ctx, now);
    note(
        tx.conn(),
        &by,
        "identity.api_key.rotate",
        "identity.api_key.rotated",
        Some(&before),
        &after,
    )
    .await?;
    let mut answer = rpc::made(after);
    once.store(tx.conn(), &answer).await?;
    tx.commit().await?;
    answer.secret = Some(secret.expose().to_owned());
    Ok(answer)
}

/// Ends the key with every secret it has. Tokens made from it end within their 30 seconds.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn revoke(identity: &Identity, ctx: &Context, id: ApiKeyId) -> Result<ApiKey, Error> {
    let scope = ctx.agency_scope();
    let now = identity.clock.now();
    let mut tx = identity.database.agency(&scope).await?;
    let key = end(tx.conn(), scope.agency, id, &By::actor(ctx, now)).await?;
    tx.commit().await?;
    Ok(key)
}

/// One key.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get(identity: &Identity, scope: &AgencyScope, id: ApiKeyId) -> Result<ApiKey, Error> {
    let mut tx = identity.database.agency(scope).await?;
    let key = sql::get(tx.conn(), scope.agency, id).await?;
    tx.commit().await?;
    key.ok_or(Error::NotFound)
}

/// The agency's keys, newest first, those that ended too.
///
/// # Errors
/// Only the database's.
pub async fn list(
    identity: &Identity,
    scope: &AgencyScope,
    request: &PageRequest<Uuid>,
) -> Result<Page<ApiKey>, Error> {
    let mut tx = identity.database.agency(scope).await?;
    let rows = sql::list(
        tx.conn(),
        scope.agency,
        request.after().copied(),
        request.limit(),
    )
    .await?;
    tx.commit().await?;
    Ok(request.page(rows, |last| last.id.uuid()))
}

/// What the key opens now.
pub(crate) async fn grants(
    conn: &mut PgConnection,
    agency: AgencyId,
    key: &ApiKey,
) -> mainstay_db::Result<Vec<Grant>> {
    let Some(member) = key.member_id else {
        let reach = key
            .client_id
            .map_or(Visible::All, |client| Visible::Only(vec![client]));
        return Ok(vec![Grant {
            permissions: key.permissions.clone(),
            reach,
        }]);
    };
    let held = member::sql::grants(conn, agency, member).await?;
    Ok(if key.permissions.is_empty() {
        held
    } else {
        grant::within(held, &key.permissions)
    })
}

/// Key, permissions and first secret, in the caller's transaction.
pub(crate) async fn insert(
    conn: &mut PgConnection,
    identity: &Identity,
    agency: AgencyId,
    new: &NewKey,
    by: &By,
) -> Result<(ApiKey, Secret), Error> {
    let secret = Secret::generate(&mut rand::rng());
    let id = ApiKeyId::generate();
    sql::insert(conn, agency, id, new, &secret.shown(), by)
        .await
        .map_err(|error| match error.constraint() {
            Some("api_key_client_fkey") => Error::NoSuchClient,
            _ => error.into(),
        })?;
    let hash = identity.lookup.hash(Purpose::ApiKey, secret.expose());
    sql::insert_secret(conn, agency, id, &hash).await?;
    let key = sql::get(conn, agency, id).await?.ok_or(Error::NotFound)?;
    note(
        conn,
        by,
        "identity.api_key.create",
        "identity.api_key.created",
        None,
        &key,
    )
    .await?;
    Ok((key, secret))
}

/// Ends a key in the caller's transaction; one that ended before stays as it is.
pub(crate) async fn end(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: ApiKeyId,
    by: &By,
) -> Result<ApiKey, Error> {
    sql::lock(conn, agency, id).await?;
    let before = sql::get(conn, agency, id).await?.ok_or(Error::NotFound)?;
    if before.revoked_at.is_some() {
        return Ok(before);
    }
    sql::revoke(conn, agency, id, by.now).await?;
    sql::end_secrets(conn, agency, id, by.now).await?;
    let after = sql::get(conn, agency, id).await?.ok_or(Error::NotFound)?;
    note(
        conn,
        by,
        "identity.api_key.revoke",
        "identity.api_key.revoked",
        Some(&before),
        &after,
    )
    .await?;
    Ok(after)
}

/// Ends the keys of a client, in the caller's transaction.
pub(crate) async fn end_of_client(
    conn: &mut PgConnection,
    by: &By,
    client: ClientId,
) -> Result<(), Error> {
    for id in sql::all_of_client(conn, by.agency, client).await? {
        end(conn, by.agency, id, by).await?;
    }
    Ok(())
}

/// Ends the keys that belong to a member, in the caller's transaction. Those that the member made for the agency stay: they
/// are the agency's.
pub(crate) async fn end_of_member(
    conn: &mut PgConnection,
    by: &By,
    member: MemberId,
) -> Result<(), Error> {
    for id in sql::all_of_member(conn, by.agency, member).await? {
        end(conn, by.agency, id, by).await?;
    }
    Ok(())
}

fn refuse_more_than_own(ctx: &Context, wanted: &[Grant]) -> Result<(), Error> {
    let lacking = grant::lacking_any(&crate::grants_of(ctx), wanted);
    if lacking.is_empty() {
        Ok(())
    } else {
        Err(Error::ExceedsOwn { lacking })
    }
}

async fn note(
    conn: &mut PgConnection,
    by: &By,
    action: &'static str,
    event: &'static str,
    before: Option<&ApiKey>,
    after: &ApiKey,
) -> mainstay_db::Result<()> {
    let change = Change {
        action,
        event,
        noun: "api_key",
        target: after.id.to_string(),
        client: after.client_id,
        sequence: after.version,
        before: before.map(record::image),
        after: record::image(after),
    };
    record::write(conn, by, change).await
}
