//! The stacks around calls, over real sockets, with the protos of identity's own services.
//!
//! Deliberately absent: identity's rules. The handlers here only tell what they were given.

mod harness;
mod health;
mod limits;
mod oracle;
mod repeats;
mod settings;
mod spans;
mod stop;
mod walls;
