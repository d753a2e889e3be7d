//! Webhooks that never came (INT-09): Twilio tells once that somebody wrote or rang, and forgets it if nobody hears. So what
//! its accounts have is read every few minutes, and what the inbox does not know is stored there, as if it had come. From then
//! on it is a webhook like any other: handed on, tried again, replayed, and the same as one that comes late after all.
//!
//! Reading order: this → [`rules`] (what is missing) → [`twilio`] (what is asked).
//! Deliberately absent: what became of our own messages, which messaging asks ([ADR 0029]), and Stripe's events, which billing
//! walks. Mail that comes in is nobody's here.
//!
//! [ADR 0029]: ../../../docs/decisions/0029-providers-are-asked-what-no-webhook-told.md

mod rules;
mod sql;
mod twilio;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::stream::{self, StreamExt as _};
use mainstay_db::Worker;
use mainstay_jobs::Wake;
use mainstay_providers::{HttpStack, StackError};
use mainstay_types::{AgencyId, ProviderAccountId};

use crate::provider_account::Calling;
use crate::webhook::{self, Key, NewWebhook, WebhookError};
use crate::{Integrations, provider_account};

use rules::{Missed, Window};
use twilio::{Number, Twilio, Unread};

/// Accounts that are claimed together.
const BATCH: i64 = 16;
/// Accounts that are read at once, and numbers of one.
const AT_ONCE: usize = 4;
/// How long one run goes on claiming; what is due still is the next one's.
const PATIENCE: Duration = Duration::from_secs(240);
/// Webhooks that are looked for, and stored, together.
const AT_A_TIME: usize = 100;
/// How far a person's next message waits behind the one before: what they wrote later is read later, and `STOP` before
/// `START` means something else than after it.
const APART: TimeDelta = TimeDelta::seconds(5);

/// What reading again needs.
#[derive(Clone)]
pub struct Recovery {
    integrations: Integrations,
    worker: Worker,
    twilio: Twilio,
    wake: Wake,
    /// How often an account is read, and for how long a webhook may be on its way.
    after: TimeDelta,
}

/// An account that is due.
#[derive(Debug)]
struct Due {
    agency: AgencyId,
    account: ProviderAccountId,
    window: Window,
}

/// Why an account was not read.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// Twilio.
    #[error(transparent)]
    Twilio(#[from] Unread),
    /// Its credentials.
    #[error(transparent)]
    Account(#[from] provider_account::Error),
    /// The inbox.
    #[error(transparent)]
    Inbox(#[from] WebhookError),
    /// The database.
    #[error(transparent)]
    Database(#[from] mainstay_db::Error),
}

impl Recovery {
    /// Reads through Twilio at `base`; wakes whoever hands on.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn new(
        integrations: Integrations,
        base: &str,
        after: Duration,
        wake: Wake,
    ) -> Result<Self, StackError> {
        Ok(Self {
            worker: integrations.database.worker(),
            integrations,
            twilio: Twilio::new(base)?,
            wake,
            after: TimeDelta::from_std(after).unwrap_or(TimeDelta::MAX),
        })
    }

    /// Its connections, for health.
    pub fn stack(&self) -> &HttpStack {
        self.twilio.stack()
    }

    /// Reads the accounts that are due, and says whether that was all of them.
    ///
    /// # Errors
    /// Only the database's. What an account's failure leaves unread is read the next time.
    pub async fn run(&self) -> mainstay_db::Result<bool> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let due = sql::claim(&self.worker, BATCH, self.after).await?;
            if due.is_empty() {
                return Ok(true);
            }
            let mut reading = stream::iter(due)
                .map(|due| self.read(due))
                .buffer_unordered(AT_ONCE);
            while let Some(read) = reading.next().await {
                read?;
            }
        }
        Ok(false)
    }

    async fn read(&self, due: Due) -> mainstay_db::Result<()> {
        let read_through = match self.recover(&due).await {
            Ok(Some(0)) => Some(due.window.until),
            Ok(Some(recovered)) => {
                tracing::warn!(
                    account.id = %due.account,
                    recovered,
                    alert = "webhooks_had_not_come",
                    "webhooks of Twilio had not come"
                );
                Some(due.window.until)
            }
            Ok(None) => None,
            Err(Error::Database(error)) => return Err(error),
            // Over by the next time, and nothing was passed by.
            Err(error) => {
                tracing::warn!(
                    account.id = %due.account,
                    error = &error as &dyn std::error::Error,
                    "what Twilio has of an account cannot be read now"
                );
                return Ok(());
            }
        };
        match read_through {
            Some(until) => sql::read_through(&self.worker, due.account, until).await,
            None => sql::never_again(&self.worker, due.account).await,
        }
    }

    /// Stores what is missing of an account. Of how many webhooks; none for an account that is not Twilio's, or is gone.
    async fn recover(&self, due: &Due) -> Result<Option<usize>, Error> {
        let calling = provider_account::calling_twilio(&self.integrations, due.agency, due.account);
        let Some(account) = calling.await? else {
            return Ok(None);
        };
        let numbers = self.twilio.numbers(&account).await?;
        let mut reading = stream::iter(numbers)
            .map(|number| self.recover_number(due, &account, number))
            .buffer_unordered(AT_ONCE);
        let mut recovered = 0;
        while let Some(of_number) = reading.next().await {
            recovered += of_number?;
        }
        Ok(Some(recovered))
    }

    async fn recover_number(
        &self,
        due: &Due,
        account: &Calling,
        number: Number,
    ) -> Result<usize, Error> {
        let hears = rules::hears(&number, &account.endpoint_token);
        let mut missed = Vec::new();
        if hears.messages {
            let since = due.window.since(rules::MESSAGES_AGAIN);
            let sent = self.twilio.messages(account, &number.phone_number, since);
            missed.extend(rules::messages(sent.await?, &due.window));
        }
        if hears.calls {
            let since = due.window.since(rules::CALLS_AGAIN);
            let made = self.twilio.calls(account, &number.phone_number, since);
            missed.extend(rules::calls(made.await?, &due.window, hears.call_status));
        }
        self.store_missing(due.account, &missed).await
    }

    /// Stores those that the inbox does not know. How many those were.
    async fn store_missing(
        &self,
        account: ProviderAccountId,
        told: &[Missed],
    ) -> Result<usize, Error> {
        let account = account.to_string();
        let keys: Vec<&str> = told.iter().flat_map(Missed::keys).collect();
        let mut known = HashSet::new();
        for keys in keys.chunks(AT_A_TIME) {
            known.extend(sql::known(&self.worker, &account, keys).await?);
        }
        let now = self.integrations.clock.now();
        let mut stored = 0;
        for (turn, missing) in rules::in_turn(told, &known) {
            let webhooks = missing
                .into_iter()
                .map(|missed| new_webhook(&account, missed, now));
            let webhooks: Vec<NewWebhook> = webhooks.collect();
            for some in webhooks.chunks(AT_A_TIME) {
                let results =
                    webhook::store(&self.worker, some.to_vec(), now + APART * turn).await?;
                stored += results.iter().filter(|one| !one.duplicate).count();
            }
        }
        if stored > 0 {
            self.wake.wake();
        }
        Ok(stored)
    }
}

fn new_webhook(account: &str, missed: rules::Webhook, now: DateTime<Utc>) -> NewWebhook {
    NewWebhook {
        key: Key {
            provider: rules::PROVIDER.to_owned(),
            account: account.to_owned(),
            event_key: missed.key,
        },
        kind: missed.kind.to_owned(),
        content_type: rules::FORM.to_owned(),
        body: missed.body.into(),
        received_at: now,
        traceparent: mainstay_runtime::telemetry::current_traceparent(),
    }
}
