//! What a topology means: everything validated, every default filled in, every node counted out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use url::Url;

use super::name::Name;
use crate::units::ByteSize;

/// A whole cluster, as asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Topology {
    /// In the order in which the groups were written; `worker-1` before `worker-2`.
    pub nodes: Vec<Node>,
    /// In the order in which they were written; every one that a node names is here.
    pub networks: Vec<Network>,
    /// Subnets that `auto` must not choose.
    pub avoid: Vec<Ipv4Net>,
    /// Files to copy from nodes once all are ready, by the name they get in the artifact.
    pub collect: BTreeMap<Name, Collect>,
    /// How long the cluster lives after the put at the most.
    pub lifetime: Duration,
    /// What becomes of a cluster that does not get ready.
    pub on_failure: OnFailure,
    /// Whether hardware virtualisation is used.
    pub accelerator: AcceleratorChoice,
    /// Who carries the nodes' packets.
    pub networking: NetworkingChoice,
}

/// One machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// `GROUP-N`, N from 1. Also its host name.
    pub name: Name,
    /// The group it was counted out from: `worker`.
    pub role: Name,
    /// Virtual CPUs, at least 1.
    pub cpus: u32,
    /// RAM.
    pub memory: ByteSize,
    /// Size of the root disk; the image's own size where absent.
    pub disk: Option<ByteSize>,
    /// What the root disk holds.
    pub image: ImageSource,
    /// Blank disks beside the root disk.
    pub extra_disks: Vec<ExtraDisk>,
    /// Whether it can run KVM machines of its own.
    pub nested: bool,
    /// The networks it has a NIC in, in order; the first carries SSH. Never empty.
    pub networks: Vec<Name>,
    /// TCP ports that later steps reach on the container's address. Always holds 22.
    pub forward: BTreeSet<u16>,
    /// Who logs in by SSH.
    pub ssh_user: UserName,
    /// What the user wants done at first boot.
    pub first_boot: FirstBoot,
    /// When the node counts as ready.
    pub ready: Ready,
}

/// Where a disk image comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageSource {
    /// A file of an input: absolute, and inside the directory that paths may not leave.
    File(PathBuf),
    /// A Vagrant box, likewise.
    Box(PathBuf),
    /// Fetched over HTTP or HTTPS.
    Url {
        /// http or https.
        url: Url,
        /// SHA-256 of the bytes as they are served, compressed or not.
        sha256: Sha256,
    },
}

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256(pub [u8; 32]);

/// Why a digest was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("is no SHA-256 digest: use its 64 hexadecimal digits, as sha256sum prints them")]
pub struct BadDigest;

impl TryFrom<String> for Sha256 {
    type Error = BadDigest;

    fn try_from(text: String) -> Result<Self, BadDigest> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.as_bytes(), &mut bytes).map_err(|_| BadDigest)?;
        Ok(Self(bytes))
    }
}

impl From<Sha256> for String {
    fn from(digest: Sha256) -> Self {
        digest.to_string()
    }
}

impl std::fmt::Display for Sha256 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// A blank disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtraDisk {
    /// Its size.
    pub size: ByteSize,
    /// What the guest reads as its serial number; 20 characters at most (virtio-blk's limit).
    pub serial: DiskSerial,
}

/// A disk's serial number: 1 to 20 of `A-Z a-z 0-9 - _ .`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DiskSerial(String);

/// Why a serial number was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("is no disk serial: use 1 to 20 letters, digits, '-', '_' or '.'")]
pub struct BadSerial;

impl TryFrom<String> for DiskSerial {
    type Error = BadSerial;

    fn try_from(text: String) -> Result<Self, BadSerial> {
        let fits = (1..=20).contains(&text.len())
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        if fits { Ok(Self(text)) } else { Err(BadSerial) }
    }
}

impl From<DiskSerial> for String {
    fn from(serial: DiskSerial) -> Self {
        serial.0
    }
}

impl DiskSerial {
    /// The serial as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A login name: 1 to 32 of `a-z A-Z 0-9 _ - .`, a letter or `_` first.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserName(String);

/// Why a login name was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("is no login name: use 1 to 32 letters, digits, '-', '_' or '.', with a letter or '_' first")]
pub struct BadUser;

impl TryFrom<String> for UserName {
    type Error = BadUser;

    fn try_from(text: String) -> Result<Self, BadUser> {
        let first = text
            .chars()
            .next()
            .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        let rest = text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        if first && rest && text.len() <= 32 {
            Ok(Self(text))
        } else {
            Err(BadUser)
        }
    }
}

impl From<UserName> for String {
    fn from(user: UserName) -> Self {
        user.0
    }
}

impl UserName {
    /// The superuser.
    pub fn root() -> Self {
        Self("root".to_owned())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A network among the nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its name in the topology.
    pub name: Name,
    /// Whether it leads outwards.
    pub kind: NetworkKind,
    /// The subnet asked for; chosen when absent (`auto`).
    pub subnet: Option<Ipv4Net>,
    /// The MTU asked for; for a NAT network that of the container's own uplink when absent, else 1500.
    pub mtu: Option<u32>,
}

/// Whether a network leads outwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkKind {
    /// Outwards by address translation.
    Nat,
    /// Among the nodes alone.
    Isolated,
}

/// What the user wants done at first boot: whole file contents, read and checked already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirstBoot {
    /// cloud-init with our part alone.
    #[default]
    Plain,
    /// cloud-init, ours merged with the user's.
    CloudInit {
        /// The user's user-data in any form that cloud-init takes.
        user_data: Option<Vec<u8>>,
        /// The user's network configuration (version 1 or 2), in place of ours.
        network_config: Option<Vec<u8>>,
    },
    /// Ignition, ours merged with the user's.
    Ignition {
        /// The user's configuration (spec 3.x JSON).
        config: Vec<u8>,
    },
}

/// When a node counts as ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// A shell command that must succeed on the node after login works.
    pub command: Option<String>,
    /// How long from power on until ready at the most, as the user gave it (or the default). `out` multiplies a
    /// default by the accelerator's factor, never a value that the user gave.
    pub timeout: Timeout,
}

/// A time limit and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timeout {
    /// Nobody said: 5 minutes under KVM, stretched under TCG.
    Default,
    /// The user's own.
    Given(Duration),
}

/// A file to copy from a node once the cluster is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collect {
    /// The node, one of the topology's.
    pub node: Name,
    /// An absolute path on it.
    pub path: String,
}

/// What becomes of a cluster that does not get ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Everything is removed.
    #[default]
    Destroy,
    /// It stays for `fly hijack`, within its lifetime.
    Keep,
}

/// Which accelerator was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AcceleratorChoice {
    /// KVM where a tiny guest really runs on it, else TCG, loudly.
    #[default]
    Auto,
    /// KVM, or refuse.
    Kvm,
    /// QEMU's own translation, even where KVM is to be had.
    Tcg,
}

/// Which accelerator is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accelerator {
    /// Hardware virtualisation.
    Kvm,
    /// QEMU's own translation.
    Tcg,
}

impl std::fmt::Display for Accelerator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        })
    }
}

/// Who was asked to carry the nodes' packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NetworkingChoice {
    /// The kernel's bridges where the container may make them, else the agent itself, loudly.
    #[default]
    Auto,
    /// Bridges, or refuse.
    Bridges,
    /// The agent itself, even where bridges are to be had: slower, needs no right.
    User,
}

/// Who carries the nodes' packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Networking {
    /// The kernel's bridges, made by libvirt.
    Bridges,
    /// The agent.
    User,
}

impl std::fmt::Display for Networking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bridges => "bridges",
            Self::User => "user-mode",
        })
    }
}
