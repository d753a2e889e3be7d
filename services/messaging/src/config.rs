//! The settings that only messaging reads.
//! Deliberately absent: any, so far. Addresses, keys, limits and the database are read alike for every role.

use mainstay_runtime::config::{Config, Group};

/// These settings.
pub static GROUP: Group = Group {
    name: "messaging",
    about: "What only messaging needs to know.",
    settings: &[],
};

/// The settings of messaging, read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings {}

impl Settings {
    /// Reads them from a configuration that selected [`GROUP`].
    pub fn read(_: &Config) -> Self {
        Settings {}
    }
}
