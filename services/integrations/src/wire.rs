//! What several slices write alike about requests.
//! Deliberately absent: a command. Each slice makes its own.

use mainstay_db::page::PageError;
use mainstay_rpc::{FieldViolation, Problem};

/// A page that cannot be given.
pub(crate) fn page_problem(error: PageError) -> Problem {
    let field = match error {
        PageError::Size => "page_size",
        PageError::Token => "page_token",
    };
    Problem::invalid(vec![FieldViolation {
        field: field.to_owned(),
        message: error.to_string(),
    }])
}
