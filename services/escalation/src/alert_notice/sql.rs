//! All queries about what is said of alerts.
//! Deliberately absent: saying something twice. The key of a notice is what is said of which alert, how bad, where.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{AlertRouteId, MessageId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::rules::{Kind, Notice, Standing};
use crate::alert::{Alert, Severity};
use crate::alert_route::rules::Recipient;
use crate::ladder::Channel;

/// All that was, is or is to be said of an alert, in the order in which it is.
pub(super) async fn list(conn: &mut PgConnection, alert: &Alert) -> Result<Vec<Notice>> {
    let rows = sqlx::query!(
        r#"select id, route_id as "route: AlertRouteId", kind, severity as "severity: Severity", channel, address,
             state as "standing: Standing"
           from alert_notice where agency_id = $1 and alert_id = $2 order by id"#,
        alert.agency.uuid(),
        alert.id.uuid(),
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| {
            Some(Notice {
                id: row.id,
                route: row.route,
                kind: match row.kind.as_str() {
                    "resolved" => Kind::Resolved,
                    _ => Kind::Opened,
                },
                severity: row.severity,
                channel: Channel::named(&row.channel)?,
                address: row.address,
                standing: row.standing,
            })
        })
        .collect())
}

/// Something is to be said, unless the same was before.
pub(super) async fn insert(
    conn: &mut PgConnection,
    alert: &Alert,
    (kind, to): (Kind, &Recipient),
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "insert into alert_notice (agency_id, id, alert_id, route_id, kind, severity, channel, address, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)
         on conflict (agency_id, alert_id, kind, severity, channel, address) do nothing",
        alert.agency.uuid(),
        Uuid::now_v7(),
        alert.id.uuid(),
        to.route.map(AlertRouteId::uuid),
        kind.as_str(),
        alert.severity.as_str(),
        to.channel.as_str(),
        to.address,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Something is being said. False: it is not wanted any more, or was said.
pub(super) async fn begin(conn: &mut PgConnection, alert: &Alert, id: Uuid) -> Result<bool> {
    let done = sqlx::query!(
        "update alert_notice n set state = 'telling'
         where n.agency_id = $1 and n.id = $2 and (n.state = 'telling' or (n.state = 'pending' and (n.kind = 'resolved'
           or exists (select from alert a where a.agency_id = $1 and a.id = n.alert_id and a.state <> 'resolved'))))",
        alert.agency.uuid(),
        id,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Something was said.
pub(super) async fn told(
    conn: &mut PgConnection,
    alert: &Alert,
    id: Uuid,
    message: MessageId,
) -> Result<()> {
    sqlx::query!(
        "update alert_notice set state = 'told', message_id = $3 where agency_id = $1 and id = $2",
        alert.agency.uuid(),
        id,
        message.uuid(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Something cannot be said, or is not wanted any more.
pub(super) async fn refused(
    conn: &mut PgConnection,
    alert: &Alert,
    id: Uuid,
    why: &str,
) -> Result<()> {
    sqlx::query!(
        "update alert_notice set state = 'refused', reason = left($3, 500)
         where agency_id = $1 and id = $2 and state in ('pending', 'telling')",
        alert.agency.uuid(),
        id,
        why,
    )
    .execute(conn)
    .await?;
    Ok(())
}
