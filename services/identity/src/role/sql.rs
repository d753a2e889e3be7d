//! All queries about an agency's own roles.
//! Deliberately absent: built-in roles. No row is theirs.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{AgencyId, RoleId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{NewRole, Role};

pub(super) async fn insert(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: RoleId,
    new: &NewRole,
    now: DateTime<Utc>,
) -> Result<Role> {
    // Two statements: a foreign key of the same statement would not see its row.
    sqlx::query!(
        "insert into role (agency_id, id, name, description, created_at, updated_at) values ($1, $2, $3, $4, $5, $5)",
        agency.uuid(),
        id.uuid(),
        new.name,
        new.description,
        now,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "insert into role_permission (agency_id, role_id, permission) select $1, $2, p from unnest($3::text[]) p",
        agency.uuid(),
        id.uuid(),
        &new.permissions,
    )
    .execute(conn)
    .await?;
    Ok(Role {
        id,
        name: new.name.clone(),
        description: new.description.clone(),
        permissions: new.permissions.clone(),
        created_at: Some(now),
    })
}

pub(super) async fn get(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: RoleId,
) -> Result<Option<Role>> {
    let role = sqlx::query_as!(
        Role,
        r#"select id as "id: RoleId", name, description, created_at as "created_at?",
             array(select p.permission from role_permission p
                   where p.agency_id = r.agency_id and p.role_id = r.id order by 1) as "permissions!"
           from role r where agency_id = $1 and id = $2"#,
        agency.uuid(),
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(role)
}

pub(super) async fn find(
    conn: &mut PgConnection,
    agency: AgencyId,
    name: &str,
) -> Result<Option<Role>> {
    let role = sqlx::query_as!(
        Role,
        r#"select id as "id: RoleId", name, description, created_at as "created_at?",
             array(select p.permission from role_permission p
                   where p.agency_id = r.agency_id and p.role_id = r.id order by 1) as "permissions!"
           from role r where agency_id = $1 and name = $2"#,
        agency.uuid(),
        name,
    )
    .fetch_optional(conn)
    .await?;
    Ok(role)
}

pub(super) async fn list(
    conn: &mut PgConnection,
    agency: AgencyId,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Role>> {
    let roles = sqlx::query_as!(
        Role,
        r#"select id as "id: RoleId", name, description, created_at as "created_at?",
             array(select p.permission from role_permission p
                   where p.agency_id = r.agency_id and p.role_id = r.id order by 1) as "permissions!"
           from role r where agency_id = $1 and ($2::uuid is null or id < $2) order by id desc limit $3"#,
        agency.uuid(),
        after,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(roles)
}
