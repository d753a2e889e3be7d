//! That somebody called, and what became of it: one call of one lead, whatever is told of it and in whatever order.
//! Deliberately absent: where a call is put through to. The gateway answered that while it rang.

use mainstay_jobs::record::By;
use mainstay_rpc::ServiceName;
use mainstay_types::{CallId, ClientId, Tenant};

use super::inbound::last_talked;
use super::word::Rang;
use super::{Error, Handled, Outcome, ProviderEvent};
use crate::address::Address;
use crate::call::{self, Call, rules};
use crate::carrier::Provider;
use crate::message::sql::lock_sending;
use crate::{Messaging, lead};

pub(super) async fn take(
    messaging: &Messaging,
    event: &ProviderEvent,
    provider: Provider,
    rang: &Rang,
) -> Result<Handled, Error> {
    if !rang.inbound {
        return Ok(Handled::ignored("a call that we made"));
    }
    let Some(word) = rang.word else {
        return Ok(Handled::ignored("says nothing of how the call stands"));
    };
    let Some(client) = whose(messaging, event, provider, rang).await? else {
        return Ok(Handled::ignored(
            "nobody here has this number, or has talked with them from it",
        ));
    };
    let tenant = Tenant {
        agency: event.agency,
        client,
    };
    let by = By::itself(ServiceName::Messaging, tenant.agency, messaging.clock.now());
    let mut tx = messaging.database.worker().tenant(tenant).await?;
    // Before everything: what follows from a missed call may send something, or take it back.
    lock_sending(tx.conn(), tenant).await?;
    let known = call::lock(tx.conn(), tenant, provider.as_str(), &rang.provider_id).await?;
    let outcome = match known {
        Some(call) => {
            let news = call::hear(tx.conn(), tenant, &by, &call, word, event.received_at).await?;
            if news {
                Outcome::Applied
            } else {
                Outcome::Duplicate
            }
        }
        None => {
            let (Some(from), Some(to)) = (&rang.from, &rang.to) else {
                return Ok(Handled::ignored("a call that is not known, of nobody"));
            };
            let address = Address::parse(from).ok().filter(Address::is_phone);
            let Some(address) = address.filter(|address| !rules::hides(address.as_str())) else {
                return Ok(Handled::ignored(format!("nobody calls as {from}")));
            };
            let source = lead::Source::InboundCall;
            let (lead, _) = lead::ensure(tx.conn(), tenant, &by, &address, source).await?;
            let new = Call {
                id: CallId::generate(),
                lead,
                provider: provider.as_str().to_owned(),
                provider_id: rang.provider_id.clone(),
                sender: to.clone(),
                address: address.as_str().to_owned(),
                standing: word,
                started_at: event.received_at,
                ended_at: call::ended(word, event.received_at),
                revision: 1,
            };
            call::begin(tx.conn(), tenant, &by, new).await?;
            Outcome::Applied
        }
    };
    tx.commit().await?;
    messaging.wake();
    messaging.wake_jobs();
    Ok(Handled {
        outcome,
        detail: format!("the call is {}", word.status.as_str()),
        client: Some(client),
    })
}

/// Whose number was called: as integrations knows, else as the call is known, else whoever has talked with them from it last.
async fn whose(
    messaging: &Messaging,
    event: &ProviderEvent,
    provider: Provider,
    rang: &Rang,
) -> mainstay_db::Result<Option<ClientId>> {
    if event.client.is_some() {
        return Ok(event.client);
    }
    let (agency, id) = (event.agency, rang.provider_id.as_str());
    let known = call::client_of(messaging, agency, provider.as_str(), id).await?;
    match (known, &rang.to, &rang.from) {
        (None, Some(to), Some(from)) => last_talked(messaging, event, to, from).await,
        (known, _, _) => Ok(known),
    }
}
