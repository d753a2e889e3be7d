//! The settings that only escalation reads.
//! Deliberately absent: any, so far. Addresses, keys, limits and the database are read alike for every role.

use mainstay_runtime::config::{Config, Group};

/// These settings.
pub static GROUP: Group = Group {
    name: "escalation",
    about: "What only escalation needs to know.",
    settings: &[],
};

/// The settings of escalation, read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings {}

impl Settings {
    /// Reads them from a configuration that selected [`GROUP`].
    pub fn read(_: &Config) -> Self {
        Settings {}
    }
}
