//! Work of messaging that outlives its request, a file each.
//! Deliberately absent: sending, which has its own queue for the sake of order and rate.

pub mod advance_runs;
pub mod answer_run;
pub mod close_client;
pub mod fall_back;
pub mod hand_on_burst;
pub mod reconcile_deliveries;
pub mod release_conversations;
pub mod resolve_attempt;
