//! What escalation does in the background.
//! Deliberately absent: work of its own. Each job reads what it is given and calls its slice.

pub mod advance_escalation;
pub mod audit_escalations;
pub mod look_at_health;
pub mod release_departed;
pub mod tell_alert;
pub mod tell_notices;
