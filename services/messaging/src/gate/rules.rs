//! Which rules bind which purpose, and the decision. Pure.
//! Deliberately absent: a default. Every fact is known or it is not, and what is not known refuses.

use chrono::{DateTime, Months, TimeDelta, Utc};

use super::places::Place;
use super::{Basis, Channel, Purpose, Rule, quiet_hours};

/// The version of everything in this module that changes a decision; kept with each. Raise it with each such change.
pub const RULE_VERSION: i32 = 4;

/// For how long what somebody writes is being answered: the answer is invited, at any hour. 47 CFR 64.1200(f)(15) takes
/// what a person invited out of what a solicitation is.
pub const ANSWER_WINDOW: TimeDelta = TimeDelta::hours(1);

/// Most messages to a person within [`CAP_WINDOW`]: what Florida (Fla. Stat. 501.616(6)(b)) and Oklahoma (15 O.S. 775C.4)
/// allow on one subject.
pub const CAP: usize = 3;

/// The window of [`CAP`].
pub const CAP_WINDOW: TimeDelta = TimeDelta::hours(24);

/// When to ask again for what could not be learned.
pub const ASK_AGAIN: TimeDelta = TimeDelta::seconds(60);

/// How a rule concerns a purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// It always binds.
    Binds,
    /// It binds unless the message answers what the person wrote within [`ANSWER_WINDOW`].
    UnlessAnswering,
    /// It does not concern it.
    Free,
}

/// The one table. What a channel takes out of it is in [`exempt`].
pub const fn binding(purpose: Purpose, rule: Rule) -> Binding {
    use Binding::{Binds, Free, UnlessAnswering};
    match (purpose, rule) {
        // Whoever has left has nobody written to, for whatever reason: it is not there to answer for it.
        (_, Rule::ClientActive) => Binds,

        // A hold is placed for abuse: everything the client sends outside stops. Codes and notices are not the client's
        // sending; without them nobody could sign in and settle what the hold was placed for.
        (
            Purpose::Marketing | Purpose::Conversational | Purpose::Transactional,
            Rule::SendingHold,
        ) => Binds,
        (
            Purpose::SecurityCode | Purpose::StaffNotice | Purpose::KeywordReply,
            Rule::SendingHold,
        ) => Free,

        // 47 CFR 64.1200(a)(10): a revocation ends consent to every text and call that needs any; carriers refuse what
        // follows a STOP (Twilio 21610) whatever it says, and staff can say STOP too.
        (
            Purpose::Marketing
            | Purpose::Conversational
            | Purpose::Transactional
            | Purpose::StaffNotice,
            Rule::OptOut,
        ) => Binds,
        // They ask for the code themselves, now: a new consent to this one message.
        (Purpose::SecurityCode, Rule::OptOut) => Free,
        // 47 CFR 64.1200(a)(12): one confirmation of the revocation is not a message of the kind that was revoked; CTIA's
        // principles (5.1.3) want HELP answered to everybody.
        (Purpose::KeywordReply, Rule::OptOut) => Free,

        // 47 CFR 64.1200(d): whoever asked not to be called is not. Nothing but the code they ask for is an exception:
        // on such a list are also people who threatened to sue.
        (
            Purpose::Marketing
            | Purpose::Conversational
            | Purpose::Transactional
            | Purpose::StaffNotice
            | Purpose::KeywordReply,
            Rule::DoNotContact,
        ) => Binds,
        (Purpose::SecurityCode, Rule::DoNotContact) => Free,

        // 47 CFR 64.1200(a)(2) for marketing, (a)(1) for all other automated texts and calls; which basis is enough is
        // in `needed`.
        (Purpose::Marketing | Purpose::Transactional, Rule::Consent) => Binds,
        // Who writes or rings first consents to the answer (FCC 15-72, paragraph 106).
        (Purpose::Conversational, Rule::Consent) => UnlessAnswering,
        // The request for the code is the consent; staff agreed when they joined.
        (Purpose::SecurityCode | Purpose::StaffNotice | Purpose::KeywordReply, Rule::Consent) => {
            Free
        }

        // Not law but what providers ask for (Twilio 21211, 21614, 30005, 30006; bounces): writing to nobody costs the
        // reputation that everybody else's messages travel on.
        (_, Rule::Suppression) => Binds,

        // The plan's hard limit (BIL-01) is about what the client sends to its contacts.
        (
            Purpose::Marketing | Purpose::Conversational | Purpose::Transactional,
            Rule::MonthlyLimit,
        ) => Binds,
        // Nobody is locked out, and no escalation is lost, because a plan is used up.
        (
            Purpose::SecurityCode | Purpose::StaffNotice | Purpose::KeywordReply,
            Rule::MonthlyLimit,
        ) => Free,

        // Florida's and Oklahoma's three a day are about solicitations.
        (Purpose::Marketing, Rule::FrequencyCap) => Binds,
        // What starts a conversation again is one as well, as long as nobody answers.
        (Purpose::Conversational, Rule::FrequencyCap) => UnlessAnswering,
        // One message for each thing that happened; codes are limited where they are asked for.
        (
            Purpose::Transactional
            | Purpose::SecurityCode
            | Purpose::StaffNotice
            | Purpose::KeywordReply,
            Rule::FrequencyCap,
        ) => Free,

        // 47 CFR 64.1200(c)(1) and the states' own hours.
        (Purpose::Marketing, Rule::QuietHours) => Binds,
        (Purpose::Conversational, Rule::QuietHours) => UnlessAnswering,
        // Payment reminders are: 15 U.S.C. 1692c(a)(1). Nothing else here cannot wait for the morning.
        (Purpose::Transactional, Rule::QuietHours) => Binds,
        // Somebody waits for the code; whoever is on call is so at night.
        // Who has just written is awake, and the confirmation is due within five minutes.
        (
            Purpose::SecurityCode | Purpose::StaffNotice | Purpose::KeywordReply,
            Rule::QuietHours,
        ) => Free,
    }
}

/// What a channel takes out of the table.
pub const fn exempt(channel: Channel, purpose: Purpose, rule: Rule) -> bool {
    match (channel, purpose, rule) {
        // No law has hours for mail: it rings nowhere.
        (Channel::Email, _, Rule::QuietHours) => true,
        // The hours' and caps' laws are about calls and texts; mail has its unsubscribing.
        (Channel::Email, _, Rule::FrequencyCap) => true,
        // 15 U.S.C. 7702(17): mail about what somebody has needs no consent.
        (Channel::Email, Purpose::Transactional, Rule::Consent) => true,
        _ => false,
    }
}

/// The weakest basis that is enough.
pub const fn needed(channel: Channel, purpose: Purpose) -> Basis {
    match (purpose, channel) {
        // 47 CFR 64.1200(a)(2), (f)(9): prior express written consent. WhatsApp's business policy asks for an opt-in.
        (Purpose::Marketing, Channel::Sms | Channel::Voice | Channel::Whatsapp) => {
            Basis::ExpressWritten
        }
        // CAN-SPAM asks for none; Canada (CASL 10(9)) and the United Kingdom (PECR 22(3)) for a relationship.
        (Purpose::Marketing, Channel::Email) => Basis::ExistingRelationship,
        // Who gives a number with a question, or with an order, expects to hear about it (FCC 92-443, paragraph 31).
        (
            Purpose::Conversational
            | Purpose::Transactional
            | Purpose::SecurityCode
            | Purpose::StaffNotice
            | Purpose::KeywordReply,
            _,
        ) => Basis::Inquiry,
    }
}

/// Something that was looked up, or could not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact<T> {
    /// This is so.
    Known(T),
    /// It could not be learned, and why: for us, never for a caller.
    Unknown(String),
}

/// On what grounds a person may be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Consent {
    /// The grounds.
    pub basis: Basis,
    /// Since when.
    pub given_at: DateTime<Utc>,
}

impl Consent {
    /// When it ends by itself: 47 CFR 64.1200(f)(5) gives an inquiry three months, a purchase eighteen.
    pub fn lapses_at(&self) -> Option<DateTime<Utc>> {
        let months = match self.basis {
            Basis::Inquiry => 3,
            Basis::ExistingRelationship => 18,
            Basis::Express | Basis::ExpressWritten => return None,
        };
        // Beyond the calendar it has not lapsed either.
        self.given_at.checked_add_months(Months::new(months))
    }

    /// Whether it holds at that time.
    pub fn holds(&self, at: DateTime<Utc>) -> bool {
        self.lapses_at().is_none_or(|end| at < end)
    }
}

/// Whose list an address is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListLevel {
    /// The client's.
    Client,
    /// The agency's: for all its clients.
    Agency,
}

/// How the plan's messages stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Monthly {
    /// Where it ends; none when it does not.
    pub hard_limit: Option<i64>,
    /// What was sent in this period.
    pub used: i64,
    /// When the next one begins.
    pub ends_at: Option<DateTime<Utc>>,
}

/// All that a decision rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// Since when the client is gone, if it is.
    pub closed: Fact<Option<DateTime<Utc>>>,
    /// Why the client's sending is on hold, if it is.
    pub hold: Fact<Option<String>>,
    /// Since when the person has opted out, if so.
    pub opted_out: Fact<Option<DateTime<Utc>>>,
    /// The list the address is on, if any.
    pub do_not_contact: Fact<Option<ListLevel>>,
    /// The consent that stands, if any.
    pub consent: Fact<Option<Consent>>,
    /// Why the address is known to be dead, if it is.
    pub suppressed: Fact<Option<String>>,
    /// The plan's messages.
    pub monthly: Fact<Monthly>,
    /// When this person was last sent something that counts, the newest first; [`CAP`] of them are enough.
    pub sent_at: Fact<Vec<DateTime<Utc>>>,
    /// Where the person may be.
    pub places: Fact<Vec<Place>>,
    /// When the person last wrote or rang.
    pub last_inbound_at: Fact<Option<DateTime<Utc>>>,
}

/// Why a rule refuses; REST tells these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The client has left.
    ClientNotActive,
    /// The client's sending is on hold.
    OnHold,
    /// The person opted out.
    OptedOut,
    /// The address is on a list.
    DoNotContact,
    /// There is no consent that is enough, or it has lapsed.
    NoConsent,
    /// The address reaches nobody.
    Suppressed,
    /// The plan is used up.
    MonthlyLimit,
    /// The person got enough lately.
    FrequencyCap,
    /// It is night there.
    QuietHours,
    /// It could not be learned.
    CheckUnavailable,
}

impl Reason {
    /// As REST and evidence spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::ClientNotActive => "client_not_active",
            Reason::OnHold => "sending_on_hold",
            Reason::OptedOut => "opted_out",
            Reason::DoNotContact => "do_not_contact",
            Reason::NoConsent => "no_consent",
            Reason::Suppressed => "suppressed",
            Reason::MonthlyLimit => "monthly_limit",
            Reason::FrequencyCap => "frequency_cap",
            Reason::QuietHours => "quiet_hours",
            Reason::CheckUnavailable => "check_unavailable",
        }
    }
}

/// One rule's no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The rule.
    pub rule: Rule,
    /// Why.
    pub reason: Reason,
    /// From when on this rule would not refuse; none when waiting does not help.
    pub retry_at: Option<DateTime<Utc>>,
}

/// What a rule that was asked found, for the record of a yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The rule.
    pub rule: Rule,
    /// What it found.
    pub found: String,
}

/// The decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It may leave, now.
    Allowed {
        /// What each rule that binds found.
        evidence: Vec<Evidence>,
    },
    /// It may not.
    Refused {
        /// The first rule that refuses.
        rule: Rule,
        /// Why.
        reason: Reason,
        /// The earliest time at which all that is known would allow it; none when waiting does not help.
        retry_at: Option<DateTime<Utc>>,
        /// Every rule that refuses, the first included, in order.
        all: Vec<Refusal>,
        /// What the other rules that bind found.
        passed: Vec<Evidence>,
    },
}

/// Decides.
pub fn decide(facts: &Facts, purpose: Purpose, channel: Channel, at: DateTime<Utc>) -> Decision {
    let Looked { evidence, refusals } = look(facts, purpose, channel, at);
    match refusals.first() {
        None => Decision::Allowed { evidence },
        Some(first) => Decision::Refused {
            rule: first.rule,
            reason: first.reason,
            retry_at: earliest(facts, purpose, channel, at, &refusals),
            passed: evidence,
            all: refusals,
        },
    }
}

/// What every rule that binds says.
struct Looked {
    evidence: Vec<Evidence>,
    refusals: Vec<Refusal>,
}

fn look(facts: &Facts, purpose: Purpose, channel: Channel, at: DateTime<Utc>) -> Looked {
    let (mut evidence, mut refusals) = (Vec::new(), Vec::new());
    for rule in Rule::ALL {
        if !binds(facts, purpose, channel, rule, at) {
            continue;
        }
        match ask(rule, facts, purpose, channel, at) {
            Ok(found) => evidence.push(Evidence { rule, found }),
            Err(refusal) => refusals.push(refusal),
        }
    }
    Looked { evidence, refusals }
}

fn binds(facts: &Facts, purpose: Purpose, channel: Channel, rule: Rule, at: DateTime<Utc>) -> bool {
    if exempt(channel, purpose, rule) {
        return false;
    }
    match binding(purpose, rule) {
        Binding::Binds => true,
        Binding::UnlessAnswering => !is_answer(facts, at),
        Binding::Free => false,
    }
}

/// Not known is not answering: the stricter way.
fn is_answer(facts: &Facts, at: DateTime<Utc>) -> bool {
    match facts.last_inbound_at {
        Fact::Known(Some(wrote_at)) => wrote_at <= at && at < wrote_at + ANSWER_WINDOW,
        Fact::Known(None) | Fact::Unknown(_) => false,
    }
}

/// The earliest time at which nothing that is known refuses. Each refusal reaches unbroken from `at` to its own end, so
/// going from end to end steps over nothing.
fn earliest(
    facts: &Facts,
    purpose: Purpose,
    channel: Channel,
    at: DateTime<Utc>,
    refusals: &[Refusal],
) -> Option<DateTime<Utc>> {
    // A cap can end in the night and the night on another limit; more rounds than rules there cannot be.
    let mut ends: Vec<_> = refusals.to_vec();
    let mut when = at;
    for _ in 0..=Rule::ALL.len() {
        for refusal in &ends {
            when = when.max(refusal.retry_at?);
        }
        if ends
            .iter()
            .any(|refusal| refusal.reason == Reason::CheckUnavailable)
        {
            // What is not known cannot be told in advance.
            return Some(when);
        }
        ends = look(facts, purpose, channel, when).refusals;
        if ends.is_empty() {
            return Some(when);
        }
    }
    None
}

/// What one rule says.
fn ask(
    rule: Rule,
    facts: &Facts,
    purpose: Purpose,
    channel: Channel,
    at: DateTime<Utc>,
) -> Result<String, Refusal> {
    let refused = |reason, retry_at| Refusal {
        rule,
        reason,
        retry_at,
    };
    let unknown = || refused(Reason::CheckUnavailable, Some(at + ASK_AGAIN));
    match rule {
        Rule::ClientActive => match known(&facts.closed).ok_or_else(unknown)? {
            None => Ok("the client has not left".to_owned()),
            Some(_) => Err(refused(Reason::ClientNotActive, None)),
        },
        Rule::SendingHold => match known(&facts.hold).ok_or_else(unknown)? {
            None => Ok("no hold stands".to_owned()),
            Some(_) => Err(refused(Reason::OnHold, None)),
        },
        Rule::OptOut => match known(&facts.opted_out).ok_or_else(unknown)? {
            None => Ok("not opted out".to_owned()),
            Some(_) => Err(refused(Reason::OptedOut, None)),
        },
        Rule::DoNotContact => match known(&facts.do_not_contact).ok_or_else(unknown)? {
            None => Ok("on no list".to_owned()),
            Some(_) => Err(refused(Reason::DoNotContact, None)),
        },
        Rule::Consent => {
            let least = needed(channel, purpose);
            match known(&facts.consent).ok_or_else(unknown)? {
                Some(consent) if consent.basis >= least && consent.holds(at) => {
                    let (basis, since) = (consent.basis.as_str(), consent.given_at.to_rfc3339());
                    Ok(format!("{basis} since {since}"))
                }
                Some(_) | None => Err(refused(Reason::NoConsent, None)),
            }
        }
        Rule::Suppression => match known(&facts.suppressed).ok_or_else(unknown)? {
            None => Ok("not known to be dead".to_owned()),
            Some(_) => Err(refused(Reason::Suppressed, None)),
        },
        Rule::MonthlyLimit => {
            let monthly = known(&facts.monthly).ok_or_else(unknown)?;
            match monthly.hard_limit {
                Some(limit)
                    if monthly.used >= limit && monthly.ends_at.is_none_or(|end| at < end) =>
                {
                    Err(refused(Reason::MonthlyLimit, monthly.ends_at))
                }
                Some(limit) => Ok(format!("{} of {limit} used", monthly.used)),
                None => Ok("no hard limit".to_owned()),
            }
        }
        Rule::FrequencyCap => {
            let mut sent = known(&facts.sent_at).ok_or_else(unknown)?.clone();
            sent.retain(|sent_at| at < *sent_at + CAP_WINDOW);
            sent.sort_unstable_by(|one, other| other.cmp(one));
            match sent.get(CAP - 1) {
                // Room comes when the oldest that fills the cap leaves the window.
                Some(filling) => Err(refused(Reason::FrequencyCap, Some(*filling + CAP_WINDOW))),
                None => Ok(format!("{} of {CAP} in 24 hours", sent.len())),
            }
        }
        Rule::QuietHours => {
            let places = known(&facts.places).ok_or_else(unknown)?;
            if quiet_hours::is_legal(places, at) {
                return Ok(awake(places, at));
            }
            Err(refused(
                Reason::QuietHours,
                quiet_hours::next_legal_time(places, at),
            ))
        }
    }
}

fn known<T>(fact: &Fact<T>) -> Option<&T> {
    match fact {
        Fact::Known(known) => Some(known),
        Fact::Unknown(_) => None,
    }
}

/// The clock of each place, for the record: `13:05 America/Chicago`.
fn awake(places: &[Place], at: DateTime<Utc>) -> String {
    let mut clocks: Vec<String> = places
        .iter()
        .map(|place| {
            format!(
                "{} {}",
                at.with_timezone(&place.zone).format("%H:%M"),
                place.zone
            )
        })
        .collect();
    clocks.dedup();
    clocks.join(", ")
}

#[cfg(test)]
mod tests;
