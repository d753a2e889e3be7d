//! What a form says. Pure, and lenient: what forms call things is in one table, and what cannot be read is named, not refused;
//! whoever sent it has gone.
//! Deliberately absent: what the person meant. A number that is not clear is nobody's.

use chrono::{DateTime, Utc};
use mainstay_types::format;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::address::Address;
use crate::gate::rules::Consent;
use crate::gate::{Basis, Channel};

/// Most fields that are kept of a form, and most characters of a name and of a value.
const MOST_FIELDS: usize = 200;
const LONGEST_NAME: usize = 200;
const LONGEST_VALUE: usize = 20_000;
/// Most characters of all values: a form's place is in one row.
const MOST_TEXT: usize = 60_000;
/// As the lead's table and consent's history take them.
const LONGEST_LEAD_NAME: usize = 200;
const LONGEST_WORDS: usize = 2_000;

/// A field as it was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A field's name as texts of automations can call it: `Roof type` is `form.roof_type`.
pub fn callable(name: &str) -> String {
    name.chars()
        .map(|c| match c.is_ascii_alphanumeric() {
            true => c.to_ascii_lowercase(),
            false => '_',
        })
        .collect()
}

/// A field that could not be taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Its name.
    pub field: String,
    /// What would be right.
    pub message: String,
}

/// What a field is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    Name,
    FirstName,
    LastName,
    Email,
    Phone,
    Message,
    TimeZone,
    Agrees(Channel),
    Words(Channel),
}

/// What forms call things: without case, and without what stands between words. One table for all of them.
const ALIASES: &[(About, &[&str])] = &[
    (
        About::Name,
        &[
            "name",
            "fullname",
            "yourname",
            "contactname",
            "customername",
        ],
    ),
    (
        About::FirstName,
        &["firstname", "fname", "givenname", "namefirst"],
    ),
    (
        About::LastName,
        &["lastname", "lname", "surname", "familyname", "namelast"],
    ),
    (
        About::Email,
        &["email", "emailaddress", "mail", "youremail", "contactemail"],
    ),
    (
        About::Phone,
        &[
            "phone",
            "phonenumber",
            "tel",
            "telephone",
            "mobile",
            "mobilephone",
            "mobilenumber",
            "cell",
            "cellphone",
            "yourphone",
            "contactphone",
        ],
    ),
    (
        About::Message,
        &[
            "message",
            "yourmessage",
            "comment",
            "comments",
            "question",
            "details",
            "notes",
            "inquiry",
            "enquiry",
            "description",
        ],
    ),
    (About::TimeZone, &["timezone", "tz"]),
    (
        About::Agrees(Channel::Sms),
        &["smsconsent", "consentsms", "smsoptin", "textconsent"],
    ),
    (
        About::Agrees(Channel::Email),
        &["emailconsent", "consentemail", "emailoptin"],
    ),
    (
        About::Agrees(Channel::Voice),
        &["voiceconsent", "callconsent", "consentcall", "calloptin"],
    ),
    (
        About::Agrees(Channel::Whatsapp),
        &["whatsappconsent", "consentwhatsapp", "whatsappoptin"],
    ),
    (
        About::Words(Channel::Sms),
        &[
            "smsconsenttext",
            "consentsmstext",
            "smsoptintext",
            "textconsenttext",
        ],
    ),
    (
        About::Words(Channel::Email),
        &["emailconsenttext", "consentemailtext", "emailoptintext"],
    ),
    (
        About::Words(Channel::Voice),
        &[
            "voiceconsenttext",
            "callconsenttext",
            "consentcalltext",
            "calloptintext",
        ],
    ),
    (
        About::Words(Channel::Whatsapp),
        &[
            "whatsappconsenttext",
            "consentwhatsapptext",
            "whatsappoptintext",
        ],
    ),
];

fn about(name: &str) -> Option<About> {
    let plain: String = name
        .chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect();
    let known = ALIASES
        .iter()
        .find(|(_, aliases)| aliases.contains(&plain.as_str()));
    known.map(|(about, _)| *about)
}

/// Whoever sent a form, as far as it says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sender {
    /// What they call themselves.
    pub name: Option<String>,
    /// Their number.
    pub phone: Option<Address>,
    /// Their mail address.
    pub email: Option<Address>,
    /// Their IANA time zone.
    pub time_zone: Option<String>,
    /// What they want.
    pub message: Option<String>,
    /// What they agreed to, with the words that they were shown.
    pub consents: Vec<(Channel, Consent, Option<String>)>,
    /// What could not be taken.
    pub problems: Vec<Problem>,
}

/// The fields of a body, as they were sent.
///
/// # Errors
/// Why it is no form.
pub fn fields(content_type: &str, body: &[u8]) -> Result<Vec<Field>, String> {
    let pairs: Vec<(String, String)> = if content_type.starts_with("application/json") {
        let object: serde_json::Map<String, Value> =
            serde_json::from_slice(body).map_err(|error| format!("is no JSON object: {error}"))?;
        object
            .into_iter()
            .map(|(name, value)| (name, plain(value)))
            .collect()
    } else {
        form_urlencoded::parse(body).into_owned().collect()
    };
    let mut left = MOST_TEXT;
    let kept = pairs.into_iter().take(MOST_FIELDS).map(|(name, value)| {
        let value = cut(&value, LONGEST_VALUE.min(left));
        left -= value.chars().count();
        Field {
            name: cut(&name, LONGEST_NAME),
            value,
        }
    });
    Ok(kept.collect())
}

/// What JSON says, as a form would have sent it.
fn plain(value: Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// As much of a text as is kept; PostgreSQL's text holds no U+0000.
fn cut(text: &str, most: usize) -> String {
    text.chars().filter(|c| *c != '\0').take(most).collect()
}

/// Who sent it, and what they agreed to at that time.
pub fn read(fields: &[Field], at: DateTime<Utc>) -> Sender {
    let first = |wanted: About| {
        fields
            .iter()
            .find(|field| about(&field.name) == Some(wanted) && !field.value.trim().is_empty())
    };
    let text = |wanted: About| first(wanted).map(|field| one_line(&field.value));
    let mut problems = Vec::new();
    let mut checked = |wanted: About, parse: &dyn Fn(&str) -> Result<Address, &'static str>| {
        let field = first(wanted)?;
        match parse(field.value.trim()) {
            Ok(address) => Some(address),
            Err(message) => {
                problems.push(Problem {
                    field: field.name.clone(),
                    message: message.to_owned(),
                });
                None
            }
        }
    };
    let phone = checked(About::Phone, &phone);
    let email = checked(About::Email, &email);
    let time_zone = first(About::TimeZone).and_then(|field| {
        let known = format::parse_time_zone(field.value.trim());
        if known.is_none() {
            problems.push(Problem {
                field: field.name.clone(),
                message: "must be an IANA time zone, such as America/Chicago".to_owned(),
            });
        }
        known.map(|zone| zone.name().to_owned())
    });
    let name = text(About::Name).or_else(|| {
        let parts = [text(About::FirstName), text(About::LastName)];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(" "))
    });
    let consents = consents(fields, phone.is_some(), email.is_some(), at);
    Sender {
        name: name.map(|name| cut(&name, LONGEST_LEAD_NAME)),
        phone,
        email,
        time_zone,
        message: first(About::Message).map(|field| field.value.clone()),
        consents,
        problems,
    }
}

/// A name stands in one line, without what nobody sees.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect();
    words.join(" ")
}

/// Who ticks a box signs what stands beside it (47 CFR 64.1200(f)(9)). Who gives an address with a question may be answered
/// there. Who is shown a box and leaves it empty, which only JSON can say, has agreed to nothing.
fn consents(
    fields: &[Field],
    phone: bool,
    email: bool,
    at: DateTime<Utc>,
) -> Vec<(Channel, Consent, Option<String>)> {
    let find = |wanted: About| {
        fields
            .iter()
            .find(|field| about(&field.name) == Some(wanted))
    };
    let given = |channel: Channel| match channel {
        Channel::Email => email,
        Channel::Sms | Channel::Voice | Channel::Whatsapp => phone,
    };
    let channels = Channel::ALL.into_iter().filter(|channel| given(*channel));
    let agreed = channels.filter_map(|channel| {
        let basis = match find(About::Agrees(channel)) {
            Some(field) if is_ticked(&field.value) => Basis::ExpressWritten,
            Some(_) => return None,
            // Nobody who leaves a number asks to be called, or written to elsewhere, by a machine.
            None if matches!(channel, Channel::Sms | Channel::Email) => Basis::Inquiry,
            None => return None,
        };
        let words = find(About::Words(channel)).filter(|_| basis == Basis::ExpressWritten);
        let words = words
            .map(|field| cut(field.value.trim(), LONGEST_WORDS))
            .filter(|words| !words.is_empty());
        let consent = Consent {
            basis,
            given_at: at,
        };
        Some((channel, consent, words))
    });
    agreed.collect()
}

fn is_ticked(value: &str) -> bool {
    let value = value.trim().to_ascii_lowercase();
    ["on", "true", "yes", "y", "1", "checked"].contains(&value.as_str())
}

fn email(text: &str) -> Result<Address, &'static str> {
    let address = Address::parse(text)
        .ok()
        .filter(|address| !address.is_phone());
    address.ok_or("must be an email address, such as mike@lead.test")
}

/// A number as people type it: with signs between its digits, and within North America without the country's. Anything else
/// that lacks its country could be anybody's.
fn phone(text: &str) -> Result<Address, &'static str> {
    const WANTED: &str = "must be a telephone number with its country, such as +15125550123";
    let signs = [
        ' ', '\u{a0}', '-', '.', '(', ')', '/', '\u{2011}', '\u{2013}',
    ];
    let typed: String = text.chars().filter(|c| !signs.contains(c)).collect();
    let (plus, digits) = match (typed.strip_prefix('+'), typed.strip_prefix("00")) {
        (Some(digits), _) | (None, Some(digits)) => (true, digits),
        (None, None) => (false, typed.as_str()),
    };
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(WANTED);
    }
    let number = match (plus, digits.len()) {
        (true, _) => format!("+{digits}"),
        (false, 10) if is_north_american(digits) => format!("+1{digits}"),
        (false, 11) if digits.strip_prefix('1').is_some_and(is_north_american) => {
            format!("+{digits}")
        }
        (false, _) => return Err(WANTED),
    };
    let address = Address::parse(&number).ok().filter(Address::is_phone);
    address.ok_or(WANTED)
}

/// NXX-NXX-XXXX, where N is 2 to 9, and neither part is one of the services' N11.
fn is_north_american(digits: &str) -> bool {
    let part = |from: usize| {
        let part = digits.as_bytes().get(from..from + 3);
        part.is_some_and(|part| part[0] >= b'2' && &part[1..] != b"11")
    };
    digits.len() == 10 && part(0) && part(3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_runtime::Clock;
    use proptest::prelude::*;

    fn sent(pairs: &[(&str, &str)]) -> Sender {
        let fields: Vec<Field> = pairs
            .iter()
            .map(|(name, value)| Field {
                name: (*name).to_owned(),
                value: (*value).to_owned(),
            })
            .collect();
        read(&fields, Clock::system(0).now())
    }

    fn bases(sender: &Sender) -> Vec<(Channel, Basis, Option<&str>)> {
        let consents = sender.consents.iter();
        consents
            .map(|(channel, consent, words)| (*channel, consent.basis, words.as_deref()))
            .collect()
    }

    #[test]
    fn fields_are_known_by_all_their_names() {
        for (name, mail, phone) in [
            ("name", "email", "phone"),
            ("Full Name", "E-Mail", "Phone Number"),
            ("your-name", "your-email", "tel"),
            ("full_name", "email_address", "mobile_phone"),
        ] {
            let sender = sent(&[
                (name, " Ann  Lee\n"),
                (mail, "Ann@Example.test"),
                (phone, "+15125550123"),
            ]);
            assert_eq!(sender.name.as_deref(), Some("Ann Lee"), "{name}");
            assert_eq!(sender.email.expect(mail).as_str(), "ann@example.test");
            assert_eq!(sender.phone.expect(phone).as_str(), "+15125550123");
        }
        let parts = sent(&[
            ("last_name", "Lee"),
            ("firstName", "Ann"),
            ("Comments", "My roof\nleaks"),
        ]);
        assert_eq!(parts.name.as_deref(), Some("Ann Lee"));
        assert_eq!(parts.message.as_deref(), Some("My roof\nleaks"));
        let zone = sent(&[("time_zone", "america/chicago")]);
        assert!(zone.time_zone.is_some() || zone.problems.len() == 1);
    }

    #[test]
    fn no_name_means_two_things() {
        let mut all: Vec<&str> = ALIASES
            .iter()
            .flat_map(|(_, names)| *names)
            .copied()
            .collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        for name in all {
            let plain = |c: char| c.is_ascii_lowercase();
            assert!(name.chars().all(plain), "{name} is never found");
        }
    }

    #[test]
    fn a_number_is_taken_as_people_type_it_if_it_is_clear_whose_it_is() {
        for (typed, wanted) in [
            ("(512) 555-0123", Some("+15125550123")),
            ("512.555.0123", Some("+15125550123")),
            ("1-512-555-0123", Some("+15125550123")),
            ("+44 20 7946 0958", Some("+442079460958")),
            ("0044 20 7946 0958", Some("+442079460958")),
            ("020 7946 0958", None),
            ("555-0123", None),
            ("112 555 0123", None),
            ("911 555 0123", None),
            ("512 411 0123", None),
            ("512 555 0123 x4", None),
            ("call me", None),
            ("+", None),
        ] {
            let read = phone(typed).ok();
            assert_eq!(read.as_ref().map(Address::as_str), wanted, "{typed}");
        }
    }

    #[test]
    fn what_cannot_be_taken_is_named_as_the_form_names_it() {
        let sender = sent(&[("Tel", "none"), ("E-Mail", "ann at home"), ("tz", "Texas")]);
        let named: Vec<&str> = sender.problems.iter().map(|p| p.field.as_str()).collect();
        assert_eq!(named, ["Tel", "E-Mail", "tz"]);
        assert!(sender.phone.is_none() && sender.email.is_none() && sender.consents.is_empty());
    }

    #[test]
    fn who_ticks_the_box_signs_and_who_leaves_an_address_may_be_answered() {
        let (phone, mail) = (("phone", "+15125550123"), ("email", "ann@example.test"));
        let shown = ("sms_consent_text", "I agree to texts.");
        assert_eq!(
            bases(&sent(&[phone, mail, ("sms_consent", "on"), shown])),
            [
                (
                    Channel::Sms,
                    Basis::ExpressWritten,
                    Some("I agree to texts.")
                ),
                (Channel::Email, Basis::Inquiry, None),
            ]
        );
        assert_eq!(
            bases(&sent(&[phone, shown])),
            [(Channel::Sms, Basis::Inquiry, None)],
            "words that nobody ticked are no consent's"
        );
        assert_eq!(bases(&sent(&[phone, ("sms_consent", "false")])), []);
        assert_eq!(
            bases(&sent(&[
                mail,
                ("sms_consent", "on"),
                ("email_consent", "true")
            ])),
            [(Channel::Email, Basis::ExpressWritten, None)],
            "without a number there is nothing to agree to"
        );
        let called = sent(&[phone, ("call-consent", "yes")]);
        assert!(bases(&called).contains(&(Channel::Voice, Basis::ExpressWritten, None)));
    }

    #[test]
    fn both_ways_of_sending_say_the_same() {
        let form = fields(
            "application/x-www-form-urlencoded",
            b"name=Ann&sms_consent=true&n=3&empty=",
        );
        let json = fields(
            "application/json; charset=utf-8",
            br#"{"name": "Ann", "sms_consent": true, "n": 3, "empty": null}"#,
        );
        assert_eq!(form, json);
        assert!(fields("application/json", b"[]").is_err());
        let long = format!("message={}&b=c", "x".repeat(100_000));
        let kept = fields("application/x-www-form-urlencoded", long.as_bytes()).expect("a form");
        assert_eq!(
            (kept[0].value.len(), kept[1].value.as_str()),
            (LONGEST_VALUE, "c")
        );
    }

    proptest! {
        #[test]
        fn no_body_makes_the_reader_panic(body: Vec<u8>, json: bool) {
            let kind = if json { "application/json" } else { "" };
            if let Ok(fields) = fields(kind, &body) {
                let _ = read(&fields, Clock::system(0).now());
            }
        }

        #[test]
        fn no_text_makes_the_reader_panic(name in ".{0,20}", value in ".{0,40}") {
            let _ = sent(&[(&name, &value), ("phone", &value), ("email", &value), ("name", &value), ("tz", &value)]);
        }
    }
}
