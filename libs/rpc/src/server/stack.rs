//! The one stack around every handler, as a list. Order is the design.
//!
//! Deliberately absent: anything per service. A service differs by what its protos declare.

mod authenticate;
mod authorise;
mod deadline;
mod errors;
mod read;
mod shed;
mod trace;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use mainstay_transcode::{MethodInfo, Schema};
use mainstay_types::ServiceName;
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::service::Routes;
use tower::ServiceBuilder;

use super::Limits;
use super::report::Meters;
use crate::context::Actor;
use crate::directory::{ClientDirectory, Remembered};
use crate::problem::Problem;
use crate::token::{Claims, TrustedKeys, Verified};

/// What the layers share.
struct Gate {
    me: ServiceName,
    schema: &'static Schema,
    trusted: TrustedKeys,
    services: Verified<ServiceName>,
    actors: Verified<(Actor, Arc<Claims>)>,
    directory: Remembered,
    limits: Limits,
    slots: Arc<Semaphore>,
    meters: Meters,
}

/// The stack, outermost first.
pub(super) fn around(
    services: Routes,
    me: ServiceName,
    trusted: TrustedKeys,
    directory: Arc<dyn ClientDirectory>,
    limits: &Limits,
    meters: Meters,
) -> Router {
    let gate = Arc::new(Gate {
        me,
        schema: Schema::mainstay(),
        trusted,
        services: Verified::new(1_000, meters.tokens.clone()),
        actors: Verified::new(10_000, meters.tokens.clone()),
        directory: Remembered::new(directory, meters.clients.clone()),
        limits: limits.clone(),
        slots: Arc::new(Semaphore::new(limits.concurrent_requests)),
        meters,
    });
    let gate = || Arc::clone(&gate);
    let stack = ServiceBuilder::new()
        // Outermost, so that every refusal below is in the caller's trace. Finds the method; there is none without.
        .layer(from_fn_with_state(gate(), trace::layer))
        // Just inside, so that whatever refuses, handler or layer, is told and logged in one way, once.
        .layer(from_fn_with_state(gate(), errors::layer))
        // Before any waiting: bodies that trickle and a slow directory count against the caller's time.
        .layer(from_fn_with_state(gate(), deadline::layer))
        // Before the body is read: strangers, and services that a method does not list, do not get to send four megabytes.
        .layer(from_fn_with_state(gate(), authenticate::layer))
        // Decodes once, judges every field, and finds the client that the request names.
        .layer(from_fn_with_state(gate(), read::layer))
        // 404 for clients out of sight, then 403; makes the Context.
        .layer(from_fn_with_state(gate(), authorise::layer))
        // Innermost: a slot is held only by work that will be done.
        .layer(from_fn_with_state(gate(), shed::layer));
    services.into_axum_router().layer(stack)
}

/// The method that the trace layer found.
#[derive(Clone, Copy)]
struct Method(&'static MethodInfo);

/// A refusal, as a response that the errors layer will read.
fn refuse(problem: Problem) -> Response {
    Status::from(problem).into_http()
}
