//! What billing does in the background, one job a file.
//! Deliberately absent: what spans systems. Those are sagas; the coordinator runs them.

pub mod count_redemptions;
pub mod reconcile_stripe;
pub mod recover_stripe_event;
pub mod recover_stripe_events;
