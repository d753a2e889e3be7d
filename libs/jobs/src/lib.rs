//! Durable queue, outbox and inbox.
