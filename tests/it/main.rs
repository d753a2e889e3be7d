//! Journeys, walls and storms on the real binary. One test binary; each module is a promise.

mod alerts;
mod automations;
mod bad_input;
mod calls;
mod deployment;
mod escalations;
mod forms;
mod fuzz;
mod grpc_walls;
mod health;
mod inbox;
mod journeys;
mod kills;
mod messages;
mod offboarding;
mod provider_webhooks;
mod races;
mod refusals;
mod rush;
mod sign_in;
mod storm;
mod tidy;
mod unsubscribe;
mod walls;
mod webhook_replays;
mod webhooks;
