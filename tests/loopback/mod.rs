//! A plan whose one network is the loopback's: nodes are listeners at 127.9.0.11 and up.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use libvirt_resource::topology::model::{
    FirstBoot, ImageSource, NetworkKind, Node, Ready, Timeout, UserName,
};
use libvirt_resource::topology::name::Name;
use libvirt_resource::topology::plan::{MacAddress, Nic, Plan, PlannedNetwork, PlannedNode};
use libvirt_resource::units::ByteSize;
use uuid::Uuid;

/// Where the tests' servers listen.
pub const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// A name that is one.
pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// Where `worker-1` is.
pub const WORKER_1: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 11);

/// The bridge's own address.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 1);

/// `worker-1` … of which these ports are forwarded.
pub fn plan(count: u8, forward: &[u16]) -> Plan {
    Plan {
        cluster: name("brisk-otter-3f9c"),
        networks: vec![PlannedNetwork {
            name: name("default"),
            kind: NetworkKind::Nat,
            bridge: "lo".to_owned(),
            subnet: "127.9.0.0/24".parse().unwrap(),
            gateway: GATEWAY,
            mtu: 1500,
        }],
        nodes: (1..=count).map(|number| node(number, forward)).collect(),
    }
}

fn node(number: u8, forward: &[u16]) -> PlannedNode {
    PlannedNode {
        node: Node {
            name: name(&format!("worker-{number}")),
            role: name("worker"),
            cpus: 1,
            memory: ByteSize::mib(256),
            disk: None,
            image: ImageSource::File(PathBuf::from("/disk.img")),
            extra_disks: Vec::new(),
            nested: false,
            networks: vec![name("default")],
            forward: forward.iter().copied().collect(),
            ssh_user: UserName::root(),
            first_boot: FirstBoot::Plain,
            ready: Ready {
                command: None,
                timeout: Timeout::Default,
            },
        },
        uuid: Uuid::from_u128(u128::from(number)),
        nics: vec![Nic {
            network: name("default"),
            mac: MacAddress([0x52, 0x54, 0, 0x12, 0x34, number]),
            address: Ipv4Addr::new(127, 9, 0, 10 + number),
        }],
    }
}
