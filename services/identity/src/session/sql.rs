//! All queries about sessions and their refresh tokens.
//! Deliberately absent: a token. Only its keyed hash is here.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{AgencyId, MemberId, PersonId, SessionId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::Session;

pub(super) async fn insert(conn: &mut PgConnection, session: &Session) -> Result<()> {
    sqlx::query!(
        "insert into sign_in_session (id, person_id, agency_id, member_id, last_used_at, created_at, updated_at, expires_at)
         values ($1, $2, $3, $4, $5, $6, $6, $7)",
        session.id.uuid(),
        session.person.uuid(),
        session.agency.uuid(),
        session.member.uuid(),
        session.last_used_at,
        session.created_at,
        session.expires_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn insert_token(
    conn: &mut PgConnection,
    hash: &[u8],
    session: &Session,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "insert into refresh_token (token_hash, session_id, created_at, expires_at) values ($1, $2, $3, $4)",
        hash,
        session.id.uuid(),
        now,
        session.expires_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn get(conn: &mut PgConnection, id: SessionId) -> Result<Option<Session>> {
    let session = sqlx::query_as!(
        Session,
        r#"select id as "id: SessionId", person_id as "person: PersonId", agency_id as "agency: AgencyId",
             member_id as "member: MemberId", revoked_at, last_used_at, created_at, expires_at
           from sign_in_session where id = $1"#,
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(session)
}

/// The session of a refresh token, and when the token was used.
pub(super) async fn find_token(
    conn: &mut PgConnection,
    hash: &[u8],
) -> Result<Option<(Session, Option<DateTime<Utc>>)>> {
    let found = sqlx::query!(
        r#"select s.id as "id: SessionId", s.person_id as "person: PersonId", s.agency_id as "agency: AgencyId",
             s.member_id as "member: MemberId", s.revoked_at, s.last_used_at, s.created_at, s.expires_at, t.used_at
           from refresh_token t join sign_in_session s on s.id = t.session_id where t.token_hash = $1"#,
        hash,
    )
    .fetch_optional(conn)
    .await?;
    Ok(found.map(|row| {
        let session = Session {
            id: row.id,
            person: row.person,
            agency: row.agency,
            member: row.member,
            revoked_at: row.revoked_at,
            last_used_at: row.last_used_at,
            created_at: row.created_at,
            expires_at: row.expires_at,
        };
        (session, row.used_at)
    }))
}

/// Uses a token. Of any number of callers at once one is told that it did.
pub(super) async fn use_token(
    conn: &mut PgConnection,
    hash: &[u8],
    now: DateTime<Utc>,
) -> Result<bool> {
    let done = sqlx::query!(
        "update refresh_token set used_at = $2 where token_hash = $1 and used_at is null",
        hash,
        now,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Lets a session go on; whether it still may.
pub(super) async fn renew(conn: &mut PgConnection, session: &Session) -> Result<bool> {
    let done = sqlx::query!(
        "update sign_in_session set last_used_at = $2, updated_at = $2, expires_at = $3
         where id = $1 and revoked_at is null",
        session.id.uuid(),
        session.last_used_at,
        session.expires_at,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Ends a session; whether this did.
pub(super) async fn revoke(
    conn: &mut PgConnection,
    id: SessionId,
    now: DateTime<Utc>,
) -> Result<bool> {
    let done = sqlx::query!(
        "update sign_in_session set revoked_at = $2, updated_at = $2 where id = $1 and revoked_at is null",
        id.uuid(),
        now,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Ends the sessions in which somebody acts as this member; gives those that this ended.
pub(super) async fn revoke_of_member(
    conn: &mut PgConnection,
    agency: AgencyId,
    member: MemberId,
    now: DateTime<Utc>,
) -> Result<Vec<Session>> {
    let ended = sqlx::query_as!(
        Session,
        r#"update sign_in_session set revoked_at = $3, updated_at = $3
           where agency_id = $1 and member_id = $2 and revoked_at is null
           returning id as "id: SessionId", person_id as "person: PersonId", agency_id as "agency: AgencyId",
             member_id as "member: MemberId", revoked_at, last_used_at, created_at, expires_at"#,
        agency.uuid(),
        member.uuid(),
        now,
    )
    .fetch_all(conn)
    .await?;
    Ok(ended)
}

/// A person's sessions in an agency that have not ended, newest first.
pub(super) async fn list(
    conn: &mut PgConnection,
    person: PersonId,
    agency: AgencyId,
    after: Option<Uuid>,
    now: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Session>> {
    let sessions = sqlx::query_as!(
        Session,
        r#"select id as "id: SessionId", person_id as "person: PersonId", agency_id as "agency: AgencyId",
             member_id as "member: MemberId", revoked_at, last_used_at, created_at, expires_at
           from sign_in_session
           where person_id = $1 and agency_id = $2 and revoked_at is null and expires_at > $3
             and ($4::uuid is null or id < $4)
           order by id desc limit $5"#,
        person.uuid(),
        agency.uuid(),
        now,
        after,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(sessions)
}
