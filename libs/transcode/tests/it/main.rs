//! What the outside relies on in routes, JSON and OpenAPI, over Mainstay's own protos and over
//! `protos/kitchen.proto`, which has every kind of field.

mod decoding;
mod kitchen;
mod loading;
mod openapi;
mod plain_lists;
mod properties;
