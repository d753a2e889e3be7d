//! Private PostgreSQL, service harness, builders, signals.
