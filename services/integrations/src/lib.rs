//! mainstay-integrations.
