//! Journeys, walls and storms on the real binary. One test binary; each module is a promise.

mod bad_input;
mod deployment;
mod fuzz;
mod grpc_walls;
mod health;
mod journeys;
mod kills;
mod races;
mod refusals;
mod storm;
mod tidy;
mod walls;
mod webhooks;
