//! Owns the reading of a body under `/_/`: fields by name, and everything that is wrong with them at once.
//!
//! Deliberately absent: defaults. Each endpoint has its own.

use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

use crate::stripe::webhook_endpoint::check_url;

use super::{Fields, check_fields, read_object, refused};

/// A body that makes no sense, as 400.
pub(crate) struct Refused(pub Fields);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        refused(self.0)
    }
}

/// A body being read: what is wrong with it is collected.
pub(crate) struct Reader {
    pub body: Map<String, Value>,
    pub errors: Fields,
}

impl Reader {
    pub(crate) fn new(body: &[u8], known: &[&str]) -> Result<Reader, Refused> {
        let body = read_object(body).map_err(Refused)?;
        let mut errors = Fields::new();
        check_fields(&body, known, &mut errors);
        Ok(Reader { body, errors })
    }

    pub(crate) fn given(&self, name: &str) -> Option<&Value> {
        self.body.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        match self.given(name) {
            None => None,
            Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
            Some(_) => {
                self.wrong(name, "must be a non-empty string");
                None
            }
        }
    }

    pub(crate) fn require_text(&mut self, name: &str) -> String {
        if self.given(name).is_none() {
            self.wrong(name, "is required");
        }
        self.text(name).unwrap_or_default()
    }

    /// An absolute http or https address.
    pub(crate) fn url(&mut self, name: &str) -> Option<String> {
        let url = self.text(name)?;
        if check_url(&url).is_err() {
            self.wrong(name, "must be an absolute http or https address");
        }
        Some(url)
    }

    pub(crate) fn flag(&mut self, name: &str, fallback: Option<bool>) -> bool {
        match (self.given(name).map(Value::as_bool), fallback) {
            (Some(Some(flag)), _) => flag,
            (None, Some(fallback)) => fallback,
            _ => {
                self.wrong(name, "must be true or false");
                false
            }
        }
    }

    pub(crate) fn number(&mut self, name: &str, least: u64, most: u64) -> Option<u64> {
        let value = self.given(name)?;
        let number = value.as_u64().filter(|n| (least..=most).contains(n));
        if number.is_none() {
            self.wrong(
                name,
                &format!("must be a whole number from {least} to {most}"),
            );
        }
        number
    }

    pub(crate) fn wrong(&mut self, name: &str, message: &str) {
        self.errors.push((name.to_owned(), message.to_owned()));
    }

    pub(crate) fn finish(self) -> Result<(), Refused> {
        if self.errors.is_empty() {
            Ok(())
        } else {
            Err(Refused(self.errors))
        }
    }
}
