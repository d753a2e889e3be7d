//! REST and webhooks to gRPC.
