//! Addresses that the forms of clients' websites are sent to (INT-03): found by an opaque token, taken from the pages that are
//! named. Types, the public operations, and where transactions begin and end.
//! Deliberately absent: what a form says. Messaging reads it.

mod error;
mod rpc;
mod rules;
mod sql;

use chrono::{DateTime, Utc};
use mainstay_db::page::{Page, PageRequest};
use mainstay_jobs::once::Once;
use mainstay_jobs::record::{self, By, Change};
use mainstay_proto::integrations::v1 as proto;
use mainstay_rpc::Context;
use mainstay_types::{FormEndpointId, Tenant};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

pub use error::Error;

use crate::Integrations;
use crate::provider_account::{endpoint_token, token_hash};

/// What audit and events call it.
const NOUN: &str = "form_endpoint";

/// An address for forms, without its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormEndpoint {
    /// Its id.
    pub id: FormEndpointId,
    /// What people call it.
    pub name: String,
    /// The origins of the pages that the form is on.
    pub allowed_origins: Vec<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// Makes an address. Its token is in the answer, and nowhere else.
///
/// # Errors
/// [`Error::Once`].
pub async fn create(
    integrations: &Integrations,
    ctx: &Context,
    (name, allowed_origins): (String, Vec<String>),
    once: &Once,
) -> Result<proto::CreateFormEndpointResponse, Error> {
    let (tenant, by) = (ctx.tenant(), By::actor(ctx, integrations.clock.now()));
    let mut tx = integrations.database.tenant(tenant).await?;
    if let Some(before) = once.begin(tx.conn()).await? {
        return Ok(before);
    }
    let token = endpoint_token()?;
    let made = FormEndpoint {
        id: FormEndpointId::generate(),
        name,
        allowed_origins,
        created_at: by.now,
    };
    sql::insert(tx.conn(), tenant, &made, &token_hash(&token)).await?;
    let (action, event) = (
        "integrations.form_endpoint.create",
        "integrations.form_endpoint.created",
    );
    note(tx.conn(), tenant, &by, (action, event, 1), None, &made).await?;
    let mut answer = rpc::made(tenant.client, &made);
    once.store(tx.conn(), &answer).await?;
    tx.commit().await?;
    answer.token = Some(token);
    Ok(answer)
}

/// The addresses of a client, newest first.
///
/// # Errors
/// Only the database's.
pub async fn list(
    integrations: &Integrations,
    tenant: Tenant,
    page: PageRequest<Uuid>,
) -> Result<Page<FormEndpoint>, Error> {
    let mut tx = integrations.database.tenant(tenant).await?;
    let after = page.after().copied();
    let rows = sql::list(tx.conn(), tenant, after, page.limit()).await?;
    Ok(page.page(rows, |last| last.id.uuid()))
}

/// Deletes an address.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn delete(
    integrations: &Integrations,
    ctx: &Context,
    id: FormEndpointId,
) -> Result<(), Error> {
    let (tenant, by) = (ctx.tenant(), By::actor(ctx, integrations.clock.now()));
    let mut tx = integrations.database.tenant(tenant).await?;
    let deleted = sql::delete(tx.conn(), tenant, id, by.now).await?;
    let deleted = deleted.ok_or(Error::NotFound)?;
    let (action, event) = (
        "integrations.form_endpoint.delete",
        "integrations.form_endpoint.deleted",
    );
    let before = Some(told(&deleted));
    note(tx.conn(), tenant, &by, (action, event, 2), before, &deleted).await?;
    tx.commit().await?;
    Ok(())
}

/// An address that something was sent to.
#[derive(Debug)]
pub struct Taking {
    /// The address.
    pub endpoint: FormEndpointId,
    /// From where it takes forms.
    pub allowed_origins: Vec<String>,
}

/// The address with this token, and from where it takes forms.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn taking(integrations: &Integrations, token: &str) -> Result<Taking, Error> {
    let mut tx = integrations.database.directory().await?;
    let found = sql::find_token(tx.conn(), &token_hash(token)).await?;
    drop(tx);
    let (tenant, endpoint) = found.ok_or(Error::NotFound)?;
    let mut tx = integrations.database.tenant(tenant).await?;
    let allowed_origins = sql::find_origins(tx.conn(), tenant, endpoint).await?;
    Ok(Taking {
        endpoint,
        allowed_origins: allowed_origins.ok_or(Error::NotFound)?,
    })
}

/// Whose forms an address takes, also one that is gone.
///
/// # Errors
/// Only the database's.
pub async fn tenant_of(
    integrations: &Integrations,
    endpoint: FormEndpointId,
) -> mainstay_db::Result<Option<Tenant>> {
    let mut tx = integrations.database.directory().await?;
    sql::tenant_of(tx.conn(), endpoint).await
}

async fn note(
    conn: &mut PgConnection,
    tenant: Tenant,
    by: &By,
    (action, event, sequence): (&'static str, &'static str, i64),
    before: Option<Value>,
    after: &FormEndpoint,
) -> Result<(), Error> {
    let change = Change {
        action,
        event,
        noun: NOUN,
        target: after.id.to_string(),
        client: Some(tenant.client),
        sequence,
        before,
        after: told(after),
    };
    record::write(conn, by, change).await?;
    Ok(())
}

fn told(endpoint: &FormEndpoint) -> Value {
    json!({
        "id": endpoint.id,
        "name": endpoint.name,
        "allowed_origins": endpoint.allowed_origins,
    })
}
