//! What travels beside a message: metadata names, the deadline's spelling, and the status details' envelope.
//!
//! Deliberately absent: meaning. These are spellings that both stacks share.

use std::time::Duration;

/// The actor's token.
pub(crate) const AUTHORIZATION: &str = "authorization";
/// The calling service's token.
pub(crate) const SERVICE: &str = "x-mainstay-service";
/// Names the request in logs and audit rows.
pub(crate) const REQUEST_ID: &str = "x-request-id";
/// The caller's key for repeats.
pub(crate) const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// W3C trace context.
pub(crate) const TRACEPARENT: &str = "traceparent";
/// How long the caller waits.
pub(crate) const GRPC_TIMEOUT: &str = "grpc-timeout";
/// The outcome.
pub(crate) const GRPC_STATUS: &str = "grpc-status";

/// The most that all headers of one message may have, both ways. A token lists the clients of a narrowed actor: some
/// thousands fit, at about forty bytes each. A refusal is one header, bounded far below (`problem::bound`).
pub(crate) const HEADERS_MOST: u32 = 256 * 1024;

/// The bytes before a message: a compression flag and a length.
pub(crate) const FRAME_HEADER: usize = 5;

/// `google.rpc.Status`, as `grpc-status-details-bin` holds it; written out from its documented field numbers.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RpcStatus {
    #[prost(int32, tag = "1")]
    pub(crate) code: i32,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) details: Vec<prost_types::Any>,
}

/// Writes a duration as `grpc-timeout` does; eight digits at most.
pub(crate) fn write_timeout(duration: Duration) -> String {
    let micros = duration.as_micros();
    if micros < 100_000_000 {
        format!("{micros}u")
    } else {
        format!("{}m", duration.as_millis().min(99_999_999))
    }
}

/// Reads a `grpc-timeout`; none when it is malformed.
pub(crate) fn read_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_survives_the_wire() {
        for duration in [
            Duration::from_micros(1),
            Duration::from_millis(1500),
            Duration::from_secs(30),
            Duration::from_secs(86_400),
        ] {
            assert_eq!(read_timeout(&write_timeout(duration)), Some(duration));
        }
        assert_eq!(read_timeout("2S"), Some(Duration::from_secs(2)));
        for wrong in ["", "S", "1", "123456789m", "-1S", "1é", "1 S"] {
            assert_eq!(read_timeout(wrong), None, "{wrong}");
        }
    }
}
