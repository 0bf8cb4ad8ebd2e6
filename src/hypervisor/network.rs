//! A network as libvirt is to make it, and what its nodes are called.

use super::elements as xml;
use super::error::{HypervisorError, Thing};
use super::text::ObjectName;
use crate::topology::model::NetworkKind;
use crate::topology::plan::{Plan, PlannedNetwork, PlannedNode};

/// The definition of one of the plan's networks as libvirt reads it.
///
/// - **Addresses.** Every NIC has its own, without end; a MAC that the plan does not know gets none. Isolated networks
///   announce no router (libvirt leaves it out for them).
/// - **Names.** `worker-1` is the address on the node's first network, whoever asks on whichever network, so that a
///   node with two resolvers gets one answer; `worker-1.storage` is its address on the network `storage`. Names without
///   a dot, and those of the cluster's own domain, are never asked of the container's resolver; others are, where the
///   network leads outwards.
/// - **A network that is no node's first announces no DNS server**: it would be a second resolver that, if isolated,
///   refuses all names outside.
pub fn network_xml(plan: &Plan, network: &PlannedNetwork) -> Result<String, HypervisorError> {
    if !is_bridge_name(&network.bridge) {
        return Err(HypervisorError::Bridge {
            network: network.name.to_string(),
            bridge: network.bridge.clone(),
        });
    }
    quick_xml::se::to_string(&definition(plan, network)).map_err(|source| HypervisorError::Xml {
        thing: Thing::Network(ObjectName::new(&plan.cluster, &network.name).to_string()),
        source,
    })
}

fn definition(plan: &Plan, network: &PlannedNetwork) -> xml::Network {
    let resolves = plan.nodes.iter().any(|node| is_first(node, network));
    let hosts: Vec<_> = plan
        .nodes
        .iter()
        .flat_map(|node| dhcp_hosts(node, network))
        .collect();
    xml::Network {
        name: ObjectName::new(&plan.cluster, &network.name).to_string(),
        forward: match network.kind {
            NetworkKind::Nat => Some(xml::Forward { mode: "nat".into() }),
            NetworkKind::Isolated => None,
        },
        // One bridge and its taps cannot form a loop: without spanning tree, ports forward at once.
        bridge: xml::Bridge {
            name: network.bridge.clone(),
            stp: "off".into(),
            delay: 0,
        },
        mtu: xml::Mtu { size: network.mtu },
        domain: xml::DnsDomain {
            name: plan.dns_domain(),
            local_only: "yes".into(),
        },
        dns: if resolves {
            xml::Dns {
                enable: None,
                forward_plain_names: Some("no".into()),
                hosts: plan.nodes.iter().flat_map(dns_hosts).collect(),
            }
        } else {
            xml::Dns {
                enable: Some("no".into()),
                forward_plain_names: None,
                hosts: Vec::new(),
            }
        },
        ip: xml::Ip {
            address: network.gateway.to_string(),
            netmask: network.subnet.netmask().to_string(),
            dhcp: (!hosts.is_empty()).then_some(xml::Dhcp { hosts }),
        },
    }
}

/// The node's names, one line an address.
fn dns_hosts(node: &PlannedNode) -> impl Iterator<Item = xml::DnsHost> {
    node.nics.iter().enumerate().map(|(index, nic)| {
        let qualified = format!("{}.{}", node.name(), nic.network);
        let names = if index == 0 {
            vec![node.name().to_string(), qualified]
        } else {
            vec![qualified]
        };
        xml::DnsHost {
            ip: nic.address.to_string(),
            names,
        }
    })
}

/// The addresses of the node's NICs in that network.
fn dhcp_hosts(node: &PlannedNode, network: &PlannedNetwork) -> impl Iterator<Item = xml::DhcpHost> {
    // On its other networks a node is given no name: dnsmasq would tell it as that network's address.
    let name = is_first(node, network).then(|| node.name().to_string());
    node.nics
        .iter()
        .filter(|nic| nic.network == network.name)
        .map(move |nic| xml::DhcpHost {
            mac: nic.mac.to_string(),
            name: name.clone(),
            ip: nic.address.to_string(),
            lease: xml::Lease { expiry: WITHOUT_END },
        })
}

/// libvirt's word for a lease that is never renewed.
const WITHOUT_END: u32 = 0;

fn is_first(node: &PlannedNode, network: &PlannedNetwork) -> bool {
    node.nics.first().is_some_and(|nic| nic.network == network.name)
}

/// What the kernel takes (`dev_valid_name`), narrowed to what needs no quoting anywhere.
fn is_bridge_name(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && !matches!(name, "." | "..")
}
