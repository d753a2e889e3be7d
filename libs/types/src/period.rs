//! Billing intervals and periods. Deliberately absent: proration, which is billing's own rule.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};

/// How often a price is charged.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Interval {
    /// Every calendar month.
    Month,
    /// Every year.
    Year,
}

impl Interval {
    /// As Stripe and the database spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Interval::Month => "month",
            Interval::Year => "year",
        }
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no interval.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be `month` or `year`")]
pub struct UnknownInterval;

impl FromStr for Interval {
    type Err = UnknownInterval;
    fn from_str(text: &str) -> Result<Self, UnknownInterval> {
        match text {
            "month" => Ok(Interval::Month),
            "year" => Ok(Interval::Year),
            _ => Err(UnknownInterval),
        }
    }
}

/// A half-open span of time: `start` is in it, `end` is not, so that periods tile the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Period {
    /// First instant in it.
    pub start: DateTime<Utc>,
    /// First instant after it.
    pub end: DateTime<Utc>,
}

impl Period {
    /// A period; `None` unless it starts before it ends.
    pub fn new(start: DateTime<Utc>, end: DateTime<Utc>) -> Option<Self> {
        (start < end).then_some(Self { start, end })
    }

    /// Whether the instant lies in it.
    pub fn contains(&self, at: DateTime<Utc>) -> bool {
        self.start <= at && at < self.end
    }
}
