//! Owns the reading of Twilio's parameters: a flat form, in the body or behind the `?`.
//!
//! Deliberately absent: complaints about unknown parameters. Twilio ignores them.

use super::errors::{error, invalid};
use crate::door::{Reply, Request};
use crate::urlencoded::{self, Pair};

/// The parameters of one request.
pub(super) struct Params {
    pairs: Vec<Pair>,
}

impl Params {
    /// Of a request that changes something: the body.
    pub(super) fn body(request: &Request) -> Result<Params, Reply> {
        let content_type = request.header("content-type").unwrap_or_default();
        if !request.body.is_empty()
            && !content_type.starts_with("application/x-www-form-urlencoded")
        {
            return Err(error(415, 20415, "Unsupported Media Type"));
        }
        Self::read(std::str::from_utf8(&request.body).ok())
    }

    /// Of one that reads.
    pub(super) fn query(request: &Request) -> Result<Params, Reply> {
        Self::read(Some(&request.query))
    }

    fn read(encoded: Option<&str>) -> Result<Params, Reply> {
        let pairs = encoded.and_then(urlencoded::pairs);
        pairs
            .map(|pairs| Params { pairs })
            .ok_or_else(|| invalid("The request is not a well-formed form"))
    }

    /// What was sent, even if it is empty.
    pub(super) fn sent(&self, name: &str) -> Option<&str> {
        let found = self.pairs.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// What was sent, unless it is empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.sent(name).filter(|value| !value.is_empty())
    }

    /// One that may be there several times.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        let named = self.pairs.iter().filter(|(known, _)| known == name);
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// Everything but what is named, to be repeated.
    pub(super) fn without(&self, names: &[&str]) -> Vec<Pair> {
        let others = self.pairs.iter();
        others
            .filter(|(name, _)| !names.contains(&name.as_str()))
            .cloned()
            .collect()
    }
}
