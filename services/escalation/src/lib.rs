//! Escalation: calls for people. Who is called, who has taken one, what became of it; when a client is open; and alerts: what somebody
//! should look at, and who hears of it.
//! Deliberately absent: a second list of members (identity has it), and a way out (messaging sends).
//!
//! Reading order: [`config`] → [`members`] (who could take something) → [`ladder`] (who is called, in which order) →
//! [`escalation`] (raised, taken, ended, and never left) → [`link`] and [`notice`] (how people hear of it) →
//! [`business_hours`] → [`alert`] → [`alert_route`] (who hears of which) → `alert_notice` (each thing once) → `health_watch` → [`jobs`] →
//! [`events`] (what it does about the facts of others) → `way_out`.

pub mod alert;
mod alert_notice;
pub mod alert_route;
pub mod business_hours;
pub mod config;
pub mod escalation;
pub mod events;
mod health_watch;
pub mod jobs;
pub mod ladder;
mod leads;
pub mod link;
pub mod members;
pub mod notice;
mod way_out;

use std::sync::Arc;

use mainstay_db::Database;
use mainstay_jobs::Machinery;
use mainstay_proto::escalation::v1::alert_route_service_server::AlertRouteServiceServer;
use mainstay_proto::escalation::v1::alert_service_server::AlertServiceServer;
use mainstay_proto::escalation::v1::business_hours_service_server::BusinessHoursServiceServer;
use mainstay_proto::escalation::v1::claim_link_service_server::ClaimLinkServiceServer;
use mainstay_proto::escalation::v1::escalation_service_server::EscalationServiceServer;
use mainstay_proto::escalation::v1::ladder_service_server::LadderServiceServer;
use mainstay_proto::messaging::v1::notice_service_client::NoticeServiceClient;
use mainstay_rpc::{RemoteDirectory, ServeError, ServiceChannel, ServiceRuntime};
use mainstay_runtime::Clock;
use mainstay_types::ServiceName;
use tonic::service::Routes;

pub use config::{GROUP, Settings};

use health_watch::Services;
use leads::Leads;
use link::Links;
use members::Members;

/// What every operation works with. Cheap to clone.
#[derive(Clone)]
pub struct Escalating {
    pub(crate) database: Database,
    pub(crate) clock: Clock,
    pub(crate) leads: Leads,
    pub(crate) directory: Arc<RemoteDirectory>,
    pub(crate) members: Members,
    pub(crate) services: Services,
    pub(crate) notices: NoticeServiceClient<ServiceChannel>,
    pub(crate) links: Links,
    pub(crate) jobs: mainstay_jobs::Wake,
}

/// Serves until the runtime's shutdown is triggered, and what was in hand is done or handed back.
///
/// # Errors
/// When the transport fails.
pub async fn serve(
    settings: Settings,
    database: Database,
    runtime: ServiceRuntime,
) -> Result<(), ServeError> {
    let clock = runtime.clock.clone();
    let directory = Arc::new(RemoteDirectory::new(&runtime.channels));
    let machinery = Machinery::new(&runtime, &database);
    let escalating = Escalating {
        database: database.clone(),
        clock: clock.clone(),
        leads: Leads::new(&runtime.channels),
        directory: directory.clone(),
        members: Members::new(&runtime.channels),
        services: Services::new(&runtime.channels, &runtime.health),
        notices: NoticeServiceClient::new(runtime.channels.channel(ServiceName::Messaging)),
        links: settings.links,
        jobs: machinery.wake(),
    };
    let routes = Routes::new(EscalationServiceServer::new(escalating.clone()))
        .add_service(ClaimLinkServiceServer::new(escalating.clone()))
        .add_service(LadderServiceServer::new(escalating.clone()))
        .add_service(BusinessHoursServiceServer::new(escalating.clone()))
        .add_service(AlertServiceServer::new(escalating.clone()))
        .add_service(AlertRouteServiceServer::new(escalating.clone()));
    let wake = machinery.wake();
    machinery
        .takes(events::Facts { clock, jobs: wake })
        .works(
            jobs::advance_escalation::KIND,
            jobs::advance_escalation::AdvanceEscalation(escalating.clone()),
        )
        .recurs(jobs::audit_escalations::AuditEscalations {
            escalating: escalating.clone(),
            every: settings.audit_every,
        })
        .works(
            jobs::release_departed::KIND,
            jobs::release_departed::ReleaseDeparted(escalating.clone()),
        )
        .recurs(jobs::look_at_health::LookAtHealth {
            escalating: escalating.clone(),
            operators: settings.operators,
            every: settings.health_every,
        })
        .works(
            jobs::tell_alert::KIND,
            jobs::tell_alert::TellAlert(escalating.clone()),
        )
        .works(
            jobs::tell_notices::KIND,
            jobs::tell_notices::TellNotices(escalating),
        )
        .serve(runtime, directory, routes)
        .await
}
