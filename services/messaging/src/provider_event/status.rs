//! What became of a message, as its provider tells it: in any order, doubled, and also before we have written what we know.
//! Deliberately absent: a status of ours. A word only raises what stands.

use chrono::TimeDelta;
use mainstay_types::{AgencyId, AttemptId, ClientId, MessageId, Tenant};
use sqlx::PgConnection;

use super::word::{About, Word};
use super::{Error, Handled, Outcome, ProviderEvent};
use crate::address::Address;
use crate::automation::sweep;
use crate::carrier::{Class, Provider, class_of};
use crate::gate::Channel;
use crate::message::rules::{self, Status};
use crate::message::sql::lock_sending;
use crate::sending::settle::{self, Failure, Write};
use crate::{Messaging, fallback};

/// For how long what a provider tells may be ahead of what we have written.
const AHEAD: TimeDelta = TimeDelta::minutes(15);

pub(super) async fn hear(
    messaging: &Messaging,
    event: &ProviderEvent,
    provider: Provider,
    word: &Word,
) -> Result<Handled, Error> {
    let Some(of) = whose(messaging, event, provider, word).await? else {
        // Resend's word may come before we have written its id, or while a try without an answer waits to be said again.
        if word.ours && messaging.clock.now() < event.received_at + AHEAD {
            return Err(Error::NotYet);
        }
        return Ok(Handled::ignored("not about a message of ours"));
    };
    let Some(raised) = raise(messaging, &of, provider, word, None).await? else {
        return Ok(Handled::ignored("not about a message of ours"));
    };
    Ok(Handled {
        outcome: if raised.applied {
            Outcome::Applied
        } else {
            Outcome::Duplicate
        },
        detail: match raised.by_this {
            true => raised.status.as_str().to_owned(),
            false => format!("stands at {}", raised.status.as_str()),
        },
        client: Some(of.tenant.client),
    })
}

/// What a word made of its message.
pub(super) struct Raised {
    /// How it stands now.
    pub(super) status: Status,
    /// Whether it came to that by this word.
    by_this: bool,
    /// Whether the word had any effect.
    applied: bool,
}

/// Gives a word about a try its effect; none when there is no such try. The message's history says how it was learned.
pub(super) async fn raise(
    messaging: &Messaging,
    of: &Of,
    provider: Provider,
    word: &Word,
    how: Option<&str>,
) -> mainstay_db::Result<Option<Raised>> {
    let now = messaging.clock.now();
    let mut tx = messaging.database.worker().tenant(of.tenant).await?;
    lock_sending(tx.conn(), of.tenant).await?;
    let Some(stands) = lock(tx.conn(), of).await? else {
        return Ok(None);
    };
    let class = match (word.about, word.status, word.code.as_deref()) {
        (About::DeadAddress, ..) => Some(Class::DeadAddress),
        (About::OptOut, ..) => Some(Class::OptedOut),
        (About::Code, Some(Status::Failed | Status::Undelivered), Some(code)) => {
            Some(class_of(provider, code))
        }
        (About::Code | About::Message, ..) => None,
    };
    // That it speaks of the message at all proves that it took it.
    let taken = rules::heard(stands.status, Status::Sent);
    let raised = word
        .status
        .and_then(|word| rules::heard(stands.status, word))
        .or(taken);
    let failed = matches!(raised, Some(Status::Failed | Status::Undelivered));
    let write = Write {
        message: of.message,
        attempt: of.attempt,
        fence: stands.fence,
        attempt_state: "accepted",
        provider: provider.as_str(),
        provider_id: Some(word.provider_id.clone()),
        code: word.code.clone().filter(|_| failed),
        detail: failed
            .then(|| word.text.clone())
            .or_else(|| how.map(str::to_owned)),
        status: raised,
        again_at: None,
    };
    if raised.is_some() || stands.attempt_open {
        settle::write(tx.conn(), messaging, of.tenant, &[write], now).await?;
    }
    if failed {
        sweep::heed_failures(tx.conn(), of.tenant, &[of.message], now).await?;
        fallback::heed_failures(tx.conn(), of.tenant, &[of.message], now).await?;
    }
    if let Some(class) = class {
        let failure = Failure {
            class,
            code: word.code.as_deref(),
            text: &word.text,
            provider: provider.as_str(),
        };
        let to = (&stands.address, stands.channel);
        settle::learn(tx.conn(), of.tenant, to, &failure, now).await?;
    }
    tx.commit().await?;
    Ok(Some(Raised {
        status: raised.unwrap_or(stands.status),
        by_this: raised.is_some(),
        applied: raised.is_some() || class.is_some(),
    }))
}

/// The try that a word is about.
pub(super) struct Of {
    pub(super) tenant: Tenant,
    pub(super) message: MessageId,
    pub(super) attempt: AttemptId,
}

/// By our own id of the try, else by the provider's of the message. Machinery's table: the tenant is not known before.
async fn whose(
    messaging: &Messaging,
    event: &ProviderEvent,
    provider: Provider,
    word: &Word,
) -> mainstay_db::Result<Option<Of>> {
    let mut connection = messaging.database.worker().connection().await?;
    let row = sqlx::query!(
        r#"select agency_id as "agency!: AgencyId", tenant_id as "client!: ClientId", id as "id: AttemptId",
             message_id as "message: MessageId"
           from message_attempt
           where agency_id = $1 and provider = $2 and (id = $3 or ($3::uuid is null and provider_id = $4))
           limit 1"#,
        event.agency.uuid(),
        provider.as_str(),
        word.attempt.map(AttemptId::uuid),
        word.provider_id,
    )
    .fetch_optional(connection.conn())
    .await?;
    Ok(row.map(|row| Of {
        tenant: Tenant {
            agency: row.agency,
            client: row.client,
        },
        message: row.message,
        attempt: row.id,
    }))
}

/// How the message stands, locked.
struct Stands {
    status: Status,
    address: Address,
    channel: Channel,
    /// The fence of its place in the queue, if it has one still.
    fence: i64,
    attempt_open: bool,
}

async fn lock(conn: &mut PgConnection, of: &Of) -> mainstay_db::Result<Option<Stands>> {
    let row = sqlx::query!(
        r#"select m.status, m.address, m.channel, a.state,
             (select q.fence from send_queue q where q.tenant_id = m.tenant_id and q.message_id = m.id) as fence
           from message m join message_attempt a on a.tenant_id = m.tenant_id and a.message_id = m.id
           where m.tenant_id = $1 and m.id = $2 and a.id = $3
           for update of m"#,
        of.tenant.client.uuid(),
        of.message.uuid(),
        of.attempt.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.and_then(|row| {
        Some(Stands {
            status: Status::named(&row.status)?,
            address: Address::parse(&row.address).ok()?,
            channel: Channel::named(&row.channel)?,
            // None: no place to leave, and no fence is -1.
            fence: row.fence.unwrap_or(-1),
            attempt_open: matches!(row.state.as_str(), "started" | "unknown"),
        })
    }))
}
