//! The agent's own view of the container: private mounts, its own /proc, a writable /sys, OOM scores, forwarding.

use std::path::{Path, PathBuf};

use rustix::fs::{CWD, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change, mount_remount};

use crate::fault::Fault;

/// The agent's own `oom_score_adj`. Under Concourse about -998 is inherited from the worker, which would make the kernel
/// kill anything else before a runaway node.
pub const AGENT_OOM_SCORE: i16 = 0;

/// QEMU's: when memory runs out a node goes first, and the agent stays to say so.
pub const QEMU_OOM_SCORE: i16 = 500;

/// What could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The mounts cannot be made private.
    #[error("cannot make the container's mounts private")]
    Private(#[source] Errno),
    /// A fresh /proc cannot be mounted.
    #[error("cannot mount /proc for the agent's own processes")]
    Proc(#[source] Errno),
    /// A tree stays read-only.
    #[error("{} is read-only and cannot be made writable", path.display())]
    ReadOnly {
        /// `/sys` or `/proc/sys`.
        path: PathBuf,
        /// What mount said.
        #[source]
        errno: Errno,
    },
    /// A file of /proc refuses what is written.
    #[error("cannot write {value} to {}", path.display())]
    Write {
        /// Which one.
        path: PathBuf,
        /// What was to be written.
        value: String,
        /// What the system said.
        #[source]
        error: std::io::Error,
    },
}

impl Fault for NamespaceError {
    fn help(&self) -> Option<String> {
        Some(
            "The container is not privileged: set `privileged: true` on the resource type (or run the task with `privileged: true`, \
             docker with `--privileged`). A worker with --containerd-privileged-mode other than full takes that away again."
                .to_owned(),
        )
    }
}

/// Cuts the calling process's mount namespace off from others: what is mounted here is seen nowhere else.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN.
pub fn make_mounts_private() -> Result<(), NamespaceError> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(NamespaceError::Private)
}

/// Mounts a /proc of the calling process's PID namespace over the container's. Call it from inside the new namespaces,
/// after [`make_mounts_private`].
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN, or where the container masks parts of /proc inside a user namespace.
pub fn mount_proc() -> Result<(), NamespaceError> {
    mount(
        "proc",
        "/proc",
        "proc",
        MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
        None::<&std::ffi::CStr>,
    )
    .map_err(NamespaceError::Proc)
}

/// Whether the mount that holds a path is read-only.
///
/// # Errors
/// When the path is not there.
pub fn is_read_only(path: &Path) -> Result<bool, Errno> {
    Ok(rustix::fs::statvfs(path)?
        .f_flag
        .contains(StatVfsMountFlags::RDONLY))
}

/// Makes `/sys` and `/proc/sys` writable where they are mounted read-only, and says which ones it changed. The cgroup
/// tree has mounts of its own and stays as it is.
///
/// # Errors
/// When one of them stays read-only.
pub fn make_writable() -> Result<Vec<&'static str>, NamespaceError> {
    let mut changed = Vec::new();
    for path in ["/sys", "/proc/sys"] {
        if remount_writable(Path::new(path))? {
            changed.push(path);
        }
    }
    Ok(changed)
}

/// As [`make_writable`] where nothing can be mounted: finds out, and changes nothing. /proc/sys alone, which is what bridges need.
///
/// # Errors
/// When it is read-only.
pub fn are_writable() -> Result<Vec<&'static str>, NamespaceError> {
    let path = Path::new("/proc/sys");
    match is_read_only(path) {
        Ok(false) => Ok(Vec::new()),
        Ok(true) => Err(NamespaceError::ReadOnly {
            path: path.to_owned(),
            errno: Errno::PERM,
        }),
        Err(errno) => Err(NamespaceError::ReadOnly {
            path: path.to_owned(),
            errno,
        }),
    }
}

fn remount_writable(path: &Path) -> Result<bool, NamespaceError> {
    let refused = |errno| NamespaceError::ReadOnly {
        path: path.to_owned(),
        errno,
    };
    if !is_read_only(path).map_err(refused)? {
        return Ok(false);
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    // Docker mounts /sys read-only as a whole, file system and mount both; /proc/sys is a read-only bind mount, where
    // only the mount's own flag may be touched.
    let whole = mount_remount(path, flags, "");
    if whole.is_ok() && !is_read_only(path).map_err(refused)? {
        return Ok(true);
    }
    mount_remount(path, flags | MountFlags::BIND, "").map_err(refused)?;
    if is_read_only(path).map_err(refused)? {
        Err(refused(Errno::ROFS))
    } else {
        Ok(true)
    }
}

/// Whether a folder of a pseudo file system can be written: its mount is not read-only and the process may.
pub fn is_writable(path: &Path) -> bool {
    is_read_only(path) == Ok(false)
        && rustix::fs::accessat(
            CWD,
            path,
            rustix::fs::Access::WRITE_OK,
            rustix::fs::AtFlags::EACCESS,
        )
        .is_ok()
}

/// Sets a process's `oom_score_adj`: the calling one's where `pid` is `None`.
///
/// # Errors
/// EACCES where it would go below what the process was started with and CAP_SYS_RESOURCE is missing; ENOENT where the
/// process is gone.
pub fn set_oom_score(pid: Option<u32>, score: i16) -> Result<(), NamespaceError> {
    let owner = pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    write(
        &PathBuf::from(format!("/proc/{owner}/oom_score_adj")),
        &score.to_string(),
    )
}

/// The calling process's `oom_score_adj`.
pub fn oom_score() -> Option<i16> {
    std::fs::read_to_string("/proc/self/oom_score_adj")
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// Lets the container's kernel forward IPv4 packets between the nodes' bridges and its uplink. Does nothing where it
/// does so already.
///
/// # Errors
/// EROFS or EACCES where /proc/sys is not writable.
pub fn forward_ipv4() -> Result<(), NamespaceError> {
    let path = Path::new("/proc/sys/net/ipv4/ip_forward");
    if std::fs::read_to_string(path).is_ok_and(|text| text.trim() == "1") {
        return Ok(());
    }
    write(path, "1")
}

/// Makes the kernel look for absent neighbours on a bridge ten times a second instead of once (arp(7),
/// `retrans_time_ms`): else a node that has just taken its address is found up to a second later.
///
/// # Errors
/// No such bridge, or EROFS or EACCES where /proc/sys is not writable.
pub fn ask_for_neighbours_often(bridge: &str) -> Result<(), NamespaceError> {
    let path = Path::new("/proc/sys/net/ipv4/neigh")
        .join(bridge)
        .join("retrans_time_ms");
    write(&path, "100")
}

fn write(path: &Path, value: &str) -> Result<(), NamespaceError> {
    std::fs::write(path, value).map_err(|error| NamespaceError::Write {
        path: path.to_owned(),
        value: value.to_owned(),
        error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_score_is_read_and_may_be_raised() {
        let score = oom_score().unwrap();
        // Writing the value that it has is always allowed.
        set_oom_score(None, score).unwrap();
        assert_eq!(oom_score(), Some(score));
    }

    #[test]
    fn a_process_that_is_gone_is_told() {
        // Larger than pid_max can be.
        let error = set_oom_score(Some(u32::MAX), 0).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot write 0 to /proc/4294967295/oom_score_adj"
        );
    }

    #[test]
    fn a_writable_folder_is_not_read_only() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(is_read_only(dir.path()), Ok(false));
        assert!(is_writable(dir.path()));
        assert!(!is_writable(&dir.path().join("nowhere")));
        assert!(!remount_writable(dir.path()).unwrap());
    }
}
