//! All queries about routes.
//! Deliberately absent: matching. There are few of them, and which takes what is a rule.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{AgencyId, AlertRouteId, ClientId, MemberId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{AlertRoute, To};
use crate::alert::{Kind, Severity};
use crate::ladder::Channel;

struct Row {
    id: AlertRouteId,
    name: String,
    kinds: Vec<String>,
    least_severity: Severity,
    client: Option<ClientId>,
    channel: String,
    members: Vec<Uuid>,
    address: Option<String>,
    revision: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<Row> for AlertRoute {
    fn from(row: Row) -> Self {
        let members = || row.members.into_iter().map(MemberId::from_uuid).collect();
        AlertRoute {
            id: row.id,
            name: row.name,
            kinds: row
                .kinds
                .iter()
                .filter_map(|kind| Kind::named(kind))
                .collect(),
            least_severity: row.least_severity,
            client: row.client,
            channel: Channel::named(&row.channel).unwrap_or(Channel::Email),
            to: row
                .address
                .map_or_else(|| To::Members(members()), To::Address),
            revision: row.revision,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// One route.
pub(super) async fn find(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: AlertRouteId,
) -> Result<Option<AlertRoute>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id as "id: AlertRouteId", name, kinds, least_severity as "least_severity: Severity",
             client_id as "client: ClientId", channel, member_ids as members, address, revision, created_at, updated_at
           from alert_route where agency_id = $1 and id = $2"#,
        agency.uuid(),
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(AlertRoute::from))
}

/// The same, locked until the transaction ends.
pub(super) async fn lock(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: AlertRouteId,
) -> Result<Option<AlertRoute>> {
    let locked = sqlx::query!(
        "select id from alert_route where agency_id = $1 and id = $2 for update",
        agency.uuid(),
        id.uuid(),
    )
    .fetch_optional(&mut *conn)
    .await?;
    match locked {
        None => Ok(None),
        Some(_) => find(conn, agency, id).await,
    }
}

/// A page of them, newest first.
pub(crate) async fn list(
    conn: &mut PgConnection,
    agency: AgencyId,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<AlertRoute>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select id as "id: AlertRouteId", name, kinds, least_severity as "least_severity: Severity",
             client_id as "client: ClientId", channel, member_ids as members, address, revision, created_at, updated_at
           from alert_route where agency_id = $1 and ($2::uuid is null or id < $2) order by id desc limit $3"#,
        agency.uuid(),
        after,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(AlertRoute::from).collect())
}

/// A new one, unless there are so many already. False: there are.
pub(super) async fn insert(
    conn: &mut PgConnection,
    agency: AgencyId,
    route: &AlertRoute,
    most: i64,
) -> Result<bool> {
    sqlx::query!(
        "select pg_advisory_xact_lock(hashtextextended('alert_route:' || $1::text, 0))",
        agency.uuid().to_string(),
    )
    .execute(&mut *conn)
    .await?;
    let (members, address) = parts(&route.to);
    let kinds = spelled(&route.kinds);
    let done = sqlx::query!(
        "insert into alert_route (agency_id, id, name, kinds, least_severity, client_id, channel, member_ids, address, revision,
           created_at, updated_at)
         select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11
         where (select count(*) from alert_route where agency_id = $1) < $12",
        agency.uuid(),
        route.id.uuid(),
        route.name,
        &kinds,
        route.least_severity.as_str(),
        route.client.map(ClientId::uuid),
        route.channel.as_str(),
        &members,
        address,
        route.revision,
        route.created_at,
        most,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Writes what has changed, under its lock.
pub(super) async fn apply(
    conn: &mut PgConnection,
    agency: AgencyId,
    after: &AlertRoute,
) -> Result<()> {
    let (members, address) = parts(&after.to);
    let kinds = spelled(&after.kinds);
    sqlx::query!(
        "update alert_route
         set name = $3, kinds = $4, least_severity = $5, client_id = $6, channel = $7, member_ids = $8, address = $9, revision = $10,
             updated_at = $11
         where agency_id = $1 and id = $2",
        agency.uuid(),
        after.id.uuid(),
        after.name,
        &kinds,
        after.least_severity.as_str(),
        after.client.map(ClientId::uuid),
        after.channel.as_str(),
        &members,
        address,
        after.revision,
        after.updated_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// It is gone.
pub(super) async fn delete(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: AlertRouteId,
) -> Result<()> {
    sqlx::query!(
        "delete from alert_route where agency_id = $1 and id = $2",
        agency.uuid(),
        id.uuid(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

fn parts(to: &To) -> (Vec<Uuid>, Option<&str>) {
    match to {
        To::Members(members) => (members.iter().map(|member| member.uuid()).collect(), None),
        To::Address(address) => (Vec::new(), Some(address)),
    }
}

fn spelled(kinds: &[Kind]) -> Vec<String> {
    kinds.iter().map(|kind| kind.as_str().to_owned()).collect()
}
