//! How they say it was (CSAT, MSG-25): asked as a conversation is closed, answered by their next text, if that is just a number.
//! Deliberately absent: asking twice. The question has the conversation's once-key, and a closed one asks nothing.

mod sql;

use chrono::TimeDelta;
use mainstay_jobs::record::By;
use mainstay_rpc::Context;
use mainstay_types::{ConversationId, Tenant};
use sqlx::PgConnection;

use super::{Act, Conversation, Error, Talk, get, rules, shown, write};
use crate::address::Address;
use crate::gate::{Channel, Decision, Purpose};
use crate::message::{self, Draft};
use crate::{Messaging, lead};

/// What they are asked.
const QUESTION: &str = "How did we do? Reply with a number from 1 to 5.";
/// For how long a number is an answer to it.
const WINDOW: TimeDelta = TimeDelta::days(7);

/// Closes a conversation and asks how it was, in one transaction. One that is closed already asks nothing.
///
/// # Errors
/// [`Error::NotFound`], [`Error::NotTexted`], and whatever keeps the question from being sent: then nothing is closed.
pub(super) async fn close_and_ask(
    messaging: &Messaging,
    ctx: &Context,
    tenant: Tenant,
    id: ConversationId,
) -> Result<Conversation, Error> {
    let by = By::actor(ctx, messaging.clock.now());
    let before = get(messaging, tenant, id).await?;
    if !before.open {
        return Ok(before);
    }
    if before.channel != Channel::Sms {
        return Err(Error::NotTexted);
    }
    let address = Address::parse(&before.address).map_err(|_| Error::NotTexted)?;
    // Before the transaction: it asks another service.
    let accounts = messaging
        .senders
        .resolve(tenant, before.channel, Some(&before.sender))
        .await
        .map_err(message::Error::Senders)?;
    let account = accounts.into_iter().next();
    let account = account.ok_or(message::Error::NoSender(before.channel))?;
    let mut tx = messaging.database.worker().tenant(tenant).await?;
    // Whoever keeps a text of theirs has it too: what they say comes before the question, or answers it.
    message::sql::lock_sending(tx.conn(), tenant).await?;
    let before = shown(super::sql::lock(tx.conn(), tenant, id).await?)?;
    if !before.open {
        return Ok(before);
    }
    let reach = lead::reach(tx.conn(), tenant, before.lead, before.channel).await;
    let reach = reach.map_err(message::Error::Lead)?;
    let reach = lead::Reach {
        lead: before.lead,
        address,
        zone: reach.as_ref().and_then(|reach| reach.zone),
        state: reach.and_then(|reach| reach.state),
        name: None,
    };
    let what = (Purpose::Conversational, before.channel, &reach);
    let decision = message::decision(tx.conn(), tenant, what, by.now, by.now).await;
    if let Decision::Refused { retry_at, all, .. } = decision {
        return Err(Error::Question(message::Error::Blocked {
            reasons: message::reasons(&all),
            retry_at,
            now: by.now,
        }));
    }
    // While it is open, so that the question is said in it.
    let question = Draft {
        lead: before.lead,
        address: &reach.address,
        channel: before.channel,
        sender: &account.sender,
        rate: account.rate,
        purpose: Purpose::Conversational,
        caused_by: &by.actor,
        once_key: Some(once_key(id)),
        subject: None,
        body: QUESTION.to_owned(),
        send_at: None,
        expires_at: None,
    };
    message::enqueue(tx.conn(), tenant, question, by.now).await?;
    let closed = rules::act(&before, Act::Close, &by.actor, by.now);
    let asked = Conversation {
        rating_asked_at: Some(by.now),
        last_activity_at: before.last_activity_at.max(by.now),
        ..closed.unwrap_or_else(|| before.clone())
    };
    let after = write(tx.conn(), tenant, &by, Act::Close.names(), &before, asked).await?;
    tx.commit().await?;
    messaging.wake();
    Ok(after)
}

/// What there is one question of.
fn once_key(id: ConversationId) -> String {
    format!("rating:{}", id.uuid())
}

/// Takes a text for the rating that it is, if they were asked for one and nothing else was said since: gives the conversation
/// that it rates. In the transaction that keeps the text, which holds the sending lock.
///
/// # Errors
/// Only the database's.
pub(crate) async fn hear(
    conn: &mut PgConnection,
    tenant: Tenant,
    by: &By,
    talk: &Talk<'_>,
    text: &str,
) -> mainstay_db::Result<Option<ConversationId>> {
    let Some(rating) = rules::rating(text) else {
        return Ok(None);
    };
    let Some(id) = sql::awaited(conn, tenant, talk, by.now - WINDOW).await? else {
        return Ok(None);
    };
    let Some(before) = super::sql::lock(conn, tenant, id).await? else {
        return Ok(None);
    };
    if before.rating.is_some() || before.deleted_at.is_some() {
        return Ok(None);
    }
    let after = Conversation {
        rating: Some(rating),
        last_activity_at: before.last_activity_at.max(by.now),
        ..before.clone()
    };
    let names = (
        "messaging.conversation.rate",
        "messaging.conversation.rated",
    );
    write(conn, tenant, by, names, &before, after).await?;
    Ok(Some(id))
}
