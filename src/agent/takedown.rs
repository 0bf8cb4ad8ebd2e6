//! How every cluster ends: everything in the namespace is killed, then what the kernel keeps of it is removed.
//!
//! There is one way down, for success and failure alike, and it asks nobody's consent: libvirtd may be hanging or dead.
//! These are throwaway machines, so no guest is shut down in order.

use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Kills every process of this PID namespace but PID 1 and this one, and waits until all are gone.
///
/// # Errors
/// When /proc cannot be read, or a process is still there after `limit` (one that hangs in the kernel).
pub async fn kill_all(limit: Duration) -> io::Result<()> {
    let begun = tokio::time::Instant::now();
    loop {
        let left = others()?;
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

/// The processes of this namespace beside PID 1 and this one; zombies, which only wait for PID 1, left out.
fn others() -> io::Result<Vec<i32>> {
    let own = std::process::id();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        if pid == 1 || pid == own {
            continue;
        }
        // The state follows the last ')': a program's name may hold anything (proc(5)).
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat
            .rsplit(')')
            .next()
            .and_then(|rest| rest.trim_start().chars().next());
        if !matches!(state, None | Some('Z' | 'X')) {
            found.push(pid as i32);
        }
    }
    Ok(found)
}

/// Removes disks, seeds and keys; leaves the logs and consoles, which are the evidence.
pub fn remove_disks(directory: &Path) {
    for name in ["disks", "seeds", "keys", "libvirt"] {
        // A missing directory is as good as a removed one; whatever else fails goes with the container.
        let _ = std::fs::remove_dir_all(directory.join(name));
    }
}
