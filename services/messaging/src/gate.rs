//! The gate (MSG-10): one decision, for every channel and every sender, on whether a message may leave.
//!
//! Reading order: [`rules`] (which rules bind what, and the decision) → [`quiet_hours`], by [`places`] and [`hours`] →
//! [`permit`] (the signed yes, without which nothing leaves) → [`revocation`] (what a reply says about it).
//! Deliberately absent: I/O. What is known is gathered elsewhere; what could not be learned is said to be unknown, and
//! then the answer is no.

use serde::{Deserialize, Serialize};

pub mod hours;
pub mod permit;
pub mod places;
pub mod quiet_hours;
pub mod revocation;
pub mod rules;

pub use permit::{Permit, PermitKey};
pub use rules::{Decision, Facts, RULE_VERSION, decide};

/// What a message is for. Its sender says so; what binds it follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// To sell.
    Marketing,
    /// To talk with somebody about what they asked.
    Conversational,
    /// To tell of something they have: an appointment, a receipt, a payment that is due.
    Transactional,
    /// A code that they asked for a moment ago.
    SecurityCode,
    /// To the client's or the agency's own people.
    StaffNotice,
    /// To answer a word that carriers demand an answer to: the one confirmation of `STOP`, and `START` and `HELP`.
    KeywordReply,
}

impl Purpose {
    /// All.
    pub const ALL: [Purpose; 6] = [
        Purpose::Marketing,
        Purpose::Conversational,
        Purpose::Transactional,
        Purpose::SecurityCode,
        Purpose::StaffNotice,
        Purpose::KeywordReply,
    ];

    /// As the database and evidence spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Purpose::Marketing => "marketing",
            Purpose::Conversational => "conversational",
            Purpose::Transactional => "transactional",
            Purpose::SecurityCode => "security_code",
            Purpose::StaffNotice => "staff_notice",
            Purpose::KeywordReply => "keyword_reply",
        }
    }

    /// The purpose that is spelled so.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|purpose| purpose.as_str() == name)
    }
}

/// How a message travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// A text message.
    Sms,
    /// WhatsApp.
    Whatsapp,
    /// Mail.
    Email,
    /// A call.
    Voice,
}

impl Channel {
    /// All.
    pub const ALL: [Channel; 4] = [
        Channel::Sms,
        Channel::Whatsapp,
        Channel::Email,
        Channel::Voice,
    ];

    /// As the database and evidence spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Channel::Sms => "sms",
            Channel::Whatsapp => "whatsapp",
            Channel::Email => "email",
            Channel::Voice => "voice",
        }
    }

    /// The channel that is spelled so.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|channel| channel.as_str() == name)
    }

    /// The channels that reach an address of the same kind: whoever stops one of them by `STOP` stops them all.
    pub const fn with_same_address(self) -> &'static [Channel] {
        match self {
            Channel::Email => &[Channel::Email],
            Channel::Sms | Channel::Whatsapp | Channel::Voice => {
                &[Channel::Sms, Channel::Whatsapp, Channel::Voice]
            }
        }
    }
}

/// What can keep a message from leaving, in the order it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// The client has left.
    ClientActive,
    /// The agency holds the client's sending.
    SendingHold,
    /// The person asked this client not to.
    OptOut,
    /// The address is on a list of those nobody contacts: the client's or the agency's.
    DoNotContact,
    /// The person agreed, or asked first.
    Consent,
    /// The address is known to reach nobody.
    Suppression,
    /// The plan's messages are used up, and the plan says that is the end.
    MonthlyLimit,
    /// The person got enough lately.
    FrequencyCap,
    /// It is night where they may be.
    QuietHours,
}

impl Rule {
    /// All, in order.
    pub const ALL: [Rule; 9] = [
        Rule::ClientActive,
        Rule::SendingHold,
        Rule::OptOut,
        Rule::DoNotContact,
        Rule::Consent,
        Rule::Suppression,
        Rule::MonthlyLimit,
        Rule::FrequencyCap,
        Rule::QuietHours,
    ];

    /// As evidence spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Rule::ClientActive => "client_active",
            Rule::SendingHold => "sending_hold",
            Rule::OptOut => "opt_out",
            Rule::DoNotContact => "do_not_contact",
            Rule::Consent => "consent",
            Rule::Suppression => "suppression",
            Rule::MonthlyLimit => "monthly_limit",
            Rule::FrequencyCap => "frequency_cap",
            Rule::QuietHours => "quiet_hours",
        }
    }
}

/// On what grounds somebody may be written to, the weakest first: a stronger one does for a weaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Basis {
    /// They asked something.
    Inquiry,
    /// They bought something.
    ExistingRelationship,
    /// They said yes.
    Express,
    /// They signed a yes to marketing: prior express written consent.
    ExpressWritten,
}

impl Basis {
    /// All, the weakest first.
    pub const ALL: [Basis; 4] = [
        Basis::Inquiry,
        Basis::ExistingRelationship,
        Basis::Express,
        Basis::ExpressWritten,
    ];

    /// As the database and REST spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Basis::Inquiry => "inquiry",
            Basis::ExistingRelationship => "existing_relationship",
            Basis::Express => "express",
            Basis::ExpressWritten => "express_written",
        }
    }

    /// The basis that is spelled so.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|basis| basis.as_str() == name)
    }
}
