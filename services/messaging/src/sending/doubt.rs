//! Doubt: a try of which nobody knows whether it was taken. It is asked about at the provider, and then decided by what the
//! message is for: rather twice, or rather not at all.
//! Deliberately absent: sending. Whoever is to be tried again goes back past the gate.

mod sql;

use chrono::{DateTime, TimeDelta, Utc};
use mainstay_types::{AttemptId, MessageId, Tenant};
use sqlx::PgConnection;

use crate::carrier::{Found, Provider, Sought};
use crate::gate::{Channel, Purpose};
use crate::message::rules::{Doubt, Status, in_doubt};
use crate::{Messaging, jobs, senders};

pub(crate) use sql::{asked, find};

/// A doubtful try with all that asking needs.
#[derive(Debug, Clone)]
pub(crate) struct Doubtful {
    pub(crate) message: MessageId,
    pub(crate) attempt: AttemptId,
    pub(crate) state: String,
    pub(crate) status: Status,
    pub(crate) purpose: Purpose,
    pub(crate) channel: Channel,
    pub(crate) provider: Provider,
    pub(crate) account: String,
    pub(crate) sender: String,
    pub(crate) expires_at: DateTime<Utc>,
    pub(crate) probes: i32,
    /// How long ago it began, by the world's clock.
    pub(crate) age: TimeDelta,
    pub(crate) sought: Sought,
}

/// How many times the provider is asked before that is the end of it.
pub(crate) const MOST_PROBES: i32 = 5;

/// What is done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// It was taken.
    Accepted {
        provider_id: String,
        status: Option<Status>,
    },
    /// It is tried again.
    Again { proven_absent: bool, why: String },
    /// It is not tried again.
    Stop {
        proven_absent: bool,
        code: &'static str,
        why: String,
    },
}

/// What asking found, as what is done; none when it is to be asked again.
/// `settled` is for how long a provider that lists nothing may still be about to.
pub(crate) fn resolve(
    doubtful: &Doubtful,
    found: Found,
    settled: TimeDelta,
    now: DateTime<Utc>,
) -> Option<Resolution> {
    let late = now >= doubtful.expires_at;
    let last = doubtful.probes + 1 >= MOST_PROBES;
    match found {
        Found::Accepted {
            provider_id,
            status,
        } => Some(Resolution::Accepted {
            provider_id,
            status,
        }),
        // It would be listed by now: as certain as it gets, so trying again is no second message.
        Found::Absent if doubtful.age >= settled => Some(match late {
            false => Resolution::Again {
                proven_absent: true,
                why: "the provider does not have it".to_owned(),
            },
            true => Resolution::Stop {
                proven_absent: true,
                code: "too_late",
                why: "the provider does not have it, and it is too late to try again".to_owned(),
            },
        }),
        Found::Repeatable if !late => Some(Resolution::Again {
            proven_absent: false,
            why: "said again, it is the same message there".to_owned(),
        }),
        Found::Absent | Found::NotNow { .. } if !last => None,
        Found::Absent | Found::NotNow { .. } | Found::Repeatable | Found::Never => {
            Some(match in_doubt(doubtful.purpose) {
                Doubt::SendAgain if !late => Resolution::Again {
                    proven_absent: false,
                    why: "nobody knows; rather twice than not at all".to_owned(),
                },
                Doubt::SendAgain | Doubt::Stop => Resolution::Stop {
                    proven_absent: false,
                    code: "outcome_unknown",
                    why: "nobody knows whether it was taken; it is not sent again".to_owned(),
                },
            })
        }
    }
}

/// Takes a try that began and whose sender is gone for doubtful, in the caller's transaction.
pub(super) async fn begin(
    conn: &mut PgConnection,
    messaging: &Messaging,
    tenant: Tenant,
    message: MessageId,
    attempt: AttemptId,
    now: DateTime<Utc>,
) -> mainstay_db::Result<()> {
    sql::begin(conn, tenant, message, attempt, now).await?;
    let wait = TimeDelta::from_std(messaging.pace.probe_after).unwrap_or(TimeDelta::zero());
    let job = jobs::resolve_attempt::job(tenant, attempt, now).at(now + wait);
    mainstay_jobs::enqueue(conn, job).await?;
    Ok(())
}

/// Asks the provider.
pub(crate) async fn ask(messaging: &Messaging, tenant: Tenant, doubtful: &Doubtful) -> Found {
    let by = (doubtful.channel, &*doubtful.sender, &*doubtful.account);
    match senders::account_of(&*messaging.senders, tenant, by).await {
        Ok(Some(account)) => messaging.carriers.find(&doubtful.sought, &account).await,
        // The account is gone: nobody is left to ask.
        Ok(None) => Found::Never,
        Err(problem) => Found::NotNow {
            cause: problem.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Address;

    fn doubtful(purpose: Purpose, probes: i32, age: TimeDelta) -> Doubtful {
        let since = "2026-06-01T12:00:00Z".parse().expect("a time");
        Doubtful {
            message: MessageId::generate(),
            attempt: AttemptId::generate(),
            state: "unknown".to_owned(),
            status: Status::Ambiguous,
            purpose,
            channel: Channel::Sms,
            provider: Provider::Twilio,
            account: "pac_1".to_owned(),
            sender: "+15125550100".to_owned(),
            expires_at: since + TimeDelta::hours(1),
            probes,
            age,
            sought: Sought {
                address: Address::parse("+15125550123").expect("a number"),
                body: "Hi".to_owned(),
                since,
                first_tried_at: since,
                known: Vec::new(),
            },
        }
    }

    const SETTLED: TimeDelta = TimeDelta::minutes(2);

    fn not_now() -> Found {
        Found::NotNow {
            cause: "503".to_owned(),
        }
    }

    #[test]
    fn what_the_provider_surely_lacks_is_sent_again_while_it_is_of_use() {
        let early = doubtful(Purpose::Marketing, 0, TimeDelta::seconds(30));
        let now = early.sought.since;
        let found = |one: &Doubtful, now| resolve(one, Found::Absent, SETTLED, now);
        assert_eq!(found(&early, now), None, "it may yet be listed");
        let settled = doubtful(Purpose::Marketing, 0, SETTLED);
        assert!(matches!(
            found(&settled, now),
            Some(Resolution::Again {
                proven_absent: true,
                ..
            })
        ));
        assert!(matches!(
            found(&settled, settled.expires_at),
            Some(Resolution::Stop {
                proven_absent: true,
                ..
            })
        ));
    }

    #[test]
    fn what_nobody_can_learn_is_decided_by_what_it_is_for() {
        for purpose in Purpose::ALL {
            let one = |probes| doubtful(purpose, probes, SETTLED);
            let now = one(0).sought.since;
            assert_eq!(resolve(&one(0), not_now(), SETTLED, now), None);
            let last = resolve(&one(MOST_PROBES - 1), not_now(), SETTLED, now);
            let never = resolve(&one(0), Found::Never, SETTLED, now);
            assert_eq!(last, never);
            let again = matches!(
                last,
                Some(Resolution::Again {
                    proven_absent: false,
                    ..
                })
            );
            assert_eq!(again, in_doubt(purpose) == Doubt::SendAgain, "{purpose:?}");
        }
    }
}
