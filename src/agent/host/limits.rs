//! What the container has to give: memory, disk, CPUs.

use std::path::{Path, PathBuf};

use rustix::io::Errno;
use serde::Serialize;

use crate::units::ByteSize;

/// What can still be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Room {
    /// Memory that can be had without swapping: the kernel's `MemAvailable`, or what the cgroup leaves where that is less.
    pub memory: ByteSize,
    /// Whether the cgroup, and not the machine, sets that limit.
    pub memory_by_cgroup: bool,
    /// Free disk where the nodes' disks go.
    pub disk: ByteSize,
    /// CPUs, by affinity and cgroup quota.
    pub cpus: usize,
}

/// Why it cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum LimitsError {
    /// `/proc/meminfo` is not what the kernel writes.
    #[error("/proc/meminfo does not say MemAvailable")]
    NoMemAvailable,
    /// The folder cannot be asked.
    #[error("cannot tell the free disk of {}", folder.display())]
    Disk {
        /// Which one.
        folder: PathBuf,
        /// What statvfs said.
        #[source]
        errno: Errno,
    },
}

impl crate::fault::Fault for LimitsError {
    fn help(&self) -> Option<String> {
        Some(match self {
            Self::NoMemAvailable => "Mount /proc in the container.".to_owned(),
            Self::Disk { folder, .. } => format!(
                "Make the folder {}, or name another one for the disks.",
                folder.display()
            ),
        })
    }
}

/// What is free now, with the nodes' disks in `disks`.
///
/// # Errors
/// When /proc is not mounted or the folder is not there.
pub fn room(disks: &Path) -> Result<Room, LimitsError> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = mem_available(&meminfo).ok_or(LimitsError::NoMemAvailable)?;
    let cgroup = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let left = cgroup_left(Path::new("/sys/fs/cgroup"), &cgroup);
    Ok(Room {
        memory: left.map_or(available, |left| left.min(available)),
        memory_by_cgroup: left.is_some_and(|left| left < available),
        disk: free_disk(disks)?,
        // By affinity and cgroup quota, version 1 and 2.
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
    })
}

/// Free disk for whoever may use the reserve of root, which we are not: `f_bavail`.
///
/// # Errors
/// When the folder is not there.
pub fn free_disk(folder: &Path) -> Result<ByteSize, LimitsError> {
    let stat = rustix::fs::statvfs(folder).map_err(|errno| LimitsError::Disk {
        folder: folder.to_owned(),
        errno,
    })?;
    Ok(ByteSize(stat.f_bavail.saturating_mul(stat.f_frsize)))
}

/// `MemAvailable` of `/proc/meminfo`.
pub fn mem_available(meminfo: &str) -> Option<ByteSize> {
    let value = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024).map(ByteSize)
}

/// What the tightest memory limit of the process's cgroup and of those above it leaves; `None` where there is no limit.
///
/// `tree` is where the cgroup file systems are mounted, `membership` what `/proc/self/cgroup` says. In a container the
/// path in it may start above what is mounted, so every ancestor of it that is there is asked, the mount itself last.
pub fn cgroup_left(tree: &Path, membership: &str) -> Option<ByteSize> {
    let version1 = tree.join("memory");
    let (mount, path) = match membership_path(membership) {
        Membership::Version1(path) => (version1.as_path(), path),
        Membership::Version2(path) => (tree, path),
        Membership::None => return None,
    };
    let inside = Path::new(path.trim_start_matches('/'));
    inside
        .ancestors()
        .map(|part| mount.join(part))
        .filter_map(|folder| left_in(&folder))
        .min()
}

enum Membership<'a> {
    Version1(&'a str),
    Version2(&'a str),
    None,
}

/// The memory controller's line `N:memory:/path`, else version 2's `0::/path`.
fn membership_path(membership: &str) -> Membership<'_> {
    let mut found = Membership::None;
    for line in membership.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(id), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if path.split('/').any(|part| part == "..") {
            // Outside the cgroup namespace: nothing there that could be asked.
            continue;
        }
        if controllers.split(',').any(|controller| controller == "memory") {
            return Membership::Version1(path);
        }
        if id == "0" && controllers.is_empty() {
            found = Membership::Version2(path);
        }
    }
    found
}

fn left_in(folder: &Path) -> Option<ByteSize> {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
    let (limit, usage, cache) = match read("memory.max") {
        Some(limit) => (limit, read("memory.current")?, "inactive_file"),
        None => (
            read("memory.limit_in_bytes")?,
            read("memory.usage_in_bytes")?,
            "total_inactive_file",
        ),
    };
    let stat = read("memory.stat").unwrap_or_default();
    left_of(&limit, &usage, stat_value(&stat, cache).unwrap_or(0))
}

/// What a limit leaves: file cache that can go at once counts as free, as it does in `MemAvailable`.
fn left_of(limit: &str, usage: &str, cache: u64) -> Option<ByteSize> {
    // Version 2 writes `max` where there is no limit, version 1 the largest multiple of a page that fits an i64.
    let limit: u64 = limit.trim().parse().ok().filter(|limit| *limit < 1 << 62)?;
    let usage: u64 = usage.trim().parse().ok()?;
    Some(ByteSize(limit.saturating_sub(usage.saturating_sub(cache))))
}

fn stat_value(stat: &str, key: &str) -> Option<u64> {
    stat.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MEMINFO: &str = "MemTotal:       24683672 kB\nMemFree:        19683228 kB\nMemAvailable:   24190240 kB\nBuffers:          295452 kB\n";

    #[test]
    fn meminfo_as_the_kernel_writes_it() {
        assert_eq!(mem_available(MEMINFO), Some(ByteSize(24_190_240 << 10)));
        assert_eq!(mem_available("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn no_limit_in_either_spelling() {
        assert_eq!(left_of("max\n", "1\n", 0), None);
        assert_eq!(left_of("9223372036854771712\n", "1\n", 0), None);
        assert_eq!(left_of("1000\n", "700\n", 200), Some(ByteSize(500)));
        assert_eq!(left_of("1000\n", "2000\n", 0), Some(ByteSize(0)));
    }

    fn cgroup(folder: &Path, files: &[(&str, &str)]) {
        std::fs::create_dir_all(folder).unwrap();
        for (name, content) in files {
            std::fs::write(folder.join(name), content).unwrap();
        }
    }

    #[test]
    fn the_tightest_ancestor_counts_in_version_2() {
        let dir = tempfile::tempdir().unwrap();
        let files = [("memory.max", "max\n"), ("memory.current", "5\n")];
        cgroup(&dir.path().join("pod/garden/handle"), &files);
        let files = [
            ("memory.max", "1000\n"),
            ("memory.current", "900\n"),
            ("memory.stat", "anon 7\ninactive_file 300\n"),
        ];
        cgroup(&dir.path().join("pod"), &files);
        assert_eq!(
            cgroup_left(dir.path(), "0::/pod/garden/handle\n"),
            Some(ByteSize(400))
        );
        assert_eq!(cgroup_left(dir.path(), "0::/\n"), None);
        assert_eq!(cgroup_left(dir.path(), "0::/../../else\n"), None);
    }

    #[test]
    fn version_1_with_the_own_cgroup_as_root_of_the_mount() {
        let dir = tempfile::tempdir().unwrap();
        let files = [
            ("memory.limit_in_bytes", "1000\n"),
            ("memory.usage_in_bytes", "600\n"),
            ("memory.stat", "cache 1\ntotal_inactive_file 100\n"),
        ];
        cgroup(&dir.path().join("memory"), &files);
        let membership = "9:name=systemd:/\n4:memory:/garden/0ff493\n1:cpu:/\n0::/\n";
        assert_eq!(cgroup_left(dir.path(), membership), Some(ByteSize(500)));
    }

    #[test]
    fn this_machine_has_some_room() {
        let room = room(Path::new("/")).unwrap();
        assert!(room.cpus >= 1 && room.memory.bytes() > 0);
        assert!(matches!(
            free_disk(Path::new("/no/such/folder")),
            Err(LimitsError::Disk { .. })
        ));
    }

    proptest! {
        #[test]
        fn nothing_makes_the_parsers_panic(a: String, b: String, cache: u64) {
            let _ = mem_available(&a);
            let _ = left_of(&a, &b, cache);
            let _ = stat_value(&a, "inactive_file");
            let _ = membership_path(&a);
        }

        #[test]
        fn any_amount_is_read_back(kib in 0u64..1 << 40) {
            prop_assert_eq!(mem_available(&format!("MemAvailable: {kib} kB")), Some(ByteSize(kib * 1024)));
        }
    }
}
