//! What the API, the forwards and the proxy have in common: who is let in, which way leads to a node, and how bytes are
//! carried there and back.

pub mod door;
pub mod names;
pub mod pump;
pub mod ways;

use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::TcpStream;

/// How long a connection may be silent before the other end is asked whether it is still there.
const SILENCE: Duration = Duration::from_secs(60);

/// How often it is asked.
const ASK: Duration = Duration::from_secs(20);

/// After how many questions without an answer it is given up.
const QUESTIONS: u32 = 6;

/// Prepares the connection of somebody in another container. Concourse takes a container's network away before its
/// processes: nothing says that such a client is gone, so a silent one is asked.
pub fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, SILENCE);
    let _ = sockopt::set_tcp_keepintvl(stream, ASK);
    let _ = sockopt::set_tcp_keepcnt(stream, QUESTIONS);
}

/// How many files this process may open, once it may open as many as the container lets it; a connection is up to two.
pub fn raise_file_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    /// Enough for every limit in here. Not more: some programs among the agent's children walk through all numbers.
    const ENOUGH: u64 = 65_536;
    let limit = getrlimit(Resource::Nofile);
    let current = limit.current.unwrap_or(u64::MAX);
    let wanted = limit.maximum.unwrap_or(ENOUGH).min(ENOUGH);
    if current >= wanted {
        return current;
    }
    let raised = Rlimit {
        current: Some(wanted),
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => wanted,
        Err(_) => current,
    }
}
