//! Which processes are a cluster's, so that all of them can be killed.
//!
//! As a rule they are those of a PID namespace. Where the container may make none, they are the descendants of `init`: it
//! is a subreaper (prctl(2)), so that a process whose parent dies, such as a QEMU that has put itself into the background, becomes its child and
//! never gets out of sight.

use std::collections::BTreeMap;
use std::io;

/// Where the agent finds what it has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// In a PID namespace of its own.
    Namespace,
    /// Below `init`, its parent, which is a subreaper.
    Below(i32),
}

impl Family {
    /// That of a process that an `init` without a namespace has started; 0 is one with.
    pub fn started_by(init: i32) -> Self {
        match init {
            0 => Self::Namespace,
            init => Self::Below(init),
        }
    }

    /// Whether the agent has namespaces of its own: what it mounts is then seen nowhere else.
    pub fn has_namespaces(self) -> bool {
        self == Self::Namespace
    }

    /// The processes that live, but for `init` and the calling one.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn others(self) -> io::Result<Vec<i32>> {
        let own = std::process::id() as i32;
        let mut found = match self {
            Self::Namespace => {
                let mut all: Vec<i32> = living()?.into_keys().collect();
                all.retain(|pid| *pid != 1);
                all
            }
            Self::Below(init) => descendants(init)?,
        };
        found.retain(|pid| *pid != own);
        Ok(found)
    }
}

/// The living descendants of a process.
///
/// # Errors
/// When /proc cannot be read.
pub fn descendants(ancestor: i32) -> io::Result<Vec<i32>> {
    let parents = living()?;
    Ok(below(ancestor, &parents))
}

fn below(ancestor: i32, parents: &BTreeMap<i32, i32>) -> Vec<i32> {
    let descends = |pid: i32| {
        let mut at = pid;
        // No chain is longer than there are processes; a list read while processes come and go may hold a circle.
        for _ in 0..=parents.len() {
            match parents.get(&at) {
                Some(&parent) if parent == ancestor => return true,
                Some(&parent) => at = parent,
                None => return false,
            }
        }
        false
    };
    parents.keys().copied().filter(|pid| descends(*pid)).collect()
}

/// Every process and its parent; zombies, which only wait to be reaped, left out.
fn living() -> io::Result<BTreeMap<i32, i32>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if let Some(parent) = parent(&stat) {
            found.insert(pid, parent);
        }
    }
    Ok(found)
}

/// State and parent follow the last ')': a program's name may hold anything (proc(5)).
fn parent(stat: &str) -> Option<i32> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    match fields.next()? {
        "Z" | "X" => None,
        _ => fields.next()?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_living_are_told_from_zombies() {
        assert_eq!(parent("12 (a) b) S 7 12 12 0 -1"), Some(7));
        assert_eq!(parent("12 (sh) Z 7 12 12 0 -1"), None);
        assert_eq!(parent(""), None);
    }

    #[test]
    fn a_child_is_found_and_this_process_is_not() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let found = descendants(std::process::id() as i32).unwrap();
        assert!(found.contains(&(child.id() as i32)));
        assert!(!found.contains(&(std::process::id() as i32)));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    proptest! {
        #[test]
        fn every_descendant_and_nobody_else(parents in proptest::collection::btree_map(2..30i32, 1..30i32, 0..30)) {
            let found = below(1, &parents);
            for pid in parents.keys() {
                let (mut at, mut reached) = (*pid, false);
                for _ in 0..64 {
                    at = *parents.get(&at).unwrap_or(&0);
                    reached |= at == 1;
                }
                prop_assert_eq!(found.contains(pid), reached);
            }
        }
    }
}
