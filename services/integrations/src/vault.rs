//! The vault (INT-16): what providers gave an agency is sealed under a key of that agency's own, and that key under a master
//! key from the configuration. The database alone opens nothing.
//! Deliberately absent: a cache of opened keys. A key is opened for what is at hand and forgotten with it.

mod master;
mod seal;
mod sql;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use mainstay_db::Worker;
use mainstay_types::AgencyId;
use sqlx::PgConnection;

pub use master::{MasterKeys, check};
pub use seal::Key;

/// Rows sealed anew in one run.
const AT_ONCE: i64 = 500;

/// Why something could not be sealed or opened. None of them says what it was.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// Rows need a master key that the configuration does not have.
    #[error("{rows} agencies' keys need the master key `{id}`, which is not in the configuration")]
    MasterKeyMissing {
        /// Its name.
        id: String,
        /// How many.
        rows: i64,
    },
    /// It was sealed under another key, for something else, or was changed since.
    #[error("something sealed cannot be opened")]
    Broken,
    /// An agency has credentials and no key.
    #[error("an agency has no key")]
    NoKey,
    /// The database.
    #[error(transparent)]
    Database(#[from] mainstay_db::Error),
}

impl VaultError {
    /// Whether it may open a moment later.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, VaultError::Database(error) if error.is_unavailable())
    }
}

impl From<sqlx::Error> for VaultError {
    fn from(error: sqlx::Error) -> Self {
        VaultError::Database(error.into())
    }
}

/// Seals and opens. Clones share the keys.
#[derive(Debug, Clone)]
pub struct Vault {
    masters: Arc<MasterKeys>,
}

impl Vault {
    /// With these master keys.
    pub fn new(masters: MasterKeys) -> Self {
        Vault {
            masters: Arc::new(masters),
        }
    }

    /// Whether every key that is kept can be opened. Asked before anything is served: a master key that went missing is
    /// noticed at the start, not by the first message that cannot leave.
    ///
    /// # Errors
    /// [`VaultError::MasterKeyMissing`].
    pub async fn ready(&self, worker: &Worker) -> Result<(), VaultError> {
        let mut connection = worker.connection().await?;
        for (id, rows) in sql::count_by_master(connection.conn()).await? {
            if self.masters.find(&id).is_none() {
                return Err(VaultError::MasterKeyMissing { id, rows });
            }
        }
        Ok(())
    }

    /// The key of an agency that has one, in a transaction of that agency.
    ///
    /// # Errors
    /// [`VaultError::NoKey`].
    pub async fn key(&self, conn: &mut PgConnection, agency: AgencyId) -> Result<Key, VaultError> {
        let kept = sql::find(conn, agency).await?.ok_or(VaultError::NoKey)?;
        self.open(agency, &kept)
    }

    /// The key of an agency, made now if it has none. Of two who make one at once the first wins, and both get that one.
    ///
    /// # Errors
    /// As [`Vault::key`].
    pub async fn key_or_new(
        &self,
        conn: &mut PgConnection,
        agency: AgencyId,
        now: DateTime<Utc>,
    ) -> Result<Key, VaultError> {
        if let Some(kept) = sql::find(&mut *conn, agency).await? {
            return self.open(agency, &kept);
        }
        let fresh = seal::random_key()?;
        let kept = self.wrap(agency, &fresh)?;
        sql::insert(&mut *conn, agency, &kept, now).await?;
        self.key(conn, agency).await
    }

    /// Seals keys that are under another master key anew under the first one. What uses them meanwhile sees the one or the
    /// other, and opens both. Gives how many.
    ///
    /// # Errors
    /// When one cannot be opened, or the database's.
    pub async fn rewrap(&self, worker: &Worker, now: DateTime<Utc>) -> Result<u64, VaultError> {
        let mut connection = worker.connection().await?;
        let (current, _) = self.masters.current();
        let mut done = 0;
        for (agency, kept) in sql::list_others(connection.conn(), current, AT_ONCE).await? {
            let plain = self.unwrap(agency, &kept)?;
            let anew = self.wrap(agency, &plain)?;
            done += sql::replace(connection.conn(), agency, &kept, &anew, now).await?;
        }
        Ok(done)
    }

    fn open(&self, agency: AgencyId, kept: &Kept) -> Result<Key, VaultError> {
        Key::of(&self.unwrap(agency, kept)?)
    }

    fn unwrap(&self, agency: AgencyId, kept: &Kept) -> Result<seal::Opened, VaultError> {
        let master = self.masters.find(&kept.master_key_id);
        let master = master.ok_or_else(|| VaultError::MasterKeyMissing {
            id: kept.master_key_id.clone(),
            rows: 1,
        })?;
        master.open(&kept.sealed, &about(agency))
    }

    fn wrap(&self, agency: AgencyId, plain: &[u8]) -> Result<Kept, VaultError> {
        let (id, master) = self.masters.current();
        Ok(Kept {
            master_key_id: id.to_owned(),
            sealed: master.seal(plain, &about(agency))?,
        })
    }
}

/// An agency's key as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    master_key_id: String,
    sealed: Vec<u8>,
}

/// What a data key is sealed for: moved to another agency's row it does not open.
fn about(agency: AgencyId) -> Vec<u8> {
    format!("mainstay/data-key/1/{agency}").into_bytes()
}
