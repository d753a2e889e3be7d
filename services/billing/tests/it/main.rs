//! Billing on real PostgreSQL, behind its real stack, called as the gateway and integrations call it; Stripe is the
//! simulator over HTTP, identity is played by a script behind the same stack.
//! Deliberately absent: sleeps. Tests wait for answers, or for the simulator to say that a fault has struck.

mod events;
mod health;
mod identity;
mod plans;
mod recovery;
mod stage;
mod subscribing;
mod trouble;
