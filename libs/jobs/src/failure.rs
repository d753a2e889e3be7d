//! How every service tells its callers what the database did not do, and what page of a list there is none of.
//! Deliberately absent: constraints with a meaning. A slice turns those into its own errors before they come here.

use mainstay_db::Error;
use mainstay_db::page::PageError;
use mainstay_rpc::{FieldViolation, Problem};

/// The problem behind a database error that no slice has a name for.
pub fn database(error: Error) -> Problem {
    match error {
        Error::Unavailable(_) | Error::Retryable(_) | Error::LockTimeout(_) | Error::Timeout(_) => {
            Problem::unavailable(error)
        }
        Error::Constraint { .. } | Error::Refused(_) | Error::Other(_) => Problem::internal(error),
    }
}

/// The problem behind a page that cannot be shown, named by its field.
pub fn page(error: PageError) -> Problem {
    let field = match error {
        PageError::Size => "page_size",
        PageError::Token => "page_token",
    };
    Problem::invalid(vec![FieldViolation {
        field: field.to_owned(),
        message: error.to_string(),
    }])
}
