//! Typed ids, money, tenancy, formats. No async, no I/O, and no knowledge of protobuf or SQL
//! beyond how an id is stored (feature `sqlx`).

pub mod format;
pub mod id;
pub mod money;
pub mod period;
pub mod service;
pub mod tenancy;

pub use id::{
    AgencyId, ApiKeyId, AuditEventId, ClientId, EventId, Id, IdError, InvoiceId, JobId, Kind,
    MemberId, PersonId, PlanId, RequestId, RoleId, SagaId, SubscriptionId, WebhookEventId,
    check_type_id, prefix_of,
};
pub use money::{Currency, Money, MoneyError};
pub use period::{Interval, Period};
pub use service::ServiceName;
pub use tenancy::{AgencyScope, Tenant, Visible};
