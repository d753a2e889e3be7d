//! What somebody wrote: kept once, in their one open conversation, under their one lead. What it says about being written to
//! is heard in the same transaction: after that commit nothing more leaves.
//! Deliberately absent: an answer to what they said, but for the words that carriers demand one to.

use mainstay_jobs::record::By;
use mainstay_rpc::ServiceName;
use mainstay_types::{AgencyScope, ClientId, LeadId, MessageId, Tenant, Visible};
use sqlx::PgConnection;

use super::word::Received;
use super::{Error, Handled, Outcome, ProviderEvent};
use crate::address::Address;
use crate::carrier::Provider;
use crate::consent::{self, Kind, Said};
use crate::conversation::{self, Talk, rating};
use crate::gate::revocation::{self, Asks};
use crate::gate::{Channel, Purpose};
use crate::message::{self, Draft, sql};
use crate::{Messaging, burst, lead, notice};

/// The longest text that is kept; a text message has no more, and who sends more says it in the first of it.
const MOST_TEXT: usize = 20_000;

pub(super) async fn take(
    messaging: &Messaging,
    event: &ProviderEvent,
    provider: Provider,
    said: &Received,
) -> Result<Handled, Error> {
    let Ok(address) = Address::parse(&said.from) else {
        // A short code, or a name: nobody that could be answered.
        return Ok(Handled::ignored(format!("nobody writes as {}", said.from)));
    };
    let channel = Channel::Sms;
    let client = match event.client {
        Some(client) => Some(client),
        None => last_talked(messaging, event, &said.to, &said.from).await?,
    };
    let Some(client) = client else {
        return Ok(Handled::ignored(
            "nobody here has talked with them from this number",
        ));
    };
    let tenant = Tenant {
        agency: event.agency,
        client,
    };
    let now = messaging.clock.now();
    let by = By::itself(ServiceName::Messaging, tenant.agency, now);
    let asks = revocation::read(&said.body);
    // Before the transaction: it asks another service.
    let reply = match asks {
        Some(asks) if !said.answered_by_provider => reply(messaging, tenant, said, asks).await?,
        _ => None,
    };
    let mut tx = messaging.database.worker().tenant(tenant).await?;
    sql::lock_sending(tx.conn(), tenant).await?;
    if sql::is_known(tx.conn(), tenant, provider.as_str(), &said.provider_id).await? {
        return Ok(Handled {
            outcome: Outcome::Duplicate,
            detail: "it is here".to_owned(),
            client: Some(client),
        });
    }
    let (lead, _) =
        lead::ensure(tx.conn(), tenant, &by, &address, lead::Source::InboundSms).await?;
    let talk = Talk {
        lead,
        channel,
        sender: &said.to,
        address: address.as_str(),
        unread: 1,
    };
    // A number that they were asked for belongs to what it is about, and opens nothing.
    let rated = match asks {
        None => rating::hear(tx.conn(), tenant, &by, &talk, &said.body).await?,
        Some(_) => None,
    };
    let conversation = match rated {
        Some(rated) => rated,
        None => conversation::ensure(tx.conn(), tenant, talk, now).await?,
    };
    let id = MessageId::generate();
    let body: String = said
        .body
        .chars()
        .filter(|c| *c != '\0')
        .take(MOST_TEXT)
        .collect();
    let inbound = sql::Inbound {
        id,
        conversation,
        lead,
        channel,
        sender: &said.to,
        address: &address,
        subject: None,
        body: &body,
        provider: provider.as_str(),
        provider_id: &said.provider_id,
    };
    sql::insert_inbound(tx.conn(), tenant, &inbound, now).await?;
    let detail = match asks {
        None if rated.is_some() => "kept as a rating".to_owned(),
        None => {
            lead::advance(tx.conn(), tenant, &by, lead, lead::Status::Engaged).await?;
            // Automations do not answer automations: a number that sends from here is no person. Nor do they answer staff.
            if !notice::is_house(tenant)
                && !sql::sends_from_here(tx.conn(), channel, &address).await?
            {
                burst::said(tx.conn(), messaging, tenant, (conversation, id), now).await?;
            }
            "kept".to_owned()
        }
        Some(asks) => {
            let to = To {
                tenant,
                by: &by,
                lead,
                address: &address,
                message: id,
            };
            heed(tx.conn(), &to, asks, &body, reply).await?
        }
    };
    tx.commit().await?;
    messaging.wake();
    messaging.wake_jobs();
    Ok(Handled {
        outcome: Outcome::Applied,
        detail,
        client: Some(client),
    })
}

/// Whom a word like `STOP` is from.
struct To<'a> {
    tenant: Tenant,
    by: &'a By,
    lead: LeadId,
    address: &'a Address,
    message: MessageId,
}

/// What is answered, and as whom.
struct Reply {
    sender: String,
    rate: f64,
    body: String,
}

/// Does what the word asks, and queues the one answer.
async fn heed(
    conn: &mut PgConnection,
    to: &To<'_>,
    asks: Asks,
    body: &str,
    reply: Option<Reply>,
) -> Result<String, Error> {
    let said = Said {
        source: "reply".to_owned(),
        text: Some(body.chars().take(2000).collect()),
    };
    let channels = to.address.channels();
    let (changed, done) = match asks {
        Asks::OptOut => {
            let what = (Kind::OptOut, said);
            let changed =
                consent::change_in(conn, to.tenant, to.by, to.address, channels, what).await?;
            (changed, "opted out")
        }
        Asks::OptIn => {
            let what = (Kind::OptIn, said);
            let changed =
                consent::change_in(conn, to.tenant, to.by, to.address, channels, what).await?;
            (changed, "opted in again")
        }
        Asks::Help => (true, "asked for help"),
    };
    // Who stops twice hears it once: a second confirmation is a message to somebody who has stopped us.
    if let Some(reply) = reply
        && changed
    {
        let draft = Draft {
            lead: to.lead,
            address: to.address,
            channel: Channel::Sms,
            sender: &reply.sender,
            rate: reply.rate,
            purpose: Purpose::KeywordReply,
            caused_by: &to.by.actor,
            once_key: Some(format!("reply_to:{}", to.message)),
            subject: None,
            body: reply.body,
            send_at: None,
            expires_at: None,
        };
        message::enqueue(conn, to.tenant, draft, to.by.now).await?;
    }
    Ok(done.to_owned())
}

/// What is answered to such a word, from the number that it was written to.
async fn reply(
    messaging: &Messaging,
    tenant: Tenant,
    said: &Received,
    asks: Asks,
) -> Result<Option<Reply>, Error> {
    let accounts = messaging
        .senders
        .resolve(tenant, Channel::Sms, Some(&said.to))
        .await?;
    let body = match asks {
        Asks::OptOut => {
            "You are unsubscribed and will get no more messages from us. Reply START to get them again."
        }
        Asks::OptIn => "You will get our messages again. Reply STOP to end them, HELP for help.",
        Asks::Help => {
            "You get these messages because you contacted this business. Reply STOP to end them. Message and data rates may apply."
        }
    };
    Ok(accounts.into_iter().next().map(|account| Reply {
        sender: account.sender,
        rate: account.rate,
        body: body.to_owned(),
    }))
}

/// Which of the agency's clients has talked with them last from a number that several share.
pub(super) async fn last_talked(
    messaging: &Messaging,
    event: &ProviderEvent,
    ours: &str,
    theirs: &str,
) -> mainstay_db::Result<Option<ClientId>> {
    let scope = AgencyScope {
        agency: event.agency,
        visible: Visible::All,
    };
    let mut tx = messaging.database.worker().agency(&scope).await?;
    let client = sqlx::query_scalar!(
        r#"select tenant_id as "client: ClientId" from conversation
           where agency_id = $1 and channel = 'sms' and sender = $2 and address = $3
           order by last_activity_at desc limit 1"#,
        event.agency.uuid(),
        ours,
        theirs,
    )
    .fetch_optional(tx.conn())
    .await?;
    tx.commit().await?;
    Ok(client)
}
