//! The life of a message (MSG-20). Pure.
//!
//! ```text
//!  scheduled ─▶ queued ─▶ sending ─▶ sent ─▶ delivered ─▶ read
//!      │          │ ▲       │  │        └──▶ undelivered, failed
//!      │          │ └─busy──┘  └─▶ ambiguous ─▶ sent, or queued again, or failed
//!      └──────────┴─▶ canceled, blocked, expired
//! ```
//! What a provider says only raises a status, in whatever order it says it.
//! Deliberately absent: a way from `canceled`, `blocked` or `expired` to anything: those never left.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::gate::Purpose;

/// How a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// They wrote it.
    Received,
    /// It leaves later.
    Scheduled,
    /// It leaves as soon as it may.
    Queued,
    /// It was let go and is being handed over.
    Sending,
    /// It was handed over and nobody knows whether it was taken.
    Ambiguous,
    /// The provider has taken it.
    Sent,
    /// It has arrived.
    Delivered,
    /// It was read.
    Read,
    /// The provider took it and could not deliver it.
    Undelivered,
    /// It could not be sent.
    Failed,
    /// Somebody took it back, or its receiver opted out.
    Canceled,
    /// The gate refused it for good.
    Blocked,
    /// It could not leave before it was too late.
    Expired,
}

impl Status {
    /// All.
    pub const ALL: [Status; 13] = [
        Status::Received,
        Status::Scheduled,
        Status::Queued,
        Status::Sending,
        Status::Ambiguous,
        Status::Sent,
        Status::Delivered,
        Status::Read,
        Status::Undelivered,
        Status::Failed,
        Status::Canceled,
        Status::Blocked,
        Status::Expired,
    ];

    /// As the database and REST spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Received => "received",
            Status::Scheduled => "scheduled",
            Status::Queued => "queued",
            Status::Sending => "sending",
            Status::Ambiguous => "ambiguous",
            Status::Sent => "sent",
            Status::Delivered => "delivered",
            Status::Read => "read",
            Status::Undelivered => "undelivered",
            Status::Failed => "failed",
            Status::Canceled => "canceled",
            Status::Blocked => "blocked",
            Status::Expired => "expired",
        }
    }

    /// The status that is spelled so.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// Whether it waits to be let go.
    pub const fn waits(self) -> bool {
        matches!(self, Status::Scheduled | Status::Queued)
    }

    /// Where it stands among what a provider can say; none for what no provider has a say in.
    const fn rank(self) -> Option<u8> {
        match self {
            // A message that is tried again was refused before; word of that try may come late.
            Status::Queued => Some(0),
            Status::Sending => Some(1),
            Status::Ambiguous => Some(2),
            Status::Sent => Some(3),
            Status::Failed | Status::Undelivered => Some(4),
            // After a failure: providers say so where a carrier took its word back.
            Status::Delivered => Some(5),
            Status::Read => Some(6),
            Status::Received
            | Status::Scheduled
            | Status::Canceled
            | Status::Blocked
            | Status::Expired => None,
        }
    }
}

/// How it stands after the provider's word; none when that changes nothing.
pub fn heard(now: Status, word: Status) -> Option<Status> {
    match (now.rank(), word.rank()) {
        (Some(stands), Some(said)) if said > stands => Some(word),
        _ => None,
    }
}

/// The most tries of one message.
pub const MOST_ATTEMPTS: i32 = 3;

/// What to do about a message of which nobody can tell whether it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// Rather twice than not at all.
    SendAgain,
    /// Rather not at all than twice.
    Stop,
}

/// By what it is for.
pub const fn in_doubt(purpose: Purpose) -> Doubt {
    match purpose {
        // Somebody has to come; an appointment must not be missed.
        Purpose::StaffNotice | Purpose::Transactional => Doubt::SendAgain,
        // They ask for another code; two offers are spam; a second confirmation is against the law.
        Purpose::SecurityCode
        | Purpose::Marketing
        | Purpose::Conversational
        | Purpose::KeywordReply => Doubt::Stop,
    }
}

/// Until when a message may leave if nobody says so: what is late by more than this says something that is no longer so.
pub const fn useful_for(purpose: Purpose) -> TimeDelta {
    match purpose {
        Purpose::SecurityCode => TimeDelta::minutes(5),
        Purpose::KeywordReply => TimeDelta::minutes(5),
        Purpose::StaffNotice => TimeDelta::hours(1),
        Purpose::Conversational | Purpose::Transactional | Purpose::Marketing => {
            TimeDelta::hours(24)
        }
    }
}

/// When to try again after a refusal that proves that nothing was sent: doubling from `first` five times, or as the provider
/// asks if that is later. `random` is in 0..1.
pub fn again_at(
    now: DateTime<Utc>,
    first: Duration,
    attempt: i32,
    asked: Option<TimeDelta>,
    random: f64,
) -> DateTime<Utc> {
    let doubled = first * (1 << (attempt.clamp(1, 6) - 1));
    let jittered = doubled.mul_f64(random.clamp(0.0, 1.0).mul_add(0.5, 0.5));
    let pause = TimeDelta::from_std(jittered).unwrap_or(TimeDelta::MAX);
    now + asked.map_or(pause, |asked| asked.max(pause))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_runtime::Clock;
    use proptest::prelude::*;

    fn word() -> impl Strategy<Value = Status> {
        prop::sample::select(vec![
            Status::Sent,
            Status::Delivered,
            Status::Undelivered,
            Status::Failed,
            Status::Read,
        ])
    }

    fn after(start: Status, words: &[Status]) -> Status {
        words
            .iter()
            .fold(start, |now, word| heard(now, *word).unwrap_or(now))
    }

    proptest! {
        #[test]
        fn in_every_order_and_however_often_said_it_only_rises(words in prop::collection::vec(word(), 0..12)) {
            for start in [Status::Sending, Status::Ambiguous, Status::Sent] {
                let mut now = start;
                for word in &words {
                    let next = heard(now, *word).unwrap_or(now);
                    prop_assert!(next.rank() >= now.rank());
                    now = next;
                }
                let mut sorted = words.clone();
                sorted.sort_by_key(|word| word.rank());
                let mut doubled = words.clone();
                doubled.extend(&words);
                // Failed and undelivered are equals: the first of them stands.
                prop_assert_eq!(after(start, &sorted).rank(), now.rank());
                prop_assert_eq!(after(start, &doubled), now);
            }
        }

        #[test]
        fn the_next_try_is_never_before_what_the_provider_asked(attempt in -5_i32..40, asked in 0_i64..100_000, random: f64) {
            let now = Clock::system(0).now();
            let asked = TimeDelta::milliseconds(asked);
            let first = Duration::from_millis(500);
            let at = again_at(now, first, attempt, Some(asked), random);
            prop_assert!(at >= now + asked);
            let alone = again_at(now, first, attempt, None, random);
            prop_assert!(alone > now && alone <= now + TimeDelta::seconds(16));
        }
    }

    #[test]
    fn delivered_after_failed_wins_and_what_never_left_stays() {
        assert_eq!(
            heard(Status::Failed, Status::Delivered),
            Some(Status::Delivered)
        );
        assert_eq!(heard(Status::Delivered, Status::Failed), None);
        for never in [
            Status::Canceled,
            Status::Blocked,
            Status::Expired,
            Status::Scheduled,
            Status::Received,
        ] {
            for word in Status::ALL {
                assert_eq!(heard(never, word), None, "{never:?} {word:?}");
            }
        }
    }

    #[test]
    fn every_status_has_its_name() {
        for status in Status::ALL {
            assert_eq!(Status::named(status.as_str()), Some(status));
        }
    }
}
