//! The closed lists of words that leads are described with: each spelled once, the same in the database, in events and
//! in requests.
//! Deliberately absent: a way to take a word that is on none of them.

use mainstay_proto::messaging::v1 as proto;
use serde::{Deserialize, Serialize};

macro_rules! closed {
    ($(#[$doc:meta])* $name:ident is $proto:ident { $($(#[$word_doc:meta])* $word:ident $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type)]
        #[sqlx(type_name = "text", rename_all = "snake_case")]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$word_doc])* $word,)*
        }

        impl $name {
            /// All, in order.
            pub const ALL: &'static [Self] = &[$(Self::$word),*];

            /// As the database and JSON spell it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$word => $text,)*
                }
            }

            /// The one that is spelled so.
            pub fn named(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.as_str() == text)
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

closed! {
    /// How far a lead has come.
    ///
    /// ```text
    /// new → contacted → engaged → qualified → booked → won
    ///                                               └→ lost
    /// ```
    /// Any step may be left out. Back it goes only when somebody reopens it and says why, and then to none of the two ends.
    Status is LeadStatus {
        /// Nobody has written yet.
        New "new",
        /// It was written to.
        Contacted "contacted",
        /// It answered.
        Engaged "engaged",
        /// It wants what the client sells.
        Qualified "qualified",
        /// An appointment stands.
        Booked "booked",
        /// It bought.
        Won "won",
        /// It will not.
        Lost "lost",
    }
}

closed! {
    /// Where a lead came from.
    Source is LeadSource {
        /// Through the API.
        Api "api",
        /// Typed in by somebody.
        Manual "manual",
        /// From a list.
        Import "import",
        /// A form on a site.
        Form "form",
        /// They texted first.
        InboundSms "inbound_sms",
        /// They wrote on WhatsApp first.
        InboundWhatsapp "inbound_whatsapp",
        /// They mailed first.
        InboundEmail "inbound_email",
        /// They called first.
        InboundCall "inbound_call",
        /// An advertisement.
        Advertisement "advertisement",
        /// Somebody sent them.
        Referral "referral",
        /// A partner's system.
        Partner "partner",
        /// None of these.
        Other "other",
    }
}

closed! {
    /// What a lead does, or needs done.
    Industry is Industry {
        /// Roofs.
        Roofing "roofing",
        /// Heating and cooling.
        Hvac "hvac",
        /// Pipes.
        Plumbing "plumbing",
        /// Wires.
        Electrical "electrical",
        /// Gardens.
        Landscaping "landscaping",
        /// Cleaning.
        Cleaning "cleaning",
        /// Building.
        Construction "construction",
        /// Cars.
        Automotive "automotive",
        /// Houses.
        RealEstate "real_estate",
        /// Law.
        Legal "legal",
        /// Medicine.
        Medical "medical",
        /// Teeth.
        Dental "dental",
        /// Sport.
        Fitness "fitness",
        /// Hair, nails and skin.
        Beauty "beauty",
        /// Food.
        Restaurant "restaurant",
        /// Shops.
        Retail "retail",
        /// Insurance.
        Insurance "insurance",
        /// Money.
        Finance "finance",
        /// Teaching.
        Education "education",
        /// Software and computers.
        Technology "technology",
        /// None of these.
        Other "other",
    }
}

closed! {
    /// How warm a lead is, the warmest first. What is to be done about it is its [`TaskPriority`].
    Engagement is Engagement {
        /// Answers and asks.
        Hot "hot",
        /// Answers.
        Warm "warm",
        /// Silent.
        Cold "cold",
    }
}

closed! {
    /// How urgent the next task for a lead is, the most urgent first.
    TaskPriority is TaskPriority {
        /// First.
        High "high",
        /// In its turn.
        Medium "medium",
        /// When there is time.
        Low "low",
    }
}

closed! {
    /// What kind of address a lead has.
    IdentityKind is LeadIdentityKind {
        /// A telephone number.
        Phone "phone",
        /// An email address.
        Email "email",
        /// A telephone number that was given for WhatsApp.
        Whatsapp "whatsapp",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! spelled_alike {
        ($($name:ident)*) => {
            $(for word in $name::ALL {
                assert_eq!(serde_json::to_value(word).expect("JSON"), word.as_str());
                assert_eq!($name::named(word.as_str()), Some(*word));
                assert_eq!($name::given(Some(word.answer())), Some(*word));
            }
            assert_eq!($name::given(None), None);
            assert_eq!($name::given(Some(0)), None);
            assert_eq!($name::given(Some(999)), None);
            assert_eq!($name::named("Roofing "), None);)*
        };
    }

    #[test]
    fn every_word_is_spelled_alike_everywhere_and_no_other_is_taken() {
        spelled_alike! { Status Source Industry Engagement TaskPriority IdentityKind }
    }
}
