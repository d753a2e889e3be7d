//! How a call stands after what is told of it. Pure.
//! Deliberately absent: the order in which it is told. Callbacks come in any.

/// How a call stands.
///
/// ```text
/// ringing → in_progress → completed ┬→ (settled by the phone that it was put through to)
///        └────────┴───────────┴─────┴→ missed
/// ```
/// The caller's side of a call that was put through is completed whether somebody took it or not; only the other side knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Somebody rings.
    Ringing,
    /// They are being put through, or talk.
    InProgress,
    /// It has ended.
    Completed,
    /// Nobody talked with them.
    Missed,
}

impl Status {
    /// All, in order.
    pub const ALL: [Status; 4] = [
        Status::Ringing,
        Status::InProgress,
        Status::Completed,
        Status::Missed,
    ];

    /// As the database and REST spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Ringing => "ringing",
            Status::InProgress => "in_progress",
            Status::Completed => "completed",
            Status::Missed => "missed",
        }
    }

    /// The one that is spelled so.
    pub fn named(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == text)
    }
}

/// Why nobody talked with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// Nobody answered in time.
    NoAnswer,
    /// Somebody else was being talked with, or the call was turned away.
    Busy,
    /// It could not be put through.
    Failed,
    /// They hung up before.
    Canceled,
}

impl Because {
    /// All.
    pub const ALL: [Because; 4] = [
        Because::NoAnswer,
        Because::Busy,
        Because::Failed,
        Because::Canceled,
    ];

    /// As the database and REST spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Because::NoAnswer => "no_answer",
            Because::Busy => "busy",
            Because::Failed => "failed",
            Because::Canceled => "canceled",
        }
    }

    /// The one that is spelled so.
    pub fn named(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == text)
    }
}

/// What is known of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// How it stands.
    pub status: Status,
    /// Why it was missed.
    pub because: Option<Because>,
    /// Whether the phone that it was put through to has said so.
    pub settled: bool,
    /// How long it took.
    pub seconds: Option<i32>,
}

/// What a callback of Twilio's says: `CallStatus` of the caller's side, `DialCallStatus` of the phone that it was put through
/// to (https://www.twilio.com/docs/voice/twiml/dial#dialcallstatus-values). None for a word that means nothing here.
pub fn told(call: Option<&str>, dial: Option<&str>, seconds: Option<i32>) -> Option<Standing> {
    let standing = |status, because, settled| {
        Some(Standing {
            status,
            because,
            settled,
            seconds,
        })
    };
    let settled = dial.is_some();
    match dial.or(call)? {
        "queued" | "initiated" | "ringing" => standing(Status::Ringing, None, false),
        "in-progress" => standing(Status::InProgress, None, false),
        "completed" | "answered" => standing(Status::Completed, None, settled),
        "no-answer" => standing(Status::Missed, Some(Because::NoAnswer), settled),
        "busy" => standing(Status::Missed, Some(Because::Busy), settled),
        "failed" => standing(Status::Missed, Some(Because::Failed), settled),
        "canceled" => standing(Status::Missed, Some(Because::Canceled), settled),
        _ => None,
    }
}

/// What stands after a word; none when it says nothing more than is known. What was told as missed stays so: somebody may
/// have been written to about it.
pub fn heard(before: Standing, word: Standing) -> Option<Standing> {
    (rank(word) > rank(before)).then(|| Standing {
        seconds: word.seconds.or(before.seconds),
        ..word
    })
}

const fn rank(standing: Standing) -> u8 {
    match (standing.status, standing.settled) {
        (Status::Ringing, _) => 0,
        (Status::InProgress, _) => 1,
        (Status::Completed, false) => 2,
        (Status::Completed, true) | (Status::Missed, _) => 3,
    }
}

/// Whether somebody hides who calls: what Twilio gives instead of a number, as a word or as digits that spell it
/// (https://www.twilio.com/docs/voice/api/call-resource): ANONYMOUS, RESTRICTED, BLOCKED, UNKNOWN, UNAVAILABLE. Some look
/// like numbers of countries, and nobody is to be texted there.
pub fn hides(from: &str) -> bool {
    matches!(
        from,
        "+266696687" | "+7378742833" | "+2562533" | "+8656696" | "+86282452253"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn word(text: &str) -> Standing {
        let (call, dial) = match text.strip_prefix("dial:") {
            Some(dial) => (Some("in-progress"), Some(dial)),
            None => (Some(text), None),
        };
        told(call, dial, None).expect("a word")
    }

    /// How a call stands after these words.
    fn after(words: &[&str]) -> Standing {
        let mut words = words.iter().map(|text| word(text));
        let first = words.next().expect("a word");
        words.fold(first, |stands, word| heard(stands, word).unwrap_or(stands))
    }

    /// All that Twilio tells of a call, and what became of it.
    const STORIES: [(&[&str], Status, Option<Because>); 7] = [
        (
            &["ringing", "in-progress", "dial:completed", "completed"],
            Status::Completed,
            None,
        ),
        (
            &["ringing", "in-progress", "dial:no-answer", "completed"],
            Status::Missed,
            Some(Because::NoAnswer),
        ),
        (
            &["ringing", "dial:busy", "completed"],
            Status::Missed,
            Some(Because::Busy),
        ),
        (
            &["ringing", "dial:canceled", "completed"],
            Status::Missed,
            Some(Because::Canceled),
        ),
        (&["ringing", "busy"], Status::Missed, Some(Because::Busy)),
        (
            &["ringing", "no-answer"],
            Status::Missed,
            Some(Because::NoAnswer),
        ),
        (
            &["ringing", "in-progress", "completed"],
            Status::Completed,
            None,
        ),
    ];

    #[test]
    fn words_are_read_as_twilio_means_them() {
        assert_eq!(told(None, None, None), None);
        assert_eq!(told(Some("paused"), None, None), None);
        let answered = told(Some("in-progress"), Some("answered"), Some(7));
        let answered = answered.expect("a word");
        assert!(answered.settled && answered.seconds == Some(7));
        assert_eq!(answered.status, Status::Completed);
    }

    #[test]
    fn whoever_hides_is_nobody() {
        assert!(hides("+266696687") && !hides("+15125550123"));
    }

    proptest! {
        #[test]
        fn whatever_the_order_and_however_often_the_end_is_the_same(
            story in 0..STORIES.len(),
            turns in proptest::collection::vec(any::<proptest::sample::Index>(), 0..40),
        ) {
            let (words, status, because) = STORIES[story];
            // Each at least once, and any of them again, in any order.
            let mut told: Vec<&str> = turns.iter().map(|turn| words[turn.index(words.len())]).collect();
            for word in words {
                let at = turns.first().map_or(0, |turn| turn.index(told.len() + 1));
                told.insert(at, word);
            }
            let stands = after(&told);
            prop_assert_eq!((stands.status, stands.because), (status, because), "{:?}", told);
        }
    }
}
