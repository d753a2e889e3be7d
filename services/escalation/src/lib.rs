//! mainstay-escalation.
