//! User namespace, capabilities, seccomp: whether the container is privileged, and what it lacks where it is not.

use super::{Check, Verdict};
use crate::agent::host::needs::{ESSENTIAL, NEEDS, Need};

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
            Verdict::Warn,
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

/// How the nodes would be networked here, and what of [`NEEDS`] is missing: one check each, with the flag that gives it.
pub(super) fn needs() -> Vec<Check> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !need.is_met()).collect();
    std::iter::once(networking_of(&missing))
        .chain(missing.iter().map(|need| missing_one(need)))
        .collect()
}

/// Whether libvirt's own networks, with bridges and NAT, can be had here.
pub(super) fn has_bridges() -> bool {
    NEEDS.iter().all(|need| !need.for_bridges || need.is_met())
}

fn networking_of(missing: &[&Need]) -> Check {
    let (id, title) = ("networking", "networks of the nodes");
    let lacking: Vec<&str> = missing
        .iter()
        .filter(|need| need.for_bridges)
        .map(|need| need.what)
        .collect();
    if lacking.is_empty() {
        return Check::new(id, title, Verdict::Ok, "bridges, made by libvirt");
    }
    let found = format!(
        "user-mode, carried by the agent: slower, no ping outwards; for bridges it lacks {}",
        lacking.join(", ").replace('`', "")
    );
    Check::new(id, title, Verdict::Warn, found)
}

fn missing_one(need: &Need) -> Check {
    let verdict = if ESSENTIAL.contains(&need.id) {
        Verdict::Fail
    } else if need.id == "dev_vhost_net" {
        Verdict::Ok
    } else {
        Verdict::Warn
    };
    let plain = |text: &str| text.replace('`', "");
    let found = format!(
        "{} is missing. What does not work: {}",
        plain(need.what),
        plain(need.loss)
    );
    Check::new(need.id, "privileges", verdict, found).cured_by(format!("docker run: {}", plain(need.flag)))
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
        assert_eq!(seccomp_of(PUT).verdict, Verdict::Ok);
        assert_eq!(
            user_namespace_of("         0          0 4294967295\n").verdict,
            Verdict::Ok
        );
        assert_eq!(networking_of(&[]).verdict, Verdict::Ok);
    }

    #[test]
    fn a_task_container_lacks_things_by_name() {
        assert_eq!(seccomp_of(TASK).verdict, Verdict::Warn);
        let mapped = "         0 4294967294          1\n         1          1 4294967293\n";
        assert!(
            user_namespace_of(mapped)
                .cure
                .is_some_and(|cure| cure.contains("privileged: true"))
        );
    }

    #[test]
    fn what_is_missing_is_told_with_its_flag() {
        let all: Vec<&Need> = NEEDS.iter().collect();
        let networking = networking_of(&all);
        assert!(networking.found.contains("CAP_NET_ADMIN"), "{}", networking.found);
        for need in all {
            let check = missing_one(need);
            assert!(check.cure.is_some_and(|cure| cure.starts_with("docker run: ")));
            assert_eq!(check.verdict == Verdict::Fail, ESSENTIAL.contains(&need.id));
        }
    }

    #[test]
    fn what_cannot_be_read_is_skipped() {
        assert_eq!(seccomp_of("").verdict, Verdict::Skip);
        assert_eq!(user_namespace_of("").verdict, Verdict::Skip);
    }

    proptest! {
        #[test]
        fn nothing_makes_them_panic(text: String) {
            seccomp_of(&text);
            user_namespace_of(&text);
        }
    }
}
