//! `in`.
fn main() {}
