//! The `ssh` and `scp` of a cluster's files, for the commands that are built on them.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::IoFault;
use super::cluster::{UnknownNode, Which};
use crate::access::{self, ApiAccess};
use crate::agent::api::types::Secret;
use crate::exit;
use crate::fault::Fault;

/// A cluster's files in a folder that goes with this value.
pub struct Tools {
    folder: tempfile::TempDir,
    nodes: Vec<String>,
}

impl Tools {
    /// Asks the cluster's agent, and writes the files.
    pub async fn of(which: &Which) -> Result<Self, Box<dyn Fault>> {
        let cluster = which.client()?.cluster().await?;
        let folder = tempfile::tempdir().map_err(IoFault)?;
        // ssh needs no API, and the agent's own socket no token.
        let no_api = ApiAccess {
            fingerprint: cluster.fingerprint.to_string(),
            token: Secret("-".to_owned()),
        };
        access::write(folder.path(), &cluster, &no_api, &Default::default(), None)?;
        let nodes = cluster.nodes.iter().map(|node| node.name.to_string()).collect();
        Ok(Self { folder, nodes })
    }

    /// Refuses a name that is no node's.
    pub fn know(&self, name: &str) -> Result<(), Box<dyn Fault>> {
        if self.nodes.iter().any(|node| node == name) {
            return Ok(());
        }
        Err(Box::new(UnknownNode::among(&self.nodes, name)))
    }

    /// Runs one of the tools to its end, and gives its exit code.
    pub async fn run(
        &self,
        tool: &str,
        arguments: impl IntoIterator<Item = String>,
    ) -> Result<ExitCode, Box<dyn Fault>> {
        // Ctrl-C is for the program on the node; ssh carries it there.
        let _ignored = signal(SignalKind::interrupt()).map_err(IoFault)?;
        let status = tokio::process::Command::new(self.folder.path().join(tool))
            .args(arguments)
            .status()
            .await
            .map_err(IoFault)?;
        Ok(exit::of(status))
    }
}
