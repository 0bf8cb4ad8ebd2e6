//! What the nodes of a cluster are called.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::topology::plan::Plan;

/// Every name, in lower case and without a dot at its end: `worker-1` and `worker-1.CLUSTER.internal` on the node's first network,
/// `worker-1.storage` on the network `storage`.
pub fn names(plan: &Plan) -> BTreeMap<String, Ipv4Addr> {
    let mut names = BTreeMap::new();
    let domain = plan.dns_domain();
    for node in &plan.nodes {
        names.insert(node.name().to_string(), node.address());
        names.insert(format!("{}.{domain}", node.name()), node.address());
        for nic in &node.nics {
            names.insert(format!("{}.{}", node.name(), nic.network), nic.address);
        }
    }
    names
}
