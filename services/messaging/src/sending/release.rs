//! Letting go (MSG-11): each message is decided again at the moment of sending, and leaves with a permit or not at all. The
//! permits, the tries, the statuses and the counters of a batch are written in one transaction before the first byte leaves.
//! Deliberately absent: a yes without a row. What is not committed is not sent.

mod sql;

use chrono::{DateTime, Utc};
use mainstay_rpc::Problem;
use mainstay_types::{AttemptId, MessageId, Tenant};

use super::claim::Claimed;
use super::{Accounts, doubt};
use crate::Messaging;
use crate::address::Address;
use crate::carrier::{Account, Envelope, Provider};
use crate::gate::permit::Permit;
use crate::gate::rules::{Binding, Facts, Reason, binding};
use crate::gate::{Channel, Decision, Purpose, Rule, decide};
use crate::message::rules::Status;
use crate::message::sql::lock_sending;
use crate::message::{places_of, reasons, spelled};
use crate::notice;
use crate::standing::{self, Asked, period_key};
use crate::unsubscribe::{self, carries_link, token};

/// A message with its leave.
#[derive(Debug)]
pub(super) struct Going {
    pub(super) claimed: Claimed,
    pub(super) permit: Permit,
    pub(super) envelope: Envelope,
    pub(super) account: Account,
    pub(super) traceparent: Option<String>,
}

/// A claimed message as it is read under its lock.
#[derive(Debug, Clone)]
struct Loaded {
    id: MessageId,
    channel: Channel,
    address: Address,
    purpose: Purpose,
    subject: Option<String>,
    body: String,
    status: Status,
    expires_at: DateTime<Utc>,
    attempts: i32,
    counted: bool,
    zone: Option<chrono_tz::Tz>,
    state: Option<String>,
    traceparent: Option<String>,
    /// A try that began and of which nothing is known.
    open_attempt: Option<AttemptId>,
    /// The account of a doubtful try that can be said again, if the last one was such.
    repeat_account: Option<String>,
}

/// What becomes of a claimed message that does not leave now.
#[derive(Debug, Clone, PartialEq)]
enum Stays {
    /// Somebody took it back meanwhile, or it has left.
    Gone,
    /// Again at this time.
    Later {
        /// When.
        at: DateTime<Utc>,
        /// Whether what comes after it in the conversation need not wait.
        steps_aside: bool,
        why: String,
    },
    /// Never.
    Ends {
        status: Status,
        code: String,
        why: String,
    },
}

/// A permit with what its rows hold.
struct Granted {
    going: Going,
    /// What its row keeps of the content.
    kept_hash: [u8; 32],
    attempt: AttemptId,
    capped: bool,
    counts: bool,
}

/// Decides a client's claimed messages, and writes all that follows. Gives those that may leave.
pub(super) async fn let_go(
    messaging: &Messaging,
    tenant: Tenant,
    batch: Vec<Claimed>,
    accounts: &Accounts,
) -> mainstay_db::Result<Vec<Going>> {
    let now = messaging.clock.now();
    let mut tx = messaging.database.worker().tenant(tenant).await?;
    lock_sending(tx.conn(), tenant).await?;
    let ids: Vec<MessageId> = batch.iter().map(|one| one.message).collect();
    let mut loaded = sql::load(tx.conn(), tenant, &ids).await?;
    // The first look: whatever is settled without the gate.
    let (mut granted, mut stays, mut asks) = (Vec::new(), Vec::new(), Vec::new());
    for claimed in batch {
        let Some(message) = loaded.remove(&claimed.message) else {
            stays.push((claimed, Stays::Gone));
            continue;
        };
        match before_the_gate(&message, now) {
            Some(Looked::Doubt(attempt)) => {
                // Whoever had it before was killed in the middle: it may have left.
                doubt::begin(tx.conn(), messaging, tenant, claimed.message, attempt, now).await?;
            }
            Some(Looked::Stays(why)) => stays.push((claimed, why)),
            None => asks.push((claimed, message)),
        }
    }
    let asked: Vec<Asked> = asks
        .iter()
        .map(|(_, message)| Asked {
            channel: message.channel,
            address: message.address.clone(),
            message: Some(message.id),
        })
        .collect();
    let found = match asked.is_empty() {
        true => Ok(Vec::new()),
        false => standing::find_in_time(tx.conn(), tenant, &asked, now).await,
    };
    let mut period = period_key(None, now);
    let mut used = 0;
    for (place, (claimed, message)) in asks.into_iter().enumerate() {
        let row = match &found {
            Ok(rows) => rows.get(place).ok_or_else(|| "no row".to_owned()),
            Err(why) => Err(why.clone()),
        };
        if let Ok(row) = &row {
            period = period_key(row.period_starts_at, now);
        }
        let places = places_of(&message.address, message.zone, message.state.as_deref());
        let facts = Counted {
            facts: standing::facts(row, places),
            used,
            own: message.counted,
        };
        match grant(messaging, &message, facts, accounts, &claimed, now) {
            Ok(grant) => {
                used += i64::from(grant.counts);
                granted.push(grant);
            }
            Err(why) => stays.push((claimed, why)),
        }
    }
    if found.is_err() {
        // The transaction's connection may still be busy with the question. Nothing is let go; the claims are handed back
        // on another one.
        drop(tx);
        let mut tx = messaging.database.worker().tenant(tenant).await?;
        sql::stay(tx.conn(), tenant, &stays, now).await?;
        tx.commit().await?;
        return Ok(Vec::new());
    }
    sql::stay(tx.conn(), tenant, &stays, now).await?;
    sql::grant(tx.conn(), tenant, &granted, &period, now).await?;
    tx.commit().await?;
    Ok(granted.into_iter().map(|grant| grant.going).collect())
}

enum Looked {
    Doubt(AttemptId),
    Stays(Stays),
}

fn before_the_gate(message: &Loaded, now: DateTime<Utc>) -> Option<Looked> {
    if let Some(attempt) = message.open_attempt {
        return Some(Looked::Doubt(attempt));
    }
    if !message.status.waits() {
        return Some(Looked::Stays(Stays::Gone));
    }
    if message.purpose == Purpose::SecurityCode && message.body == notice::FORGOTTEN {
        // A doubt that was given up, and then another that was not: there is nothing left to say.
        return Some(Looked::Stays(Stays::Ends {
            status: Status::Failed,
            code: "forgotten".to_owned(),
            why: "the code was forgotten with an earlier try".to_owned(),
        }));
    }
    (now >= message.expires_at).then(|| {
        Looked::Stays(Stays::Ends {
            status: Status::Expired,
            code: "too_late".to_owned(),
            why: format!("it was of use until {}", message.expires_at.to_rfc3339()),
        })
    })
}

/// What is known, with what this batch has let go already.
struct Counted {
    facts: Facts,
    used: i64,
    /// Whether the message itself is among the used ones: a second try is not counted again.
    own: bool,
}

impl Counted {
    fn facts(self) -> Facts {
        let mut facts = self.facts;
        if let crate::gate::rules::Fact::Known(monthly) = &mut facts.monthly {
            monthly.used += self.used - i64::from(self.own);
        }
        facts
    }
}

fn grant(
    messaging: &Messaging,
    message: &Loaded,
    counted: Counted,
    accounts: &Accounts,
    claimed: &Claimed,
    now: DateTime<Utc>,
) -> Result<Granted, Stays> {
    let account = account(message, accounts, claimed, now)?;
    let decision = decide(&counted.facts(), message.purpose, message.channel, now);
    let attempt = AttemptId::generate();
    let unsubscribe = carries_link(message.channel, message.purpose).then(|| {
        messaging.links.link(token::Subject {
            tenant: claimed.tenant,
            message: message.id,
        })
    });
    let envelope = Envelope {
        message: message.id,
        attempt,
        number: message.attempts + 1,
        channel: message.channel,
        purpose: message.purpose,
        address: message.address.clone(),
        subject: message.subject.clone(),
        body: unsubscribe::body(&message.body, message.purpose, unsubscribe.as_deref()),
        unsubscribe,
        expires_at: message.expires_at,
    };
    let permit = messaging
        .key
        .grant(decision, &envelope.permit_subject(), now)
        .map_err(|refused| refusal(refused, message))?;
    let capped = permit
        .evidence()
        .iter()
        .any(|found| found.rule == Rule::FrequencyCap);
    Ok(Granted {
        kept_hash: messaging.key.kept_hash(&envelope.permit_subject()),
        capped,
        counts: !message.counted && binding(message.purpose, Rule::MonthlyLimit) != Binding::Free,
        attempt,
        going: Going {
            claimed: claimed.clone(),
            permit,
            envelope,
            account,
            traceparent: message.traceparent.clone(),
        },
    })
}

/// Who carries it. After a certain refusal the next of several; a doubtful try is said again where it was said before.
fn account(
    message: &Loaded,
    accounts: &Accounts,
    claimed: &Claimed,
    now: DateTime<Utc>,
) -> Result<Account, Stays> {
    let unknown = |why: &Problem| Stays::Later {
        at: now + crate::gate::rules::ASK_AGAIN,
        steps_aside: false,
        why: format!("integrations could not say whom to send as: {why}"),
    };
    let key = (claimed.channel, claimed.sender.clone());
    let found = match accounts.get(&key) {
        Some(Ok(found)) => found.as_slice(),
        Some(Err(why)) => return Err(unknown(why)),
        None => &[],
    };
    let none = || Stays::Ends {
        status: Status::Failed,
        code: "no_sender".to_owned(),
        why: format!("nothing is left to send from as {}", claimed.sender),
    };
    if let Some(same) = &message.repeat_account {
        let same = found.iter().find(|account| account.id == *same);
        return same.cloned().ok_or_else(none);
    }
    let turn = usize::try_from(message.attempts).unwrap_or(0);
    let next = found.get(turn % found.len().max(1));
    next.cloned().ok_or_else(none)
}

/// What follows from the gate's no.
fn refusal(decision: Decision, message: &Loaded) -> Stays {
    let Decision::Refused { retry_at, all, .. } = decision else {
        // A yes is not refused; to end here would be a mistake of the program, and then nothing leaves.
        return Stays::Gone;
    };
    let reasons = reasons(&all);
    let why = spelled(&reasons).join(", ");
    match retry_at {
        Some(at) if at < message.expires_at => Stays::Later {
            at,
            // Who waits for the morning holds up no code that is asked for tonight.
            steps_aside: !reasons.contains(&Reason::CheckUnavailable),
            why,
        },
        Some(_) => Stays::Ends {
            status: Status::Expired,
            code: "too_late".to_owned(),
            why: format!("it may not leave before it is too late: {why}"),
        },
        None => Stays::Ends {
            status: Status::Blocked,
            code: reasons
                .first()
                .map_or("blocked", |reason| reason.as_str())
                .to_owned(),
            why,
        },
    }
}

/// Whether a provider knows the same message said twice for one.
pub(super) const fn repeats_are_one(provider: Provider) -> bool {
    matches!(provider, Provider::Resend)
}
