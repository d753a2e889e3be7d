//! The closed lists of words that escalations are described with: each spelled once, the same in the database, in events and in
//! requests.
//! Deliberately absent: a way to take a word that is on none of them.

use mainstay_proto::escalation::v1 as proto;
use serde::{Deserialize, Serialize};

/// A closed list of words, each spelled once.
macro_rules! closed {
    ($(#[$doc:meta])* $name:ident is $proto:ident { $($(#[$word_doc:meta])* $word:ident $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
        #[sqlx(type_name = "text", rename_all = "snake_case")]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$word_doc])* $word,)*
        }

        impl $name {
            /// As the database and JSON spell it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$word => $text,)*
                }
            }

            /// The one that is spelled so.
            pub fn named(text: &str) -> Option<Self> {
                match text {
                    $($text => Some(Self::$word),)*
                    _ => None,
                }
            }

            /// The one that a request names, if it names one.
            pub fn given(number: Option<i32>) -> Option<Self> {
                match proto::$proto::try_from(number?) {
                    $(Ok(proto::$proto::$word) => Some(Self::$word),)*
                    Ok(proto::$proto::Unspecified) | Err(_) => None,
                }
            }

            /// As answers have it.
            pub fn answer(self) -> i32 {
                match self {
                    $(Self::$word => proto::$proto::$word.into(),)*
                }
            }
        }
    };
}
pub(crate) use closed;

closed! {
    /// Why a person is called.
    Cause is EscalationReason {
        /// A person asked for it here.
        Manual "manual",
        /// The lead asked for a person, or the model could not answer.
        HandOver "hand_over",
        /// Somebody wants to be called back.
        CallbackRequested "callback_requested",
        /// A word in a text that is to be seen at once.
        Keyword "keyword",
        /// An automation could not go on.
        AutomationFailed "automation_failed",
        /// A payment is disputed.
        Dispute "dispute",
        /// Nobody answered in time.
        MissedSla "missed_sla",
    }
}

closed! {
    /// How urgent it is.
    Priority is EscalationPriority {
        /// It can wait.
        Low "low",
        /// As usual.
        Normal "normal",
        /// Before others.
        High "high",
        /// Now.
        Urgent "urgent",
    }
}

closed! {
    /// How an escalation stands.
    ///
    /// ```text
    /// pending ──claim──▶ claimed ──resolve──▶ resolved
    ///    ▲ │ ◀──release────┘ └─reassign─▶ claimed     ▲
    ///    │ └──the ladder ends──▶ expired   pending ───┘
    /// ```
    State is EscalationStatus {
        /// Nobody has it; its ladder goes on.
        Pending "pending",
        /// Somebody has it.
        Claimed "claimed",
        /// It is done with.
        Resolved "resolved",
        /// Its ladder ended and nobody took it.
        Expired "expired",
    }
}
