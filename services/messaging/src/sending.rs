//! The one sender. It claims messages that are due, lets them go one decision at a time (all of a client's in one
//! transaction), hands them over, and writes what is certain. Polling is the truth; [`Wake`] only shortens the wait.
//!
//! ```text
//!  claim (lanes: rate; conversations: order) ─▶ let go: gate, permit, attempt ─▶ carrier ─▶ settle
//!                                                  │                                          │ └ doubt ─▶ job resolve_attempt
//!                                                  └ blocked, expired, later ─────────────────┘ again: back in the queue
//! ```
//! Reading order: this → [`claim`] → [`release`] (let go) → [`settle`] → [`doubt`].
//! Deliberately absent: a memory. Whoever is killed leaves rows from which the next one goes on: a claim that runs out, or a
//! try that began and of which nothing is known, which is never simply sent again.

mod claim;
pub(crate) mod doubt;
mod release;
pub(crate) mod settle;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use mainstay_rpc::Problem;
use mainstay_runtime::Shutdown;
use mainstay_types::Tenant;
use tokio::sync::Notify;
use tracing::Instrument as _;
use uuid::Uuid;

pub(crate) use claim::Claimed;

use crate::Messaging;
use crate::carrier::{Account, Sent};
use crate::gate::Channel;
use release::Going;
use settle::Ended;

/// How the dispatcher works.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Messages in hand at once.
    pub at_once: usize,
    /// How often it looks when nothing wakes it.
    pub poll: Duration,
    /// How long a claim holds: how late the messages of a killed one are taken up.
    pub lease: Duration,
    /// How long after a doubtful try the provider is asked.
    pub probe_after: Duration,
    /// How long after a message was taken its provider is first asked what became of it, if it has not said.
    pub ask_after: Duration,
    /// How long one call of a provider may take.
    pub patience: Duration,
    /// How long after its first refusal for now a message is tried again; doubled after each.
    pub again_after: Duration,
    /// How long what has ended waits for what is about to, to be written together.
    pub gather: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            at_once: 512,
            poll: Duration::from_millis(250),
            lease: Duration::from_secs(60),
            probe_after: Duration::from_secs(60),
            ask_after: Duration::from_secs(900),
            patience: Duration::from_secs(10),
            again_after: Duration::from_millis(500),
            gather: Duration::from_millis(50),
        }
    }
}

impl Pace {
    pub(crate) fn first_ask(self) -> TimeDelta {
        TimeDelta::from_std(self.ask_after).unwrap_or(TimeDelta::MAX)
    }
}

/// Most have ended when not even one in so many has not.
const FEW: usize = 3;

/// Tells the dispatcher that a message may be due.
#[derive(Debug, Clone, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// There may be work.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

/// Sends until the stop, then ends what is in hand: what was handed over is settled, nothing new is begun.
pub async fn run(messaging: Messaging, shutdown: Shutdown) {
    let me = Uuid::now_v7();
    let mut failures = 0_u32;
    while !shutdown.is_triggered() {
        match round(&messaging, me).await {
            // Full hands: there is more.
            Ok(claimed) if claimed >= messaging.pace.at_once => {
                failures = 0;
                continue;
            }
            Ok(_) => failures = 0,
            Err(error) => {
                failures += 1;
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    failures,
                    "messages cannot be claimed"
                );
            }
        }
        let pause = match failures {
            0 => messaging.pace.poll,
            failures => mainstay_jobs::backoff::Backoff::EVENTS.jittered(failures),
        };
        tokio::select! {
            () = shutdown.triggered() => {}
            () = messaging.wake.0.notified(), if failures == 0 => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Claims what is due and brings each to an end. Gives how many there were.
async fn round(messaging: &Messaging, me: Uuid) -> mainstay_db::Result<usize> {
    let claimed_at = Instant::now();
    let claimed = claim::claim(messaging, me).await?;
    let count = claimed.len();
    let mut by_tenant: HashMap<Tenant, Vec<Claimed>> = HashMap::new();
    for one in claimed {
        by_tenant.entry(one.tenant).or_default().push(one);
    }
    let batches = by_tenant.into_iter().map(|(tenant, batch)| {
        let span = tracing::info_span!(
            "send messages",
            "mainstay.role" = "messaging",
            messages = batch.len()
        );
        send_batch(messaging, tenant, batch, claimed_at).instrument(span)
    });
    // Clients beside each other: one whose provider hangs holds up nobody else's.
    futures_util::future::join_all(batches).await;
    Ok(count)
}

/// A client's messages: let go together, handed over beside each other, settled as they end.
async fn send_batch(
    messaging: &Messaging,
    tenant: Tenant,
    batch: Vec<Claimed>,
    claimed_at: Instant,
) {
    let accounts = accounts(messaging, tenant, &batch).await;
    let going = match release::let_go(messaging, tenant, batch, &accounts).await {
        Ok(going) => going,
        // Nothing was let go: the claims run out, or were handed back with the transaction.
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "messages were not let go"
            );
            return;
        }
    };
    // Before the claim runs out: whoever took over then would take these tries for doubtful, which they would be.
    let deadline = claimed_at + messaging.pace.lease.mul_f64(0.8);
    let mut calls: FuturesUnordered<_> = going
        .into_iter()
        .map(|going| hand_over(messaging, going, deadline))
        .collect();
    while let Some(first) = calls.next().await {
        let ended = gather(first, &mut calls, messaging.pace.gather).await;
        settle::settle(messaging, tenant, ended).await;
    }
}

/// What has ended, with what ends soon after it: until most have, and not for long. A slow call holds up nobody's outcome, and
/// many outcomes share a transaction.
async fn gather<F: Future<Output = Ended>>(
    first: Ended,
    calls: &mut FuturesUnordered<F>,
    patience: Duration,
) -> Vec<Ended> {
    let mut ended = vec![first];
    let enough = tokio::time::sleep(patience);
    tokio::pin!(enough);
    while calls.len() * FEW > ended.len() {
        tokio::select! {
            more = calls.next() => match more {
                Some(more) => ended.push(more),
                None => break,
            },
            () = &mut enough => break,
        }
    }
    // Whatever else has ended meanwhile shares the transaction.
    while let Some(Some(more)) = futures_util::FutureExt::now_or_never(calls.next()) {
        ended.push(more);
    }
    ended
}

async fn hand_over(messaging: &Messaging, going: Going, deadline: Instant) -> Ended {
    let Going {
        claimed,
        permit,
        envelope,
        account,
        traceparent,
    } = going;
    let span = tracing::info_span!(
        "send message",
        "mainstay.role" = "messaging",
        message.id = %envelope.message,
        message.attempt = envelope.number,
        message.channel = envelope.channel.as_str(),
    );
    if let Some(traceparent) = &traceparent {
        mainstay_runtime::telemetry::set_parent(&span, traceparent);
    }
    let now = messaging.clock.now();
    let sent = messaging
        .carriers
        .send(permit, &envelope, &account, now, deadline)
        .instrument(span)
        .await;
    if let Sent::Unknown { cause } = &sent {
        tracing::warn!(message.id = %envelope.message, cause, "nobody knows whether a message was taken");
    }
    Ended {
        claimed,
        envelope,
        account,
        sent,
    }
}

/// Who a batch may be sent as, by channel and sender. What could not be learned is an error of that sender alone.
type Accounts = BTreeMap<(Channel, String), Result<Vec<Account>, Problem>>;

async fn accounts(messaging: &Messaging, tenant: Tenant, batch: &[Claimed]) -> Accounts {
    let mut known = Accounts::new();
    for one in batch {
        let key = (one.channel, one.sender.clone());
        if known.contains_key(&key) {
            continue;
        }
        // Mail may leave from another of the client's addresses; a text from another number is another conversation.
        let sender = (one.channel != Channel::Email).then_some(one.sender.as_str());
        let found = messaging.senders.resolve(tenant, one.channel, sender).await;
        keep_to_rate(messaging, one, &found).await;
        known.insert(key, found);
    }
    known
}

/// A rate that was changed where accounts are kept holds from the next claim on.
async fn keep_to_rate(messaging: &Messaging, one: &Claimed, found: &Result<Vec<Account>, Problem>) {
    let accounts = found.iter().flatten();
    let mut own = accounts.filter(|account| account.sender == one.sender);
    if let Some(account) = own.next()
        && account.rate != one.rate
        && let Err(error) = claim::hold_to(messaging, one.channel, &one.sender, account.rate).await
    {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "a sender's rate cannot be changed"
        );
    }
}

#[cfg(test)]
mod tests;
