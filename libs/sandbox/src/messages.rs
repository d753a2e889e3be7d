//! Owns the ring of messages that simulated channels have "delivered", for `GET /_/messages?to=`.
//!
//! Deliberately absent: durability. A message that left is the receiver's; the platform keeps its own record, and a
//! test reads this one right after it caused the message.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// The oldest are forgotten beyond this many.
const KEPT: usize = 10_000;

/// One message as the person at the other end would have seen it.
#[derive(Clone, Debug, Serialize)]
pub struct DeliveredMessage {
    /// Which simulator delivered it: `twilio`, `resend` …
    pub provider: String,
    /// `sms`, `email`, `whatsapp`, `voice`.
    pub channel: String,
    /// Sender's address.
    pub from: String,
    /// Receiver's address.
    pub to: String,
    /// Text.
    pub body: String,
    /// The provider's id of it.
    pub sid: String,
    /// Unix seconds by the simulators' clock.
    pub at: i64,
}

/// What was delivered, newest last.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    ring: Mutex<VecDeque<DeliveredMessage>>,
}

impl Messages {
    pub(crate) fn push(&self, message: DeliveredMessage) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.len() == KEPT {
            ring.pop_front();
        }
        ring.push_back(message);
    }

    pub(crate) fn to(&self, to: Option<&str>) -> Vec<DeliveredMessage> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.iter()
            .filter(|m| to.is_none_or(|to| m.to == to))
            .cloned()
            .collect()
    }
}
