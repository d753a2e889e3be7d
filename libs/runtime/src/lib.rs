//! Configuration, telemetry, health, shutdown, clock.
