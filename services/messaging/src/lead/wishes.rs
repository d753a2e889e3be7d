//! What a lead wishes as a whole: to hear no more, or to hear again, at each of its addresses, on every channel.
//! Deliberately absent: standing of a lead's own. It is that of its addresses, which is consent's.

use mainstay_jobs::record::By;
use mainstay_rpc::Context;
use mainstay_types::LeadId;

use super::edit::lock_read;
use super::{Error, Lead};
use crate::Messaging;
use crate::consent::{self, Contact, Kind, Said};
use crate::message::sql::lock_sending;

/// Opts a lead out or in again, all in one transaction. Where it stands so already, nothing changes.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Merged`].
pub async fn change(
    messaging: &Messaging,
    ctx: &Context,
    id: LeadId,
    (kind, said): (Kind, Said),
) -> Result<(Lead, Vec<Contact>), Error> {
    let tenant = ctx.tenant();
    let by = By::actor(ctx, messaging.clock.now());
    let mut tx = messaging.database.tenant(tenant).await?;
    // Before the lead's row, as whoever hears a `STOP` has it.
    lock_sending(tx.conn(), tenant).await?;
    // Under its lock, so that an address that is added meanwhile is not passed over.
    let lead = lock_read(tx.conn(), tenant, id, None).await?;
    let mut addresses: Vec<_> = lead.identities.iter().map(|known| &known.address).collect();
    addresses.sort_unstable();
    let mut contacts = Vec::with_capacity(addresses.len());
    for address in addresses {
        for channel in address.channels() {
            consent::write(tx.conn(), tenant, &by, address, *channel, kind, &said).await?;
        }
        contacts.push(consent::contact(tx.conn(), tenant, address.clone()).await?);
    }
    tx.commit().await?;
    Ok((lead, contacts))
}
