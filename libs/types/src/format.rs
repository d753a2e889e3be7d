//! The textual formats that request fields may have, one definition each. Deliberately absent:
//! correction of what is almost right; bad input is refused with what would be right.

use crate::Currency;

/// The formats, named as `mainstay.options.v1.Format` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text without control characters.
    Text,
    /// An email address.
    Email,
    /// E.164.
    Phone,
    /// IANA time zone.
    TimeZone,
    /// ISO 4217, lower case.
    Currency,
    /// `context.resource.verb`.
    Permission,
    /// Lower case letters, digits and `_`.
    Slug,
    /// A page token.
    PageToken,
}

/// Checks a text; the error says what would be right.
pub fn check(format: Format, text: &str) -> Result<(), &'static str> {
    match format {
        Format::Text if text.chars().any(is_refused_control) => {
            Err("must not contain control characters")
        }
        Format::Email if !is_email(text) => {
            Err("must be an email address, such as owner@acme.test")
        }
        Format::Phone if !is_phone(text) => {
            Err("must be a telephone number in E.164 form, such as +15125550100")
        }
        Format::TimeZone if parse_time_zone(text).is_none() => {
            Err("must be an IANA time zone, such as America/Chicago")
        }
        Format::Currency if text.parse::<Currency>().is_err() => {
            Err("must be an ISO 4217 currency code in lower case, such as usd")
        }
        Format::Permission if !is_permission(text) => {
            Err("must be a permission, such as billing.plans.create")
        }
        Format::Slug if !is_slug(text) => Err(
            "must start with a lower case letter and have only lower case letters, digits and _",
        ),
        Format::PageToken if !is_page_token(text) => {
            Err("must be the next_page_token of an earlier answer, unchanged")
        }
        _ => Ok(()),
    }
}

/// Regular expressions (ECMA 262) of the formats that have one, for OpenAPI; stricter or equal to [`check`].
pub fn pattern(format: Format) -> Option<&'static str> {
    match format {
        Format::Text | Format::TimeZone | Format::Currency => None,
        Format::Email => Some(
            r"^[A-Za-z0-9_+-]+(\.[A-Za-z0-9_+-]+)*@([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,24}$",
        ),
        Format::Phone => Some(r"^\+[1-9][0-9]{6,14}$"),
        Format::Permission => Some(r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*){2}$"),
        Format::Slug => Some(r"^[a-z][a-z0-9_]*$"),
        Format::PageToken => Some(r"^[A-Za-z0-9_-]+$"),
    }
}

// Tab and line breaks are text; NUL cannot be stored and the rest hides things from readers.
fn is_refused_control(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\r' | '\t')
}

/// Whether it can be an address that mail is sent to: one `@`, a dotted host, no spaces, ≤254 (RFC 5321).
pub fn is_email(text: &str) -> bool {
    let Some((local, host)) = text.rsplit_once('@') else {
        return false;
    };
    let local_ok = !local.is_empty()
        && local.len() <= 64
        && local.split('.').all(|part| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~-".contains(&b))
        });
    let labels: Vec<&str> = host.split('.').collect();
    let host_ok = labels.len() >= 2
        && labels.iter().all(|label| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
        && labels
            .last()
            .is_some_and(|top| top.len() >= 2 && top.bytes().all(|b| b.is_ascii_alphabetic()));
    text.len() <= 254 && local_ok && host_ok
}

/// Whether it is `+`, a non-zero digit and six to fourteen digits (ITU-T E.164). Whether the number is
/// in service only a carrier knows.
pub fn is_phone(text: &str) -> bool {
    let Some(digits) = text.strip_prefix('+') else {
        return false;
    };
    (7..=15).contains(&digits.len())
        && !digits.starts_with('0')
        && digits.bytes().all(|b| b.is_ascii_digit())
}

/// The zone of that IANA name.
pub fn parse_time_zone(text: &str) -> Option<chrono_tz::Tz> {
    text.parse().ok()
}

/// Whether it has the form `context.resource.verb`.
pub fn is_permission(text: &str) -> bool {
    let mut parts = 0;
    text.split('.').all(|part| {
        parts += 1;
        is_slug(part)
    }) && parts == 3
}

/// Whether it is a name for machines.
pub fn is_slug(text: &str) -> bool {
    text.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn is_page_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_takes_the_right_and_refuses_the_almost_right() {
        let table: &[(Format, &[&str], &[&str])] = &[
            (
                Format::Email,
                &["owner@acme.test", "a.b+c@x-y.co.uk"],
                &[
                    "a@b",
                    "@x.test",
                    "a b@x.test",
                    "a@-x.test",
                    "a..b@x.test",
                    "x.test",
                ],
            ),
            (
                Format::Phone,
                &["+15125550100", "+442071838750"],
                &[
                    "15125550100",
                    "+0123456789",
                    "+1 512",
                    "+1",
                    "+1234567890123456",
                ],
            ),
            (
                Format::TimeZone,
                &["America/Chicago", "UTC"],
                &["Chicago", "america/chicago", ""],
            ),
            (Format::Currency, &["usd"], &["USD", "xxx"]),
            (
                Format::Permission,
                &["billing.plans.create"],
                &["billing.plans", "a.b.c.d", "A.b.c", "billing.*.create"],
            ),
            (Format::Slug, &["ai_replies"], &["_x", "9x", "Ai", ""]),
            (Format::Text, &["line\nline"], &["nul\0", "bell\u{7}"]),
            (Format::PageToken, &["abc-_9"], &["", "a b", "é"]),
        ];
        for (format, right, wrong) in table {
            for text in *right {
                assert_eq!(check(*format, text), Ok(()), "{format:?} {text}");
            }
            for text in *wrong {
                assert!(check(*format, text).is_err(), "{format:?} {text}");
            }
        }
    }
}
