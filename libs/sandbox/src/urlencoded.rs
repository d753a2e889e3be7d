//! Owns `application/x-www-form-urlencoded`, flat: names and values as sent, in order.
//!
//! Deliberately absent: brackets in names, which are Stripe's (`stripe::form`).

/// A name and its value.
pub(crate) type Pair = (String, String);

/// At most this many pairs; more is nobody's form.
const MOST: usize = 1_000;

/// Reads `a=b&c=d`; none where an escape is broken.
pub(crate) fn pairs(encoded: &str) -> Option<Vec<Pair>> {
    encoded
        .split('&')
        .filter(|part| !part.is_empty())
        .take(MOST)
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            Some((decode(name)?, decode(value)?))
        })
        .collect()
}

pub(crate) fn encode<N: AsRef<str>, V: AsRef<str>>(pairs: &[(N, V)]) -> String {
    let mut encoded = String::new();
    for (name, value) in pairs {
        if !encoded.is_empty() {
            encoded.push('&');
        }
        escape(name.as_ref(), &mut encoded);
        encoded.push('=');
        escape(value.as_ref(), &mut encoded);
    }
    encoded
}

fn escape(text: &str, into: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                into.push(char::from(byte));
            }
            b' ' => into.push('+'),
            byte => into.push_str(&format!("%{byte:02X}")),
        }
    }
}

/// Undoes the escapes of one name or value.
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut input = text.bytes();
    while let Some(byte) = input.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [input.next()?, input.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_read_back() {
        let sent = [
            ("To", "+15125550123"),
            ("Body", "Grüße & so=…"),
            ("Empty", ""),
        ];
        let encoded = encode(&sent);
        assert_eq!(
            encoded,
            "To=%2B15125550123&Body=Gr%C3%BC%C3%9Fe+%26+so%3D%E2%80%A6&Empty="
        );
        let read = pairs(&encoded).expect("well formed");
        let read: Vec<(&str, &str)> = read.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(read, sent);
        assert_eq!(pairs("a=%f"), None);
    }
}
