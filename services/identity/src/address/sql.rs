//! All queries about addresses that people sign in with.
//! Deliberately absent: a list of them.

use mainstay_db::Result;
use mainstay_types::{AgencyId, MemberId, PersonId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::Reached;
use crate::keys::LookupKey;
use crate::member::{Member, State};

/// Writes the addresses of a member; those that are there stay.
pub(crate) async fn write(
    conn: &mut PgConnection,
    lookup: &LookupKey,
    agency: AgencyId,
    member: &Member,
) -> Result<()> {
    let mut hashes = vec![lookup.email(&member.email)];
    let mut phones = vec![false];
    if let Some(phone) = &member.phone {
        hashes.push(lookup.phone(phone));
        phones.push(true);
    }
    sqlx::query!(
        "insert into sign_in_address (address_hash, agency_id, member_id, person_id, is_phone, active, created_at)
         select a.hash, $1, $2, $3, a.is_phone, $4, $5 from unnest($6::bytea[], $7::bool[]) as a (hash, is_phone)
         on conflict (address_hash, agency_id, member_id) do nothing",
        agency.uuid(),
        member.id.uuid(),
        member.person_id.uuid(),
        member.state == State::Active,
        member.created_at,
        &hashes,
        &phones,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A member's addresses lead nowhere any more.
pub(crate) async fn deactivate(
    conn: &mut PgConnection,
    agency: AgencyId,
    member: MemberId,
) -> Result<()> {
    sqlx::query!(
        "update sign_in_address set active = false where agency_id = $1 and member_id = $2",
        agency.uuid(),
        member.uuid(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Whom an address leads to, in the agency that is named or in any: of several memberships that are active, the oldest.
pub(crate) async fn oldest(
    conn: &mut PgConnection,
    address_hash: &[u8],
    agency: Option<AgencyId>,
) -> Result<Option<Reached>> {
    let reached = sqlx::query_as!(
        Reached,
        r#"select agency_id as "agency: AgencyId", member_id as "member: MemberId", person_id as "person: PersonId", is_phone
           from sign_in_address where address_hash = $1 and active and ($2::uuid is null or agency_id = $2)
           order by created_at, member_id limit 1"#,
        address_hash,
        agency.map(AgencyId::uuid),
    )
    .fetch_optional(conn)
    .await?;
    Ok(reached)
}

/// Whether there are people whose addresses are not written: members of before there were any.
pub(crate) async fn some_are_missing(conn: &mut PgConnection) -> Result<bool> {
    let missing = sqlx::query_scalar!(
        r#"select exists (select from person p where not exists (
             select from sign_in_address a where a.person_id = p.id)) as "missing!""#
    )
    .fetch_one(conn)
    .await?;
    Ok(missing)
}

/// The agencies after this one, in order.
pub(crate) async fn agencies(
    conn: &mut PgConnection,
    after: Option<AgencyId>,
    limit: i64,
) -> Result<Vec<AgencyId>> {
    let ids = sqlx::query_scalar!(
        r#"select distinct agency_id as "id: AgencyId" from agency_slug
           where $1::uuid is null or agency_id > $1 order by 1 limit $2"#,
        after.map(AgencyId::uuid),
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(ids)
}

/// Members of an agency whose addresses are not written.
pub(crate) async fn unwritten(
    conn: &mut PgConnection,
    agency: AgencyId,
    limit: i64,
) -> Result<Vec<Uuid>> {
    let ids = sqlx::query_scalar!(
        "select m.id from member m where m.agency_id = $1 and not exists (
           select from sign_in_address a where a.agency_id = m.agency_id and a.member_id = m.id)
         order by m.id limit $2",
        agency.uuid(),
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(ids)
}
