//! Everything that talks to PostgreSQL goes through here: the one pool, the transactions that carry a tenant, the
//! migrations, the bootstrap of roles, a private server for `mainstay up` and the tests.
//! Deliberately absent: domain SQL, and any checked query (`query!`), so that this crate builds without a database.
//!
//! Reading order: [`pool`] (how connections are made and given back) → [`transaction`] (what may be done in whose
//! name) → [`error`] → [`retry`] → [`page`]; then [`bootstrap`], [`migrate`] and [`local`], which run before any service.

pub mod bootstrap;
mod borrowed;
pub mod error;
pub mod local;
pub mod migrate;
pub mod page;
pub mod pool;
pub mod retry;
pub mod transaction;
mod warm;

pub use error::Error;
pub use page::{Page, PageError, PageRequest};
pub use pool::{Database, DatabaseConfig, PoolStatus};
pub use retry::{Retryable, at_start, retrying};
pub use transaction::{AgencyTx, DirectoryTx, TenantTx, Worker, WorkerTx};

/// Alias used by everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;
