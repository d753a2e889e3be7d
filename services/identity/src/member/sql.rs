//! All queries about members and their bindings.
//! Deliberately absent: a delete of a member. History must still know who acted.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{AgencyId, ClientId, MemberId, PersonId, Visible};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Member, NewMember, State};
use crate::grant::Grant;
use crate::role::{BuiltIn, Role};

pub(super) async fn insert(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: MemberId,
    person: PersonId,
    new: &NewMember,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "insert into member (agency_id, id, person_id, name, email, phone, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $7)",
        agency.uuid(),
        id.uuid(),
        person.uuid(),
        new.name,
        new.email,
        new.phone,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Replaces the member's bindings: one row for the agency, or one a client.
pub(super) async fn bind(
    conn: &mut PgConnection,
    agency: AgencyId,
    member: MemberId,
    role: &Role,
    reach: &Visible,
) -> Result<()> {
    sqlx::query!(
        "delete from role_binding where agency_id = $1 and member_id = $2",
        agency.uuid(),
        member.uuid()
    )
    .execute(&mut *conn)
    .await?;
    let clients: Vec<Option<Uuid>> = match reach {
        Visible::All => vec![None],
        Visible::Only(clients) => clients.iter().map(|client| Some(client.uuid())).collect(),
    };
    let ids: Vec<Uuid> = clients.iter().map(|_| Uuid::now_v7()).collect();
    let built_in = role.built_in().map(BuiltIn::name);
    let own = role.built_in().is_none().then(|| role.id.uuid());
    sqlx::query!(
        "insert into role_binding (agency_id, id, member_id, built_in, role_id, client_id)
         select $1, b.id, $2, $3, $4, b.client_id from unnest($5::uuid[], $6::uuid[]) as b (id, client_id)",
        agency.uuid(),
        member.uuid(),
        built_in,
        own,
        &ids,
        &clients as &[Option<Uuid>],
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn get(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: MemberId,
) -> Result<Option<Member>> {
    let member = sqlx::query_as!(
        Member,
        r#"select m.id as "id: MemberId", m.person_id as "person_id: PersonId", m.name, m.email, m.phone,
             m.state as "state: State", m.version, m.created_at, b.role as "role!",
             b.all_clients as "all_clients!", b.clients as "clients!: Vec<ClientId>"
           from member m
           cross join lateral (
             select min(coalesce(rb.built_in, r.name)) as role, coalesce(bool_or(rb.client_id is null), false) as all_clients,
               coalesce(array_agg(rb.client_id order by rb.client_id) filter (where rb.client_id is not null), '{}') as clients
             from role_binding rb left join role r on r.agency_id = rb.agency_id and r.id = rb.role_id
             where rb.agency_id = m.agency_id and rb.member_id = m.id) b
           where m.agency_id = $1 and m.id = $2"#,
        agency.uuid(),
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(member)
}

pub(super) async fn list(
    conn: &mut PgConnection,
    agency: AgencyId,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Member>> {
    let members = sqlx::query_as!(
        Member,
        r#"select m.id as "id: MemberId", m.person_id as "person_id: PersonId", m.name, m.email, m.phone,
             m.state as "state: State", m.version, m.created_at, b.role as "role!",
             b.all_clients as "all_clients!", b.clients as "clients!: Vec<ClientId>"
           from member m
           cross join lateral (
             select min(coalesce(rb.built_in, r.name)) as role, coalesce(bool_or(rb.client_id is null), false) as all_clients,
               coalesce(array_agg(rb.client_id order by rb.client_id) filter (where rb.client_id is not null), '{}') as clients
             from role_binding rb left join role r on r.agency_id = rb.agency_id and r.id = rb.role_id
             where rb.agency_id = m.agency_id and rb.member_id = m.id) b
           where m.agency_id = $1 and ($2::uuid is null or m.id < $2)
           order by m.id desc limit $3"#,
        agency.uuid(),
        after,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(members)
}

/// Says that the member changed, and gives it as it stands.
pub(super) async fn touch(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: MemberId,
    now: DateTime<Utc>,
) -> Result<Option<Member>> {
    sqlx::query!(
        "update member set version = version + 1, updated_at = $3 where agency_id = $1 and id = $2",
        agency.uuid(),
        id.uuid(),
        now,
    )
    .execute(&mut *conn)
    .await?;
    get(conn, agency, id).await
}

/// Ends a membership that stands, and gives it as it stands then.
pub(super) async fn deactivate(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: MemberId,
    now: DateTime<Utc>,
) -> Result<Option<Member>> {
    sqlx::query!(
        "update member set state = 'deactivated', version = version + 1, updated_at = $3
         where agency_id = $1 and id = $2 and state = 'active'",
        agency.uuid(),
        id.uuid(),
        now,
    )
    .execute(&mut *conn)
    .await?;
    get(conn, agency, id).await
}

/// The active members who serve a client and nobody else who has not left.
pub(super) async fn all_of_client_alone(
    conn: &mut PgConnection,
    agency: AgencyId,
    client: ClientId,
) -> Result<Vec<Member>> {
    let ids = sqlx::query_scalar!(
        r#"select m.id as "id: MemberId" from member m
           where m.agency_id = $1 and m.state = 'active'
             and exists (select from role_binding b
                         where b.agency_id = m.agency_id and b.member_id = m.id and b.client_id = $2)
             and not exists (select from role_binding b
                             left join client c on c.agency_id = b.agency_id and c.id = b.client_id
                             where b.agency_id = m.agency_id and b.member_id = m.id and b.client_id is distinct from $2
                               and c.state is distinct from 'canceled')
           order by m.id"#,
        agency.uuid(),
        client.uuid(),
    )
    .fetch_all(&mut *conn)
    .await?;
    let mut members = Vec::with_capacity(ids.len());
    for id in ids {
        members.extend(get(conn, agency, id).await?);
    }
    Ok(members)
}

pub(crate) async fn find_by_person(
    conn: &mut PgConnection,
    agency: AgencyId,
    email_hash: &[u8],
) -> Result<Option<MemberId>> {
    let id = sqlx::query_scalar!(
        r#"select m.id as "id: MemberId" from member m join person p on p.id = m.person_id
           where m.agency_id = $1 and p.email_hash = $2"#,
        agency.uuid(),
        email_hash,
    )
    .fetch_optional(conn)
    .await?;
    Ok(id)
}

/// What an active member may do, and for whom; nothing for one who is deactivated.
pub(crate) async fn grants(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: MemberId,
) -> Result<Vec<Grant>> {
    let rows = sqlx::query!(
        r#"select rb.built_in,
             array(select p.permission from role_permission p
                   where p.agency_id = rb.agency_id and p.role_id = rb.role_id order by 1) as "permissions!",
             bool_or(rb.client_id is null) as "all_clients!",
             array_agg(rb.client_id) filter (where rb.client_id is not null) as "clients: Vec<ClientId>"
           from role_binding rb join member m on m.agency_id = rb.agency_id and m.id = rb.member_id
           where rb.agency_id = $1 and rb.member_id = $2 and m.state = 'active'
           group by rb.agency_id, rb.built_in, rb.role_id"#,
        agency.uuid(),
        id.uuid(),
    )
    .fetch_all(conn)
    .await?;
    let grant = |built_in: Option<String>, own: Vec<String>, reach| {
        // A name that this binary does not know gives nothing: it is newer than we are.
        let built_in = built_in.map(|name| {
            BuiltIn::named(&name)
                .map(BuiltIn::permissions)
                .unwrap_or_default()
        });
        let permissions =
            built_in.map_or(own, |names| names.into_iter().map(str::to_owned).collect());
        Grant { permissions, reach }
    };
    Ok(rows
        .into_iter()
        .map(|row| {
            let reach = if row.all_clients {
                Visible::All
            } else {
                Visible::Only(row.clients.unwrap_or_default())
            };
            grant(row.built_in, row.permissions, reach)
        })
        .collect())
}

/// An active member whose role reaches a client.
#[derive(Debug)]
pub(super) struct Serving {
    pub id: MemberId,
    pub name: String,
    pub email: String,
    pub phone: Option<String>,
    pub role: String,
    built_in: Option<String>,
    own: Vec<String>,
}

impl Serving {
    /// Whether the role allows it.
    pub fn may(&self, permission: &str) -> bool {
        match &self.built_in {
            // A name that this binary does not know gives nothing: it is newer than we are.
            Some(name) => BuiltIn::named(name)
                .map(BuiltIn::permissions)
                .unwrap_or_default()
                .contains(&permission),
            None => self.own.iter().any(|held| held == permission),
        }
    }
}

/// Those, by id; without a client, of those whose role reaches all.
pub(super) async fn serving(
    conn: &mut PgConnection,
    agency: AgencyId,
    client: Option<ClientId>,
    limit: i64,
) -> Result<Vec<Serving>> {
    let rows = sqlx::query_as!(
        Serving,
        r#"select distinct on (m.id) m.id as "id: MemberId", m.name, m.email, m.phone, coalesce(rb.built_in, r.name) as "role!",
             rb.built_in,
             array(select p.permission from role_permission p
                   where p.agency_id = rb.agency_id and p.role_id = rb.role_id order by 1) as "own!"
           from member m
           join role_binding rb on rb.agency_id = m.agency_id and rb.member_id = m.id
           left join role r on r.agency_id = rb.agency_id and r.id = rb.role_id
           where m.agency_id = $1 and m.state = 'active' and (rb.client_id is null or rb.client_id = $2)
           order by m.id limit $3"#,
        agency.uuid(),
        client.map(ClientId::uuid),
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}
