//! Memory, CPUs, disk.

use std::path::Path;

use super::{Check, Verdict};
use crate::agent::host::limits::{self, Room};
use crate::fault;
use crate::units::ByteSize;

/// Below this not even one small node with QEMU around it fits.
const LEAST_MEMORY: ByteSize = ByteSize::mib(512);
/// Below this three nodes of the default size (2 GiB) do not fit.
const GOOD_MEMORY: ByteSize = ByteSize::gib(7);
/// Below this not even an unpacked cloud image fits.
const LEAST_DISK: ByteSize = ByteSize::gib(1);
/// Below this it is tight for three nodes that write.
const GOOD_DISK: ByteSize = ByteSize::gib(10);

pub(super) fn examine(disks: &Path) -> Vec<Check> {
    // Outside Concourse there is no /scratch: what then counts is where temporary files go.
    let folder = if disks.is_dir() {
        disks.to_owned()
    } else {
        std::env::temp_dir()
    };
    match limits::room(&folder) {
        Ok(room) => judge(&room, &folder),
        Err(error) => vec![Check::new(
            "room",
            "memory and disk",
            Verdict::Skip,
            fault::tell(&error).replace('\n', " "),
        )],
    }
}

fn judge(room: &Room, folder: &Path) -> Vec<Check> {
    let limit = if room.memory_by_cgroup {
        " (limited by the cgroup)"
    } else {
        ""
    };
    let memory = Check::new(
        "memory",
        "free memory",
        verdict(room.memory, LEAST_MEMORY, GOOD_MEMORY),
        format!("{}{limit}", room.memory),
    );
    let memory = match memory.verdict {
        Verdict::Ok => memory,
        _ => memory.cured_by("Give the worker more memory, or ask for fewer and smaller nodes: each needs its own and 64MiB around it (TCG: 128MiB to 320MiB, growing with its memory)."),
    };
    let cpus = Check::new("cpus", "CPUs", Verdict::Ok, room.cpus.to_string());
    let found = format!("{} in {}", room.disk, folder.display());
    let disk = Check::new(
        "disk",
        "free disk",
        verdict(room.disk, LEAST_DISK, GOOD_DISK),
        found,
    );
    let disk = match disk.verdict {
        Verdict::Ok => disk,
        _ => {
            disk.cured_by("Give the worker a larger disk, or wait until Concourse has collected old volumes.")
        }
    };
    vec![memory, cpus, disk]
}

fn verdict(found: ByteSize, least: ByteSize, good: ByteSize) -> Verdict {
    if found < least {
        Verdict::Fail
    } else if found < good {
        Verdict::Warn
    } else {
        Verdict::Ok
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_told_from_too_little() {
        let room = Room {
            memory: ByteSize::gib(2),
            memory_by_cgroup: true,
            disk: ByteSize::mib(100),
            cpus: 2,
        };
        let checks = judge(&room, Path::new("/scratch"));
        let told: Vec<_> = checks
            .iter()
            .map(|check| (check.id, check.verdict, check.found.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                ("memory", Verdict::Warn, "2GiB (limited by the cgroup)"),
                ("cpus", Verdict::Ok, "2"),
                ("disk", Verdict::Fail, "100MiB in /scratch")
            ]
        );
    }

    #[test]
    fn without_scratch_the_temporary_folder_counts() {
        assert!(examine(Path::new("/no/such/folder")).len() == 3);
    }
}
