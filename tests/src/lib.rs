//! Journeys across services, tenancy and authorisation matrices.
