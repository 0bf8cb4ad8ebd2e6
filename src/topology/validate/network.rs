//! The networks and their subnets.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::members;
use crate::topology::limits;
use crate::topology::model::{Network, NetworkKind, Node};
use crate::topology::name::Name;
use crate::topology::plan::subnets;
use crate::topology::problems::{Problem, quoted};
use crate::topology::reader::{Cursor, Report};

const EXPECTED: &str =
    "a mapping from names to networks, such as {default: {nat: auto}, storage: {isolated: auto}}";

/// The networks section as far as it could be read.
pub(super) struct Networks<'a> {
    /// In the order in which they were written, each with the place of its subnet.
    read: Vec<(Network, String)>,
    /// Every name that was written, also where the network behind it is wrong.
    names: BTreeSet<String>,
    wrong: RefCell<bool>,
    report: Option<&'a Report>,
}

/// Reads the section; without it there is one NAT network called `default`.
pub(super) fn all(field: Option<Cursor<'_>>) -> Networks<'_> {
    let mut networks = Networks {
        read: Vec::new(),
        names: BTreeSet::new(),
        wrong: RefCell::new(false),
        report: None,
    };
    let Some(field) = field else {
        if let Ok(name) = "default".parse() {
            let network = Network {
                name,
                kind: NetworkKind::Nat,
                subnet: None,
                mtu: None,
            };
            networks.names.insert("default".to_owned());
            networks.read.push((network, String::new()));
        }
        return networks;
    };
    networks.report = Some(field.report);
    let Some(entries) = field.entries(EXPECTED) else {
        networks.wrong.replace(true);
        return networks;
    };
    if entries.is_empty() || entries.len() > limits::NETWORKS {
        let count = entries.len();
        field.wrong(format!(
            "has {count} networks: use 1 to {}, or leave the section out",
            limits::NETWORKS
        ));
        networks.wrong.replace(true);
    }
    for (key, cursor) in entries {
        networks.names.insert(key.to_owned());
        match one(key, &cursor) {
            Some(read) => networks.read.push(read),
            None => {
                networks.wrong.replace(true);
            }
        }
    }
    networks
}

fn one(key: &str, cursor: &Cursor<'_>) -> Option<(Network, String)> {
    let name: Option<Name> = key
        .parse()
        .map_err(|error| cursor.wrong(format!("the network's name {error}")))
        .ok();
    let object = cursor.object("{nat: auto}, {isolated: auto}, or a subnet in place of auto")?;
    let (nat, isolated) = (object.field("nat"), object.field("isolated"));
    let mtu = object
        .field("mtu")
        .map(|field| field.whole(&limits::MTU).and_then(|mtu| u32::try_from(mtu).ok()));
    let kind = match (&nat, &isolated) {
        (Some(field), None) => Some((NetworkKind::Nat, field)),
        (None, Some(field)) => Some((NetworkKind::Isolated, field)),
        (Some(_), Some(_)) => {
            object.wrong("is both nat and isolated: keep one");
            None
        }
        (None, None) => {
            object.wrong(
                "says neither nat nor isolated: use {nat: auto} to lead outwards, {isolated: auto} not to",
            );
            None
        }
    };
    let subnet = kind.map(|(kind, field)| (kind, subnet(field), field.path.clone()));
    object.finish(|_| None);
    let (kind, subnet, place) = subnet?;
    let mtu = match mtu {
        None => None,
        Some(mtu) => Some(mtu?),
    };
    Some((
        Network {
            name: name?,
            kind,
            subnet: subnet?,
            mtu,
        },
        place,
    ))
}

/// `Some(None)` is `auto`.
fn subnet(field: &Cursor<'_>) -> Option<Option<Ipv4Net>> {
    const EXPECTED: &str = "auto or a subnet, such as 10.9.0.0/24";
    let text = field.text(EXPECTED)?;
    if text == "auto" {
        return Some(None);
    }
    let Ok(net) = text.parse::<Ipv4Net>() else {
        let hint = if text.parse::<ipnet::Ipv6Net>().is_ok() {
            Some("nodes have IPv4 addresses".to_owned())
        } else {
            text.parse::<Ipv4Addr>()
                .ok()
                .map(|address| format!("did you mean {address}/24?"))
        };
        field.expected_hint(EXPECTED, hint);
        return None;
    };
    if !limits::PREFIX.contains(&net.prefix_len()) {
        field.wrong(format!(
            "{}: use a prefix from /{} to /{}",
            quoted(text),
            limits::PREFIX.start(),
            limits::PREFIX.end()
        ));
        return None;
    }
    if net.addr() != net.network() {
        field.wrong_hint(
            format!("{} names an address inside a subnet", quoted(text)),
            Some(format!("did you mean {}?", net.trunc())),
        );
        return None;
    }
    // RFC 1918. Anything else belongs to somebody, whom the nodes could then no longer reach.
    const PRIVATE: [(Ipv4Addr, u8); 3] = [
        (Ipv4Addr::new(10, 0, 0, 0), 8),
        (Ipv4Addr::new(172, 16, 0, 0), 12),
        (Ipv4Addr::new(192, 168, 0, 0), 16),
    ];
    let private = PRIVATE
        .iter()
        .filter_map(|(addr, prefix)| Ipv4Net::new(*addr, *prefix).ok())
        .any(|p| p.contains(&net));
    if !private {
        field.wrong(format!(
            "{} is no private-use subnet: use one inside 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16",
            quoted(text)
        ));
        return None;
    }
    Some(Some(net))
}

/// The subnets that `auto` must not choose.
pub(super) fn avoid(field: Option<Cursor<'_>>) -> Option<Vec<Ipv4Net>> {
    let Some(field) = field else {
        return Some(Vec::new());
    };
    let items = field.list(limits::AVOID, "a list of subnets, such as [10.128.0.0/16]")?;
    let read: Vec<Option<Ipv4Net>> = items
        .iter()
        .map(|item| {
            const EXPECTED: &str = "a subnet, such as 10.128.0.0/16";
            let net = item.text(EXPECTED)?.parse::<Ipv4Net>();
            net.map_err(|_| item.expected(EXPECTED))
                .ok()
                .map(|net| net.trunc())
        })
        .collect();
    read.into_iter().collect()
}

/// Tells of given subnets that overlap each other or what is to be avoided, or that are too small for their nodes.
pub(super) fn apart(networks: &Networks<'_>, avoid: &[Ipv4Net], nodes: &[Node]) {
    let Some(report) = networks.report else { return };
    let given: Vec<(&Network, &String, Ipv4Net)> = networks
        .read
        .iter()
        .filter_map(|(network, place)| network.subnet.map(|subnet| (network, place, subnet)))
        .collect();
    for (index, (network, place, subnet)) in given.iter().enumerate() {
        for (other, _, earlier) in given.iter().take(index) {
            if subnets::overlap(*subnet, *earlier) {
                let message = format!("{subnet} overlaps {earlier} of the network {}", other.name);
                report.add(Problem::new(place.as_str(), message));
            }
        }
        for net in avoid.iter().filter(|net| subnets::overlap(*subnet, **net)) {
            report.add(Problem::new(
                place.as_str(),
                format!("{subnet} overlaps {net}, which stands under avoid"),
            ));
        }
        let (room, wanted) = (subnets::room(*subnet), members(network, nodes));
        if wanted > room {
            let message =
                format!("{subnet} has room for {room} nodes and {wanted} are in it: use a shorter prefix");
            report.add(Problem::new(place.as_str(), message));
        }
    }
}

impl Networks<'_> {
    /// All of them, where none is wrong.
    pub fn made(self) -> Option<Vec<Network>> {
        (!self.wrong.into_inner()).then(|| self.read.into_iter().map(|(network, _)| network).collect())
    }

    /// Whether the section was wrong as a whole.
    pub fn broken(&self) -> bool {
        self.names.is_empty()
    }

    pub fn has(&self, name: &Name) -> bool {
        // Where the section could not be read, nobody knows.
        self.broken() || self.names.contains(name.as_str())
    }

    pub fn names(&self) -> Vec<String> {
        self.names.iter().cloned().collect()
    }

    /// Where a node says nothing: the network called `default`, or the only one.
    ///
    /// Not the first of several: inline parameters reach a resource with their fields sorted.
    pub fn by_default(&self) -> Option<Name> {
        let name = match self.names.get("default") {
            Some(name) => Some(name),
            None if self.names.len() == 1 => self.names.first(),
            None => None,
        };
        name.and_then(|name| name.parse().ok())
    }

    /// Tells where a network is called as a node of the group is: both stand in the same sentences and files.
    pub fn apart_from(&self, group: &Name, count: u64, cursor: &Cursor<'_>) -> bool {
        let clash = (1..=count)
            .map(|number| format!("{group}-{number}"))
            .find(|name| self.names.contains(name));
        if let Some(name) = &clash {
            cursor.wrong(format!(
                "its node {name} is called like a network: rename one of them"
            ));
        }
        clash.is_none()
    }
}
