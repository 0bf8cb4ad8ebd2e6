//! Which cluster a command is about, and the way to it.

use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser as _};

use crate::access;
use crate::agent::api::client::{Client, ClientError};
use crate::agent::api::types::Cluster;
use crate::agent::state::{Found, Run};
use crate::concourse::Token;
use crate::fault::Fault;
use crate::topology::name::Name;

/// Names the cluster: the folder that a get (or `nodectl run`) wrote, or else the agent of this very container.
#[derive(Debug, Default, clap::Args)]
pub struct Which {
    /// Folder with a cluster's files, as a get writes it. Without it: the cluster of this container, or else that of ./nodes.
    // The parser of paths refuses one that is empty.
    #[arg(long, value_name = "DIR", env = "NODES_DIR", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    nodes_dir: Option<PathBuf>,
}

/// No cluster to speak of.
#[derive(Debug, thiserror::Error)]
pub enum WhichError {
    /// Nothing here.
    #[error("there is no cluster in this container nor in ./nodes, and NODES_DIR is not set")]
    None,
    /// There was one.
    #[error(
        "the cluster {0} of this container is gone: its agent died (killed, or out of memory) and everything with it"
    )]
    Dead(String),
    /// A folder whose token or fingerprint is none.
    #[error("{}: its token or fingerprint is damaged", .0.display())]
    NotOurs(PathBuf),
    /// The record cannot be read.
    #[error("{}: cannot be read", .0.display())]
    Run(PathBuf, #[source] std::io::Error),
}

impl Fault for WhichError {
    fn help(&self) -> Option<String> {
        match self {
            Self::None => Some("run this in the put's container (`fly hijack`), under `nodectl run -- …`, or with --nodes-dir pointing at the artifact of a get".to_owned()),
            Self::Dead(_) => Some("its logs and consoles are under /scratch/libvirt-resource/clusters or /var/lib/libvirt-resource/clusters".to_owned()),
            Self::NotOurs(_) => Some("get the cluster's files anew".to_owned()),
            Self::Run(..) => Some("run this as root of the container".to_owned()),
        }
    }
}

impl Which {
    /// A client of the cluster's agent.
    pub fn client(&self) -> Result<Client, Box<dyn Fault>> {
        // Set and empty is as good as not set.
        let set = self.nodes_dir.as_deref();
        if let Some(directory) = set.filter(|directory| !directory.as_os_str().is_empty()) {
            return by_files(directory);
        }
        let run = Run::default();
        let here = Path::new(HERE);
        match run.find() {
            Ok(Found::Living(_)) => Ok(Client::unix(&run.socket())?),
            // What `nodectl up` wrote, or a get: seen from where it was typed.
            Ok(Found::Nothing) if here.join(access::NODES_JSON).exists() => by_files(here),
            Ok(Found::Dead(record)) => Err(Box::new(WhichError::Dead(record.cluster.to_string()))),
            Ok(Found::Nothing) => Err(Box::new(WhichError::None)),
            Err(error) => Err(Box::new(WhichError::Run(run.directory().to_owned(), error))),
        }
    }
}

/// Where `nodectl up` writes a cluster's files, and a get of the resource `nodes`.
const HERE: &str = "nodes";

fn by_files(directory: &Path) -> Result<Client, Box<dyn Fault>> {
    let named = access::read(directory)?;
    let refused = || WhichError::NotOurs(directory.to_owned());
    let fingerprint = named.api.fingerprint.try_into().map_err(|_| refused())?;
    let token = Token::try_from(named.api.token.0).map_err(|_| refused())?;
    Ok(Client::tls(named.endpoint, fingerprint, &token)?)
}

/// No such node.
#[derive(Debug, thiserror::Error)]
#[error("the cluster has no node {node}: its nodes are {}", nodes.join(", "))]
pub struct UnknownNode {
    node: String,
    nodes: Vec<String>,
}

impl UnknownNode {
    /// A node that is not one of the cluster's.
    pub fn of(cluster: &Cluster, node: &Name) -> Self {
        let nodes: Vec<String> = cluster.nodes.iter().map(|node| node.name.to_string()).collect();
        Self::among(&nodes, node.as_str())
    }

    /// A name that is none of these.
    pub fn among(nodes: &[String], name: &str) -> Self {
        Self {
            node: name.to_owned(),
            nodes: nodes.to_vec(),
        }
    }
}

impl Fault for UnknownNode {
    fn help(&self) -> Option<String> {
        let near = self.nodes.iter().max_by(|one, other| {
            strsim::jaro_winkler(one, &self.node).total_cmp(&strsim::jaro_winkler(other, &self.node))
        })?;
        Some(format!("did you mean {near}?"))
    }
}

/// What went wrong with one node; of a node that there is not, with those that there are.
pub async fn about_node(client: &Client, error: ClientError) -> Box<dyn Fault> {
    match error {
        ClientError::Node(node) => match client.cluster().await {
            Ok(cluster) => Box::new(UnknownNode::of(&cluster, &node)),
            Err(_) => Box::new(ClientError::Node(node)),
        },
        other => Box::new(other),
    }
}
