//! Owns the making of provider-like identifiers: a prefix and random letters and digits.
//!
//! Deliberately absent: any order in them. Real providers' ids do not sort by time either, and code that relies
//! on it should fail here first.

use sha2::{Digest, Sha256};

const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// `length` random letters and digits.
pub(crate) fn random(length: usize) -> String {
    (0..length)
        .map(|_| char::from(ALPHABET[rand::random_range(0..ALPHABET.len())]))
        .collect()
}

/// An id as Stripe makes them: `sub_1R9z…`, 24 characters behind the prefix (customers have 14).
pub(crate) fn stripe(prefix: &str) -> String {
    let length = if matches!(prefix, "cus" | "prod" | "req") {
        14
    } else {
        24
    };
    format!("{prefix}_{}", random(length))
}

/// An id as Twilio makes them: `SM`, then 32 hexadecimal digits.
pub(crate) fn twilio(prefix: &str) -> String {
    let half = || rand::random_range(0..=u64::MAX);
    format!("{prefix}{:016x}{:016x}", half(), half())
}

/// A random UUID, version 4.
pub(crate) fn uuid() -> String {
    let bits = rand::random_range(0..=u128::MAX);
    let bits = bits & !(0xf << 76) | (4 << 76);
    let hex = format!("{:032x}", bits & !(0xc << 60) | (8 << 60));
    let (a, b, c, d, e) = (
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    );
    format!("{a}-{b}-{c}-{d}-{e}")
}

/// The id of whoever has this secret key: the same for the same key, and no way back.
pub(crate) fn of_key(prefix: &str, key: &str) -> String {
    format!(
        "{prefix}_{}",
        &hex::encode(Sha256::digest(key.as_bytes()))[..24]
    )
}
