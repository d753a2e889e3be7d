//! All queries about alerts and their items.
//! Deliberately absent: a delete, and a count that is read before it is written.

use chrono::{DateTime, TimeDelta, Utc};
use mainstay_db::Result;
use mainstay_jobs::record::By;
use mainstay_types::{AgencyId, AgencyScope, AlertId, ClientId, Visible};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Alert, Filter, Kind, New, Severity, State, Thing, Told};

/// How long it is known that something is over: longer than an event can be on its way.
const OVER: TimeDelta = TimeDelta::days(8);
/// How long it is known that something stands: as long as what was given up is kept.
const STANDING: TimeDelta = TimeDelta::days(90);

struct Row {
    agency: AgencyId,
    id: AlertId,
    kind: Kind,
    severity: Severity,
    subject: String,
    client: Option<ClientId>,
    summary: String,
    state: State,
    occurrences: i64,
    first_seen_at: DateTime<Utc>,
    last_seen_at: DateTime<Utc>,
    acknowledged_by: Option<String>,
    acknowledged_at: Option<DateTime<Utc>>,
    resolved_by: Option<String>,
    resolved_at: Option<DateTime<Utc>>,
    told_severity: Option<Severity>,
    traceparent: Option<String>,
    revision: i64,
}

impl From<Row> for Alert {
    fn from(row: Row) -> Self {
        Alert {
            id: row.id,
            agency: row.agency,
            kind: row.kind,
            severity: row.severity,
            subject: row.subject,
            client: row.client,
            summary: row.summary,
            state: row.state,
            occurrences: row.occurrences,
            first_seen_at: row.first_seen_at,
            last_seen_at: row.last_seen_at,
            acknowledged_by: row.acknowledged_by,
            acknowledged_at: row.acknowledged_at,
            resolved_by: row.resolved_by,
            resolved_at: row.resolved_at,
            told_severity: row.told_severity,
            traceparent: row.traceparent,
            revision: row.revision,
        }
    }
}

/// One of an agency, as far as it may be seen.
pub(crate) async fn find(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: AlertId,
) -> Result<Option<Alert>> {
    let row = sqlx::query_as!(
        Row,
        r#"select agency_id as "agency: AgencyId", id as "id: AlertId", kind as "kind: Kind", severity as "severity: Severity", subject,
             client_id as "client: ClientId", summary, state as "state: State", occurrences, first_seen_at, last_seen_at,
             acknowledged_by, acknowledged_at, resolved_by, resolved_at, told_severity as "told_severity: Severity", traceparent,
             revision
           from alert where agency_id = $1 and id = $2"#,
        agency.uuid(),
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(Alert::from))
}

/// The same, locked until the transaction ends.
pub(crate) async fn lock(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: AlertId,
) -> Result<Option<Alert>> {
    let locked = sqlx::query!(
        "select id from alert where agency_id = $1 and id = $2 for no key update",
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

/// A page of those that may be seen, the latest first.
pub(super) async fn list(
    conn: &mut PgConnection,
    scope: &AgencyScope,
    filter: Filter,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Alert>> {
    let visible: Option<Vec<Uuid>> = match &scope.visible {
        Visible::All => None,
        Visible::Only(clients) => Some(clients.iter().map(|client| client.uuid()).collect()),
    };
    let rows = sqlx::query_as!(
        Row,
        r#"select agency_id as "agency: AgencyId", id as "id: AlertId", kind as "kind: Kind", severity as "severity: Severity", subject,
             client_id as "client: ClientId", summary, state as "state: State", occurrences, first_seen_at, last_seen_at,
             acknowledged_by, acknowledged_at, resolved_by, resolved_at, told_severity as "told_severity: Severity", traceparent,
             revision
           from alert
           where agency_id = $1 and ($2::uuid[] is null or client_id = any ($2)) and ($3::text is null or state = $3)
             and ($4::text is null or severity = $4) and ($5::text is null or kind = $5) and ($6::uuid is null or id < $6)
           order by id desc limit $7"#,
        scope.agency.uuid(),
        visible.as_deref(),
        filter.state.map(State::as_str),
        filter.severity.map(Severity::as_str),
        filter.kind.map(Kind::as_str),
        after,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(Alert::from).collect())
}

/// Whoever else takes in a fact about the same thing waits until the transaction ends.
pub(super) async fn lock_thing(
    conn: &mut PgConnection,
    agency: AgencyId,
    thing: &Thing,
) -> Result<()> {
    sqlx::query!(
        "select pg_advisory_xact_lock(hashtextextended('alert:' || $1::text || ':' || $2::text || ':' || $3::text, 0))",
        agency.uuid().to_string(),
        thing.kind.as_str(),
        thing.subject,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes that an item stands. False: a later fact says that it is over. What has no items always stands.
pub(super) async fn stands(
    conn: &mut PgConnection,
    agency: AgencyId,
    thing: &Thing,
    at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<bool> {
    let Some(item) = &thing.item else {
        return Ok(true);
    };
    let done = sqlx::query!(
        "insert into alert_item as i (agency_id, tenant_id, kind, subject, item, standing, said_at, created_at, updated_at, expires_at)
         values ($1, $2, $3, $4, $5, true, $6, $7, $7, $8)
         on conflict (agency_id, kind, subject, item) do update
           set standing = true, said_at = greatest(i.said_at, excluded.said_at), expires_at = excluded.expires_at
           where i.standing or i.said_at < excluded.said_at",
        agency.uuid(),
        thing.client.map(ClientId::uuid),
        thing.kind.as_str(),
        thing.subject,
        item,
        at,
        now,
        now + STANDING,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Notes that an item is over. True: nothing of the thing stands any more.
pub(super) async fn is_over(
    conn: &mut PgConnection,
    agency: AgencyId,
    thing: &Thing,
    at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<bool> {
    let Some(item) = &thing.item else {
        return Ok(true);
    };
    sqlx::query!(
        "insert into alert_item as i (agency_id, tenant_id, kind, subject, item, standing, said_at, created_at, updated_at, expires_at)
         values ($1, $2, $3, $4, $5, false, $6, $7, $7, $8)
         on conflict (agency_id, kind, subject, item) do update
           set standing = false, said_at = excluded.said_at, expires_at = excluded.expires_at
           where i.said_at <= excluded.said_at",
        agency.uuid(),
        thing.client.map(ClientId::uuid),
        thing.kind.as_str(),
        thing.subject,
        item,
        at,
        now,
        now + OVER,
    )
    .execute(&mut *conn)
    .await?;
    let standing = sqlx::query_scalar!(
        r#"select exists (select from alert_item where agency_id = $1 and kind = $2 and subject = $3 and standing) as "found!""#,
        agency.uuid(),
        thing.kind.as_str(),
        thing.subject,
    )
    .fetch_one(conn)
    .await?;
    Ok(!standing)
}

/// The one about a thing that is not resolved.
pub(super) async fn find_open(
    conn: &mut PgConnection,
    agency: AgencyId,
    thing: &Thing,
) -> Result<Option<Alert>> {
    let id = sqlx::query_scalar!(
        r#"select id as "id: AlertId" from alert
           where agency_id = $1 and kind = $2 and subject = $3 and state in ('open', 'acknowledged')"#,
        agency.uuid(),
        thing.kind.as_str(),
        thing.subject,
    )
    .fetch_optional(&mut *conn)
    .await?;
    match id {
        None => Ok(None),
        Some(id) => find(conn, agency, id).await,
    }
}

/// A new one, or one more occurrence of the one about the same thing, which can only become worse.
pub(super) async fn raise(
    conn: &mut PgConnection,
    by: &By,
    new: &New,
    told: &Told,
) -> Result<Alert> {
    let summary: String = new.summary.chars().take(2000).collect();
    let id = sqlx::query_scalar!(
        r#"insert into alert as a (agency_id, id, kind, severity, subject, client_id, summary, first_seen_at, last_seen_at,
             traceparent, created_at, updated_at)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9, $10, $10)
           on conflict (agency_id, kind, subject) where state in ('open', 'acknowledged') do update
             set occurrences = a.occurrences + 1, summary = excluded.summary,
                 first_seen_at = least(a.first_seen_at, excluded.first_seen_at),
                 last_seen_at = greatest(a.last_seen_at, excluded.last_seen_at),
                 severity = case when a.severity = 'critical' or excluded.severity = 'info' then a.severity
                                 else excluded.severity end,
                 revision = a.revision + 1, updated_at = excluded.updated_at
           returning id as "id: AlertId""#,
        by.agency.uuid(),
        AlertId::generate().uuid(),
        new.thing.kind.as_str(),
        new.severity.as_str(),
        new.thing.subject,
        new.thing.client.map(ClientId::uuid),
        summary,
        told.at,
        told.traceparent,
        by.now,
    )
    .fetch_one(&mut *conn)
    .await?;
    let raised = find(conn, by.agency, id).await?;
    raised.ok_or_else(|| sqlx::Error::RowNotFound.into())
}

/// Writes what has changed, under its lock.
pub(super) async fn apply(
    conn: &mut PgConnection,
    after: &Alert,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update alert
         set state = $3, acknowledged_by = $4, acknowledged_at = $5, resolved_by = $6, resolved_at = $7, revision = $8, updated_at = $9
         where agency_id = $1 and id = $2",
        after.agency.uuid(),
        after.id.uuid(),
        after.state.as_str(),
        after.acknowledged_by,
        after.acknowledged_at,
        after.resolved_by,
        after.resolved_at,
        after.revision,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Everybody who is to hear of it as bad as it is has been told.
pub(crate) async fn told(conn: &mut PgConnection, alert: &Alert) -> Result<()> {
    sqlx::query!(
        "update alert set told_severity = $3 where agency_id = $1 and id = $2",
        alert.agency.uuid(),
        alert.id.uuid(),
        alert.severity.as_str(),
    )
    .execute(conn)
    .await?;
    Ok(())
}
