//! How our services call each other: who acts, what they may, how a refusal is told, and the stacks around both.
//!
//! Deliberately absent: databases, and any one service's rules. Read in this order: [`problem`] (refusals), [`token`]
//! (who is who), [`authorise`] (who may what), [`context`] (what a handler is given), [`server`] (the stack that makes
//! it), [`client`] (the stack that calls). Beside these: [`field`] and [`entitlement`], what several services' messages have.

pub mod authorise;
pub mod client;
pub mod config;
pub mod context;
pub mod directory;
pub mod entitlement;
pub mod field;
pub mod problem;
pub mod server;
pub mod token;
mod wire;

pub use authorise::{Granted, authorise};
pub use client::{Channels, ServiceChannel, on_behalf};
pub use context::{Actor, Context, open};
pub use directory::{ClientDirectory, RemoteDirectory};
pub use mainstay_proto::errors::v1::{ErrorReason, FieldViolation};
pub use mainstay_transcode::{MethodInfo, Schema};
pub use mainstay_types::{AgencyScope, ServiceName, Tenant, Visible};
pub use problem::{Problem, Violations};
pub use server::{Limits, ServeError, ServiceRuntime, health_report, serve};
pub use token::{Claims, Grant, ServiceKey, TrustedKeys};
