//! Conversions that every `rpc.rs` of billing needs: ids, times, money, and what a database failure is to a caller.
//! Deliberately absent: anything that knows a slice's own errors.

use chrono::{DateTime, Utc};
use mainstay_db::{Error, page::PageError};
use mainstay_proto::{billing::v1::Interval as ProtoInterval, common::v1::Money as ProtoMoney};
use mainstay_rpc::{ErrorReason, FieldViolation, Problem};
use mainstay_types::{Currency, Id, Interval, Kind, Money};

/// The id in a required field. The stack has checked the type already; a second look costs nothing.
pub(crate) fn id_field<K: Kind>(field: &str, text: &str) -> Result<Id<K>, Problem> {
    Id::parse(text).map_err(|error| {
        Problem::invalid(vec![FieldViolation {
            field: field.to_owned(),
            message: error.to_string(),
        }])
    })
}

pub(crate) fn timestamp(at: DateTime<Utc>) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at.timestamp(),
        nanos: i32::try_from(at.timestamp_subsec_nanos()).unwrap_or_default(),
    }
}

/// The time a request names.
pub(crate) fn read_timestamp(at: &prost_types::Timestamp) -> Result<DateTime<Utc>, &'static str> {
    // What both RFC 3339 and `timestamptz` hold: the years 1 to 9999.
    let in_range = (-62_135_596_800..=253_402_300_799).contains(&at.seconds);
    u32::try_from(at.nanos)
        .ok()
        .filter(|_| in_range)
        .and_then(|nanos| DateTime::from_timestamp(at.seconds, nanos))
        .ok_or("is not a time")
}

pub(crate) fn money(money: Money) -> ProtoMoney {
    ProtoMoney {
        amount_minor: Some(money.amount_minor),
        currency: Some(money.currency.to_string()),
    }
}

pub(crate) fn interval(interval: Interval) -> ProtoInterval {
    match interval {
        Interval::Month => ProtoInterval::Month,
        Interval::Year => ProtoInterval::Year,
    }
}

/// The interval a request names; an unknown number is the caller's fault.
pub(crate) fn read_interval(value: Option<i32>) -> Result<Interval, &'static str> {
    match value.map(ProtoInterval::try_from) {
        Some(Ok(ProtoInterval::Month)) => Ok(Interval::Month),
        Some(Ok(ProtoInterval::Year)) => Ok(Interval::Year),
        _ => Err("must be `month` or `year`"),
    }
}

/// The currency a request names.
pub(crate) fn read_currency(value: Option<&str>) -> Result<Currency, String> {
    value
        .unwrap_or_default()
        .parse()
        .map_err(|error: mainstay_types::MoneyError| error.to_string())
}

pub(crate) fn page_problem(error: PageError) -> Problem {
    let field = match error {
        PageError::Size => "page_size",
        PageError::Token => "page_token",
    };
    Problem::invalid(vec![FieldViolation {
        field: field.to_owned(),
        message: error.to_string(),
    }])
}

/// What a failure of the database is to a caller. Named constraints are each slice's own, and come before this.
pub(crate) fn database_problem(error: Error) -> Problem {
    match error {
        Error::Unavailable(_) | Error::Retryable(_) | Error::LockTimeout(_) | Error::Timeout(_) => {
            Problem::unavailable(error)
        }
        Error::Constraint { .. } | Error::Refused(_) | Error::Other(_) => Problem::internal(error),
    }
}

/// Another request with the same Idempotency-Key holds its row.
pub(crate) fn in_flight() -> Problem {
    Problem::new(
        ErrorReason::IdempotencyInFlight,
        "A request with this Idempotency-Key is still running.",
    )
    .retry_after(1)
}
