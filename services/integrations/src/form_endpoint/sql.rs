//! All queries about addresses for forms.
//! Deliberately absent: the token. Only its hash is kept.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{AgencyId, ClientId, FormEndpointId, Tenant};
use sqlx::PgConnection;
use uuid::Uuid;

use super::FormEndpoint;

/// Keeps an address, and what its token is found by.
pub(super) async fn insert(
    conn: &mut PgConnection,
    tenant: Tenant,
    endpoint: &FormEndpoint,
    hash: &[u8],
) -> Result<()> {
    sqlx::query!(
        "insert into form_endpoint (agency_id, tenant_id, id, name, allowed_origins, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $6)",
        tenant.agency.uuid(),
        tenant.client.uuid(),
        endpoint.id.uuid(),
        endpoint.name,
        &endpoint.allowed_origins,
        endpoint.created_at,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "insert into form_endpoint_token (token_hash, agency_id, client_id, form_endpoint_id, created_at)
         values ($1, $2, $3, $4, $5)",
        hash,
        tenant.agency.uuid(),
        tenant.client.uuid(),
        endpoint.id.uuid(),
        endpoint.created_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The addresses of a client before `after`, newest first.
pub(super) async fn list(
    conn: &mut PgConnection,
    tenant: Tenant,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<FormEndpoint>> {
    let rows = sqlx::query_as!(
        FormEndpoint,
        r#"select id as "id: FormEndpointId", name, allowed_origins, created_at from form_endpoint
           where tenant_id = $1 and deleted_at is null and ($2::uuid is null or id < $2)
           order by id desc limit $3"#,
        tenant.client.uuid(),
        after,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// Deletes an address; none when there is none, or somebody else just did.
pub(super) async fn delete(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: FormEndpointId,
    now: DateTime<Utc>,
) -> Result<Option<FormEndpoint>> {
    let row = sqlx::query_as!(
        FormEndpoint,
        r#"update form_endpoint set deleted_at = $3, updated_at = $3
           where tenant_id = $1 and id = $2 and deleted_at is null
           returning id as "id: FormEndpointId", name, allowed_origins, created_at"#,
        tenant.client.uuid(),
        id.uuid(),
        now,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row)
}

/// From where an address takes forms; none when it is gone.
pub(super) async fn find_origins(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: FormEndpointId,
) -> Result<Option<Vec<String>>> {
    let origins = sqlx::query_scalar!(
        "select allowed_origins from form_endpoint where tenant_id = $1 and id = $2 and deleted_at is null",
        tenant.client.uuid(),
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(origins)
}

/// Whose address a token is of.
pub(super) async fn find_token(
    conn: &mut PgConnection,
    hash: &[u8],
) -> Result<Option<(Tenant, FormEndpointId)>> {
    let row = sqlx::query!(
        r#"select agency_id as "agency: AgencyId", client_id as "client: ClientId",
                  form_endpoint_id as "endpoint: FormEndpointId"
           from form_endpoint_token where token_hash = $1"#,
        hash,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| {
        let tenant = Tenant {
            agency: row.agency,
            client: row.client,
        };
        (tenant, row.endpoint)
    }))
}

/// Whose address it is.
pub(super) async fn tenant_of(
    conn: &mut PgConnection,
    id: FormEndpointId,
) -> Result<Option<Tenant>> {
    let row = sqlx::query!(
        r#"select agency_id as "agency: AgencyId", client_id as "client: ClientId"
           from form_endpoint_token where form_endpoint_id = $1"#,
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Tenant {
        agency: row.agency,
        client: row.client,
    }))
}
