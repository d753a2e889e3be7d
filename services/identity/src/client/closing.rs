//! The end of a client (BIL-14): canceled for ever, and with it whatever gave access to it alone.
//! Deliberately absent: what it has bought, sent and owns elsewhere. Billing's saga ends that before it comes here.

use mainstay_jobs::record::{self, By, Change};
use mainstay_rpc::Context;
use mainstay_types::{AgencyScope, ClientId, ServiceName, Tenant};

use super::{Client, Error, State, sql};
use crate::{Identity, agency, api_key, member};

/// Who lets go of what was open with it.
const TOLD_OF_THE_END: &[ServiceName] = &[ServiceName::Escalation];

/// Cancels a client, in one transaction with all that it takes along. Doing it twice is doing it once.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn cancel(
    identity: &Identity,
    ctx: &Context,
    scope: &AgencyScope,
    client: ClientId,
) -> Result<Client, Error> {
    let by = By::service(ctx, scope.agency, identity.clock.now());
    let tenant = Tenant {
        agency: scope.agency,
        client,
    };
    let mut tx = identity.database.agency(scope).await?;
    // As for all that ends memberships: one after the other.
    agency::lock(tx.conn(), scope.agency).await?;
    let before = sql::lock(tx.conn(), tenant).await?.ok_or(Error::NotFound)?;
    if before.state == State::Canceled {
        return Ok(before);
    }
    let canceled = Client {
        state: State::Canceled,
        ..before.clone()
    };
    let after = sql::apply(tx.conn(), scope.agency, &canceled, by.now).await?;
    let keys = api_key::end_of_client(tx.conn(), &by, client).await;
    keys.map_err(|error| Error::Access(Box::new(error)))?;
    let members = member::end_of_client(tx.conn(), &by, client).await;
    members.map_err(|error| Error::Access(Box::new(error)))?;
    let change = Change {
        action: "identity.client.cancel",
        event: "identity.client.canceled",
        noun: "client",
        target: after.id.to_string(),
        client: Some(after.id),
        sequence: after.version,
        before: Some(record::image(&before)),
        after: record::image(&after),
    };
    record::write_to(tx.conn(), &by, change, TOLD_OF_THE_END).await?;
    tx.commit().await?;
    Ok(after)
}
