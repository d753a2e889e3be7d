//! Small translations between protobuf and our types that several slices need.
//! Deliberately absent: anything about one noun; that stands in the noun's own `rpc.rs`.

use mainstay_db::{Page, PageError, PageRequest};
use mainstay_rpc::{Problem, Violations};
use uuid::Uuid;

pub use mainstay_rpc::field::{id, time, timestamp};

/// The problem that these violations are.
pub fn invalid(violations: Violations) -> Problem {
    violations
        .finish()
        .err()
        .unwrap_or_else(|| Problem::invalid(Vec::new()))
}

/// A page of a list that is ordered by id, newest first.
///
/// # Errors
/// `INVALID_REQUEST` naming the size or the token.
pub fn page(
    list: &'static str,
    size: Option<i32>,
    token: Option<&str>,
) -> Result<PageRequest<Uuid>, Problem> {
    PageRequest::new(list, size, token).map_err(|error| {
        let field = match error {
            PageError::Size => "page_size",
            PageError::Token => "page_token",
        };
        let mut violations = Violations::new();
        violations.add(field, error.to_string());
        invalid(violations)
    })
}

/// The rows of a page and the token of the next, as list answers hold them.
pub fn listed<R, P>(page: Page<R>, each: impl FnMut(R) -> P) -> (Vec<P>, Option<String>) {
    let page = page.map(each);
    (page.rows, page.next_page_token)
}
