//! Settling: what is certain after a try, written for all that ended together. A callback may have come before; what it said
//! stands where it says more.
//! Deliberately absent: a guess. What nobody knows is `ambiguous`, counted, and asked about.

mod sql;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use mainstay_jobs::record::By;
use mainstay_rpc::ServiceName;
use mainstay_types::Tenant;
use serde_json::json;

use super::claim::Claimed;
use super::doubt;
use crate::address::Address;
use crate::automation::sweep;
use crate::carrier::{Account, Class, Envelope, Refused, Sent};
use crate::consent::{self, Kind, Said};
use crate::gate::Channel;
use crate::message::rules::{self, MOST_ATTEMPTS, Status};
use crate::message::sql::lock_sending;
use crate::{Messaging, alarm, fallback, jobs};

use sql::Standing;
pub(crate) use sql::{Write, write};

/// A try that ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) claimed: Claimed,
    pub(super) envelope: Envelope,
    pub(super) account: Account,
    pub(super) sent: Sent,
}

/// Writes what ended. If that cannot be written, the claims run out and the tries are doubtful: nothing is sent twice.
pub(super) async fn settle(messaging: &Messaging, tenant: Tenant, ended: Vec<Ended>) {
    let settled = mainstay_db::retrying(|| settle_once(messaging, tenant, &ended)).await;
    if let Err(error) = settled {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            messages = ended.len(),
            "the outcome of messages cannot be written: they will be taken for doubtful"
        );
    }
}

async fn settle_once(
    messaging: &Messaging,
    tenant: Tenant,
    ended: &[Ended],
) -> mainstay_db::Result<()> {
    let now = messaging.clock.now();
    let mut tx = messaging.database.worker().tenant(tenant).await?;
    lock_sending(tx.conn(), tenant).await?;
    let ids: Vec<_> = ended.iter().map(|one| one.claimed.message).collect();
    let standing = sql::lock(tx.conn(), tenant, &ids).await?;
    let mut writes = Vec::with_capacity(ended.len());
    for one in ended {
        let Some(stands) = standing.get(&one.claimed.message) else {
            continue;
        };
        writes.push(after(one, *stands, messaging.pace.again_after, now));
    }
    sql::write(tx.conn(), messaging, tenant, &writes, now).await?;
    let failed = writes
        .iter()
        .filter(|one| one.status == Some(Status::Failed));
    let failed: Vec<_> = failed.map(|one| one.message).collect();
    sweep::heed_failures(tx.conn(), tenant, &failed, now).await?;
    fallback::heed_failures(tx.conn(), tenant, &failed, now).await?;
    for one in ended {
        match &one.sent {
            Sent::Accepted { .. } => {}
            Sent::Unknown { .. } => {
                let job = jobs::resolve_attempt::job(tenant, one.envelope.attempt, now)
                    .at(now + span(messaging.pace.probe_after));
                mainstay_jobs::enqueue(tx.conn(), job).await?;
            }
            Sent::Refused(refused) => {
                let envelope = &one.envelope;
                let told = Failure {
                    class: refused.class,
                    code: refused.code.as_deref(),
                    text: &refused.text,
                    provider: one.account.provider.as_str(),
                };
                let to = (&envelope.address, envelope.channel);
                learn(tx.conn(), tenant, to, &told, now).await?;
            }
        }
    }
    tx.commit().await?;
    Ok(())
}

fn span(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

/// What a try's outcome makes of its message.
fn after(one: &Ended, stands: Standing, again_after: Duration, now: DateTime<Utc>) -> Write {
    let blank = Write {
        message: one.claimed.message,
        attempt: one.envelope.attempt,
        fence: one.claimed.fence,
        attempt_state: "unknown",
        provider: one.account.provider.as_str(),
        provider_id: None,
        code: None,
        detail: None,
        status: None,
        again_at: None,
    };
    match &one.sent {
        Sent::Accepted { provider_id } => Write {
            attempt_state: "accepted",
            provider_id: Some(provider_id.clone()),
            status: rules::heard(stands.status, Status::Sent),
            ..blank
        },
        Sent::Unknown { cause } => Write {
            attempt_state: "unknown",
            detail: Some(cause.clone()),
            status: rules::heard(stands.status, Status::Ambiguous),
            ..blank
        },
        Sent::Refused(refused) => {
            let refusal = Write {
                attempt_state: "refused",
                code: refused.code.clone(),
                detail: Some(refused.text.clone()),
                ..blank
            };
            if !open_to_refusal(stands, one.envelope.number) {
                return refusal;
            }
            match next(refused, one.envelope.number) {
                Next::Again => {
                    let at = rules::again_at(
                        now,
                        again_after,
                        one.envelope.number,
                        refused.retry_after,
                        rand::random(),
                    );
                    // Not later than needed to see that it is too late: then the gate's door says so.
                    let at = at.min(one.envelope.expires_at.max(now));
                    Write {
                        status: Some(Status::Queued),
                        again_at: Some(at),
                        ..refusal
                    }
                }
                Next::Fail => Write {
                    status: Some(Status::Failed),
                    ..refusal
                },
            }
        }
    }
}

/// Whether a refusal of this try decides the message. Word that it was taken after all is stronger; a doubt that another
/// raised meanwhile, because the claim had run out, is what the refusal ends, if no later try has begun.
fn open_to_refusal(stands: Standing, number: i32) -> bool {
    matches!(stands.status, Status::Sending | Status::Ambiguous) && stands.attempts == number
}

enum Next {
    Again,
    Fail,
}

/// Non-acceptance is certain in each of these; how often it is worth trying is not.
fn next(refused: &Refused, number: i32) -> Next {
    match refused.class {
        Class::Busy => Next::Again,
        // Another account may carry it: mail falls over to the next provider.
        Class::Passing | Class::Ours if number < MOST_ATTEMPTS => Next::Again,
        Class::Passing | Class::Ours | Class::DeadAddress | Class::OptedOut | Class::Message => {
            Next::Fail
        }
    }
}

/// A failure as a provider told it, at once or later.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failure<'a> {
    pub(crate) class: Class,
    pub(crate) code: Option<&'a str>,
    pub(crate) text: &'a str,
    pub(crate) provider: &'a str,
}

/// What a failure teaches about the address, or about us.
pub(crate) async fn learn(
    conn: &mut sqlx::PgConnection,
    tenant: Tenant,
    (address, channel): (&Address, Channel),
    failure: &Failure<'_>,
    now: DateTime<Utc>,
) -> mainstay_db::Result<()> {
    let Failure {
        class,
        code,
        text,
        provider,
    } = *failure;
    match class {
        Class::DeadAddress => {
            let reason = format!("{provider} {}: {text}", code.unwrap_or("refused"));
            sql::suppress(conn, tenant, channel, address, &reason, now).await
        }
        Class::OptedOut => {
            let by = By::itself(ServiceName::Messaging, tenant.agency, now);
            let said = Said {
                source: format!("{provider}:{}", code.unwrap_or("opted_out")),
                text: None,
            };
            let what = (Kind::OptOut, said);
            consent::change_in(conn, tenant, &by, address, &[channel], what).await?;
            Ok(())
        }
        Class::Ours => {
            // A person has to look: an account, a number or its registration.
            tracing::error!(
                alert = "provider_refuses_us",
                provider,
                code,
                text,
                client.id = %tenant.client,
                "a provider refuses messages for a reason that is ours to mend"
            );
            let told = json!({ "provider": provider, "code": code, "text": text });
            alarm::tell(conn, tenant, "messaging.provider.refused_us", told, now).await
        }
        Class::Busy | Class::Passing | Class::Message => Ok(()),
    }
}

impl doubt::Resolution {
    /// What a resolution makes of the message.
    pub(crate) fn write(self, found: &doubt::Doubtful, now: DateTime<Utc>) -> Write {
        let blank = Write {
            message: found.message,
            attempt: found.attempt,
            fence: 0,
            attempt_state: "unknown",
            provider: found.provider.as_str(),
            provider_id: None,
            code: None,
            detail: None,
            status: None,
            again_at: None,
        };
        match self {
            doubt::Resolution::Accepted {
                provider_id,
                status,
            } => {
                let sent = rules::heard(found.status, Status::Sent);
                let word = status.and_then(|word| rules::heard(found.status, word));
                Write {
                    attempt_state: "accepted",
                    provider_id: Some(provider_id),
                    detail: Some("found at the provider".to_owned()),
                    status: word.or(sent),
                    ..blank
                }
            }
            doubt::Resolution::Again { proven_absent, why } => Write {
                attempt_state: if proven_absent { "refused" } else { "unknown" },
                detail: Some(why),
                status: Some(Status::Queued),
                again_at: Some(now),
                ..blank
            },
            doubt::Resolution::Stop {
                proven_absent,
                code,
                why,
            } => Write {
                attempt_state: if proven_absent { "refused" } else { "unknown" },
                code: Some(code.to_owned()),
                detail: Some(why),
                status: proven_absent.then_some(Status::Failed),
                ..blank
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_ends_the_doubt_about_its_own_try_and_of_no_other() {
        let stands = |status, attempts| Standing { status, attempts };
        assert!(open_to_refusal(stands(Status::Sending, 2), 2));
        assert!(open_to_refusal(stands(Status::Ambiguous, 2), 2));
        assert!(!open_to_refusal(stands(Status::Ambiguous, 3), 2));
        for status in Status::ALL {
            let open = matches!(status, Status::Sending | Status::Ambiguous);
            assert_eq!(open_to_refusal(stands(status, 1), 1), open, "{status:?}");
        }
    }
}
