//! The network configuration of a node: DHCP on every NIC, one default route.

use std::fmt::Write as _;

use crate::topology::model::NetworkKind;
use crate::topology::plan::{Nic, Plan, PlannedNetwork, PlannedNode};

/// Version 2, by MAC addresses, since a guest's interface names are its own affair.
///
/// The first NIC that leads outwards carries the default route and tells the nameserver (the first of all where none
/// leads outwards), with the domain in which names without a dot are looked for; from the others neither is taken. Nobody
/// waits for a NIC but the first.
pub fn config(node: &PlannedNode, plan: &Plan) -> String {
    let network =
        |nic: &Nic| -> Option<&PlannedNetwork> { plan.networks.iter().find(|n| n.name == nic.network) };
    let leads_out = |nic: &Nic| network(nic).is_some_and(|n| n.kind == NetworkKind::Nat);
    let main = node.nics.iter().position(leads_out).unwrap_or(0);
    let mut text = String::from("version: 2\nethernets:\n");
    for (index, nic) in node.nics.iter().enumerate() {
        // Quoted: YAML 1.1 reads digits between colons as a number in base 60.
        let _ = write!(
            text,
            "  nic{index}:\n    match:\n      macaddress: \"{}\"\n    dhcp4: true\n",
            nic.mac
        );
        if let Some(network) = network(nic) {
            let _ = writeln!(text, "    mtu: {}", network.mtu);
        }
        if index != 0 {
            text.push_str("    optional: true\n");
        }
        if index == main {
            // A resolver that asks no server for names without a dot (systemd-resolved) finds other nodes by their names in this
            // domain, which networkd does not take from DHCP either.
            let _ = writeln!(text, "    nameservers:\n      search: [{}]", plan.dns_domain());
        } else {
            // The metric is for NetworkManager and ifcfg files, to which cloud-init cannot tell the other two.
            let _ = write!(
                text,
                "    dhcp4-overrides:\n      use-routes: false\n      use-dns: false\n      route-metric: {}\n",
                500 + index
            );
        }
    }
    text
}
