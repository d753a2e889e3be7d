//! Owns how lists are narrowed to times: `Name`, `Name>` and `Name<`, each a day or a second of it.
//!
//! Deliberately absent: which time of an object a name means; its list says.

use chrono::NaiveDate;

use super::errors::invalid;
use super::params::Params;
use crate::door::Reply;

/// What was asked for.
pub(super) struct Dates {
    on: Option<Moment>,
    since: Option<Moment>,
    until: Option<Moment>,
}

impl Dates {
    /// Reads the three of this name.
    pub(super) fn read(params: &Params, name: &str) -> Result<Dates, Reply> {
        let moment = |name: &str| params.get(name).map(Moment::read).transpose();
        Ok(Dates {
            on: moment(name)?,
            since: moment(&format!("{name}>"))?,
            until: moment(&format!("{name}<"))?,
        })
    }

    /// Whether an object of this time is among them; one that has none yet is not, if any was asked for.
    pub(super) fn have(&self, at: Option<i64>) -> bool {
        let asked = |moment: &Option<Moment>, has: &dyn Fn(&Moment, i64) -> bool| {
            moment
                .as_ref()
                .is_none_or(|moment| at.is_some_and(|at| has(moment, at)))
        };
        asked(&self.on, &|on, at| (on.first..=on.last).contains(&at))
            && asked(&self.since, &|since, at| at >= since.first)
            && asked(&self.until, &|until, at| at <= until.first)
    }
}

/// A day (by its first and last second), or one second of it.
struct Moment {
    first: i64,
    last: i64,
}

impl Moment {
    /// `2026-11-21`, or `2026-11-21T08:00:00Z`.
    fn read(text: &str) -> Result<Moment, Reply> {
        if let Ok(day) = text.parse::<NaiveDate>() {
            let first = day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp();
            return Ok(Moment {
                first,
                last: first + 86_399,
            });
        }
        match chrono::DateTime::parse_from_rfc3339(text) {
            Ok(second) => Ok(Moment {
                first: second.timestamp(),
                last: second.timestamp(),
            }),
            Err(_) => Err(invalid(format!("Invalid date: {text}"))),
        }
    }
}
