//! All queries about what was seen of the services' health.
//! Deliberately absent: a tenant. It is the platform's own.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use sqlx::PgConnection;

use super::rules::{Finding, Sighting};
use crate::alert::{Kind, Severity};

/// All that was seen and is not over. Whoever else looks waits until the transaction ends.
pub(super) async fn list(conn: &mut PgConnection) -> Result<Vec<Sighting>> {
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended('health_sighting', 0))")
        .execute(&mut *conn)
        .await?;
    let rows = sqlx::query!(
        r#"select service, subject, kind as "kind: Kind", severity as "severity: Severity", detail, seen, missed
           from health_sighting order by service, kind, subject"#,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Sighting {
            service: row.service,
            finding: Finding {
                kind: row.kind,
                subject: row.subject,
                severity: row.severity,
                detail: row.detail,
            },
            seen: row.seen,
            missed: row.missed,
        })
        .collect())
}

/// Writes what was seen, where that is new.
pub(super) async fn put(
    conn: &mut PgConnection,
    sighting: &Sighting,
    now: DateTime<Utc>,
) -> Result<()> {
    let finding = &sighting.finding;
    sqlx::query!(
        "insert into health_sighting as s (service, kind, subject, severity, detail, seen, missed, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $8)
         on conflict (service, kind, subject) do update
           set severity = excluded.severity, detail = excluded.detail, seen = excluded.seen, missed = excluded.missed,
               updated_at = excluded.updated_at
           where (s.severity, s.detail, s.seen, s.missed) <> (excluded.severity, excluded.detail, excluded.seen, excluded.missed)",
        sighting.service,
        finding.kind.as_str(),
        finding.subject,
        finding.severity.as_str(),
        finding.detail,
        sighting.seen,
        sighting.missed,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// It is over.
pub(super) async fn delete(conn: &mut PgConnection, sighting: &Sighting) -> Result<()> {
    sqlx::query!(
        "delete from health_sighting where service = $1 and kind = $2 and subject = $3",
        sighting.service,
        sighting.finding.kind.as_str(),
        sighting.finding.subject,
    )
    .execute(conn)
    .await?;
    Ok(())
}
