//! Where a message went.
//! Deliberately absent: what it said.

use mainstay_db::Result;
use sqlx::PgConnection;

use super::token::Subject;
use crate::address::Address;

/// The mail address that a message of ours went to; none for a message that is not there, or was no mail.
pub(super) async fn find_address(
    conn: &mut PgConnection,
    subject: Subject,
) -> Result<Option<Address>> {
    let address = sqlx::query_scalar!(
        "select address from message
         where agency_id = $1 and tenant_id = $2 and id = $3 and direction = 'outbound' and channel = 'email'",
        subject.tenant.agency.uuid(),
        subject.tenant.client.uuid(),
        subject.message.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(address.and_then(|address| Address::parse(&address).ok()))
}
