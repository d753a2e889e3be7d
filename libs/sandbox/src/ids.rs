//! Owns the making of provider-like identifiers: a prefix and random letters and digits.
//!
//! Deliberately absent: any order in them. Real providers' ids do not sort by time either, and code that relies
//! on it should fail here first.

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
