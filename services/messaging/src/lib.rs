//! mainstay-messaging.
