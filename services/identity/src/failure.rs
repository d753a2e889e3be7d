//! How this service tells what the database did not do.
//! Deliberately absent: constraints with a meaning. A slice turns those into its own errors before they come here.

use mainstay_db::Error;
use mainstay_rpc::Problem;

/// The problem behind a database error that no slice has a name for.
pub fn database(error: Error) -> Problem {
    match error {
        Error::Unavailable(_) | Error::Retryable(_) | Error::LockTimeout(_) | Error::Timeout(_) => {
            Problem::unavailable(error)
        }
        Error::Constraint { .. } | Error::Refused(_) | Error::Other(_) => Problem::internal(error),
    }
}
