//! The addresses that people sign in with, by their keyed hashes: how somebody is found before anybody is known.
//!
//! An address leads to a membership, never to a person in all their agencies: one agency wrote it down, and that agency's own
//! account at a provider carries what is sent there. Whoever runs that agency could read it, or have written down their own.
//! Deliberately absent: the addresses. They stand in each agency's member rows.

pub(crate) mod sql;

use mainstay_types::{AgencyId, MemberId, PersonId, format};

use crate::keys::LookupKey;

/// What somebody signs in with.
#[derive(Clone, PartialEq, Eq)]
pub enum Address {
    /// A number, in E.164 form.
    Phone(String),
    /// An email address.
    Email(String),
}

impl Address {
    /// A number.
    ///
    /// # Errors
    /// What would be right.
    pub fn phone(text: &str) -> Result<Self, &'static str> {
        format::check(format::Format::Phone, text).map(|()| Address::Phone(text.to_owned()))
    }

    /// An email address.
    ///
    /// # Errors
    /// What would be right.
    pub fn email(text: &str) -> Result<Self, &'static str> {
        format::check(format::Format::Email, text).map(|()| Address::Email(text.to_owned()))
    }

    /// The hash that it is known by.
    pub(crate) fn hash(&self, lookup: &LookupKey) -> Vec<u8> {
        match self {
            Address::Phone(phone) => lookup.phone(phone),
            Address::Email(email) => lookup.email(email),
        }
    }
}

/// Whom an address leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reached {
    pub(crate) agency: AgencyId,
    pub(crate) member: MemberId,
    pub(crate) person: PersonId,
    pub(crate) is_phone: bool,
}
