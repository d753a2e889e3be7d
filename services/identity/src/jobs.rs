//! What identity does beside requests.
//! Deliberately absent: schedules. Each job is made by what needs it.

pub mod index_addresses;
pub mod send_sign_in_code;
