//! The one query about notices; they are written as every message is.
//! Deliberately absent: their text.

use mainstay_db::Result;
use mainstay_types::{MessageId, Tenant};
use sqlx::PgConnection;

use crate::message::rules::Status;

/// The message with this once-key, and how it stands.
pub(super) async fn find(
    conn: &mut PgConnection,
    tenant: Tenant,
    once_key: Option<&str>,
) -> Result<Option<(MessageId, Status)>> {
    let row = sqlx::query!(
        r#"select id as "id: MessageId", status from message where tenant_id = $1 and once_key = $2"#,
        tenant.client.uuid(),
        once_key,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.and_then(|row| Some((row.id, Status::named(&row.status)?))))
}
