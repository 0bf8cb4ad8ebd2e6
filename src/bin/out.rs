//! `out`.
fn main() {}
