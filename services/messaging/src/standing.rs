//! How addresses stand with a client: all that the gate asks about them, read in one query for as many as are asked for.
//! Deliberately absent: the decision, and a query for each message of many.

mod sql;

use chrono::{DateTime, Utc};
use mainstay_rpc::entitlement;
use mainstay_types::{MessageId, Tenant};

use sqlx::PgConnection;

use crate::address::Address;
use crate::gate::Channel;
use crate::gate::places::Place;
use crate::gate::rules::{Consent, Fact, Facts, ListLevel, Monthly};

pub(crate) use sql::find;

/// The limit of a plan that messages count against.
const MESSAGES: &str = "messages";

/// Of whom it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// How it would travel.
    pub channel: Channel,
    /// To whom.
    pub address: Address,
    /// The message itself, which does not count against its own leave.
    pub message: Option<MessageId>,
}

/// What the database knows of an address: one row, whatever there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub(crate) closed_at: Option<DateTime<Utc>>,
    pub(crate) hold: Option<String>,
    pub(crate) opted_out_at: Option<DateTime<Utc>>,
    pub(crate) consent: Option<Consent>,
    pub(crate) on_clients_list: bool,
    pub(crate) on_agencys_list: bool,
    pub(crate) suppressed: Option<String>,
    pub(crate) limits: Option<entitlement::Limits>,
    pub(crate) period_starts_at: Option<DateTime<Utc>>,
    pub(crate) period_ends_at: Option<DateTime<Utc>>,
    pub(crate) used: i64,
    pub(crate) sent_at: Vec<DateTime<Utc>>,
    pub(crate) last_inbound_at: Option<DateTime<Utc>>,
}

/// How long the check may take. Whatever takes longer is a no: a slow yes would let go what was revoked meanwhile.
const PATIENCE: std::time::Duration = std::time::Duration::from_millis(1500);

/// How each address stands, in the order asked.
///
/// # Errors
/// Why it could not be learned, for operators; a check that takes too long is an error too.
pub(crate) async fn find_in_time(
    conn: &mut PgConnection,
    tenant: Tenant,
    asked: &[Asked],
    now: DateTime<Utc>,
) -> Result<Vec<Standing>, String> {
    let found = match tokio::time::timeout(PATIENCE, sql::find(conn, tenant, asked, now)).await {
        Ok(Ok(rows)) if rows.len() == asked.len() => Ok(rows),
        Ok(Ok(rows)) => Err(format!("{} rows for {} addresses", rows.len(), asked.len())),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} ms", PATIENCE.as_millis())),
    };
    if let Err(error) = &found {
        tracing::error!(
            error,
            "the gate could not learn how an address stands, and refuses"
        );
    }
    found
}

/// What messages are counted in: the period that was paid for, else the calendar's month. A new period has a new key, so
/// nothing is ever reset.
pub fn period_key(starts_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> String {
    match starts_at {
        Some(starts_at) => starts_at.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        None => now.format("%Y-%m").to_string(),
    }
}

/// What is known, as the gate takes it. Of a row that could not be read nothing is.
pub fn facts(standing: Result<&Standing, String>, places: Vec<Place>) -> Facts {
    let of = Reading(standing);
    Facts {
        closed: of.fact(|row| row.closed_at),
        hold: of.fact(|row| row.hold.clone()),
        opted_out: of.fact(|row| row.opted_out_at),
        do_not_contact: of.fact(|row| match row {
            row if row.on_clients_list => Some(ListLevel::Client),
            row if row.on_agencys_list => Some(ListLevel::Agency),
            _ => None,
        }),
        consent: of.fact(|row| row.consent),
        suppressed: of.fact(|row| row.suppressed.clone()),
        monthly: of.fact(monthly),
        sent_at: of.fact(|row| row.sent_at.clone()),
        places: Fact::Known(places),
        last_inbound_at: of.fact(|row| row.last_inbound_at),
    }
}

struct Reading<'a>(Result<&'a Standing, String>);

impl Reading<'_> {
    fn fact<T>(&self, read: impl FnOnce(&Standing) -> T) -> Fact<T> {
        match &self.0 {
            Ok(row) => Fact::Known(read(row)),
            Err(why) => Fact::Unknown(why.clone()),
        }
    }
}

/// What the plan says of messages. A client to whom none were sold, or from whom they were taken, has none to send.
fn monthly(row: &Standing) -> Monthly {
    let limit = row.limits.as_ref().and_then(|limits| limits.get(MESSAGES));
    let hard_limit = match limit {
        None => Some(0),
        Some(limit) => match limit.beyond {
            entitlement::Beyond::Block => Some(limit.included.unwrap_or(0)),
            entitlement::Beyond::Overage | entitlement::Beyond::Unlimited => None,
        },
    };
    Monthly {
        hard_limit,
        used: row.used,
        // Without messages in the plan the next period brings none either.
        ends_at: row
            .period_ends_at
            .filter(|_| hard_limit.is_some_and(|limit| limit > 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::rules::{Decision, Reason};
    use crate::gate::{Purpose, decide, places};

    #[test]
    fn a_row_that_could_not_be_read_is_a_no_to_every_purpose() {
        let noon = "2026-06-10T17:00:00Z".parse().expect("a time");
        let (places, _) = places::plausible(&places::Known {
            phone: Some("+15125550123"),
            ..Default::default()
        });
        for purpose in Purpose::ALL {
            let facts = facts(Err("timeout".to_owned()), places.clone());
            match decide(&facts, purpose, Channel::Sms, noon) {
                Decision::Refused {
                    reason, retry_at, ..
                } => {
                    assert_eq!(reason, Reason::CheckUnavailable);
                    assert!(retry_at.is_some());
                }
                Decision::Allowed { .. } => panic!("{purpose:?} was let pass unread"),
            }
        }
    }

    #[test]
    fn a_new_period_has_a_new_key() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().expect("a time");
        let (now, later) = (at("2026-06-10T17:00:00Z"), at("2026-07-01T00:00:00Z"));
        assert_eq!(period_key(None, now), "2026-06");
        assert_eq!(period_key(None, later), "2026-07");
        assert_eq!(period_key(Some(now), later), "2026-06-10T17:00:00Z");
    }
}
