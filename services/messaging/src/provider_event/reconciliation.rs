//! What nobody told: a webhook that was lost leaves its message at `sent` for ever, and what follows from a failure undone. So
//! the provider is asked how it stands, a few times; what it says has the effect that its webhook would have had.
//! Deliberately absent: messages whose provider may not have taken them ([`crate::sending::doubt`]).

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::stream::{self, StreamExt as _};
use mainstay_db::Worker;
use mainstay_types::{AgencyId, AttemptId, ClientId, MessageId, Tenant};

use super::status::{Of, raise};
use super::word;
use crate::carrier::{Provider, Seen};
use crate::gate::Channel;
use crate::message::rules::Status;
use crate::{Messaging, senders};

/// Tries that are claimed together.
const BATCH: i64 = 100;
/// Calls of providers at once.
const AT_ONCE: usize = 8;
/// When it is asked, in what the first time waits for: after a quarter of an hour, an hour, six, and a day, by when the
/// longest that Twilio queues a message is over.
const TIMES: [i32; 4] = [1, 4, 24, 96];
/// Whoever cannot be asked for so long is not asked any more.
const GIVEN_UP: TimeDelta = TimeDelta::days(3);

/// What the history of a message says that was not told of.
const HOW_LEARNED: &str = "the provider was asked";

/// A try whose provider is to be asked.
struct Silent {
    of: Of,
    provider: Provider,
    provider_id: String,
    account: String,
    sender: String,
    /// How often the provider knew no more.
    asks: usize,
    since: DateTime<Utc>,
}

/// What is done after asking.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// It is known what became of it.
    Known,
    /// Nobody is left who could know.
    Never,
    /// The provider knew no more.
    Later,
    /// The provider could not be asked.
    NotNow,
}

/// Asks about all that are due; of how many it was learned what became of them.
pub(crate) async fn run(messaging: &Messaging) -> mainstay_db::Result<usize> {
    let worker = messaging.database.worker();
    let mut learned = 0;
    loop {
        let claimed = claim(&worker, messaging).await?;
        if claimed.is_empty() {
            return Ok(learned);
        }
        let mut asked = stream::iter(claimed)
            .map(|silent| ask_and_note(&worker, messaging, silent))
            .buffer_unordered(AT_ONCE);
        while let Some(next) = asked.next().await {
            learned += usize::from(next? == Next::Known);
        }
    }
}

async fn ask_and_note(
    worker: &Worker,
    messaging: &Messaging,
    silent: Silent,
) -> mainstay_db::Result<Next> {
    // One whose effect fails must not keep the others of its batch from being asked, nor be claimed for ever.
    let next = ask(messaging, &silent).await.unwrap_or_else(|error| {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            message.id = %silent.of.message,
            "what became of a message cannot be written"
        );
        Next::NotNow
    });
    note(worker, messaging, &silent, &next).await?;
    Ok(next)
}

/// Takes what is due. Whoever is killed meanwhile leaves it to be asked about once more.
async fn claim(worker: &Worker, messaging: &Messaging) -> mainstay_db::Result<Vec<Silent>> {
    let now = messaging.clock.now();
    let mut connection = worker.connection().await?;
    let rows = sqlx::query!(
        r#"with due as (
             select id from message_attempt where ask_at <= $1 order by ask_at limit $2 for update skip locked
           )
           update message_attempt a set ask_at = $3, updated_at = $1 from due where a.id = due.id
           returning a.agency_id as "agency: AgencyId", a.tenant_id as "client: ClientId", a.id as "attempt: AttemptId",
             a.message_id as "message: MessageId", a.provider, a.provider_id as "provider_id!", a.account_id, a.sender, a.asks,
             a.created_at"#,
        now,
        BATCH,
        now + messaging.pace.first_ask(),
    )
    .fetch_all(connection.conn())
    .await?;
    let silent = rows.into_iter().filter_map(|row| {
        Some(Silent {
            of: Of {
                tenant: Tenant {
                    agency: row.agency,
                    client: row.client,
                },
                message: row.message,
                attempt: row.attempt,
            },
            provider: Provider::named(&row.provider)?,
            provider_id: row.provider_id,
            account: row.account_id,
            sender: row.sender,
            asks: usize::try_from(row.asks).ok()?,
            since: row.created_at,
        })
    });
    Ok(silent.collect())
}

async fn ask(messaging: &Messaging, silent: &Silent) -> mainstay_db::Result<Next> {
    let channel = match silent.provider {
        Provider::Twilio => Channel::Sms,
        Provider::Resend | Provider::Sendgrid => Channel::Email,
    };
    let by = (channel, &*silent.sender, &*silent.account);
    let seen = match senders::account_of(&*messaging.senders, silent.of.tenant, by).await {
        Ok(Some(account)) => messaging.carriers.see(&silent.provider_id, &account).await,
        // The account is gone: nobody is left to ask.
        Ok(None) => Seen::Never,
        Err(problem) => Seen::NotNow {
            cause: problem.to_string(),
        },
    };
    let (word, code, text) = match seen {
        Seen::Stands { word, code, text } => (word, code, text),
        Seen::Never => return Ok(Next::Never),
        Seen::NotNow { cause } => {
            tracing::debug!(cause, message.id = %silent.of.message, "a provider cannot be asked now");
            return Ok(Next::NotNow);
        }
    };
    let Some(word) = word::seen(silent.provider, &silent.provider_id, &word, code, text) else {
        return Ok(Next::Later);
    };
    let how = Some(HOW_LEARNED);
    let raised = raise(messaging, &silent.of, silent.provider, &word, how).await?;
    Ok(match raised {
        Some(raised) if raised.status == Status::Sent => Next::Later,
        Some(_) => Next::Known,
        None => Next::Never,
    })
}

/// Writes when it is asked again, if it is.
async fn note(
    worker: &Worker,
    messaging: &Messaging,
    silent: &Silent,
    next: &Next,
) -> mainstay_db::Result<()> {
    let now = messaging.clock.now();
    let asks = silent.asks + usize::from(*next == Next::Later);
    let again = again_at(next, asks, silent.since, now, messaging.pace.first_ask());
    let mut connection = worker.connection().await?;
    sqlx::query!(
        "update message_attempt set ask_at = $3, asks = $4, updated_at = $5 where tenant_id = $1 and id = $2",
        silent.of.tenant.client.uuid(),
        silent.of.attempt.uuid(),
        again,
        i32::try_from(asks).unwrap_or(i32::MAX),
        now,
    )
    .execute(connection.conn())
    .await?;
    Ok(())
}

fn again_at(
    next: &Next,
    asks: usize,
    since: DateTime<Utc>,
    now: DateTime<Utc>,
    first: TimeDelta,
) -> Option<DateTime<Utc>> {
    let at = match next {
        Next::Known | Next::Never => return None,
        Next::NotNow => now + first,
        // Counted from the try, and not in a crowd after a long halt.
        Next::Later => (since + first * *TIMES.get(asks)?).max(now + first),
    };
    (at < since + GIVEN_UP).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(next: &Next, asks: usize, minutes: i64) -> Option<TimeDelta> {
        let since = "2026-06-01T12:00:00Z".parse().expect("a time");
        let now = since + TimeDelta::minutes(minutes);
        again_at(next, asks, since, now, TimeDelta::minutes(15)).map(|at| at - since)
    }

    #[test]
    fn a_provider_is_asked_after_a_quarter_of_an_hour_an_hour_six_and_a_day() {
        assert_eq!(at(&Next::Later, 1, 15), Some(TimeDelta::hours(1)));
        assert_eq!(at(&Next::Later, 2, 60), Some(TimeDelta::hours(6)));
        assert_eq!(at(&Next::Later, 3, 360), Some(TimeDelta::hours(24)));
        assert_eq!(at(&Next::Later, 4, 1440), None);
        assert_eq!(at(&Next::Known, 1, 15), None);
        assert_eq!(at(&Next::Never, 0, 15), None);
    }

    #[test]
    fn one_that_cannot_be_asked_is_asked_again_for_three_days() {
        assert_eq!(at(&Next::NotNow, 0, 15), Some(TimeDelta::minutes(30)));
        assert_eq!(at(&Next::NotNow, 0, 3 * 24 * 60), None);
    }

    #[test]
    fn after_a_long_halt_it_is_not_asked_all_at_once() {
        assert_eq!(at(&Next::Later, 1, 600), Some(TimeDelta::minutes(615)));
    }
}
