//! Typed ids, Money, Period, phone and time zone; no async, no I/O.
