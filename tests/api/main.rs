//! The agent's API on loopback: the real server with the real service of a made-up cluster, and servers that are none.

mod answers;
mod bed;
mod documented;
mod errors;
mod hostile;
#[path = "../loopback/mod.rs"]
mod loopback;
