//! Calls under protection.

fn main() {}
