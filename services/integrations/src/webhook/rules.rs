//! What follows from what in the webhook inbox, decided on values alone: which of a batch are the same, what a try's
//! answer means, which weeks are past their retention.
//! Deliberately absent: what a webhook means. Its owner (billing, for Stripe) says so.

use std::collections::HashMap;

use mainstay_types::WebhookEventId;
use uuid::Uuid;

use super::{Answer, Key, Next};

/// How often handing a webhook on is tried before a person must look. With the queue's pauses (doubling from a second to
/// an hour) that is about a day: longer than any owner should be away, sooner than anyone forgets.
pub const MAX_ATTEMPTS: u32 = 40;

/// Webhooks are kept for thirteen whole weeks, and the present one.
pub const WEEKS_KEPT: u64 = 13;

const WEEK_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// The longest text kept of an outcome or error; the table refuses more.
const LONGEST_TEXT: usize = 2000;

/// For each webhook of a batch the place of the first one with its key, in the batch's order. One statement cannot
/// meet the same key twice.
pub fn firsts<'a>(keys: impl IntoIterator<Item = &'a Key>) -> Vec<usize> {
    let mut seen = HashMap::new();
    keys.into_iter()
        .enumerate()
        .map(|(place, key)| *seen.entry(key).or_insert(place))
        .collect()
}

/// What a try leads to. `attempts` counts this one.
pub fn after(answer: Answer, attempts: u32, max_attempts: u32) -> Next {
    let failure = match answer {
        Answer::Done(outcome) => {
            return Next::Processed {
                outcome: shortened(outcome),
            };
        }
        Answer::Refused(error) => {
            return Next::Dead {
                error: shortened(error),
            };
        }
        Answer::NotYet(error) | Answer::Failed(error) => shortened(error),
    };
    if attempts >= max_attempts {
        Next::Dead { error: failure }
    } else {
        Next::Failed { error: failure }
    }
}

/// The partition that an id belongs to, as the table's own check has it: of a ring of sixteen weeks.
pub fn slot(id: Uuid) -> i16 {
    let ms = (id.as_u128() >> 80) as u64;
    (ms / WEEK_MS % 16) as i16
}

/// The least id that is still kept when `newest` is the id of something that comes in now. Ids tell their time, so the
/// clock that made them is the one that judges them, also where the platform's clock is shifted.
pub fn oldest_kept(newest: WebhookEventId) -> Uuid {
    let now_ms = (newest.uuid().as_u128() >> 80) as u64;
    let week = (now_ms / WEEK_MS).saturating_sub(WEEKS_KEPT);
    Uuid::from_u128(u128::from(week * WEEK_MS) << 80)
}

/// As much of a text as the table takes.
pub fn shortened(text: String) -> String {
    if text.chars().count() <= LONGEST_TEXT {
        return text;
    }
    text.chars().take(LONGEST_TEXT - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(event_key: &str) -> Key {
        Key {
            provider: "stripe".into(),
            account: "default".into(),
            event_key: event_key.into(),
        }
    }

    #[test]
    fn repetitions_within_a_batch_fall_together() {
        let batch = [
            key("evt_1"),
            key("evt_2"),
            key("evt_1"),
            key("evt_2"),
            key("evt_3"),
        ];
        assert_eq!(firsts(&batch), [0, 1, 0, 1, 4]);
        let other_account = Key {
            account: "acct_2".into(),
            ..key("evt_1")
        };
        assert_eq!(firsts(&[key("evt_1"), other_account]), [0, 1]);
    }

    #[test]
    fn what_an_answer_leads_to() {
        let (done, not_yet) = (
            || Answer::Done("applied".into()),
            || Answer::NotYet("no such customer".into()),
        );
        let failed = |error: &str| Next::Failed {
            error: error.into(),
        };
        let dead = |error: &str| Next::Dead {
            error: error.into(),
        };
        for (answer, attempts, next) in [
            (
                done(),
                1,
                Next::Processed {
                    outcome: "applied".into(),
                },
            ),
            // also at the last moment
            (
                done(),
                3,
                Next::Processed {
                    outcome: "applied".into(),
                },
            ),
            (not_yet(), 1, failed("no such customer")),
            (not_yet(), 2, failed("no such customer")),
            (not_yet(), 3, dead("no such customer")),
            (
                Answer::Failed("unavailable".into()),
                2,
                failed("unavailable"),
            ),
            (Answer::Failed("unavailable".into()), 3, dead("unavailable")),
            // nothing that repetition could mend
            (Answer::Refused("not JSON".into()), 1, dead("not JSON")),
        ] {
            assert_eq!(
                after(answer.clone(), attempts, 3),
                next,
                "{answer:?} at try {attempts}"
            );
        }
    }

    #[test]
    fn a_long_error_is_shortened_to_what_the_table_takes() {
        let Next::Failed { error } = after(Answer::Failed("ä".repeat(3000)), 1, 3) else {
            panic!("it is tried again");
        };
        assert_eq!(error.chars().count(), LONGEST_TEXT);
    }

    #[test]
    fn an_id_tells_its_partition_in_a_ring_of_sixteen_weeks() {
        let in_week = |n: u64| Uuid::from_u128(u128::from(n * WEEK_MS) << 80 | 7 << 76);
        assert_eq!(
            [0, 1, 15, 16, 2967].map(|n| slot(in_week(n))),
            [0, 1, 15, 0, 7]
        );
        let last_moment = Uuid::from_u128(u128::from(16 * WEEK_MS - 1) << 80 | 7 << 76);
        assert_eq!(slot(last_moment), 15);
    }

    #[test]
    fn a_week_goes_only_when_all_of_it_is_past_retention() {
        let at =
            |ms: u64| WebhookEventId::from_uuid(Uuid::from_u128(u128::from(ms) << 80 | 7 << 76));
        let week = |n: u64| Uuid::from_u128(u128::from(n * WEEK_MS) << 80);
        // the last millisecond of week 2000, and the first of 2001
        assert_eq!(oldest_kept(at(2001 * WEEK_MS - 1)), week(1987));
        assert_eq!(oldest_kept(at(2001 * WEEK_MS)), week(1988));
        // between thirteen and fourteen weeks, always less than the ring of sixteen
        assert_eq!(oldest_kept(at(5)), week(0));
    }
}
