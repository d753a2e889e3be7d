//! mainstay-billing.
