//! The outside of Mainstay: REST to gRPC, webhooks in, documentation, health. Everything about a method
//! comes from its proto through `mainstay_transcode`; adding an RPC needs no code here.
//! Deliberately absent: domain rules, SQL, and any knowledge of one particular method.
//!
//! Read in this order: [`config`], [`serve()`] and [`app`] (the layers), [`rest`] (one request), then what it uses:
//! [`credential`], [`rate`], [`refusal`]. Webhooks are in [`webhooks`], pages in [`pages`], [`health`],
//! [`claims`] and [`unsubscribe`].

pub mod app;
pub mod claims;
pub mod config;
pub mod credential;
pub mod health;
pub mod link;
pub mod pages;
pub mod rate;
pub mod refusal;
pub mod rest;
mod serve;
pub mod source;
pub mod trace;
mod unread;
pub mod unsubscribe;
pub mod webhooks;

pub use config::Settings;
pub use serve::{ServeError, serve};
