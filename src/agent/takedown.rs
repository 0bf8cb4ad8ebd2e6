//! How every cluster ends: every process of its family is killed, then what the kernel keeps of it is removed.
//!
//! There is one way down, for success and failure alike, and it asks nobody's consent: libvirtd may be hanging or dead.
//! These are throwaway machines, so no guest is shut down in order.

use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::daemons;
use super::family::Family;

/// Kills every process of the agent's family but `init` and this one, and waits until all are gone.
///
/// # Errors
/// When /proc cannot be read, or a process is still there after `limit` (one that hangs in the kernel).
pub async fn kill_all(family: Family, limit: Duration) -> io::Result<()> {
    let begun = tokio::time::Instant::now();
    loop {
        let left = family.others()?;
        if left.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > limit {
            return Err(io::Error::other(format!("processes {left:?} do not die")));
        }
        for &pid in &left {
            if let Some(pid) = Pid::from_raw(pid) {
                // It may have ended in between.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Removes disks, seeds and keys, and what libvirt has written; leaves the logs and consoles, which are the evidence.
pub fn remove_disks(family: Family, directory: &Path) {
    if !family.has_namespaces() {
        daemons::remove_state();
    }
    for name in ["disks", "seeds", "keys", "libvirt"] {
        // A missing directory is as good as a removed one; whatever else fails goes with the container.
        let _ = std::fs::remove_dir_all(directory.join(name));
    }
}
