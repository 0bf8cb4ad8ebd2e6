//! Whether the nodes that are asked for fit into what is free, and how many come up side by side.

use std::path::PathBuf;

use super::limits::Room;
use crate::fault::Fault;
use crate::hypervisor::translation_cache;
use crate::topology::model::Accelerator;
use crate::units::ByteSize;

/// What a cluster asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// Each machine's RAM.
    pub guests: Vec<ByteSize>,
    /// What must be written before and while they boot: unpacked images, the first blocks of each overlay.
    pub disk: ByteSize,
    /// Where disks go.
    pub disks: PathBuf,
}

/// More was asked for than there is.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AdmissionError {
    /// Too little RAM.
    #[error(
        "the cluster needs {need} of memory ({guests} for its nodes, {overhead} for QEMU itself), but only {free} is free {place}",
        place = place(*by_cgroup)
    )]
    Memory {
        /// All of it.
        need: ByteSize,
        /// The nodes' own.
        guests: ByteSize,
        /// QEMU's share.
        overhead: ByteSize,
        /// What is there.
        free: ByteSize,
        /// Whether a cgroup limit is what is short.
        by_cgroup: bool,
    },
    /// Too little disk.
    #[error("the disks of the cluster need {need}, but only {free} is free in {}", disks.display())]
    Disk {
        /// What is needed.
        need: ByteSize,
        /// What is there.
        free: ByteSize,
        /// Where.
        disks: PathBuf,
    },
}

fn place(by_cgroup: bool) -> &'static str {
    if by_cgroup {
        "within the memory limit of the container (cgroup)"
    } else {
        "on this worker"
    }
}

impl Fault for AdmissionError {
    fn help(&self) -> Option<String> {
        Some(match self {
            Self::Memory { by_cgroup: true, .. } => {
                "Ask for fewer nodes or less memory each, or raise the memory limit of the worker (or of docker run).".to_owned()
            }
            Self::Memory { .. } => {
                "Ask for fewer nodes or less memory each, send the job to a larger worker by `tags`, or let fewer such jobs run \
                 at once (`serial_groups`)."
                    .to_owned()
            }
            Self::Disk { .. } => "Free some disk on the worker, give it a larger one, or use a smaller image.".to_owned(),
        })
    }
}

/// What QEMU needs beside a guest's RAM: device emulation, page tables, and under TCG the translated code, whose cache a busy
/// guest fills. Seen were 39 MiB (a tiny Linux) to 71 MiB (Debian with systemd) without the cache.
pub fn overhead(accelerator: Accelerator, guest: ByteSize) -> ByteSize {
    let own = ByteSize::mib(64);
    match accelerator {
        Accelerator::Kvm => own,
        Accelerator::Tcg => ByteSize(own.bytes() + translation_cache(guest).bytes()),
    }
}

/// Says no where the nodes' RAM and QEMU's own, or their disks, exceed what is free.
///
/// # Errors
/// With what is needed and what there is.
pub fn check(need: &Need, accelerator: Accelerator, room: &Room) -> Result<(), AdmissionError> {
    let sum = |each: &dyn Fn(ByteSize) -> ByteSize| {
        let bytes = need.guests.iter().map(|guest| each(*guest).bytes());
        ByteSize(bytes.fold(0, u64::saturating_add))
    };
    let guests = sum(&|guest| guest);
    let overhead = sum(&|guest| overhead(accelerator, guest));
    let memory = ByteSize(guests.bytes().saturating_add(overhead.bytes()));
    if memory > room.memory {
        return Err(AdmissionError::Memory {
            need: memory,
            guests,
            overhead,
            free: room.memory,
            by_cgroup: room.memory_by_cgroup,
        });
    }
    if need.disk > room.disk {
        return Err(AdmissionError::Disk {
            need: need.disk,
            free: room.disk,
            disks: need.disks.clone(),
        });
    }
    Ok(())
}

/// How many nodes come up side by side; the next starts when one is ready. At least 1, at most `nodes`.
///
/// A boot is half waiting (timers, DHCP, disk), so more of them than CPUs finish sooner together than one after the
/// other. Under TCG each also translates its code, and too many at once would make every one of them miss its own
/// time limit: two a CPU keep the CPUs busy. With KVM eight a CPU are no burden.
pub fn bring_up_width(nodes: usize, cpus: usize, accelerator: Accelerator) -> usize {
    let a_cpu = match accelerator {
        Accelerator::Kvm => 8,
        Accelerator::Tcg => 2,
    };
    cpus.max(1).saturating_mul(a_cpu).min(nodes.max(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn room(memory: ByteSize, disk: ByteSize) -> Room {
        Room {
            memory,
            memory_by_cgroup: false,
            disk,
            cpus: 4,
        }
    }

    fn need(nodes: usize, guest: ByteSize, disk: ByteSize) -> Need {
        Need {
            guests: vec![guest; nodes],
            disk,
            disks: "/scratch".into(),
        }
    }

    #[test]
    fn a_refusal_names_both_numbers() {
        let error = check(
            &need(3, ByteSize::gib(2), ByteSize(0)),
            Accelerator::Kvm,
            &room(ByteSize::gib(4), ByteSize(0)),
        )
        .unwrap_err();
        insta::assert_snapshot!(crate::fault::tell(&error), @r"
        the cluster needs 6336MiB of memory (6GiB for its nodes, 192MiB for QEMU itself), but only 4GiB is free on this worker
          help: Ask for fewer nodes or less memory each, send the job to a larger worker by `tags`, or let fewer such jobs run at once (`serial_groups`).
        ");
        let tight = Room {
            memory_by_cgroup: true,
            ..room(ByteSize::gib(1), ByteSize(0))
        };
        let error = check(&need(1, ByteSize::gib(2), ByteSize(0)), Accelerator::Tcg, &tight).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("only 1GiB is free within the memory limit of the container (cgroup)"),
            "{error}"
        );
        let error = check(
            &need(2, ByteSize(0), ByteSize::gib(9)),
            Accelerator::Kvm,
            &room(ByteSize::gib(4), ByteSize::gib(1)),
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the disks of the cluster need 9GiB, but only 1GiB is free in /scratch"
        );
    }

    #[test]
    fn ten_nodes_on_two_cores() {
        assert_eq!(bring_up_width(10, 2, Accelerator::Tcg), 4);
        assert_eq!(bring_up_width(10, 2, Accelerator::Kvm), 10);
        assert_eq!(bring_up_width(4, 4, Accelerator::Tcg), 4);
        assert_eq!(bring_up_width(0, 0, Accelerator::Tcg), 1);
    }

    proptest! {
        #[test]
        fn what_fits_is_let_in_and_only_that(nodes in 1usize..100, guest in 0u64..1 << 40, disk: u64, free in 0u64..1 << 46, free_disk: u64) {
            let asked = need(nodes, ByteSize(guest), ByteSize(disk));
            let each = guest + overhead(Accelerator::Tcg, ByteSize(guest)).bytes();
            let fits = nodes as u64 * each <= free && disk <= free_disk;
            let verdict = check(&asked, Accelerator::Tcg, &room(ByteSize(free), ByteSize(free_disk)));
            prop_assert_eq!(verdict.is_ok(), fits);
        }

        #[test]
        fn some_come_up_and_never_more_than_there_are(nodes in 0usize..1000, cpus in 0usize..1000) {
            for accelerator in [Accelerator::Kvm, Accelerator::Tcg] {
                let width = bring_up_width(nodes, cpus, accelerator);
                prop_assert!((1..=nodes.max(1)).contains(&width));
            }
        }
    }
}
