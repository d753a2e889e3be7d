//! Which of the addresses in an event is ours, read from its body.
//! Deliberately absent: everything else in it.

use crate::webhook::Undelivered;

/// Ours of the two that a message or call of Twilio's has: the one written to, or of what became of a message the one that it
/// left from. None for mail: its events name the recipient, and messaging knows what it sent to whom.
pub fn our_address(webhook: &Undelivered) -> Option<String> {
    let parameter = match webhook.kind.as_str() {
        "message.received" | "call.received" => "To",
        "message.status" => "From",
        // A call is ours or theirs.
        "call.status" => match get(webhook, "Direction").as_deref() {
            Some("inbound") => "To",
            _ => "From",
        },
        _ => return None,
    };
    get(webhook, parameter)
}

fn get(webhook: &Undelivered, wanted: &str) -> Option<String> {
    if webhook.content_type.starts_with("application/json") {
        let body: serde_json::Value = serde_json::from_slice(&webhook.body).ok()?;
        return body.get(wanted)?.as_str().map(str::to_owned);
    }
    form_urlencoded::parse(&webhook.body)
        .find(|(name, _)| name == wanted)
        .map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webhook(kind: &str, content_type: &str, body: &str) -> Undelivered {
        Undelivered {
            provider: "twilio".to_owned(),
            account: "default".to_owned(),
            event_key: "SM1".to_owned(),
            kind: kind.to_owned(),
            content_type: content_type.to_owned(),
            body: body.as_bytes().to_vec(),
            received_at: chrono::DateTime::UNIX_EPOCH,
            given_up: false,
        }
    }

    #[test]
    fn ours_is_the_number_written_to_or_the_one_a_message_left_from() {
        let form = "application/x-www-form-urlencoded";
        let body = "From=%2B15125550100&To=%2B15125550199&Direction=inbound";
        for (kind, content_type, body, wanted) in [
            ("message.received", form, body, Some("+15125550199")),
            ("message.status", form, body, Some("+15125550100")),
            ("call.received", form, body, Some("+15125550199")),
            ("call.status", form, body, Some("+15125550199")),
            (
                "call.status",
                form,
                "From=%2B15125550100&To=x",
                Some("+15125550100"),
            ),
            ("email.bounced", form, body, None),
            ("message.received", form, "Body=hi", None),
            (
                "message.received",
                "application/json; charset=utf-8",
                r#"{"To": "+15125550199"}"#,
                Some("+15125550199"),
            ),
            ("message.received", "application/json", "[", None),
        ] {
            let found = our_address(&webhook(kind, content_type, body));
            assert_eq!(found.as_deref(), wanted, "{kind} {body}");
        }
    }
}
