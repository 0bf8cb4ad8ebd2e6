//! What passes between the agent and whoever launched it: one JSON object a line over a socket pair.
//!
//! Down go the [`Order`], then one [`Down`]. Up come many [`Up`]. The end of the launcher's side before [`Down::Commit`]
//! (or after [`Down::Stay`]) means that the launcher is gone, however it went: the agent then takes everything down.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::api::types::{Secret, Versions};
use crate::progress::Event;
use crate::topology::model::{
    Accelerator, AcceleratorChoice, Collect, Networking, NetworkingChoice, OnFailure, Sha256,
};
use crate::topology::name::Name;
use crate::topology::plan::Plan;

/// What an agent is to bring up and hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// Everything chosen.
    pub plan: Plan,
    /// Files to copy from nodes once all are ready.
    pub collect: BTreeMap<Name, Collect>,
    /// Seconds from commit to the end of the cluster's life.
    pub lifetime: u64,
    /// What becomes of a cluster that does not get ready.
    pub on_failure: OnFailure,
    /// Which accelerator was asked for.
    pub accelerator: AcceleratorChoice,
    /// Who was asked to carry the nodes' packets.
    pub networking: NetworkingChoice,
    /// What callers of the API must show.
    pub token: Secret,
    /// Where API, forwards and proxy listen: the container's own address.
    pub listen: Ipv4Addr,
    /// The cluster's directory: disks, logs, keys.
    pub directory: PathBuf,
    /// Where unpacked and downloaded images are kept; may outlive the cluster.
    pub images: PathBuf,
    /// A digest of the request, by which a repeated `out` knows its own cluster again.
    pub request: String,
}

/// From the agent to its launcher.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Up {
    /// A line for the log.
    Event(Event),
    /// All nodes are ready. The launcher answers with [`Down::Commit`].
    Ready(Box<Summary>),
    /// It has failed, and this is all: the text as [`crate::fault::tell`] gives it.
    Failed {
        /// Whether the cluster is kept for inspection once the launcher has answered with [`Down::Commit`].
        kept: Option<Box<Summary>>,
        /// What was wrong, where, and what to do.
        reason: String,
    },
    /// Everything was taken down; nothing runs any more.
    Gone,
    /// The launcher's word was taken: the cluster is open to callers, and lives on as the word says.
    Committed,
}

/// From the launcher to the agent, after the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Down {
    /// Hold the cluster from now on, launcher or no launcher.
    Commit,
    /// Hold the cluster for as long as the launcher lives.
    Stay,
}

/// What is to be said of a cluster that stands: the version's and metadata's material. No secret in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// The cluster's name.
    pub cluster: Name,
    /// Where the API listens.
    pub endpoint: std::net::SocketAddrV4,
    /// SHA-256 of the API's certificate.
    pub fingerprint: Sha256,
    /// kvm or tcg.
    pub accelerator: Accelerator,
    /// Who carries the nodes' packets.
    pub networking: Networking,
    /// Of this program, libvirt and QEMU.
    pub versions: Versions,
    /// Seconds since the Unix epoch.
    pub expires_at: u64,
    /// Seconds from the order to the last node's readiness.
    pub ready_seconds: f64,
    /// What the disks were made from, as a person would name it.
    pub images: Vec<String>,
    /// The nodes, in the topology's order.
    pub nodes: Vec<NodeSummary>,
}

/// One node's part of the summary.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeSummary {
    /// Its name.
    pub name: Name,
    /// Its address on its first network.
    pub address: Ipv4Addr,
    /// Where its SSH port is reached on the container's address.
    pub ssh_port: u16,
    /// Virtual CPUs.
    pub cpus: u32,
    /// RAM.
    pub memory: crate::units::ByteSize,
    /// Seconds from power on to ready; `None` where it did not get ready.
    pub ready_seconds: Option<f64>,
}
