//! What the agent tells of its cluster, over TLS to `in` and `nodectl`, and over a Unix socket inside the container.
//!
//! Every container of a worker can reach the agent, so nothing is served over TCP without the token; the socket's
//! permissions are its credential. Clients know the agent by its certificate's fingerprint alone, which the version
//! carries: there is no authority to trust, and none to fool.

pub mod client;
mod console;
pub mod identity;
mod refusal;
pub mod server;
pub mod tls;
pub mod types;
mod visit;
