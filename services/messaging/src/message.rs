//! Messages (MSG-20): what is to leave, what has left, what came in. Whoever wants to send, of whatever channel and for
//! whatever reason, puts a message here with [`enqueue`]; [`crate::sending`] lets it go.
//! Deliberately absent: handing it to a provider.

mod error;
pub(crate) mod rpc;
pub mod rules;
pub(crate) mod sql;

use chrono::{DateTime, Utc};
use mainstay_db::page::{Page, PageRequest};
use mainstay_jobs::once::Once;
use mainstay_jobs::record::{self, By, Change};
use mainstay_proto::messaging::v1 as proto;
use mainstay_rpc::Context;
use mainstay_types::{ConversationId, LeadId, MessageId, Tenant};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

pub use error::Error;
pub(crate) use rpc::status as proto_status;

use crate::address::Address;
use crate::fallback::{self, Fallback};
use crate::gate::rules::{Reason, Refusal};
use crate::gate::{Channel, Decision, Purpose, decide, places};
use crate::standing::{self, Asked};
use crate::{Messaging, canned_reply, conversation, lead};
use rules::Status;

/// A message as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// In which conversation.
    pub conversation: ConversationId,
    /// With whom.
    pub lead: LeadId,
    /// Whether they wrote it.
    pub inbound: bool,
    /// How.
    pub channel: Channel,
    /// Ours.
    pub sender: String,
    /// Theirs.
    pub address: String,
    /// What for; none for what they wrote.
    pub purpose: Option<Purpose>,
    /// Who caused it.
    pub caused_by: String,
    /// A mail's subject.
    pub subject: Option<String>,
    /// The text.
    pub body: String,
    /// How it stands.
    pub status: Status,
    /// Why it stands so, where a code says it.
    pub error_code: Option<String>,
    /// In words.
    pub error: Option<String>,
    /// When it was meant to leave.
    pub send_at: Option<DateTime<Utc>>,
    /// After this it does not leave any more.
    pub expires_at: Option<DateTime<Utc>>,
    /// How often it was handed over.
    pub attempts: i32,
    /// The provider that has it.
    pub provider: Option<String>,
    /// Its id there.
    pub provider_id: Option<String>,
    /// When the provider took it.
    pub sent_at: Option<DateTime<Utc>>,
    /// When it arrived.
    pub delivered_at: Option<DateTime<Utc>>,
    /// Rises with each change.
    pub revision: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// How it came to its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The status.
    pub status: Status,
    /// What was found, refused or answered.
    pub detail: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
}

/// The decision that let a try go.
#[derive(Debug, Clone, PartialEq)]
pub struct Granted {
    /// Which try.
    pub attempt: i32,
    /// By which rules.
    pub rule_version: i32,
    /// What they found.
    pub evidence: serde_json::Value,
    /// When.
    pub decided_at: DateTime<Utc>,
}

/// A message with how it came to stand as it does.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// The message.
    pub message: Message,
    /// Oldest first.
    pub history: Vec<Entry>,
    /// Oldest first.
    pub permits: Vec<Granted>,
    /// Where it goes when its own channel fails for certain.
    pub fallback: Option<Fallback>,
}

/// What somebody wants to send.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// To whom.
    pub lead: LeadId,
    /// How.
    pub channel: Channel,
    /// What for.
    pub purpose: Purpose,
    /// A mail's subject.
    pub subject: Option<String>,
    /// The text.
    pub text: Text,
    /// When; at once if not said.
    pub send_at: Option<DateTime<Utc>>,
    /// After this it is not to leave any more.
    pub expires_at: Option<DateTime<Utc>>,
    /// Where it goes when its own channel fails for certain.
    pub fallback: Option<Fallback>,
}

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    /// This.
    Written(String),
    /// What the canned reply of this shortcut says to the lead.
    Canned(String),
}

/// A message to a known address, ready to wait for its leave.
#[derive(Debug, Clone)]
pub(crate) struct Draft<'a> {
    /// To whom.
    pub lead: LeadId,
    /// Where.
    pub address: &'a Address,
    /// How.
    pub channel: Channel,
    /// Ours.
    pub sender: &'a str,
    /// How many a second that sender may send.
    pub rate: f64,
    /// What for.
    pub purpose: Purpose,
    /// Who caused it.
    pub caused_by: &'a str,
    /// What there can be only one of.
    pub once_key: Option<String>,
    /// A mail's subject.
    pub subject: Option<String>,
    /// The text.
    pub body: String,
    /// When; at once if not said.
    pub send_at: Option<DateTime<Utc>>,
    /// After this it is not to leave any more.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Puts a message where it waits for its leave, in the caller's transaction (a worker's: the queue is machinery's). None
/// when there is one with its once-key already. Wake the dispatcher after the commit.
///
/// # Errors
/// Only the database's.
pub(crate) async fn enqueue(
    conn: &mut PgConnection,
    tenant: Tenant,
    draft: Draft<'_>,
    now: DateTime<Utc>,
) -> mainstay_db::Result<Option<MessageId>> {
    let made = enqueue_all(conn, tenant, vec![draft], now).await?;
    Ok(made.into_iter().next().flatten())
}

/// The same for as many as are wanted, in two statements. Gives what became of each, in their order.
///
/// # Errors
/// Only the database's.
pub(crate) async fn enqueue_all(
    conn: &mut PgConnection,
    tenant: Tenant,
    drafts: Vec<Draft<'_>>,
    now: DateTime<Utc>,
) -> mainstay_db::Result<Vec<Option<MessageId>>> {
    if drafts.is_empty() {
        return Ok(Vec::new());
    }
    let talks: Vec<conversation::Talk<'_>> = drafts
        .iter()
        .map(|draft| conversation::Talk {
            lead: draft.lead,
            channel: draft.channel,
            sender: draft.sender,
            address: draft.address.as_str(),
            unread: 0,
        })
        .collect();
    let conversations = conversation::ensure_all(conn, tenant, &talks, now).await?;
    let waiting = drafts.into_iter().zip(conversations);
    let waiting: Vec<sql::Outbound<'_>> = waiting
        .map(|(draft, conversation)| {
            let ready_at = draft.send_at.unwrap_or(now).max(now);
            sql::Outbound {
                id: MessageId::generate(),
                conversation,
                status: match ready_at > now {
                    true => Status::Scheduled,
                    false => Status::Queued,
                },
                ready_at,
                expires_at: draft
                    .expires_at
                    .unwrap_or(ready_at + rules::useful_for(draft.purpose)),
                lane: lane(draft.channel, draft.sender),
                draft,
            }
        })
        .collect();
    let made = sql::insert_outbound(conn, tenant, &waiting, now).await?;
    let told = waiting
        .iter()
        .map(|new| made.contains(&new.id).then_some(new.id));
    Ok(told.collect())
}

/// What a sender's rate is kept under.
pub(crate) fn lane(channel: Channel, sender: &str) -> String {
    format!("{}:{sender}", channel.as_str())
}

/// Takes a message in hand. One that is to leave now is refused here if the gate refuses it now; one for later only if no
/// waiting would help. Both are decided again when they are let go.
///
/// # Errors
/// [`Error`].
pub async fn create(
    messaging: &Messaging,
    ctx: &Context,
    tenant: Tenant,
    wanted: Wanted,
    once: &Once,
    answer: impl FnOnce(&Told) -> proto::Message,
) -> Result<proto::Message, Error> {
    let by = By::actor(ctx, messaging.clock.now());
    let accounts = messaging
        .senders
        .resolve(tenant, wanted.channel, None)
        .await?;
    let account = accounts.into_iter().next();
    let mut tx = messaging.database.worker().tenant(tenant).await?;
    if let Some(before) = once.begin(tx.conn()).await? {
        return Ok(before);
    }
    let reach = lead::reach(tx.conn(), tenant, wanted.lead, wanted.channel).await?;
    let reach = reach.ok_or(Error::NoAddress)?;
    let account = account.ok_or(Error::NoSender(wanted.channel))?;
    let name = reach.name.as_deref();
    let body = match &wanted.text {
        Text::Written(body) => body.clone(),
        Text::Canned(shortcut) => canned_reply::fill(tx.conn(), tenant, shortcut, name)
            .await?
            .ok_or_else(|| Error::Template("is no canned reply of this client".to_owned()))?
            .map_err(Error::Template)?,
    };
    let at = wanted.send_at.unwrap_or(by.now).max(by.now);
    let what = (wanted.purpose, wanted.channel, &reach);
    let decision = decision(tx.conn(), tenant, what, at, by.now).await;
    if let Decision::Refused { retry_at, all, .. } = decision
        && (at <= by.now || retry_at.is_none())
    {
        return Err(Error::Blocked {
            reasons: reasons(&all),
            retry_at,
            now: by.now,
        });
    }
    let draft = Draft {
        lead: reach.lead,
        address: &reach.address,
        channel: wanted.channel,
        sender: &account.sender,
        rate: account.rate,
        purpose: wanted.purpose,
        caused_by: &by.actor,
        once_key: None,
        subject: wanted.subject,
        body,
        send_at: wanted.send_at,
        expires_at: wanted.expires_at,
    };
    let id = enqueue(tx.conn(), tenant, draft, by.now).await?;
    if let Some((id, fallback)) = id.zip(wanted.fallback) {
        fallback::insert(tx.conn(), tenant, id, &fallback, by.now).await?;
    }
    let told = match id {
        Some(id) => sql::tell(tx.conn(), tenant, id).await?,
        None => None,
    };
    let told = told.ok_or(Error::NotFound)?;
    let change = Change {
        action: "messaging.message.create",
        event: "messaging.message.created",
        noun: "message",
        target: told.message.id.to_string(),
        client: Some(tenant.client),
        sequence: told.message.revision,
        before: None,
        after: image(&told.message),
    };
    record::write(tx.conn(), &by, change).await?;
    let answer = answer(&told);
    once.store(tx.conn(), &answer).await?;
    tx.commit().await?;
    messaging.wake();
    Ok(answer)
}

/// Whether a message for this may leave to them then, as it looks now.
pub(crate) async fn decision(
    conn: &mut PgConnection,
    tenant: Tenant,
    (purpose, channel, reach): (Purpose, Channel, &lead::Reach),
    at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Decision {
    let asked = Asked {
        channel,
        address: reach.address.clone(),
        message: None,
    };
    let found = standing::find_in_time(conn, tenant, &[asked], now).await;
    let places = places_of(&reach.address, reach.zone, reach.state.as_deref());
    let row = match &found {
        Ok(rows) => rows.first().ok_or_else(|| "no row".to_owned()),
        Err(why) => Err(why.clone()),
    };
    decide(&standing::facts(row, places), purpose, channel, at)
}

/// Where somebody may be whom a message goes to.
pub(crate) fn places_of(
    address: &Address,
    zone: Option<chrono_tz::Tz>,
    state: Option<&str>,
) -> Vec<places::Place> {
    let known = places::Known {
        zone,
        state,
        phone: address.is_phone().then(|| address.as_str()),
        sender: None,
    };
    places::plausible(&known).0
}

/// What audit and events hold of a message: not its text, which is the person's.
fn image(message: &Message) -> serde_json::Value {
    json!({
        "lead_id": message.lead,
        "conversation_id": message.conversation,
        "channel": message.channel.as_str(),
        "purpose": message.purpose.map(Purpose::as_str),
        "status": message.status.as_str(),
        "send_at": message.send_at,
    })
}

/// One message with its history.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get(messaging: &Messaging, tenant: Tenant, id: MessageId) -> Result<Told, Error> {
    let mut tx = messaging.database.tenant(tenant).await?;
    let told = sql::tell(tx.conn(), tenant, id).await?;
    tx.commit().await?;
    told.ok_or(Error::NotFound)
}

/// Takes a message back that has not left. One that was taken back already stays so.
///
/// # Errors
/// [`Error::NotFound`], [`Error::NotCancelable`].
pub async fn cancel(
    messaging: &Messaging,
    ctx: &Context,
    tenant: Tenant,
    id: MessageId,
) -> Result<Told, Error> {
    let by = By::actor(ctx, messaging.clock.now());
    let mut tx = messaging.database.tenant(tenant).await?;
    sql::lock_sending(tx.conn(), tenant).await?;
    let before = sql::tell(tx.conn(), tenant, id).await?;
    let before = before.ok_or(Error::NotFound)?.message;
    if before.status != Status::Canceled {
        if !before.status.waits() {
            return Err(Error::NotCancelable(before.status));
        }
        let why = sql::Why {
            code: "canceled",
            detail: &by.actor,
        };
        sql::cancel(tx.conn(), tenant, &[id], why, by.now).await?;
    }
    let after = sql::tell(tx.conn(), tenant, id).await?;
    let after = after.ok_or(Error::NotFound)?;
    if before.status != Status::Canceled {
        let change = Change {
            action: "messaging.message.cancel",
            event: "messaging.message.canceled",
            noun: "message",
            target: id.to_string(),
            client: Some(tenant.client),
            sequence: after.message.revision,
            before: Some(image(&before)),
            after: image(&after.message),
        };
        record::write(tx.conn(), &by, change).await?;
    }
    tx.commit().await?;
    Ok(after)
}

/// A page of a conversation, in the order in which it was said.
///
/// # Errors
/// [`Error::NotFound`] when there is no such conversation.
pub async fn page(
    messaging: &Messaging,
    tenant: Tenant,
    conversation: ConversationId,
    page: PageRequest<Uuid>,
) -> Result<Page<Message>, Error> {
    let mut tx = messaging.database.tenant(tenant).await?;
    if !conversation::stands(tx.conn(), tenant, conversation).await? {
        return Err(Error::NoConversation);
    }
    let after = page.after().copied();
    let rows = sql::list(tx.conn(), tenant, conversation, after, page.limit()).await?;
    tx.commit().await?;
    Ok(page.page(rows, |message| message.id.uuid()))
}

/// Why, each reason once, in the order of the rules.
pub(crate) fn reasons(all: &[Refusal]) -> Vec<Reason> {
    let mut reasons: Vec<Reason> = all.iter().map(|refusal| refusal.reason).collect();
    // What cannot be learned is refused by every rule that binds.
    reasons.dedup();
    reasons
}

/// Reasons as REST spells them.
pub(crate) fn spelled(reasons: &[Reason]) -> Vec<String> {
    reasons
        .iter()
        .map(|reason| reason.as_str().to_owned())
        .collect()
}
