//! The names of the services, as callers, audiences and schemas.

use std::{fmt, str::FromStr};

/// A service of ours.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum ServiceName {
    /// People, agencies, clients, roles, keys, entitlements, audit.
    Identity,
    /// Plans, subscriptions, invoices, the saga coordinator.
    Billing,
    /// Leads, consent, messages.
    Messaging,
    /// Escalations, claims, business hours.
    Escalation,
    /// Webhook inbox, credentials, numbers.
    Integrations,
    /// REST and webhooks; owns no schema.
    Gateway,
}

impl ServiceName {
    /// Those that own a schema and serve gRPC.
    pub const CONTEXTS: [ServiceName; 5] = [
        ServiceName::Identity,
        ServiceName::Billing,
        ServiceName::Messaging,
        ServiceName::Escalation,
        ServiceName::Integrations,
    ];

    /// All, the gateway last.
    pub const ALL: [ServiceName; 6] = [
        ServiceName::Identity,
        ServiceName::Billing,
        ServiceName::Messaging,
        ServiceName::Escalation,
        ServiceName::Integrations,
        ServiceName::Gateway,
    ];

    /// The name as protos, schemas, settings and tokens spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            ServiceName::Identity => "identity",
            ServiceName::Billing => "billing",
            ServiceName::Messaging => "messaging",
            ServiceName::Escalation => "escalation",
            ServiceName::Integrations => "integrations",
            ServiceName::Gateway => "gateway",
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no service is called `{0}`: expected identity, billing, messaging, escalation, integrations or gateway"
)]
pub struct UnknownService(pub String);

impl FromStr for ServiceName {
    type Err = UnknownService;
    fn from_str(text: &str) -> Result<Self, UnknownService> {
        Self::ALL
            .into_iter()
            .find(|service| service.as_str() == text)
            .ok_or_else(|| UnknownService(text.to_owned()))
    }
}
