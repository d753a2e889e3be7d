//! The gateway over real HTTP and real gRPC: the services behind it are fakes on the real stack of `mainstay_rpc`,
//! so that what is tested here is the gateway and nothing else.

mod back_pressure;
mod backend;
mod forms;
mod harness;
mod health;
mod limits;
mod pages;
mod provider_webhooks;
mod rest;
mod webhooks;
