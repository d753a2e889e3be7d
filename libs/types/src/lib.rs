//! Typed ids, money, tenancy, formats. No async, no I/O, and no knowledge of protobuf or SQL
//! beyond how an id is stored (feature `sqlx`).

pub mod format;
pub mod id;
pub mod money;
pub mod period;
pub mod service;
pub mod tenancy;

pub use id::{
    AgencyId, AlertId, AlertRouteId, ApiKeyId, AppointmentId, AttemptId, AuditEventId,
    AutomationId, AutomationRunId, CallId, CannedReplyId, ChallengeId, ClientId, ConversationId,
    CouponId, DiscrepancyId, DisputeId, EscalationId, EventId, FormEndpointId, FormSubmissionId,
    Id, IdError, InvoiceId, JobId, Kind, LeadId, MemberId, MessageId, NoteId, PaymentId, PersonId,
    PlanId, ProviderAccountId, ReconciliationId, RefundId, RequestId, RoleId, SagaId, SenderId,
    SessionId, SubscriptionId, WebhookEventId, WebhookReplayId, check_type_id, prefix_of,
};
pub use money::{Currency, Money, MoneyError};
pub use period::{Interval, Period};
pub use service::ServiceName;
pub use tenancy::{AgencyScope, Tenant, Visible};
