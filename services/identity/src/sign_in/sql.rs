//! All queries about challenges and about how often codes are asked for and tried.
//! Deliberately absent: a code.

use chrono::{DateTime, TimeDelta, Utc};
use mainstay_db::Result;
use mainstay_types::{AgencyId, ChallengeId, MemberId};
use sqlx::PgConnection;

/// A challenge as it stands.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) address_hash: Vec<u8>,
    /// The agency that was named.
    pub(crate) wanted: Option<AgencyId>,
    /// Whose account carries the code, and for which member; none while nothing was sent.
    pub(crate) sent_for: Option<(AgencyId, MemberId)>,
    pub(crate) used_at: Option<DateTime<Utc>>,
    pub(crate) expires_at: DateTime<Utc>,
}

pub(crate) async fn find(conn: &mut PgConnection, id: ChallengeId) -> Result<Option<Found>> {
    let row = sqlx::query!(
        r#"select address_hash, wanted_agency_id as "wanted: AgencyId", agency_id as "agency: AgencyId",
             member_id as "member: MemberId", used_at, expires_at
           from sign_in_challenge where id = $1"#,
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Found {
        address_hash: row.address_hash,
        wanted: row.wanted,
        sent_for: row.agency.zip(row.member),
        used_at: row.used_at,
        expires_at: row.expires_at,
    }))
}

/// One that is there already stays: somebody asked twice at once with one Idempotency-Key.
pub(super) async fn insert(
    conn: &mut PgConnection,
    id: ChallengeId,
    address_hash: &[u8],
    wanted: Option<AgencyId>,
    now: DateTime<Utc>,
    expires_at: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "insert into sign_in_challenge (id, address_hash, wanted_agency_id, created_at, expires_at) values ($1, $2, $3, $4, $5)
         on conflict (id) do nothing",
        id.uuid(),
        address_hash,
        wanted.map(AgencyId::uuid),
        now,
        expires_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Says once whom a code goes to, before it goes; gives whom it goes to, as was said first.
pub(crate) async fn send_for(
    conn: &mut PgConnection,
    id: ChallengeId,
    agency: AgencyId,
    member: MemberId,
) -> Result<Option<(AgencyId, MemberId)>> {
    let row = sqlx::query!(
        r#"update sign_in_challenge set agency_id = coalesce(agency_id, $2), member_id = coalesce(member_id, $3)
           where id = $1 returning agency_id as "agency!: AgencyId", member_id as "member!: MemberId""#,
        id.uuid(),
        agency.uuid(),
        member.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| (row.agency, row.member)))
}

/// Uses a challenge up. Of any number of callers at once one is told that it did.
pub(super) async fn spend(
    conn: &mut PgConnection,
    id: ChallengeId,
    now: DateTime<Utc>,
) -> Result<bool> {
    let done = sqlx::query!(
        "update sign_in_challenge set used_at = $2 where id = $1 and used_at is null and expires_at > $2",
        id.uuid(),
        now,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// When it happened, as far as it is remembered.
pub(super) async fn hits(conn: &mut PgConnection, key: &[u8]) -> Result<Vec<DateTime<Utc>>> {
    let hits = sqlx::query_scalar!("select hits from sign_in_limit where limit_key = $1", key)
        .fetch_optional(conn)
        .await?;
    Ok(hits.unwrap_or_default())
}

/// Notes that it happened, unless it has happened so often within the window. Whether it was noted.
pub(super) async fn hit(
    conn: &mut PgConnection,
    key: &[u8],
    now: DateTime<Utc>,
    window: TimeDelta,
    most: i32,
) -> Result<bool> {
    let done = sqlx::query!(
        "insert into sign_in_limit as l (limit_key, hits, created_at, expires_at) values ($1, array[$2::timestamptz], $2, $4)
         on conflict (limit_key) do update
           set hits = array(select hit from unnest(l.hits) as hit where hit > $3) || excluded.hits,
               expires_at = excluded.expires_at
           where (select count(*) from unnest(l.hits) as hit where hit > $3) < $5",
        key,
        now,
        now - window,
        now + window,
        i64::from(most),
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}
