//! Calling providers (PLT-06): one HTTP stack with time limits, retries within a budget, a circuit breaker and a
//! bulkhead, and the adapters that more than one service uses.
//!
//! Deliberately absent: clients of one service's own providers, and any decision about what an unknown outcome means.
//! The stack says that it is unknown; whoever asked must find out.

mod breaker;
mod budget;
mod http_stack;
pub mod stripe;
pub mod twilio;

pub use breaker::State as BreakerState;
pub use http_stack::{
    Answer, Call, HttpStack, NotSent, Outcome, ProviderSettings, Repeat, StackError, Unknown,
};
