//! `nodes.json`: what the cluster is, for programs. Its schema is documented in `docs/artifact.md`.

use std::net::{Ipv4Addr, SocketAddrV4};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::AccessError;
use crate::agent::api::types::{Cluster, NodeInfo};
use crate::topology::name::Name;

/// The format that is written. A reader may rely on it: fields are added without a new number, never changed.
pub const FORMAT: u32 = 1;

/// A cluster and how it is reached. No secret is in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "nodes.json")]
pub struct NodesFile {
    /// The format of this file.
    pub format: u32,
    /// The cluster's name.
    #[schemars(with = "String")]
    pub cluster: Name,
    /// HOST:PORT of the agent's API (HTTPS; the token is in the file `token`).
    #[schemars(with = "String")]
    pub endpoint: SocketAddrV4,
    /// The fingerprint of the API's certificate.
    pub fingerprint: String,
    /// HOST:PORT of the SOCKS5 proxy; the URL with its password is in the file `proxy`.
    #[schemars(with = "String")]
    pub proxy: SocketAddrV4,
    /// kvm or tcg.
    pub accelerator: String,
    /// When the cluster goes at the latest, in seconds since the Unix epoch.
    pub expires_at: u64,
    /// The nodes, in the topology's order.
    pub nodes: Vec<NodeFile>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeFile {
    /// Its name, which is its host name too.
    #[schemars(with = "String")]
    pub name: Name,
    /// The group it was counted out from.
    #[schemars(with = "String")]
    pub role: Name,
    /// The address on its first network.
    pub address: Ipv4Addr,
    /// Who logs in by SSH.
    pub ssh_user: String,
    /// Its SSH host key, as `known_hosts` has it.
    pub host_key: String,
    /// One a network, the one that carries SSH first.
    pub interfaces: Vec<InterfaceInfo>,
    /// The ports that are reached without the proxy.
    pub forwards: Vec<ForwardInfo>,
}

/// A NIC of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InterfaceInfo {
    /// The network's name in the topology.
    #[schemars(with = "String")]
    pub network: Name,
    /// The address there.
    pub address: Ipv4Addr,
    /// The prefix length of the network's subnet.
    pub prefix: u8,
    /// The MAC address.
    pub mac: String,
}

/// A port of a node and where it is reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ForwardInfo {
    /// The TCP port on the node.
    pub port: u16,
    /// HOST:PORT by which later steps reach it.
    #[schemars(with = "String")]
    pub address: SocketAddrV4,
}

/// The file's content for a cluster.
pub fn file(cluster: &Cluster, fingerprint: &str) -> Result<NodesFile, AccessError> {
    Ok(NodesFile {
        format: FORMAT,
        cluster: cluster.cluster.clone(),
        endpoint: cluster.endpoint,
        fingerprint: fingerprint.to_owned(),
        proxy: cluster.proxy.address,
        accelerator: cluster.accelerator.to_string(),
        expires_at: cluster.expires_at,
        nodes: cluster
            .nodes
            .iter()
            .map(|info| node(cluster, info))
            .collect::<Result<_, _>>()?,
    })
}

fn node(cluster: &Cluster, info: &NodeInfo) -> Result<NodeFile, AccessError> {
    let interfaces = info.addresses.iter().map(|at| InterfaceInfo {
        network: at.network.clone(),
        address: at.address,
        prefix: at.prefix,
        mac: at.mac.clone(),
    });
    let forwards = info.forwards.iter().map(|(port, at)| ForwardInfo {
        port: *port,
        address: SocketAddrV4::new(*cluster.endpoint.ip(), *at),
    });
    Ok(NodeFile {
        name: info.name.clone(),
        role: info.role.clone(),
        address: address(info)?,
        ssh_user: info.ssh_user.as_str().to_owned(),
        host_key: info.host_key.clone(),
        interfaces: interfaces.collect(),
        forwards: forwards.collect(),
    })
}

/// The address on a node's first network.
pub fn address(info: &NodeInfo) -> Result<Ipv4Addr, AccessError> {
    let first = info.addresses.first().ok_or_else(|| AccessError::NoAddress {
        node: info.name.clone(),
    })?;
    Ok(first.address)
}

/// The file as text.
pub fn json(nodes: &NodesFile) -> Result<String, AccessError> {
    let text = serde_json::to_string_pretty(nodes).map_err(|error| AccessError::Encode {
        name: super::NODES_JSON,
        problem: error.to_string(),
    })?;
    Ok(text + "\n")
}

/// The JSON Schema of `nodes.json`.
pub fn schema() -> schemars::Schema {
    schemars::schema_for!(NodesFile)
}
