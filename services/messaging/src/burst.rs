//! Bursts (INT-08): texts of one conversation that come one after the other are one occasion, handed on when nothing more has come
//! for a while. The wait is a row and a job: whoever is killed leaves both.
//! Deliberately absent: an answer. What a burst sets off is the automations'.

mod sql;

use chrono::{DateTime, TimeDelta, Utc};
use mainstay_jobs::JobError;
use mainstay_types::{ConversationId, MessageId, Tenant};
use serde_json::json;
use sqlx::PgConnection;
use std::time::Duration;

use crate::automation::definition::Trigger;
use crate::automation::occasion::{self, Occasion};
use crate::{Messaging, jobs};

/// How many windows a burst waits at most, however many more texts come.
const MOST_WINDOWS: i32 = 5;

/// A burst that waits.
#[derive(Debug, Clone)]
struct Burst {
    id: uuid::Uuid,
    last: MessageId,
    due_at: DateTime<Utc>,
    lead: mainstay_types::LeadId,
    sender: String,
}

/// A text has come: it begins a burst, or goes on with the one that waits. In the transaction that keeps it.
///
/// # Errors
/// Only the database's.
pub(crate) async fn said(
    conn: &mut PgConnection,
    messaging: &Messaging,
    tenant: Tenant,
    (conversation, message): (ConversationId, MessageId),
    now: DateTime<Utc>,
) -> mainstay_db::Result<()> {
    let window = TimeDelta::from_std(messaging.burst_window).unwrap_or(TimeDelta::zero());
    let times = (now + window, now + window * MOST_WINDOWS);
    if sql::go_on(conn, tenant, (conversation, message), times, now).await? {
        let job = jobs::hand_on_burst::job(tenant, conversation, now).at(times.0);
        mainstay_jobs::enqueue(conn, job).await?;
    }
    Ok(())
}

/// Hands a burst on if nothing more has come; gives how long to wait if something has.
pub(crate) async fn hand_on(
    conn: &mut PgConnection,
    tenant: Tenant,
    conversation: ConversationId,
    now: DateTime<Utc>,
) -> Result<Option<Duration>, JobError> {
    let Some(burst) = sql::lock(conn, tenant, conversation).await? else {
        return Ok(None);
    };
    if let Ok(wait) = (burst.due_at - now).to_std()
        && !wait.is_zero()
    {
        return Ok(Some(wait));
    }
    sql::delete(conn, tenant, conversation).await?;
    let occasion = Occasion {
        trigger: Trigger::MessageReceived,
        key: format!("burst:{}", burst.id),
        lead: burst.lead,
        conversation: Some(conversation),
        sender: Some(&burst.sender),
        facts: json!({"last_message_id": burst.last}),
        starts_at: None,
    };
    occasion::happened(conn, tenant, &occasion, now).await?;
    Ok(None)
}
