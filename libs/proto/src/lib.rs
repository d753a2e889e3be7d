//! Generated protobuf code and the descriptor set, nothing else: no conversions, no rules.

/// The descriptor set of every `.proto`, with comments: what the gateway, the services, OpenAPI and the
/// tests read routes, permissions and rules from.
pub const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/descriptor_set.bin"));

macro_rules! packages {
    ($($(#[$doc:meta])* $name:ident $package:literal;)*) => {
        $(
            $(#[$doc])*
            pub mod $name {
                /// Version 1.
                #[allow(missing_docs, clippy::all, reason = "generated; the .proto files are the documentation")]
                pub mod v1 {
                    tonic::include_proto!($package);
                }
            }
        )*
    };
}

packages! {
    /// Plans, subscriptions, invoices, sagas.
    billing "mainstay.billing.v1";
    /// Values that several contexts use.
    common "mainstay.common.v1";
    /// Calls for people, who is called, and when a client is open.
    escalation "mainstay.escalation.v1";
    /// Reasons and problems.
    errors "mainstay.errors.v1";
    /// Domain events between services.
    events "mainstay.events.v1";
    /// How a service stands.
    health "mainstay.health.v1";
    /// People, agencies, clients, roles, keys.
    identity "mainstay.identity.v1";
    /// The webhook inbox.
    integrations "mainstay.integrations.v1";
    /// Leads, consent, what a client may send, and whether its sending is on hold.
    messaging "mainstay.messaging.v1";
    /// The queue of a service, for the other services.
    jobs "mainstay.jobs.v1";
    /// The schema of our options.
    options "mainstay.options.v1";
}
