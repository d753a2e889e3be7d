//! Messaging: the people a client talks with, what they agreed to, and every message that leaves the platform.
//! Deliberately absent: a second way out. Whatever is to be sent, by whatever channel and for whatever reason, waits in
//! [`message`], passes the [`gate`] and leaves through [`carrier`].
//!
//! Reading order: [`config`] → [`limit`] (as billing sold it) → [`hold`] (as the agency decided) → [`closing`] (once the client has left) → [`address`] →
//! [`consent`] and [`do_not_contact`] (as people wish) → [`gate`] (whether a message may leave) → [`standing`] (what it asks)
//! → [`sendability`] (the gate, asked) → [`lead`] (the people, by all their addresses) → [`conversation`] and [`conversation_note`] → [`message`] and [`canned_reply`] →
//! [`sending`] (the one sender) by [`senders`] and [`carrier`] → [`provider_event`] (what providers tell) →
//! [`call`] (who called) → [`notice`] (what the platform says to staff) → [`form_submission`] (what forms brought) → [`unsubscribe`] (the link in a mail) → [`jobs`] → [`events`] (what it does about the facts of others).

pub mod address;
mod alarm;
mod answer;
pub mod appointment;
pub mod automation;
mod burst;
pub mod call;
pub mod canned_reply;
pub mod carrier;
pub mod closing;
pub mod config;
pub mod consent;
pub mod conversation;
pub mod conversation_note;
pub mod do_not_contact;
pub mod events;
mod fallback;
pub mod form_submission;
pub mod gate;
pub mod hold;
pub mod jobs;
pub mod lead;
pub mod limit;
mod member;
pub mod message;
pub mod model;
pub mod notice;
pub mod provider_event;
pub mod sendability;
pub mod senders;
pub mod sending;
pub mod standing;
pub mod unsubscribe;
mod wire;

use std::sync::Arc;

use mainstay_db::Database;
use mainstay_jobs::Machinery;
use mainstay_proto::identity::v1::member_directory_service_client::MemberDirectoryServiceClient;
use mainstay_proto::messaging::v1::appointment_service_server::AppointmentServiceServer;
use mainstay_proto::messaging::v1::automation_service_server::AutomationServiceServer;
use mainstay_proto::messaging::v1::call_service_server::CallServiceServer;
use mainstay_proto::messaging::v1::canned_reply_service_server::CannedReplyServiceServer;
use mainstay_proto::messaging::v1::client_closing_service_server::ClientClosingServiceServer;
use mainstay_proto::messaging::v1::consent_service_server::ConsentServiceServer;
use mainstay_proto::messaging::v1::conversation_note_service_server::ConversationNoteServiceServer;
use mainstay_proto::messaging::v1::conversation_service_server::ConversationServiceServer;
use mainstay_proto::messaging::v1::do_not_contact_service_server::DoNotContactServiceServer;
use mainstay_proto::messaging::v1::form_submission_service_server::FormSubmissionServiceServer;
use mainstay_proto::messaging::v1::lead_directory_service_server::LeadDirectoryServiceServer;
use mainstay_proto::messaging::v1::lead_service_server::LeadServiceServer;
use mainstay_proto::messaging::v1::limit_service_server::LimitServiceServer;
use mainstay_proto::messaging::v1::message_service_server::MessageServiceServer;
use mainstay_proto::messaging::v1::notice_service_server::NoticeServiceServer;
use mainstay_proto::messaging::v1::provider_event_service_server::ProviderEventServiceServer;
use mainstay_proto::messaging::v1::sendability_service_server::SendabilityServiceServer;
use mainstay_proto::messaging::v1::sending_hold_service_server::SendingHoldServiceServer;
use mainstay_proto::messaging::v1::unsubscribe_service_server::UnsubscribeServiceServer;
use mainstay_rpc::{ClientDirectory, RemoteDirectory, ServeError, ServiceChannel, ServiceRuntime};
use mainstay_runtime::{Clock, Shutdown};
use mainstay_types::ServiceName;
use tonic::service::Routes;

pub use config::{GROUP, Settings};

use carrier::Carriers;
use gate::PermitKey;
use model::Model;
use senders::{RemoteSenders, Senders};
use sending::Pace;
use unsubscribe::Links;

/// What every operation works with. Cheap to clone.
#[derive(Clone)]
pub struct Messaging {
    pub(crate) database: Database,
    pub(crate) clock: Clock,
    pub(crate) directory: Arc<dyn ClientDirectory>,
    pub(crate) members: MemberDirectoryServiceClient<ServiceChannel>,
    pub(crate) senders: Arc<dyn Senders>,
    pub(crate) carriers: Carriers,
    pub(crate) key: PermitKey,
    pub(crate) links: Links,
    pub(crate) pace: Pace,
    pub(crate) wake: sending::Wake,
    pub(crate) jobs: mainstay_jobs::Wake,
    pub(crate) model: Model,
    pub(crate) turns: answer::Turns,
    pub(crate) answers_per_day: i64,
    pub(crate) burst_window: std::time::Duration,
}

impl Messaging {
    /// A message may be due.
    pub(crate) fn wake(&self) {
        self.wake.wake();
    }

    /// A job may be due.
    pub(crate) fn wake_jobs(&self) {
        self.jobs.wake();
    }

    fn routes(&self) -> Routes {
        Routes::new(LimitServiceServer::new(self.clone()))
            .add_service(SendingHoldServiceServer::new(self.clone()))
            .add_service(ClientClosingServiceServer::new(self.clone()))
            .add_service(ConsentServiceServer::new(self.clone()))
            .add_service(DoNotContactServiceServer::new(self.clone()))
            .add_service(SendabilityServiceServer::new(self.clone()))
            .add_service(LeadServiceServer::new(self.clone()))
            .add_service(LeadDirectoryServiceServer::new(self.clone()))
            .add_service(ConversationServiceServer::new(self.clone()))
            .add_service(ConversationNoteServiceServer::new(self.clone()))
            .add_service(MessageServiceServer::new(self.clone()))
            .add_service(CannedReplyServiceServer::new(self.clone()))
            .add_service(AutomationServiceServer::new(self.clone()))
            .add_service(AppointmentServiceServer::new(self.clone()))
            .add_service(NoticeServiceServer::new(self.clone()))
            .add_service(ProviderEventServiceServer::new(self.clone()))
            .add_service(CallServiceServer::new(self.clone()))
            .add_service(FormSubmissionServiceServer::new(self.clone()))
            .add_service(UnsubscribeServiceServer::new(self.clone()))
    }
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
    let directory = Arc::new(RemoteDirectory::new(&runtime.channels));
    let machinery = Machinery::new(&runtime, &database);
    let messaging = Messaging {
        database: database.clone(),
        clock: runtime.clock.clone(),
        directory: directory.clone(),
        members: MemberDirectoryServiceClient::new(runtime.channels.channel(ServiceName::Identity)),
        senders: Arc::new(RemoteSenders::new(&runtime.channels)),
        carriers: settings.carriers,
        key: settings.key,
        links: settings.links,
        pace: settings.pace,
        wake: sending::Wake::default(),
        jobs: machinery.wake(),
        model: settings.model,
        turns: answer::Turns::default(),
        answers_per_day: settings.answers_per_day,
        burst_window: settings.burst_window,
    };
    for stack in messaging.carriers.stacks() {
        runtime.health.probe(stack.clone());
    }
    runtime.health.probe(messaging.model.stack().clone());
    // Ends after the requests, which leave work for it, and before the database.
    let stop = Shutdown::new();
    let sending = stop.spawn(sending::run(messaging.clone(), stop.clone()));
    let stopped = async move {
        stop.trigger();
        let _ = sending.await;
    };
    machinery
        .takes(events::Facts {
            clock: runtime.clock.clone(),
        })
        .works(
            jobs::advance_runs::KIND,
            jobs::advance_runs::AdvanceRuns(messaging.clone()),
        )
        .works(
            jobs::answer_run::KIND,
            jobs::answer_run::AnswerRun(messaging.clone()),
        )
        .works(
            jobs::close_client::KIND,
            jobs::close_client::CloseClient(messaging.clone()),
        )
        .works(
            jobs::fall_back::KIND,
            jobs::fall_back::FallBack(messaging.clone()),
        )
        .works(
            jobs::hand_on_burst::KIND,
            jobs::hand_on_burst::HandOnBurst(messaging.clone()),
        )
        .recurs(jobs::reconcile_deliveries::ReconcileDeliveries(
            messaging.clone(),
        ))
        .works(
            jobs::release_conversations::KIND,
            jobs::release_conversations::ReleaseConversations(messaging.clone()),
        )
        .works(
            automation::sweep::KIND,
            automation::sweep::SweepLeads(messaging.clone()),
        )
        .works(
            jobs::resolve_attempt::KIND,
            jobs::resolve_attempt::ResolveAttempt(messaging.clone()),
        )
        .then(stopped)
        .serve(runtime, directory, messaging.routes())
        .await
}
