//! User namespace, capabilities, seccomp: whether the container is privileged, and what it lacks where it is not.

use super::{Check, Verdict};

const PRIVILEGED: &str = "Set `privileged: true` on the resource type (or run the task with `privileged: true`, docker with `--privileged`). \
     A worker with --containerd-privileged-mode other than full takes that away again.";

pub(super) fn user_namespace() -> Check {
    user_namespace_of(&std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default())
}

fn user_namespace_of(uid_map: &str) -> Check {
    let (id, title) = ("user_namespace", "user namespace");
    match is_initial(uid_map) {
        None => Check::new(id, title, Verdict::Skip, "cannot read /proc/self/uid_map"),
        Some(true) => Check::new(id, title, Verdict::Ok, "none: root is root"),
        Some(false) => Check::new(
            id,
            title,
            Verdict::Fail,
            "inside a user namespace: root here is nobody on the worker, the container is not privileged",
        )
        .cured_by(PRIVILEGED),
    }
}

/// Whether `/proc/self/uid_map` is the initial user namespace's: all IDs mapped to themselves (user_namespaces(7)).
fn is_initial(uid_map: &str) -> Option<bool> {
    let mut lines = uid_map.lines().filter(|line| !line.trim().is_empty());
    let first = lines.next()?;
    Some(first.split_whitespace().eq(["0", "0", "4294967295"]) && lines.next().is_none())
}

/// A capability: its number (linux/capability.h), its name, and what stops working without it.
struct Capability {
    bit: u32,
    name: &'static str,
    loss: &'static str,
    needed: bool,
}

const CAPABILITIES: &[Capability] = &[
    Capability {
        bit: 12,
        name: "CAP_NET_ADMIN",
        loss: "no bridges, taps or firewall rules",
        needed: true,
    },
    Capability {
        bit: 13,
        name: "CAP_NET_RAW",
        loss: "no DHCP server",
        needed: true,
    },
    Capability {
        bit: 10,
        name: "CAP_NET_BIND_SERVICE",
        loss: "no DHCP and DNS server on ports below 1024",
        needed: true,
    },
    Capability {
        bit: 21,
        name: "CAP_SYS_ADMIN",
        loss: "no namespaces of its own, no mounts: the agent cannot start",
        needed: true,
    },
    Capability {
        bit: 27,
        name: "CAP_MKNOD",
        loss: "no device nodes",
        needed: true,
    },
    Capability {
        bit: 6,
        name: "CAP_SETGID",
        loss: "libvirtd cannot start dnsmasq and QEMU as other groups",
        needed: true,
    },
    Capability {
        bit: 7,
        name: "CAP_SETUID",
        loss: "libvirtd cannot start dnsmasq and QEMU as other users",
        needed: true,
    },
    Capability {
        bit: 8,
        name: "CAP_SETPCAP",
        loss: "libvirtd cannot take privileges from QEMU",
        needed: true,
    },
    Capability {
        bit: 0,
        name: "CAP_CHOWN",
        loss: "libvirtd cannot hand disks to QEMU",
        needed: true,
    },
    Capability {
        bit: 1,
        name: "CAP_DAC_OVERRIDE",
        loss: "libvirtd cannot reach QEMU's files",
        needed: true,
    },
    Capability {
        bit: 3,
        name: "CAP_FOWNER",
        loss: "libvirtd cannot set rights on disks",
        needed: true,
    },
    Capability {
        bit: 5,
        name: "CAP_KILL",
        loss: "libvirtd cannot stop QEMU and dnsmasq",
        needed: true,
    },
    Capability {
        bit: 14,
        name: "CAP_IPC_LOCK",
        loss: "nodes with locked memory or huge pages do not start",
        needed: false,
    },
    Capability {
        bit: 23,
        name: "CAP_SYS_NICE",
        loss: "CPU pinning and scheduling of nodes are refused",
        needed: false,
    },
    Capability {
        bit: 24,
        name: "CAP_SYS_RESOURCE",
        loss: "libvirtd cannot raise limits; ordinary nodes need none",
        needed: false,
    },
];

pub(super) fn capabilities() -> Check {
    capabilities_of(&std::fs::read_to_string("/proc/self/status").unwrap_or_default())
}

fn capabilities_of(status: &str) -> Check {
    let (id, title) = ("capabilities", "capabilities");
    let Some(effective) = field(status, "CapEff").and_then(|hex| u64::from_str_radix(hex, 16).ok()) else {
        return Check::new(
            id,
            title,
            Verdict::Skip,
            "cannot read CapEff of /proc/self/status",
        );
    };
    let missing: Vec<&Capability> = CAPABILITIES
        .iter()
        .filter(|c| effective & (1 << c.bit) == 0)
        .collect();
    let told: Vec<String> = missing
        .iter()
        .map(|c| format!("{} ({})", c.name, c.loss))
        .collect();
    let count = effective.count_ones();
    if missing.is_empty() {
        return Check::new(
            id,
            title,
            Verdict::Ok,
            format!("{count}, all that are needed among them"),
        );
    }
    let found = format!("{count}; missing: {}", told.join(", "));
    if missing.iter().any(|c| c.needed) {
        Check::new(id, title, Verdict::Fail, found).cured_by(PRIVILEGED)
    } else {
        Check::new(id, title, Verdict::Ok, found)
    }
}

pub(super) fn seccomp() -> Check {
    seccomp_of(&std::fs::read_to_string("/proc/self/status").unwrap_or_default())
}

fn seccomp_of(status: &str) -> Check {
    let (id, title) = ("seccomp", "seccomp");
    match field(status, "Seccomp") {
        Some("0") => Check::new(id, title, Verdict::Ok, "no filter"),
        // The filter cannot be read; whether it hurts is what the checks that try things show.
        Some("2") => Check::new(
            id,
            title,
            Verdict::Warn,
            "a filter is in force: some system calls may be refused",
        )
        .cured_by(PRIVILEGED),
        Some(other) => Check::new(
            id,
            title,
            Verdict::Fail,
            format!("mode {other}: hardly any system call is allowed"),
        )
        .cured_by(PRIVILEGED),
        None => Check::new(id, title, Verdict::Skip, "this kernel does not say"),
    }
}

/// A line's value in `/proc/PID/status`.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status
        .lines()
        .find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PUT: &str = "Name:\tout\nCapInh:\t000001fffeffffff\nCapPrm:\t000001fffeffffff\nCapEff:\t000001fffeffffff\nNoNewPrivs:\t0\nSeccomp:\t0\nSeccomp_filters:\t0\n";
    const TASK: &str =
        "Name:\tsh\nCapEff:\t00000000a80425fb\nNoNewPrivs:\t0\nSeccomp:\t2\nSeccomp_filters:\t1\n";

    #[test]
    fn a_put_container_will_do() {
        assert_eq!(capabilities_of(PUT).verdict, Verdict::Ok);
        assert!(
            capabilities_of(PUT)
                .found
                .starts_with("40; missing: CAP_SYS_RESOURCE")
        );
        assert_eq!(seccomp_of(PUT).verdict, Verdict::Ok);
        assert_eq!(
            user_namespace_of("         0          0 4294967295\n").verdict,
            Verdict::Ok
        );
    }

    #[test]
    fn a_task_container_lacks_things_by_name() {
        let check = capabilities_of(TASK);
        assert_eq!(check.verdict, Verdict::Fail);
        assert!(
            check.found.contains("CAP_NET_ADMIN (no bridges") && check.found.contains("CAP_SYS_ADMIN"),
            "{}",
            check.found
        );
        assert!(!check.found.contains("CAP_MKNOD"));
        assert_eq!(seccomp_of(TASK).verdict, Verdict::Warn);
        let mapped = "         0 4294967294          1\n         1          1 4294967293\n";
        assert!(
            user_namespace_of(mapped)
                .cure
                .is_some_and(|cure| cure.contains("privileged: true"))
        );
    }

    #[test]
    fn what_cannot_be_read_is_skipped() {
        assert_eq!(capabilities_of("").verdict, Verdict::Skip);
        assert_eq!(seccomp_of("").verdict, Verdict::Skip);
        assert_eq!(user_namespace_of("").verdict, Verdict::Skip);
    }

    proptest! {
        #[test]
        fn nothing_makes_them_panic(text: String, bits: u64) {
            capabilities_of(&text);
            seccomp_of(&text);
            user_namespace_of(&text);
            prop_assert_ne!(capabilities_of(&format!("CapEff:\t{bits:016x}")).verdict, Verdict::Skip);
        }
    }
}
