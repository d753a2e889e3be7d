//! The settings that only billing reads: how Stripe is called.
//! Deliberately absent: how long sagas try. That is a rule, not a setting.

use mainstay_providers::{StackError, stripe::StripeApi};
use mainstay_runtime::config::{Config, Group};

pub use mainstay_providers::stripe::GROUP;

/// The groups that billing selects beside those of every role.
pub static GROUPS: &[&Group] = &[&GROUP];

/// The settings of billing, read.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Stripe, as configured.
    pub stripe: StripeApi,
}

impl Settings {
    /// Reads them from a configuration that selected [`GROUPS`].
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    ///
    /// # Panics
    /// When it did not select them: a mistake of the program.
    pub fn read(config: &Config) -> Result<Self, StackError> {
        Ok(Self {
            stripe: StripeApi::from_config("billing", config)?,
        })
    }
}
