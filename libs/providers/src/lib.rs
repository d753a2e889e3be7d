//! The outgoing HTTP stack and the adapters used by more than one service.
