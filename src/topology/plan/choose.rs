//! Every choice is made here, from what was asked for, what is taken, and chance.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use rand::Rng;
use rand::seq::IndexedRandom as _;
use uuid::Uuid;

use super::host::HostNetwork;
use super::subnets::{addresses, choose, common, gateway, overlap};
use super::words::{ADJECTIVES, ANIMALS};
use super::{BRIDGE_PREFIX, MacAddress, Nic, Plan, PlannedNetwork, PlannedNode};
use crate::fault::Fault;
use crate::topology::limits;
use crate::topology::model::{Network, NetworkKind, Topology};
use crate::topology::name::Name;

/// What a given subnet is in the way of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Where a route of the container leads.
    Route(Ipv4Net),
    /// An address of the container.
    Address(Ipv4Net),
    /// A nameserver of the container.
    Nameserver(Ipv4Addr),
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Route(net) => write!(f, "the route to {net}"),
            Self::Address(net) => write!(f, "the address {}", net.addr()),
            Self::Nameserver(address) => write!(f, "the nameserver {address}"),
        }
    }
}

/// Why no plan could be made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlanError {
    /// A subnet that the user gave is in use around the container.
    #[error("networks.{network}: the subnet {subnet} overlaps {taken} of this container")]
    Collides {
        /// The network.
        network: Name,
        /// What was given.
        subnet: Ipv4Net,
        /// What has it already.
        taken: Taken,
    },
    /// Routes, addresses and what is to be avoided leave nothing.
    #[error("networks.{network}: no private subnet is free for {nodes} nodes")]
    NoneFree {
        /// The network.
        network: Name,
        /// How many nodes are in it.
        nodes: u64,
    },
    /// More nodes than the subnet has addresses, or a node in a network that is not there.
    #[error("networks.{network}: there is no room for {nodes} nodes")]
    NoRoom {
        /// The network.
        network: Name,
        /// How many nodes are in it.
        nodes: u64,
    },
    /// No name of four random digits was free.
    #[error("no bridge name is free: this container has {0} network interfaces")]
    NoBridge(usize),
}

impl Fault for PlanError {
    fn help(&self) -> Option<String> {
        Some(match self {
            Self::Collides { .. } => {
                "Use auto, which keeps clear of what is in use, or another subnet.".to_owned()
            }
            Self::NoneFree { .. } => {
                "Give the network a subnet of its own, or take something out of avoid.".to_owned()
            }
            Self::NoRoom { .. } => "Give the network a subnet with a shorter prefix.".to_owned(),
            Self::NoBridge(_) => {
                "Remove interfaces that earlier clusters left behind (`ip link`).".to_owned()
            }
        })
    }
}

/// A readable name for a cluster, such as `brisk-otter-3f9c`: of some 268 million.
pub fn cluster_name(rng: &mut impl Rng) -> Name {
    let word = |words: &'static [&'static str], rng: &mut _| words.choose(rng).copied().unwrap_or("node");
    loop {
        let (adjective, animal) = (word(&ADJECTIVES, rng), word(&ANIMALS, rng));
        if let Ok(name) = format!("{adjective}-{animal}-{:04x}", rng.random::<u16>()).parse() {
            return name;
        }
    }
}

/// Chooses everything that the topology left open.
///
/// The same topology, host and state of the generator give the same plan.
pub fn plan(
    topology: &Topology,
    host: &HostNetwork,
    cluster: Name,
    rng: &mut impl Rng,
) -> Result<Plan, PlanError> {
    let subnets = subnets(topology, host, rng)?;
    let bridges = bridges(topology.networks.len(), &host.bridges, rng)?;
    let mut networks = Vec::new();
    let mut free = BTreeMap::new();
    for ((network, subnet), bridge) in topology.networks.iter().zip(subnets).zip(bridges) {
        let nodes = members(topology, network);
        let no_room = || PlanError::NoRoom {
            network: network.name.clone(),
            nodes,
        };
        let all = addresses(subnet, nodes).ok_or_else(no_room)?;
        networks.push(PlannedNetwork {
            name: network.name.clone(),
            kind: network.kind,
            bridge,
            subnet,
            gateway: gateway(subnet).ok_or_else(no_room)?,
            mtu: mtu(network, host),
        });
        free.insert(network.name.clone(), all.into_iter());
    }
    let mut macs = BTreeSet::new();
    let mut nodes = Vec::new();
    for node in &topology.nodes {
        let mut nics = Vec::new();
        for network in &node.networks {
            let address = free.get_mut(network).and_then(Iterator::next);
            let address = address.ok_or_else(|| PlanError::NoRoom {
                network: network.clone(),
                nodes: 1,
            })?;
            nics.push(Nic {
                network: network.clone(),
                mac: mac(&mut macs, rng),
                address,
            });
        }
        let uuid: Uuid = uuid::Builder::from_random_bytes(rng.random()).into_uuid();
        nodes.push(PlannedNode {
            node: node.clone(),
            uuid,
            nics,
        });
    }
    Ok(Plan {
        cluster,
        networks,
        nodes,
    })
}

fn members(topology: &Topology, network: &Network) -> u64 {
    topology
        .nodes
        .iter()
        .filter(|node| node.networks.contains(&network.name))
        .count() as u64
}

fn mtu(network: &Network, host: &HostNetwork) -> u32 {
    let asked = network.mtu.unwrap_or(match network.kind {
        NetworkKind::Nat => host.uplink_mtu,
        NetworkKind::Isolated => 1500,
    });
    // An uplink may have one that no bridge can (the loopback's 65536).
    u32::try_from(u64::from(asked).clamp(*limits::MTU.start(), *limits::MTU.end())).unwrap_or(1500)
}

/// One a network, in the topology's order; the given ones first, so that `auto` keeps clear of them.
fn subnets(topology: &Topology, host: &HostNetwork, rng: &mut impl Rng) -> Result<Vec<Ipv4Net>, PlanError> {
    let around: Vec<Taken> = (host.routes.iter().copied().map(Taken::Route))
        .chain(host.addresses.iter().copied().map(Taken::Address))
        .chain(host.nameservers.iter().copied().map(Taken::Nameserver))
        .collect();
    let net = |taken: &Taken| match taken {
        Taken::Route(net) | Taken::Address(net) => *net,
        Taken::Nameserver(address) => Ipv4Net::from(*address),
    };
    let mut taken: Vec<Ipv4Net> = around.iter().map(net).collect();
    taken.extend(common());
    taken.extend(&topology.avoid);
    for (network, subnet) in topology
        .networks
        .iter()
        .filter_map(|n| n.subnet.map(|subnet| (n, subnet)))
    {
        // The narrowest of all that it hits says most: a nameserver rather than the route to it.
        let hit = around
            .iter()
            .filter(|taken| overlap(net(taken), subnet))
            .max_by_key(|taken| net(taken).prefix_len());
        if let Some(taken) = hit {
            return Err(PlanError::Collides {
                network: network.name.clone(),
                subnet,
                taken: *taken,
            });
        }
        taken.push(subnet);
    }
    let mut chosen = Vec::new();
    for network in &topology.networks {
        let subnet = match network.subnet {
            Some(subnet) => subnet.trunc(),
            None => {
                let nodes = members(topology, network);
                let subnet = choose(nodes, &taken, rng).ok_or_else(|| PlanError::NoneFree {
                    network: network.name.clone(),
                    nodes,
                })?;
                taken.push(subnet);
                subnet
            }
        };
        chosen.push(subnet);
    }
    Ok(chosen)
}

/// `lvr3f9c-0`, `lvr3f9c-1` …: the kernel allows 15 characters (`IFNAMSIZ` less its NUL).
fn bridges(count: usize, taken: &BTreeSet<String>, rng: &mut impl Rng) -> Result<Vec<String>, PlanError> {
    let start = rng.random::<u16>();
    (0..=u16::MAX)
        .map(|step| start.wrapping_add(step))
        .map(|stem| {
            (0..count)
                .map(|index| format!("{BRIDGE_PREFIX}{stem:04x}-{index}"))
                .collect::<Vec<_>>()
        })
        .find(|names| names.iter().all(|name| !taken.contains(name)))
        .ok_or(PlanError::NoBridge(taken.len()))
}

/// QEMU's own prefix, locally administered; clusters on one bridge of a worker never share a segment.
fn mac(taken: &mut BTreeSet<MacAddress>, rng: &mut impl Rng) -> MacAddress {
    loop {
        let [a, b, c] = rng.random();
        let mac = MacAddress([0x52, 0x54, 0x00, a, b, c]);
        if taken.insert(mac) {
            return mac;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;
    use serde_json::json;

    use super::*;
    use crate::topology::{Inputs, validate};

    fn topology(networks: serde_json::Value, groups: serde_json::Value, avoid: &[Ipv4Net]) -> Topology {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("disk"), "x").unwrap();
        let raw = json!({"image": {"file": "disk"}, "networks": networks, "nodes": groups, "avoid": avoid});
        validate(&raw, &Inputs::of_folder(folder.path())).unwrap()
    }

    fn host(routes: &[&str]) -> HostNetwork {
        HostNetwork {
            routes: routes.iter().map(|net| net.parse().unwrap()).collect(),
            addresses: vec!["10.80.0.5/32".parse().unwrap()],
            nameservers: vec!["10.255.0.53".parse().unwrap()],
            uplink_mtu: 1400,
            bridges: ["lo", "eth0"].map(str::to_owned).into(),
        }
    }

    #[test]
    fn a_given_subnet_in_use_is_refused() {
        for (subnet, told) in [
            (
                "10.9.0.0/24",
                "networks.default: the subnet 10.9.0.0/24 overlaps the route to 10.8.0.0/15 of this container",
            ),
            (
                "10.80.0.0/24",
                "networks.default: the subnet 10.80.0.0/24 overlaps the address 10.80.0.5 of this container",
            ),
            (
                "10.255.0.0/16",
                "networks.default: the subnet 10.255.0.0/16 overlaps the nameserver 10.255.0.53 of this container",
            ),
        ] {
            let topology = topology(json!({"default": {"nat": subnet}}), json!({"a": null}), &[]);
            let name = "test".parse().unwrap();
            let error = plan(
                &topology,
                &host(&["10.8.0.0/15"]),
                name,
                &mut StdRng::seed_from_u64(1),
            )
            .unwrap_err();
            assert_eq!(error.to_string(), told);
        }
    }

    #[test]
    fn nothing_free_is_told() {
        let full = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];
        let topology = topology(
            json!({"default": {"nat": "auto"}}),
            json!({"a": {"count": 3}}),
            &[],
        );
        let error = plan(
            &topology,
            &host(&full),
            "test".parse().unwrap(),
            &mut StdRng::seed_from_u64(1),
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "networks.default: no private subnet is free for 3 nodes"
        );
    }

    #[test]
    fn names_of_clusters() {
        let mut rng = StdRng::seed_from_u64(7);
        let names: BTreeSet<String> = (0..1000).map(|_| cluster_name(&mut rng).to_string()).collect();
        assert_eq!(names.len(), 1000);
        assert!(
            names
                .iter()
                .all(|name| name.len() <= 30 && name.split('-').count() == 3),
            "{names:?}"
        );
        assert_eq!(ADJECTIVES.iter().collect::<BTreeSet<_>>().len(), ADJECTIVES.len());
        assert_eq!(ANIMALS.iter().collect::<BTreeSet<_>>().len(), ANIMALS.len());
    }

    #[test]
    fn mtus() {
        let networks = json!({"default": {"nat": "auto"}, "big": {"isolated": "auto", "mtu": 9000}, "plain": {"isolated": "auto"}});
        let topology = topology(networks, json!({"a": null}), &[]);
        let plan = plan(
            &topology,
            &host(&[]),
            "test".parse().unwrap(),
            &mut StdRng::seed_from_u64(1),
        )
        .unwrap();
        assert_eq!(
            plan.networks
                .iter()
                .map(|network| network.mtu)
                .collect::<Vec<_>>(),
            [1400, 9000, 1500]
        );
    }

    fn private() -> impl Strategy<Value = Ipv4Net> {
        (any::<u32>(), 9u8..=30, 0usize..3).prop_map(|(address, prefix, pool)| {
            let (base, bits) = [(0x0a00_0000u32, 8), (0xac10_0000, 12), (0xc0a8_0000, 16)][pool];
            let address = base | (address & (u32::MAX >> bits));
            Ipv4Net::new(address.into(), prefix.max(bits + 1))
                .unwrap()
                .trunc()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_plan_collides_with_nothing(
            routes in prop::collection::vec(private(), 0..12),
            avoid in prop::collection::vec(private(), 0..6),
            counts in prop::collection::vec(1u32..16, 1..4),
            extra in 0usize..5,
            seed: u64,
        ) {
            let mut networks = json!({"default": {"nat": "auto"}});
            let mut names = vec!["default".to_owned()];
            for n in 0..extra {
                networks[format!("net{n}")] = json!({"isolated": "auto"});
                names.push(format!("net{n}"));
            }
            let groups: serde_json::Map<String, serde_json::Value> = counts.iter().enumerate()
                .map(|(n, count)| (format!("g{n}"), json!({"count": count, "networks": names}))).collect();
            let topology = topology(networks, groups.into(), &avoid);
            let mut host = host(&[]);
            host.routes = routes.clone();
            host.bridges.extend((0..200).map(|n| format!("lvr{n:04x}-0")));
            let mut rng = StdRng::seed_from_u64(seed);
            let Ok(plan) = plan(&topology, &host, cluster_name(&mut rng), &mut rng) else { return Ok(()) };

            let subnets: Vec<Ipv4Net> = plan.networks.iter().map(|network| network.subnet).collect();
            for (index, subnet) in subnets.iter().enumerate() {
                let others = subnets.iter().skip(index + 1).chain(&routes).chain(&avoid).copied().chain(common());
                for other in others.chain(host.addresses.clone()).chain(host.nameservers.iter().map(|a| Ipv4Net::from(*a))) {
                    prop_assert!(!overlap(*subnet, other), "{} {}", subnet, other);
                }
                prop_assert!(subnet.contains(&plan.networks[index].gateway));
            }
            let bridges: BTreeSet<_> = plan.networks.iter().map(|network| network.bridge.clone()).collect();
            prop_assert_eq!(bridges.len(), plan.networks.len());
            prop_assert!(bridges.iter().all(|name| name.len() <= 15 && !host.bridges.contains(name)));
            let nics: Vec<&Nic> = plan.nodes.iter().flat_map(|node| &node.nics).collect();
            prop_assert_eq!(nics.iter().map(|nic| nic.mac).collect::<BTreeSet<_>>().len(), nics.len());
            let mut addresses: BTreeSet<_> = nics.iter().map(|nic| nic.address).collect();
            addresses.extend(plan.networks.iter().map(|network| network.gateway));
            prop_assert_eq!(addresses.len(), nics.len() + plan.networks.len());
            for nic in nics {
                let network = plan.networks.iter().find(|network| network.name == nic.network).unwrap();
                prop_assert!(network.subnet.contains(&nic.address));
            }
            prop_assert_eq!(plan.nodes.iter().map(|node| node.uuid).collect::<BTreeSet<_>>().len(), plan.nodes.len());
        }
    }
}
