//! Tasks for the people who build Mainstay.

fn main() {}
