//! What an origin looks like, as browsers send it (RFC 6454).
//! Deliberately absent: `*` and `null`, which stand for anybody.

/// Whether a browser would send it: scheme, host in lower case, and a port only where it is not the scheme's own.
pub fn is_origin(text: &str) -> bool {
    let (rest, usual) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (rest, ":443"),
        (None, Some(rest)) => (rest, ":80"),
        (None, None) => return false,
    };
    (1..=253).contains(&rest.len())
        && !rest.ends_with(usual)
        && rest
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.:[]".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_a_browser_sends() {
        for right in [
            "https://acme.test",
            "http://127.0.0.1:3000",
            "https://acme.test:8443",
            "http://[::1]",
        ] {
            assert!(is_origin(right), "{right}");
        }
        for wrong in [
            "",
            "*",
            "null",
            "acme.test",
            "https://",
            "https://acme.test/",
            "https://Acme.test",
            "https://acme.test:443",
            "ftp://acme.test",
        ] {
            assert!(!is_origin(wrong), "{wrong}");
        }
    }
}
