//! `nodectl list`.

use std::process::ExitCode;

use serde::Serialize;

use super::cluster::Which;
use super::print;
use crate::agent::api::types::{Cluster, ClusterState, NodeState, PowerState};
use crate::buildlog::name_width;
use crate::fault::Fault;
use crate::step::metadata::utc;

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints: the cluster without its secrets.
#[derive(Serialize)]
struct Listed<'a> {
    cluster: &'a str,
    state: &'a ClusterState,
    accelerator: String,
    expires_at: u64,
    nodes: Vec<ListedNode<'a>>,
}

#[derive(Serialize)]
struct ListedNode<'a> {
    name: &'a str,
    role: &'a str,
    state: NodeState,
    power: PowerState,
    address: String,
    forwards: std::collections::BTreeMap<u16, String>,
    ready_seconds: Option<f64>,
}

/// Prints a table of the nodes, or JSON.
pub async fn list(args: Args) -> Result<ExitCode, Box<dyn Fault>> {
    let cluster = args.which.client()?.cluster().await?;
    print(&if args.json {
        json(&cluster)
    } else {
        table(&cluster)
    });
    Ok(ExitCode::SUCCESS)
}

fn nodes(cluster: &Cluster) -> impl Iterator<Item = ListedNode<'_>> {
    cluster.nodes.iter().map(|node| ListedNode {
        name: node.name.as_str(),
        role: node.role.as_str(),
        state: node.state,
        power: node.power,
        address: node
            .addresses
            .first()
            .map(|address| address.address.to_string())
            .unwrap_or_default(),
        forwards: node
            .forwards
            .iter()
            .map(|(port, local)| (*port, format!("{}:{local}", cluster.endpoint.ip())))
            .collect(),
        ready_seconds: node.ready_seconds,
    })
}

fn json(cluster: &Cluster) -> String {
    let listed = Listed {
        cluster: cluster.cluster.as_str(),
        state: &cluster.state,
        accelerator: cluster.accelerator.to_string(),
        expires_at: cluster.expires_at,
        nodes: nodes(cluster).collect(),
    };
    // Plain data always serialises.
    serde_json::to_string_pretty(&listed).unwrap_or_default() + "\n"
}

fn table(cluster: &Cluster) -> String {
    let mut text = format!("{}: {}\n\n", cluster.cluster, state(cluster));
    let width = name_width(cluster.nodes.iter().map(|node| &node.name));
    text += &format!(
        "{:<width$}  {:<8}  {:<8}  {:<15}  {:>7}  FORWARDS\n",
        "NODE", "STATE", "POWER", "ADDRESS", "READY"
    );
    for node in nodes(cluster) {
        let ready = node
            .ready_seconds
            .map_or("-".to_owned(), |seconds| format!("{seconds:.1}s"));
        let forwards: Vec<String> = node
            .forwards
            .iter()
            .map(|(port, at)| format!("{port}={at}"))
            .collect();
        let row = format!(
            "{:<width$}  {:<8}  {:<8}  {:<15}  {ready:>7}  {}",
            node.name,
            node.state,
            node.power,
            node.address,
            forwards.join(" ")
        );
        text += row.trim_end();
        text.push('\n');
    }
    text
}

fn state(cluster: &Cluster) -> String {
    let until = utc(cluster.expires_at);
    match &cluster.state {
        ClusterState::Starting => "being brought up".to_owned(),
        ClusterState::Ready => format!("ready, {}, until {until}", cluster.accelerator),
        ClusterState::Kept { .. } => format!("did not get ready, kept until {until}"),
        ClusterState::Destroyed => "destroyed".to_owned(),
        ClusterState::Expired { lifetime } => format!("expired after {lifetime} s"),
        ClusterState::Lost { reason } => format!("lost: {reason}"),
    }
}
