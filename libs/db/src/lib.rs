//! The one pool, tenant transactions, the migrations runner.
