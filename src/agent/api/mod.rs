//! What the agent tells of its cluster, over TLS to `in` and `nodectl`, and over a Unix socket inside the container.
pub mod types;
