//! What an earlier agent left in the container's network namespace when it was killed: found and removed.
//!
//! Its processes died with it, but bridges and firewall rules are the network namespace's and stay.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use tokio::process::Command;

use super::command::{self, Ran};

pub use crate::topology::plan::BRIDGE_PREFIX;

const LIMIT: Duration = Duration::from_secs(10);

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleared {
    /// Removed: `bridge lvr0`, `nftables table ip libvirt_network`, `iptables chain LIBVIRT_FWI`.
    pub removed: Vec<String>,
    /// Found but not removed, with the reason.
    pub failed: Vec<String>,
    /// Whether firewall rules were left alone because another libvirt's bridge (`virbr0`) stands beside them.
    pub shared: bool,
}

/// Removes an earlier agent's bridges, taps and firewall rules. Harmless to repeat.
///
/// Only for a caller who knows that no other agent lives in this network namespace. Firewall tables carry libvirt's
/// name, not ours; where another libvirt's bridge is there too, they are left alone.
pub async fn clear() -> Cleared {
    let mut cleared = Cleared::default();
    let links = links(Path::new("/sys/class/net"));
    for link in links.iter().filter(|link| link.is_ours()) {
        let kind = if link.bridge { "bridge" } else { "tap" };
        let ran = run("ip", &["link", "delete", "dev", &link.name]).await;
        cleared.note(format!("{kind} {}", link.name), ran);
    }
    if links.iter().any(Link::is_foreign) {
        cleared.shared = true;
        return cleared;
    }
    // Asked side by side, since as a rule nothing was left: then this is all that a put waits for.
    let tables = ["iptables", "ip6tables"]
        .iter()
        .flat_map(|program| ["filter", "nat", "mangle"].map(|table| (*program, table)));
    let listings = futures_util::future::join_all(tables.map(|(program, table)| async move {
        (program, table, run(program, &["-w", "-t", table, "-S"]).await)
    }));
    let (nftables, listings) = tokio::join!(run("nft", &["list", "tables"]), listings);
    // Not installed, or no such table: nothing was left there.
    if let Ok(listed) = nftables {
        clear_nftables(&listed.stdout, &mut cleared).await;
    }
    for (program, table, listed) in listings {
        if let Ok(listed) = listed {
            clear_iptables(program, table, &listed.stdout, &mut cleared).await;
        }
    }
    cleared
}

/// The interfaces that there are.
pub fn link_names() -> BTreeSet<String> {
    links(Path::new("/sys/class/net"))
        .into_iter()
        .map(|link| link.name)
        .collect()
}

/// Removes the bridges and taps that are not in that list.
pub async fn remove_links_but(before: &BTreeSet<String>) -> Cleared {
    let mut cleared = Cleared::default();
    for link in links(Path::new("/sys/class/net")) {
        if (link.bridge || link.tap) && !before.contains(&link.name) {
            let ran = run("ip", &["link", "delete", "dev", &link.name]).await;
            cleared.note(link.name, ran);
        }
    }
    cleared
}

impl Cleared {
    fn note(&mut self, what: String, ran: std::io::Result<Ran>) {
        match ran {
            Ok(ran) if ran.succeeded() => self.removed.push(what),
            Ok(ran) => self.failed.push(format!("{what}: {}", ran.failure())),
            Err(error) => self.failed.push(format!("{what}: {error}")),
        }
    }
}

/// A network interface, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Link {
    name: String,
    bridge: bool,
    tap: bool,
    master: Option<String>,
}

impl Link {
    /// Our bridge, or a tap of a machine that is in one or in none any more.
    fn is_ours(&self) -> bool {
        let tap = || {
            let orphan = self
                .master
                .as_deref()
                .is_none_or(|master| master.starts_with(BRIDGE_PREFIX));
            self.tap && self.name.starts_with("vnet") && orphan
        };
        (self.bridge && self.name.starts_with(BRIDGE_PREFIX)) || tap()
    }

    fn is_foreign(&self) -> bool {
        self.bridge && self.name.starts_with("virbr")
    }
}

/// Taps before bridges, so that a tap is not gone before its turn.
fn links(class: &Path) -> Vec<Link> {
    let Ok(folder) = std::fs::read_dir(class) else {
        return Vec::new();
    };
    let mut links: Vec<Link> = folder
        .flatten()
        .map(|entry| {
            let path = entry.path();
            let master = std::fs::read_link(path.join("master")).ok();
            Link {
                name: entry.file_name().to_string_lossy().into_owned(),
                bridge: path.join("bridge").is_dir(),
                tap: path.join("tun_flags").exists(),
                master: master.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned())),
            }
        })
        .collect();
    links.sort_by(|a, b| (a.bridge, &a.name).cmp(&(b.bridge, &b.name)));
    links
}

/// `listing`, by `nft list tables`, since deleting what is not there is an error, and its text is no interface.
async fn clear_nftables(listing: &str, cleared: &mut Cleared) {
    for family in ["ip", "ip6"] {
        if has_table(listing, family) {
            let ran = run("nft", &["delete", "table", family, "libvirt_network"]).await;
            cleared.note(format!("nftables table {family} libvirt_network"), ran);
        }
    }
}

/// Whether `nft list tables` names libvirt's table of that family.
fn has_table(listing: &str, family: &str) -> bool {
    listing
        .lines()
        .any(|line| line.split_whitespace().eq(["table", family, "libvirt_network"]))
}

/// `listing` by `-S`.
async fn clear_iptables(program: &str, table: &str, listing: &str, cleared: &mut Cleared) {
    for undo in undo_rules(listing) {
        let mut arguments = vec!["-w", "-t", table];
        arguments.extend(undo.iter().map(String::as_str));
        let ran = run(program, &arguments).await;
        match undo.as_slice() {
            [verb, chain] if verb == "-X" => cleared.note(format!("{program} chain {chain}"), ran),
            _ if ran.as_ref().is_ok_and(Ran::succeeded) => {}
            _ => cleared.note(format!("{program} -t {table} {}", undo.join(" ")), ran),
        }
    }
}

/// From what `iptables -S` prints, the commands that remove libvirt's chains: jumps to them first, then their rules,
/// then themselves.
fn undo_rules(listing: &str) -> Vec<Vec<String>> {
    let ours = |chain: &str| chain.starts_with("LIBVIRT_");
    let (mut jumps, mut flushes, mut chains) = (Vec::new(), Vec::new(), Vec::new());
    for line in listing.lines() {
        // libvirt's own jumps hold no quoted words; a rule with a comment is not one of them.
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["-N", chain] if ours(chain) => {
                flushes.push(vec!["-F".to_owned(), (*chain).to_owned()]);
                chains.push(vec!["-X".to_owned(), (*chain).to_owned()]);
            }
            ["-A", from, rule @ ..] if !ours(from) && !line.contains('"') => {
                if let [.., "-j", to] = rule {
                    if ours(to) {
                        let mut undo = vec!["-D".to_owned(), (*from).to_owned()];
                        undo.extend(rule.iter().map(|word| (*word).to_owned()));
                        jumps.push(undo);
                    }
                }
            }
            _ => {}
        }
    }
    jumps.into_iter().chain(flushes).chain(chains).collect()
}

async fn run(program: &str, arguments: &[&str]) -> std::io::Result<Ran> {
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C");
    command::run(command, "", LIMIT).await
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn links_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        for path in [
            "lvr0/bridge",
            "vnet0",
            "vnet1",
            "vnet2",
            "tap0",
            "docker0/bridge",
            "virbr0/bridge",
            "eth0",
        ] {
            std::fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        for tap in ["vnet0", "vnet1", "vnet2", "tap0"] {
            std::fs::write(dir.path().join(tap).join("tun_flags"), "0x5002\n").unwrap();
        }
        std::os::unix::fs::symlink("../lvr0", dir.path().join("vnet0/master")).unwrap();
        std::os::unix::fs::symlink("../virbr0", dir.path().join("vnet1/master")).unwrap();
        let links = links(dir.path());
        let ours: Vec<&str> = links
            .iter()
            .filter(|link| link.is_ours())
            .map(|link| link.name.as_str())
            .collect();
        assert_eq!(ours, ["vnet0", "vnet2", "lvr0"]);
        let foreign: Vec<&str> = links
            .iter()
            .filter(|link| link.is_foreign())
            .map(|link| link.name.as_str())
            .collect();
        assert_eq!(foreign, ["virbr0"]);
        assert_eq!(super::links(&dir.path().join("nowhere")), []);
    }

    #[test]
    fn tables_are_told_by_family() {
        let listing = "table ip filter\ntable ip libvirt_network\n";
        assert!(has_table(listing, "ip") && !has_table(listing, "ip6"));
    }

    #[test]
    fn chains_are_undone_in_order() {
        let listing = "-P INPUT ACCEPT\n-P FORWARD DROP\n-N DOCKER\n-N LIBVIRT_FWI\n-N LIBVIRT_INP\n-A INPUT -j LIBVIRT_INP\n\
                       -A FORWARD -j DOCKER\n-A LIBVIRT_INP -i lvr0 -p udp -m udp --dport 53 -j ACCEPT\n-A FORWARD -j LIBVIRT_FWI\n";
        let commands: Vec<String> = undo_rules(listing).iter().map(|undo| undo.join(" ")).collect();
        assert_eq!(
            commands,
            [
                "-D INPUT -j LIBVIRT_INP",
                "-D FORWARD -j LIBVIRT_FWI",
                "-F LIBVIRT_FWI",
                "-F LIBVIRT_INP",
                "-X LIBVIRT_FWI",
                "-X LIBVIRT_INP"
            ]
        );
    }

    proptest! {
        #[test]
        fn only_libvirts_chains_are_touched(listing in "(-[ANP] (INPUT|DOCKER|LIBVIRT_A)( -j (DOCKER|LIBVIRT_B|ACCEPT))?\n|[ -~]{0,30}\n){0,20}") {
            for undo in undo_rules(&listing) {
                prop_assert!(undo.last().is_some_and(|word| word.starts_with("LIBVIRT_")));
            }
        }
    }
}
