//! Owns the reading of what a webhook for a message answers: `<Response><Message>…</Message></Response>`, or plain text.
//!
//! Deliberately absent: every verb but `Message`. What else stands there is read over.

/// At most this many replies to one message.
const MOST: usize = 10;

/// One `<Message>`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reply {
    pub to: Option<String>,
    pub status_callback: Option<String>,
    pub body: String,
    pub media: Vec<String>,
}

/// The replies that an answer asks for; none in what is not well-formed, as Twilio sends none then.
pub(super) fn replies(content_type: &str, answer: &str) -> Vec<Reply> {
    if content_type.starts_with("text/plain") {
        let body = answer.trim().to_owned();
        let reply = Reply {
            body,
            ..Reply::default()
        };
        return Some(reply)
            .filter(|reply| !reply.body.is_empty())
            .into_iter()
            .collect();
    }
    if !content_type.contains("xml") && !content_type.starts_with("text/html") {
        return Vec::new();
    }
    let mut replies = read(answer).unwrap_or_default();
    replies.retain(|reply| !reply.body.is_empty() || !reply.media.is_empty());
    replies.truncate(MOST);
    replies
}

fn read(document: &str) -> Option<Vec<Reply>> {
    let mut replies = Vec::new();
    let mut open: Vec<String> = Vec::new();
    let mut message: Option<Reply> = None;
    let mut rest = document.trim_start_matches('\u{feff}');
    while !rest.is_empty() {
        let Some(at) = rest.find('<') else {
            return open.is_empty().then_some(replies);
        };
        take_text(&mut message, &open, &unescape(&rest[..at])?);
        rest = &rest[at..];
        if let Some(behind) = rest.strip_prefix("<![CDATA[") {
            let (text, behind) = behind.split_once("]]>")?;
            take_text(&mut message, &open, text);
            rest = behind;
        } else if let Some(behind) = rest.strip_prefix("<!--") {
            rest = behind.split_once("-->")?.1;
        } else if let Some(behind) = rest.strip_prefix("<?") {
            rest = behind.split_once("?>")?.1;
        } else if let Some(behind) = rest.strip_prefix("</") {
            let (name, behind) = behind.split_once('>')?;
            if open.pop()? != name.trim() {
                return None;
            }
            if name.trim() == "Message" {
                let mut done = message.take()?;
                done.body = done.body.trim().to_owned();
                replies.push(done);
            }
            rest = behind;
        } else {
            let end = tag_end(rest)?;
            let (tag, behind) = (&rest[1..end], &rest[end + 1..]);
            let (tag, closed) = match tag.strip_suffix('/') {
                Some(tag) => (tag, true),
                None => (tag, false),
            };
            let (name, attributes) = tag.split_once(char::is_whitespace).unwrap_or((tag, ""));
            if name == "Message" {
                let made = started(attributes)?;
                if closed {
                    replies.push(made);
                } else {
                    message = Some(made);
                }
            }
            if !closed {
                open.push(name.to_owned());
            }
            rest = behind;
        }
    }
    open.is_empty().then_some(replies)
}

/// Where the tag at the beginning ends; a `>` in a quoted value is not its end.
pub(super) fn tag_end(tag: &str) -> Option<usize> {
    let mut quoted: Option<char> = None;
    for (at, c) in tag.char_indices() {
        match (quoted, c) {
            (None, '>') => return Some(at),
            (None, '"' | '\'') => quoted = Some(c),
            (Some(quote), c) if c == quote => quoted = None,
            _ => {}
        }
    }
    None
}

fn started(text: &str) -> Option<Reply> {
    let mut reply = Reply::default();
    for (name, value) in attributes(text)? {
        match name.as_str() {
            "to" => reply.to = Some(value),
            "statusCallback" | "action" => reply.status_callback = Some(value),
            _ => {}
        }
    }
    Some(reply)
}

/// The attributes of a tag, unescaped.
pub(super) fn attributes(text: &str) -> Option<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, behind) = rest.split_once('=')?;
        let quote = behind.trim_start().chars().next()?;
        if !matches!(quote, '"' | '\'') {
            return None;
        }
        let (value, behind) = behind.trim_start()[1..].split_once(quote)?;
        found.push((name.trim().to_owned(), unescape(value)?));
        rest = behind.trim_start();
    }
    Some(found)
}

/// Text counts inside `Message` itself and in its `Body`; a `Media` is an address.
fn take_text(message: &mut Option<Reply>, open: &[String], text: &str) {
    let (Some(message), Some(inside)) = (message, open.last()) else {
        return;
    };
    match inside.as_str() {
        "Message" | "Body" => message.body.push_str(text),
        "Media" if !text.trim().is_empty() => message.media.push(text.trim().to_owned()),
        _ => {}
    }
}

pub(super) fn unescape(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('&') {
        plain.push_str(before);
        let (entity, behind) = behind.split_once(';')?;
        plain.push(match entity {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            number => {
                let digits = number.strip_prefix('#')?;
                let code = match digits.strip_prefix(['x', 'X']) {
                    Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                    None => digits.parse().ok()?,
                };
                char::from_u32(code)?
            }
        });
        rest = behind;
    }
    plain.push_str(rest);
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies(answer: &str) -> Vec<String> {
        let replies = replies("text/xml; charset=utf-8", answer);
        replies.into_iter().map(|reply| reply.body).collect()
    }

    #[test]
    fn messages_are_found_in_every_spelling() {
        for (answer, expected) in [
            ("<Response/>", &[][..]),
            ("<?xml version=\"1.0\"?>\n<Response></Response>", &[]),
            ("<Response><Message>Hi</Message></Response>", &["Hi"]),
            (
                "<Response><Message to='+1' action=\"/x?a>b\"><Body> a &amp; b &#x263A; </Body></Message><Message>2</Message></Response>",
                &["a & b ☺", "2"],
            ),
            (
                "<Response><!-- <Message>no</Message> --><Message><![CDATA[<b> & c]]></Message></Response>",
                &["<b> & c"],
            ),
            ("<Response><Redirect>/x</Redirect></Response>", &[]),
            ("<Response><Message>torn</Response>", &[]),
            ("<Response><Message>a & b</Message></Response>", &[]),
            ("not xml", &[]),
        ] {
            assert_eq!(bodies(answer), expected, "{answer}");
        }
        assert_eq!(replies("text/plain", " hello ")[0].body, "hello");
        assert_eq!(replies("application/json", "{\"received\":true}"), []);
    }

    #[test]
    fn attributes_and_media_are_read() {
        let answer = "<Response><Message to=\"+15125550123\" statusCallback=\"http://a/b?c=1&amp;d=2\"><Media>http://m/1</Media></Message></Response>";
        let reply = replies("application/xml", answer).remove(0);
        assert_eq!(reply.to.as_deref(), Some("+15125550123"));
        assert_eq!(reply.status_callback.as_deref(), Some("http://a/b?c=1&d=2"));
        assert_eq!(reply.media, ["http://m/1"]);
    }
}
