//! Identity through its real gRPC server, on a real PostgreSQL with the walls up.
//! Deliberately absent: the gateway. Journeys through REST are in `tests/`.

mod audit;
mod bootstrap;
mod clients;
mod deactivation;
mod entitlements;
mod key_grants;
mod keys;
mod members;
mod onboarding;
mod roles;
mod sessions;
mod sign_in;
mod world;
