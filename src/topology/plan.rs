//! What will be made: every name, address, MAC and subnet chosen and recorded before anything is created.

mod choose;
mod host;
pub mod subnets;
mod words;

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::choose::{PlanError, Taken, cluster_name, plan};
pub use self::host::{HostError, HostNetwork};
use super::model::{NetworkKind, Node};
use super::name::Name;

/// What the names of our bridges start with, by which those of a dead agent are known.
pub const BRIDGE_PREFIX: &str = "lvr";

/// Everything chosen for one cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The cluster's name: `brisk-otter-3f9c`.
    pub cluster: Name,
    /// Its networks.
    pub networks: Vec<PlannedNetwork>,
    /// Its nodes, in the topology's order.
    pub nodes: Vec<PlannedNode>,
}

impl Plan {
    /// The DNS domain of the cluster's nodes: `.internal` is reserved for private use (ICANN, 2024) and never forwarded.
    pub fn dns_domain(&self) -> String {
        format!("{}.internal", self.cluster)
    }
}

/// A network with everything chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedNetwork {
    /// Its name in the topology.
    pub name: Name,
    /// Whether it leads outwards.
    pub kind: NetworkKind,
    /// The bridge in the container's network namespace: 15 characters at most.
    pub bridge: String,
    /// The subnet, its network address normalised.
    pub subnet: Ipv4Net,
    /// The bridge's own address, which is also the nodes' DHCP and DNS server.
    pub gateway: Ipv4Addr,
    /// The MTU of bridge and NICs.
    pub mtu: u32,
}

/// A node with everything chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedNode {
    /// What was asked for.
    pub node: Node,
    /// The machine's UUID (also SMBIOS system UUID).
    pub uuid: Uuid,
    /// One a network, in the node's order; the first carries SSH.
    pub nics: Vec<Nic>,
}

impl PlannedNode {
    /// Its name.
    pub fn name(&self) -> &Name {
        &self.node.name
    }

    /// The address by which the agent reaches it.
    pub fn address(&self) -> Ipv4Addr {
        self.nics[0].address
    }
}

/// A NIC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// The network's name in the topology.
    pub network: Name,
    /// Locally administered, `52:54:00:…` as QEMU's.
    pub mac: MacAddress,
    /// Reserved for that MAC for the cluster's life.
    pub address: Ipv4Addr,
}

/// A MAC address; prints as `52:54:00:12:34:56`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MacAddress(pub [u8; 6]);

impl std::fmt::Display for MacAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}
