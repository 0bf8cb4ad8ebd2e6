//! `nodectl`.
fn main() {}
