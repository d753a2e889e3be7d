//! What can go wrong with the database, as far as a caller can act on it.
//! Deliberately absent: domain meaning. A service turns a named constraint into its own error.

use sqlx::postgres::PgDatabaseError;

/// A failure of the database. `Display` never prints the source, which may hold values of rows; log it once where handled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection could be had: the server is away, or the pool has been exhausted for too long.
    #[error("the database is unavailable")]
    Unavailable(#[source] sqlx::Error),
    /// Serialisation failure or deadlock: nothing happened, the transaction may be tried again as a whole.
    #[error("the transaction lost a race and may be tried again")]
    Retryable(#[source] sqlx::Error),
    /// A named constraint refused the change.
    #[error("constraint {name} refused the change")]
    Constraint {
        /// The constraint or unique index.
        name: String,
        /// The driver's error.
        #[source]
        source: sqlx::Error,
    },
    /// Another transaction held the row (or the unique key) longer than the lock timeout.
    #[error("a lock was not free in time")]
    LockTimeout(#[source] sqlx::Error),
    /// The statement ran longer than the statement timeout.
    #[error("a statement took too long")]
    Timeout(#[source] sqlx::Error),
    /// The service must not start with this database or role. All problems at once.
    #[error("this database connection is refused: {}", .0.join("; "))]
    Refused(Vec<String>),
    /// Anything else: a bug, or a broken database.
    #[error("a database operation failed")]
    Other(#[source] sqlx::Error),
}

impl Error {
    /// The constraint that refused, if one did.
    pub fn constraint(&self) -> Option<&str> {
        match self {
            Error::Constraint { name, .. } => Some(name),
            _ => None,
        }
    }

    /// Whether the whole transaction may be tried again at once.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Error::Retryable(_))
    }

    /// Whether the caller had better come back later.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Error::Unavailable(_) | Error::Timeout(_))
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let kind = match &error {
            sqlx::Error::Database(database) => classify(database.code().as_deref()),
            sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::WorkerCrashed => Class::Unavailable,
            _ => Class::Other,
        };
        match kind {
            Class::Unavailable => Error::Unavailable(error),
            Class::Retryable => Error::Retryable(error),
            Class::LockTimeout => Error::LockTimeout(error),
            Class::Timeout => Error::Timeout(error),
            Class::Constraint => match constraint_of(&error) {
                Some(name) => Error::Constraint {
                    name,
                    source: error,
                },
                None => Error::Other(error),
            },
            Class::Other => Error::Other(error),
        }
    }
}

enum Class {
    Unavailable,
    Retryable,
    Constraint,
    LockTimeout,
    Timeout,
    Other,
}

/// SQLSTATE, from PostgreSQL's appendix A.
fn classify(code: Option<&str>) -> Class {
    match code {
        Some("40001" | "40P01") => Class::Retryable,
        Some("55P03") => Class::LockTimeout,
        Some("57014") => Class::Timeout,
        // admin shutdown, crash shutdown, cannot connect now, too many connections, idle-in-transaction timeout
        Some("57P01" | "57P02" | "57P03" | "53300" | "25P03") => Class::Unavailable,
        Some(code) if code.starts_with("08") => Class::Unavailable,
        Some(code) if code.starts_with("23") => Class::Constraint,
        _ => Class::Other,
    }
}

fn constraint_of(error: &sqlx::Error) -> Option<String> {
    let database = error
        .as_database_error()?
        .try_downcast_ref::<PgDatabaseError>()?;
    // A NOT NULL violation names no constraint but a column.
    match (database.constraint(), database.table(), database.column()) {
        (Some(name), ..) => Some(name.to_owned()),
        (None, Some(table), Some(column)) => Some(format!("{table}.{column}")),
        _ => None,
    }
}
