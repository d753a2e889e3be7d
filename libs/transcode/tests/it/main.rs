//! What the outside relies on in routes, JSON and OpenAPI, over Mainstay's own protos.

mod loading;
