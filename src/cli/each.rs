//! What is done with some nodes, or with all of them, side by side.

use std::future::Future;

use clap_complete::engine::ArgValueCompleter;
use futures_util::StreamExt as _;

use super::cluster::{UnknownNode, Which};
use super::complete;
use crate::agent::api::client::{Client, ClientError, ready};
use crate::agent::api::types::{Cluster, ClusterState};
use crate::buildlog::BuildLog;
use crate::fault::{Fault, tell};
use crate::topology::name::Name;
use crate::units::{BadSpan, Span};

/// So many are spoken to at once.
const SIDE_BY_SIDE: usize = 32;

/// Some nodes, or all: one of both is to be said.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Nodes {
    /// The nodes.
    #[arg(value_name = "NODE", add = ArgValueCompleter::new(complete::nodes))]
    nodes: Vec<Name>,
    /// All nodes of the cluster.
    #[arg(short, long)]
    all: bool,
}

impl Nodes {
    /// Their names, each once, in the order in which they were named.
    pub fn of(&self, cluster: &Cluster) -> Result<Vec<Name>, UnknownNode> {
        named_or_all(&self.nodes, cluster)
    }
}

/// The nodes that are named, each once; all where none is.
pub fn named_or_all(named: &[Name], cluster: &Cluster) -> Result<Vec<Name>, UnknownNode> {
    let all = || cluster.nodes.iter().map(|node| &node.name);
    if named.is_empty() {
        return Ok(all().cloned().collect());
    }
    let mut nodes: Vec<Name> = Vec::new();
    for node in named {
        if !all().any(|known| known == node) {
            return Err(UnknownNode::of(cluster, node));
        }
        if !nodes.contains(node) {
            nodes.push(node.clone());
        }
    }
    Ok(nodes)
}

/// A cluster whose machines stand, and the way to it.
///
/// # Errors
/// Where there is none: each state its own error. One that is kept for inspection is as good as one that is ready.
pub async fn standing(which: &Which) -> Result<(Client, Cluster), Box<dyn Fault>> {
    let client = which.client()?;
    let cluster = client.cluster().await?;
    if !matches!(cluster.state, ClusterState::Kept { .. }) {
        ready(&cluster)?;
    }
    Ok((client, cluster))
}

/// Does it with every node, side by side; gives what came of it in the order of `nodes`.
pub async fn each<T, F>(nodes: &[Name], does: impl Fn(Name) -> F) -> Vec<Result<T, ClientError>>
where
    F: Future<Output = Result<T, ClientError>>,
{
    futures_util::stream::iter(nodes.iter().cloned().map(does))
        .buffered(SIDE_BY_SIDE)
        .collect()
        .await
}

/// How long somebody waits: a day at most, as the API has it.
///
/// # Errors
/// What is no length of time, or a longer one.
pub fn patience(text: &str) -> Result<Span, String> {
    let span: Span = text.parse().map_err(|error: BadSpan| error.to_string())?;
    if span > Span::hours(24) {
        return Err("more than a day is never waited".to_owned());
    }
    Ok(span)
}

/// Tells every error, and whether there was none.
pub fn all_well<'a>(errors: impl Iterator<Item = &'a ClientError>) -> bool {
    let log = BuildLog::terminal();
    let mut well = true;
    for error in errors {
        well = false;
        log.error(&tell(error));
    }
    well
}
