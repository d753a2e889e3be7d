//! Request context, errors to status, the tower stack for servers and clients, authorisation.
