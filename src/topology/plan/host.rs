//! What the container's network has already: what a cluster's own networks must keep away from.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;

use crate::fault::Fault;

/// What is taken in this network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostNetwork {
    /// Where routes lead, but for those that lead everywhere (prefixes shorter than /8).
    pub routes: Vec<Ipv4Net>,
    /// This container's own addresses, each a /32.
    pub addresses: Vec<Ipv4Net>,
    /// Of `/etc/resolv.conf`.
    pub nameservers: Vec<Ipv4Addr>,
    /// The MTU of the interface that the default route leaves by; 1500 where there is none.
    pub uplink_mtu: u32,
    /// Every interface's name, bridge or not: no new bridge can have it.
    pub bridges: BTreeSet<String>,
}

/// A file of the system that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", path.display())]
pub struct HostError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Fault for HostError {
    fn help(&self) -> Option<String> {
        Some("Run in a container that has its own /proc and /sys, as every step of a build has.".to_owned())
    }
}

impl HostNetwork {
    /// Reads `/proc/net`, `/sys/class/net` and `/etc/resolv.conf`.
    pub fn read() -> Result<Self, HostError> {
        Self::read_below(Path::new("/"))
    }

    fn read_below(root: &Path) -> Result<Self, HostError> {
        let text = |path: &str| {
            let path = root.join(path);
            fs::read_to_string(&path).map_err(|source| HostError { path, source })
        };
        let routes = routes(&text("proc/net/route")?);
        let uplink = routes
            .iter()
            .find(|route| route.subnet.prefix_len() == 0)
            .map(|route| route.interface.clone());
        let mtu = uplink.and_then(|name| text(&format!("sys/class/net/{name}/mtu")).ok());
        let path = root.join("sys/class/net");
        let interfaces = fs::read_dir(&path).map_err(|source| HostError { path, source })?;
        Ok(Self {
            routes: routes
                .iter()
                .map(|route| route.subnet)
                .filter(|net| net.prefix_len() >= 8)
                .collect(),
            addresses: addresses(&text("proc/net/fib_trie")?),
            // A container without a resolver has none to keep away from.
            nameservers: text("etc/resolv.conf")
                .map(|text| nameservers(&text))
                .unwrap_or_default(),
            uplink_mtu: mtu.and_then(|text| text.trim().parse().ok()).unwrap_or(1500),
            bridges: interfaces
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect(),
        })
    }
}

/// A line of `/proc/net/route`.
#[derive(Debug, PartialEq, Eq)]
struct Route {
    interface: String,
    subnet: Ipv4Net,
}

/// Destination and mask are hexadecimal in the machine's byte order (`net/ipv4/fib_trie.c`, `fib_route_seq_show`).
fn routes(text: &str) -> Vec<Route> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |index: usize| {
            let field = fields.get(index)?;
            u32::from_str_radix(field, 16)
                .ok()
                .map(|number| Ipv4Addr::from(number.to_ne_bytes()))
        };
        let subnet = Ipv4Net::with_netmask(number(1)?, number(7)?).ok()?;
        Some(Route {
            interface: (*fields.first()?).to_owned(),
            subnet: subnet.trunc(),
        })
    };
    text.lines().filter_map(line).collect()
}

/// The local addresses of `/proc/net/fib_trie`, but for the loopback's: `|-- ADDRESS` with `/32 host LOCAL` below it.
fn addresses(text: &str) -> Vec<Ipv4Net> {
    let mut last = None;
    let mut found = BTreeSet::new();
    for line in text.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse::<Ipv4Addr>().ok();
        } else if line.starts_with("/32 host LOCAL") {
            found.extend(last.filter(|address| !address.is_loopback()));
        }
    }
    found.into_iter().map(Ipv4Net::from).collect()
}

/// resolv.conf(5); IPv6 nameservers are in nobody's way.
fn nameservers(text: &str) -> Vec<Ipv4Addr> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver"))
            .then(|| words.next()?.parse().ok())
            .flatten()
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROUTE: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
        eth0\t00000000\t0100500A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
        eth0\t0000500A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";

    const TRIE: &str = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n\
        \x20       |-- 10.80.0.5\n           /32 host LOCAL\n        |-- 10.80.255.255\n           /32 link BROADCAST\n\
        \x20       |-- 127.0.0.1\n           /32 host LOCAL\n\
        Local:\n        |-- 10.80.0.5\n           /32 host LOCAL\n";

    #[test]
    fn a_container_of_a_worker() {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("proc/net/route", ROUTE),
            ("proc/net/fib_trie", TRIE),
            (
                "etc/resolv.conf",
                "# made\nnameserver 10.80.0.1 \nnameserver fd00::1\nsearch nameserver 1.1.1.1\n",
            ),
            ("sys/class/net/eth0/mtu", "1400\n"),
            ("sys/class/net/lo/mtu", "65536\n"),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let read = HostNetwork::read_below(root.path()).unwrap();
        assert_eq!(read.routes, ["10.80.0.0/16".parse().unwrap()]);
        assert_eq!(read.addresses, ["10.80.0.5/32".parse().unwrap()]);
        assert_eq!(read.nameservers, [Ipv4Addr::new(10, 80, 0, 1)]);
        assert_eq!(read.uplink_mtu, 1400);
        assert_eq!(read.bridges, ["eth0", "lo"].map(str::to_owned).into());
    }

    #[test]
    fn this_machine_can_be_read() {
        let read = HostNetwork::read().unwrap();
        assert!(read.bridges.contains("lo"), "{read:?}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let root = tempfile::tempdir().unwrap();
        let error = HostNetwork::read_below(root.path()).unwrap_err();
        assert!(
            crate::fault::tell(&error).contains("proc/net/route: No such file"),
            "{}",
            crate::fault::tell(&error)
        );
    }

    proptest! {
        #[test]
        fn every_route_is_read_back(address: u32, prefix in 0u8..=32) {
            let subnet = Ipv4Net::new(address.into(), prefix).unwrap().trunc();
            let hex = |address: Ipv4Addr| format!("{:08X}", u32::from_ne_bytes(address.octets()));
            let line = format!("eth0\t{}\t00000000\t1\t0\t0\t0\t{}\t0\t0\t0", hex(subnet.network()), hex(subnet.netmask()));
            prop_assert_eq!(routes(&line), vec![Route { interface: "eth0".to_owned(), subnet }]);
        }

        #[test]
        fn no_text_is_a_panic(text in "[|\\-+a-z0-9./ \tA-F\n]{0,200}") {
            let _ = (routes(&text), addresses(&text), nameservers(&text));
        }
    }
}
