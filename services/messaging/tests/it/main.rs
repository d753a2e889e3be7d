//! Messaging on real PostgreSQL, behind its real stack, beside a real identity, called as other services and as people
//! signed in call it.
//! Deliberately absent: the gateway.

mod adapters;
mod automations;
mod callbacks;
mod calls;
mod canned_replies;
mod carried;
mod consents;
mod deliveries;
mod door;
mod events;
mod fallbacks;
mod finding;
mod forms;
mod holds;
mod inbox;
mod lead_imports;
mod lead_merges;
mod lead_status;
mod leads;
mod limits;
mod messages;
mod notices;
mod ratings;
mod sending;
mod unsubscribing;
mod win_backs;
mod world;
