//! Owns the reading of what a webhook for a call answers, as far as the simulator carries it out: putting through and turning
//! away.
//!
//! Deliberately absent: every verb but `Dial` and `Reject`, and all that comes after the first. Nothing is said on this phone.

use super::twiml::{attributes, tag_end, unescape};

/// What happens to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// It is put through to a number; the address is told how that ended.
    Dial {
        number: String,
        action: Option<String>,
    },
    /// It is turned away, and ends so.
    Reject { status: &'static str },
    /// None of both.
    Other,
}

/// The first verb of an answer.
pub(super) fn first(content_type: &str, answer: &str) -> Verb {
    if !content_type.contains("xml") && !content_type.starts_with("text/html") {
        return Verb::Other;
    }
    read(answer).unwrap_or(Verb::Other)
}

fn read(document: &str) -> Option<Verb> {
    let (_, mut rest) = document.split_once("<Response>")?;
    loop {
        rest = rest.trim_start();
        match rest.strip_prefix("<!--") {
            Some(behind) => rest = behind.split_once("-->")?.1,
            None => break,
        }
    }
    let end = tag_end(rest)?;
    let (tag, behind) = (rest.get(1..end)?, rest.get(end + 1..)?);
    let tag = tag.strip_suffix('/').unwrap_or(tag);
    let (name, given) = tag.split_once(char::is_whitespace).unwrap_or((tag, ""));
    let given = attributes(given)?;
    let get = |wanted: &str| {
        let found = given.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.clone())
    };
    match name {
        "Dial" => {
            let (inside, _) = behind.split_once("</Dial>")?;
            // The number itself, or in a `Number`.
            let inside = match inside.trim().strip_prefix("<Number") {
                Some(number) => number.split_once('>')?.1.split_once("</Number>")?.0,
                None => inside,
            };
            Some(Verb::Dial {
                number: unescape(inside)?.trim().to_owned(),
                action: get("action"),
            })
        }
        "Reject" => Some(Verb::Reject {
            status: match get("reason").as_deref() {
                Some("busy") => "busy",
                _ => "no-answer",
            },
        }),
        _ => Some(Verb::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_verb_is_found_in_every_spelling() {
        let dial = |action: Option<&str>| Verb::Dial {
            number: "+15125550100".to_owned(),
            action: action.map(str::to_owned),
        };
        for (answer, wanted) in [
            (
                "<?xml version=\"1.0\"?><Response><Dial timeout=\"20\" action=\"http://a/b?c=1&amp;d=2\">+15125550100</Dial></Response>",
                dial(Some("http://a/b?c=1&d=2")),
            ),
            (
                "<Response> <!-- x --> <Dial><Number url='/x'>+15125550100</Number></Dial><Hangup/></Response>",
                dial(None),
            ),
            (
                "<Response><Reject reason=\"busy\"/></Response>",
                Verb::Reject { status: "busy" },
            ),
            (
                "<Response><Reject/></Response>",
                Verb::Reject {
                    status: "no-answer",
                },
            ),
            ("<Response/>", Verb::Other),
            ("<Response></Response>", Verb::Other),
            (
                "<Response><Say>Hi</Say><Dial>+1</Dial></Response>",
                Verb::Other,
            ),
            ("<Response><Dial>torn", Verb::Other),
            ("not xml", Verb::Other),
        ] {
            assert_eq!(first("text/xml", answer), wanted, "{answer}");
        }
        assert_eq!(
            first("application/json", "<Response><Reject/></Response>"),
            Verb::Other
        );
    }
}
