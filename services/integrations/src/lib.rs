//! Integrations: the webhook inbox.
//! Deliberately absent: what a webhook means (billing says, for Stripe's), and signatures (the gateway verifies them).
//!
//! Reading order: [`config`] (what webhooks are signed with) → [`webhook`] (stored once, shown, and the decisions) →
//! [`jobs`] (handed on, and let go of after their retention).

pub mod config;
pub mod webhook;

pub use config::{GROUP, Settings};
