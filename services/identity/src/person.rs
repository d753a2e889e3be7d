//! People: one row a human being, known by the keyed hash of the email address.
//! Deliberately absent: names and numbers. Each agency keeps what it wrote down, in its own member row.

use mainstay_db::Result;
use mainstay_types::PersonId;
use sqlx::PgConnection;

/// The person with this email, made when there is none. Two agencies that ask at once get the same one.
pub(crate) async fn find_or_insert(conn: &mut PgConnection, email_hash: &[u8]) -> Result<PersonId> {
    sqlx::query!(
        "insert into person (email_hash, id) values ($1, $2) on conflict (email_hash) do nothing",
        email_hash,
        PersonId::generate().uuid(),
    )
    .execute(&mut *conn)
    .await?;
    let id = sqlx::query_scalar!(
        r#"select id as "id: PersonId" from person where email_hash = $1"#,
        email_hash
    )
    .fetch_one(conn)
    .await?;
    Ok(id)
}
