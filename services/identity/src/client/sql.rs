//! All queries about clients.
//! Deliberately absent: a delete.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{AgencyId, ClientId, Tenant};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Client, NewClient, State};

pub(super) async fn insert(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: ClientId,
    new: &NewClient,
    now: DateTime<Utc>,
) -> Result<Client> {
    let client = sqlx::query_as!(
        Client,
        r#"insert into client (agency_id, id, name, email, phone, time_zone, state, created_at, updated_at)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $8)
           returning id as "id: ClientId", name, email, phone, time_zone, state as "state: State", version, created_at, updated_at"#,
        agency.uuid(),
        id.uuid(),
        new.name,
        new.email,
        new.phone,
        new.time_zone,
        new.state.as_str(),
        now,
    )
    .fetch_one(conn)
    .await?;
    Ok(client)
}

pub(super) async fn get(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: ClientId,
) -> Result<Option<Client>> {
    let client = sqlx::query_as!(
        Client,
        r#"select id as "id: ClientId", name, email, phone, time_zone, state as "state: State", version, created_at, updated_at
           from client where agency_id = $1 and id = $2"#,
        agency.uuid(),
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(client)
}

pub(crate) async fn lock(conn: &mut PgConnection, tenant: Tenant) -> Result<Option<Client>> {
    let client = sqlx::query_as!(
        Client,
        r#"select id as "id: ClientId", name, email, phone, time_zone, state as "state: State", version, created_at, updated_at
           from client where agency_id = $1 and id = $2 for no key update"#,
        tenant.agency.uuid(),
        tenant.client.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(client)
}

pub(super) async fn find_by_email(
    conn: &mut PgConnection,
    agency: AgencyId,
    email: &str,
) -> Result<Option<ClientId>> {
    let id = sqlx::query_scalar!(
        r#"select id as "id: ClientId" from client where agency_id = $1 and lower(email) = lower($2) and state <> 'canceled'"#,
        agency.uuid(),
        email,
    )
    .fetch_optional(conn)
    .await?;
    Ok(id)
}

/// The client that this origin began.
pub(super) async fn find_by_origin(
    conn: &mut PgConnection,
    agency: AgencyId,
    origin: &str,
) -> Result<Option<ClientId>> {
    let id = sqlx::query_scalar!(
        r#"select client_id as "id: ClientId" from client_origin where agency_id = $1 and origin = $2"#,
        agency.uuid(),
        origin,
    )
    .fetch_optional(conn)
    .await?;
    Ok(id)
}

pub(super) async fn insert_origin(
    conn: &mut PgConnection,
    agency: AgencyId,
    origin: &str,
    client: ClientId,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "insert into client_origin (agency_id, origin, client_id, created_at) values ($1, $2, $3, $4)",
        agency.uuid(),
        origin,
        client.uuid(),
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn list(
    conn: &mut PgConnection,
    agency: AgencyId,
    state: Option<State>,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Client>> {
    // The table's policy leaves only the clients that the transaction may see.
    let clients = sqlx::query_as!(
        Client,
        r#"select id as "id: ClientId", name, email, phone, time_zone, state as "state: State", version, created_at, updated_at
           from client
           where agency_id = $1 and ($2::text is null or state = $2) and ($3::uuid is null or id < $3)
           order by id desc limit $4"#,
        agency.uuid(),
        state.map(State::as_str),
        after,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(clients)
}

/// Writes the edited client over the version it was made from.
pub(super) async fn apply(
    conn: &mut PgConnection,
    agency: AgencyId,
    edited: &Client,
    now: DateTime<Utc>,
) -> Result<Client> {
    let client = sqlx::query_as!(
        Client,
        r#"update client set name = $4, email = $5, phone = $6, time_zone = $7, state = $8, version = version + 1, updated_at = $9
           where agency_id = $1 and id = $2 and version = $3
           returning id as "id: ClientId", name, email, phone, time_zone, state as "state: State", version, created_at, updated_at"#,
        agency.uuid(),
        edited.id.uuid(),
        edited.version,
        edited.name,
        edited.email,
        edited.phone,
        edited.time_zone,
        edited.state.as_str(),
        now,
    )
    .fetch_one(conn)
    .await?;
    Ok(client)
}
