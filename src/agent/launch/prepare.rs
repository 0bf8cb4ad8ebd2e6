//! From a topology to an order: everything chosen, nothing made yet.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::agent::api::types::Secret;
use crate::agent::order::Order;
use crate::fault::Fault;
use crate::first_boot::{FirstBootError, check_login};
use crate::topology::model::Topology;
use crate::topology::name::Name;
use crate::topology::plan::{HostError, HostNetwork, PlanError, cluster_name, plan};

/// Why no order could be made.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// What the container's network is could not be read.
    #[error("the container's network cannot be read")]
    Network(#[source] HostError),
    /// What a node shall do at first boot would lock us out, or be ignored.
    #[error("nodes.{0}: first_boot")]
    FirstBoot(Name, #[source] FirstBootError),
    /// It does not fit.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

impl Fault for PrepareError {
    fn help(&self) -> Option<String> {
        match self {
            Self::Network(_) => Some("mount /proc and /sys, as every container runtime does".to_owned()),
            Self::FirstBoot(_, error) => error.help(),
            Self::Plan(error) => error.help(),
        }
    }
}

/// Where disks go: Concourse's `/scratch` is a plain directory of the worker; elsewhere the container's own.
pub fn base_directory() -> PathBuf {
    let scratch = Path::new("/scratch");
    if scratch.is_dir() {
        scratch.join("libvirt-resource")
    } else {
        "/var/lib/libvirt-resource".into()
    }
}

/// The order for a topology. `request` is what was asked for, byte for byte, to know a repeated request by.
pub fn prepare(topology: &Topology, token: &str, request: &[u8]) -> Result<Order, PrepareError> {
    for node in &topology.nodes {
        check_login(&node.first_boot, &node.ssh_user)
            .map_err(|error| PrepareError::FirstBoot(node.role.clone(), error))?;
    }
    let mut rng = rand::rng();
    let host = HostNetwork::read().map_err(PrepareError::Network)?;
    let cluster = cluster_name(&mut rng);
    let plan = plan(topology, &host, cluster.clone(), &mut rng)?;
    let base = base_directory();
    Ok(Order {
        plan,
        collect: topology.collect.clone(),
        lifetime: topology.lifetime.as_secs(),
        on_failure: topology.on_failure,
        accelerator: topology.accelerator,
        networking: topology.networking,
        token: Secret(token.to_owned()),
        listen: own_address(),
        directory: base.join("clusters").join(cluster.as_str()),
        images: base.join("images"),
        request: digest(request),
    })
}

/// A digest that tells two requests apart and gives nothing of them away.
pub fn digest(request: &[u8]) -> String {
    hex::encode(Sha256::digest(request))
}

/// The address from which this container would speak to the outside, which is the one that others reach it by. A
/// connected UDP socket asks the routing table and sends nothing; 192.0.2.1 is kept for documentation (RFC 5737).
/// Without a route outwards there is nobody else to reach it: loopback.
fn own_address() -> Ipv4Addr {
    let asked = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    };
    match asked() {
        Ok(std::net::SocketAddr::V4(address)) if !address.ip().is_unspecified() => *address.ip(),
        _ => Ipv4Addr::LOCALHOST,
    }
}
