//! The API's own words, shared by the agent that serves them and the clients that read them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

use serde::{Deserialize, Serialize};

use crate::boot::recording::Diagnosis;
use crate::topology::model::{Accelerator, Networking, Sha256, UserName};
use crate::topology::name::Name;

/// Everything that a later step needs to reach a cluster. Holds secrets: served to the holder of the token alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cluster {
    /// Its name.
    pub cluster: Name,
    /// Where it is in its life.
    pub state: ClusterState,
    /// The API's own address.
    pub endpoint: SocketAddrV4,
    /// SHA-256 of the API's certificate.
    pub fingerprint: Sha256,
    /// kvm or tcg.
    pub accelerator: Accelerator,
    /// bridges or user: who carries the nodes' packets.
    pub networking: Networking,
    /// Seconds since the Unix epoch.
    pub created_at: u64,
    /// Seconds since the Unix epoch: when it goes at the latest.
    pub expires_at: u64,
    /// Seconds from the start of the put to the last node's readiness.
    pub ready_seconds: Option<f64>,
    /// What the disks were made from, as a person would name it.
    pub images: Vec<String>,
    /// Of this program, libvirt and QEMU.
    pub versions: Versions,
    /// The private login key, in OpenSSH's PEM form.
    pub login_key: Secret,
    /// The authenticated SOCKS5 proxy.
    pub proxy: Proxy,
    /// In the topology's order.
    pub nodes: Vec<NodeInfo>,
    /// What the topology wants to be collected, by the name that it gives it.
    #[serde(default)]
    pub collect: BTreeMap<Name, Collectable>,
    /// The files that were collected from nodes, by the name they get in the artifact.
    pub collected: BTreeMap<Name, CollectedFile>,
}

/// Where a cluster is in its life, and why where it has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum ClusterState {
    /// Being brought up: not committed yet.
    Starting,
    /// All nodes ready, the put committed.
    Ready,
    /// Did not get ready; kept for inspection (`on_failure: keep`).
    Kept {
        /// What failed.
        reason: String,
    },
    /// Gone, on request.
    Destroyed,
    /// Gone, its lifetime over.
    Expired {
        /// The lifetime in seconds.
        lifetime: u64,
    },
    /// Gone, because something died under it.
    Lost {
        /// What died, and how.
        reason: String,
    },
}

impl ClusterState {
    /// Nothing of it runs, or will.
    pub fn has_ended(&self) -> bool {
        match self {
            Self::Destroyed | Self::Expired { .. } | Self::Lost { .. } => true,
            Self::Starting | Self::Ready | Self::Kept { .. } => false,
        }
    }
}

/// Versions of what runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Versions {
    /// This program.
    pub resource: String,
    /// libvirtd.
    pub libvirt: String,
    /// QEMU.
    pub qemu: String,
}

/// The authenticated SOCKS5 proxy (RFC 1928, RFC 1929).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddrV4,
    /// Always `nodes`.
    pub username: String,
    /// Made for this cluster; URL-safe characters only.
    pub password: Secret,
}

/// One node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its name, also its host name.
    pub name: Name,
    /// The group it was counted out from.
    pub role: Name,
    /// What it is doing.
    pub state: NodeState,
    /// What its machine is doing.
    pub power: PowerState,
    /// Who logs in by SSH.
    pub ssh_user: UserName,
    /// Its public SSH host key, `ssh-ed25519 AAAA…`.
    pub host_key: String,
    /// One a network, the one that carries SSH first.
    pub addresses: Vec<NodeAddress>,
    /// From the node's TCP port to the port on the container's address (the endpoint's).
    pub forwards: BTreeMap<u16, u16>,
    /// Seconds from power on to ready.
    pub ready_seconds: Option<f64>,
}

/// What a node is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// On its way.
    Booting,
    /// Reached by SSH, its ready command done.
    Ready,
    /// Did not get ready.
    Failed,
    /// Its machine is not running.
    Off,
}

/// What a node's machine is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PowerState {
    /// It runs.
    Running,
    /// It is on, and its CPUs stand still: somebody paused it, or its disk failed.
    Paused,
    /// It is off: never switched on, switched off by its guest, or its power was cut.
    Off,
    /// Its kernel has panicked, or its QEMU died.
    Crashed,
}

impl std::fmt::Display for PowerState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Off => "off",
            Self::Crashed => "crashed",
        })
    }
}

impl std::fmt::Display for NodeState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Booting => "booting",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Off => "off",
        })
    }
}

/// What can be done to a node's machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// Its power switched on.
    On,
    /// Its power button pressed, and its guest waited for.
    Off {
        /// For how long at most.
        seconds: u64,
    },
    /// Its power cut, as if somebody pulled the plug.
    Cut,
    /// Its power cut, then switched on.
    Cycle,
    /// Its CPUs stopped.
    Pause,
    /// Its CPUs let go on.
    Resume,
}

impl Switch {
    /// Its word in the API.
    pub fn action(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off { .. } => "off",
            Self::Cut => "cut",
            Self::Cycle => "cycle",
            Self::Pause => "pause",
            Self::Resume => "resume",
        }
    }
}

/// Whether a node is ready, after it was waited for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Readiness {
    /// The node.
    pub node: Name,
    /// Reached by SSH, its ready command done.
    pub ready: bool,
    /// How long it was waited for.
    pub seconds: f64,
    /// Why it is not ready, for people.
    pub reason: Option<String>,
    /// What its judge says, where it did not get ready after it was switched on.
    pub diagnosis: Option<Box<Diagnosis>>,
}

/// An address of a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeAddress {
    /// The network's name in the topology.
    pub network: Name,
    /// Its IPv4 address there.
    pub address: Ipv4Addr,
    /// The prefix length of the subnet.
    pub prefix: u8,
    /// `52:54:00:12:34:56`.
    pub mac: String,
}

/// A file that can be copied from a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Collectable {
    /// The node.
    pub node: Name,
    /// Where it is there.
    pub path: String,
}

/// A file copied from a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CollectedFile {
    /// The node it came from.
    pub node: Name,
    /// Where it was there.
    pub path: String,
    /// Its content, base64.
    pub content: Secret,
}

/// Text that is shown to nobody: `Debug` hides it, `Serialize` (for the API and the files) does not.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}
