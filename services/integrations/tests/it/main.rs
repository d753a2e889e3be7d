//! Integrations on real PostgreSQL, behind its real stack, called as the gateway calls it; billing is played by a script
//! behind the same stack.
//! Deliberately absent: signatures. The gateway's tests verify those.

mod handing_on;
mod health;
mod inbox;
mod intake;
mod retention;
mod stage;
