//! What can go wrong with a cluster's files.

use std::path::PathBuf;

use crate::fault::Fault;
use crate::topology::name::Name;

/// Why the files of a cluster could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A file could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// The report could not be written as text.
    #[error("the report cannot be written")]
    Json(#[source] serde_json::Error),
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// A directory that is none of ours.
    #[error("{} is not a directory that this resource wrote: it has no {missing}", dir.display())]
    NotOurs {
        /// The directory.
        dir: PathBuf,
        /// The file that is not there.
        missing: &'static str,
    },
    /// A `nodes.json` of another kind.
    #[error("{} does not tell of a cluster", path.display())]
    NotNodes {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// A `nodes.json` of another version.
    #[error("{} has format {found}; this program reads format {}", path.display(), super::nodes::FORMAT)]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// A token file with nothing in it.
    #[error("{} is empty", path.display())]
    EmptyToken {
        /// The file.
        path: PathBuf,
    },
    /// The agent told of a node without SSH.
    #[error("node {node} has no forward of port 22")]
    NoSsh {
        /// The node.
        node: Name,
    },
    /// The agent told of a node without an address.
    #[error("node {node} has no address")]
    NoAddress {
        /// The node.
        node: Name,
    },
    /// A collected file that is not what the API promises.
    #[error("the collected file {name} did not come over whole")]
    Collected {
        /// Its name in the artifact.
        name: Name,
        /// What the decoder said.
        #[source]
        source: base64::DecodeError,
    },
    /// A kubeconfig that is none.
    #[error("{node}:{path} was collected as kubeconfig but is none: {problem}")]
    Kubeconfig {
        /// The node it came from.
        node: Name,
        /// Where it was there.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file could not be put into words.
    #[error("cannot make {name}: {problem}")]
    Encode {
        /// The file.
        name: &'static str,
        /// What the library said.
        problem: String,
    },
}

impl Fault for AccessError {
    fn help(&self) -> Option<String> {
        let text = match self {
            Self::Json(_) => "Please report it.",
            Self::Write { .. } => "Check that the directory is there, is writable, and has free space.",
            Self::Read { .. } => {
                "The file belongs to whoever fetched the nodes: run this as the same user, or fetch them again."
            }
            Self::NotOurs { .. } => {
                "Give the directory that `get` of this resource (or `nodectl`) wrote, such as NODES_DIR=nodes."
            }
            Self::NotNodes { .. } | Self::EmptyToken { .. } => {
                "Fetch the nodes again: the directory was changed."
            }
            Self::Format { .. } => "Use the version of this program that wrote the directory.",
            Self::NoSsh { .. } | Self::NoAddress { .. } | Self::Collected { .. } | Self::Encode { .. } => {
                "That is a fault of the agent, or of another version of it; its log is in the put's container."
            }
            Self::Kubeconfig { .. } => {
                "Name the file's path on the node in collect.kubeconfig.path (kubeadm: /etc/kubernetes/admin.conf, \
                 k3s: /etc/rancher/k3s/k3s.yaml), or collect it under another name to have it as it is."
            }
        };
        Some(text.to_owned())
    }
}

/// What works, but not as the user may wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// A server of the kubeconfig is not forwarded.
    NotForwarded {
        /// The node that it runs on.
        node: Name,
        /// Its role in the topology.
        role: Name,
        /// The port there.
        port: u16,
    },
    /// No server of the kubeconfig is a node's.
    ForeignServers {
        /// The servers as they are written.
        servers: Vec<String>,
    },
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotForwarded { node, role, port } => write!(
                f,
                "kubeconfig: port {port} of {node} is not forwarded, so it goes through the proxy; clients that know \
                 no SOCKS5 will not reach it. Add `forward: [{port}]` to nodes.{role} of the topology"
            ),
            Self::ForeignServers { servers } => write!(
                f,
                "kubeconfig: no server in it is a node's address, a node's name or localhost, so it is left as it \
                 was: {}",
                servers.join(", ")
            ),
        }
    }
}
