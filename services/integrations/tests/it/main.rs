//! Integrations on real PostgreSQL, behind its real stack, called as the gateway calls it; billing is played by a script
//! behind the same stack.
//! Deliberately absent: signatures. The gateway's tests verify those.

mod accounts;
mod agency;
mod dead_letters;
mod forms;
mod handing_on;
mod health;
mod inbox;
mod intake;
mod provider_events;
mod recovery;
mod replays;
mod retention;
mod senders;
mod stage;
mod vault;
