//! Billing on real PostgreSQL, behind its real stack, called as the gateway and integrations call it; Stripe is the
//! simulator over HTTP, identity is played by a script behind the same stack.
//! Deliberately absent: sleeps. Tests wait for answers, or for the simulator to say that a fault has struck.

mod coupon_endings;
mod coupon_races;
mod coupons;
mod events;
mod events_checkout;
mod events_money;
mod events_recovery;
mod health;
mod identity;
mod integrations;
mod life;
mod messaging;
mod operators;
mod plans;
mod proofs;
mod prover;
mod reconciliation;
mod recovery;
mod stage;
mod storm;
mod subscribing;
mod trouble;
