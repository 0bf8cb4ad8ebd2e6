//! Kernel version, cgroup, writable /sys, OOM score.

use std::path::Path;

use super::{Check, Verdict};
use crate::agent::host::namespaces;

pub(super) fn version() -> Check {
    Check::new(
        "kernel",
        "kernel",
        Verdict::Ok,
        rustix::system::uname().release().to_string_lossy(),
    )
}

pub(super) fn cgroup() -> Check {
    let (id, title) = ("cgroup", "cgroup");
    let tree = Path::new("/sys/fs/cgroup");
    let version = if tree.join("cgroup.controllers").exists() {
        "version 2"
    } else if tree.join("memory").is_dir() {
        "version 1"
    } else {
        return Check::new(id, title, Verdict::Ok, "not mounted; not needed");
    };
    // libvirt is told to use no controller, since a container's tree is not its own: nothing depends on this.
    let folder = if version == "version 2" {
        tree.to_owned()
    } else {
        tree.join("memory")
    };
    let access = if namespaces::is_writable(&folder) {
        "writable"
    } else {
        "read-only"
    };
    Check::new(id, title, Verdict::Ok, format!("{version}, {access}; not needed"))
}

pub(super) fn writable() -> Check {
    let (id, title) = ("sys_writable", "/sys and /proc/sys");
    let refused: Vec<&str> = ["/sys", "/proc/sys"]
        .into_iter()
        .filter(|path| namespaces::is_read_only(Path::new(path)) != Ok(false))
        .collect();
    if refused.is_empty() {
        return Check::new(id, title, Verdict::Ok, "writable");
    }
    let found = format!("read-only: {}", refused.join(", "));
    if may_mount() {
        // The agent does so in its own mount namespace.
        Check::new(id, title, Verdict::Ok, format!("{found}; can be remounted"))
    } else {
        Check::new(id, title, Verdict::Warn, format!("{found}, and cannot be remounted: no bridges where it is /proc/sys"))
            .cured_by("Set `privileged: true` on the resource type (or run the task with `privileged: true`, docker with `--privileged`).")
    }
}

/// CAP_SYS_ADMIN, by which mounts are judged; what really happens is tried by the daemons' check.
fn may_mount() -> bool {
    rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::SYS_ADMIN))
}

pub(super) fn oom_score() -> Check {
    let (id, title) = ("oom_score", "oom_score_adj");
    match namespaces::oom_score() {
        None => Check::new(id, title, Verdict::Skip, "cannot read /proc/self/oom_score_adj"),
        Some(score @ ..0) => Check::new(
            id,
            title,
            Verdict::Ok,
            format!("{score}, inherited from the worker; the agent raises it for itself and the nodes"),
        ),
        Some(score) => Check::new(id, title, Verdict::Ok, score.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checks_of_this_machine_run() {
        assert_ne!(version().found, "");
        for check in [cgroup(), writable(), oom_score()] {
            assert_ne!(check.found, "");
        }
    }
}
