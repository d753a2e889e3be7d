//! Where a test may kill a coordinator: between any two of its acts.
//! Deliberately absent: any use in service. A coordinator that serves has none.

use crate::saga::definition::Call;

/// A moment in one try of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Moment {
    /// The intent is written; nothing was said yet.
    BeforeStep,
    /// The other side has answered; nothing is written.
    AfterStep,
    /// All is written and not committed.
    BeforeCommit,
    /// Committed; the coordinator does not know it yet.
    AfterCommit,
}

impl Moment {
    /// All of them, in order.
    pub const ALL: [Moment; 4] = [
        Moment::BeforeStep,
        Moment::AfterStep,
        Moment::BeforeCommit,
        Moment::AfterCommit,
    ];
}

/// Kills coordinators, or holds them up while another takes over.
#[tonic::async_trait]
pub trait Interruption: Send + Sync {
    /// Whether the coordinator dies here: it stops at once, writes nothing and gives nothing back. One that is held here
    /// goes on when this returns, as a process does that was stopped for a while and does not know it.
    async fn kills(&self, moment: Moment, call: &Call<'_>) -> bool;
}
