//! The `ssh` and `scp` of a cluster's files, for the commands that are built on them.

use std::fs::File;
use std::path::Path;
use std::process::{ExitCode, Output, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use super::IoFault;
use super::cluster::{UnknownNode, Which};
use crate::access::{self, ApiAccess};
use crate::agent::api::types::{Cluster, Secret};
use crate::exit;
use crate::fault::Fault;
use crate::topology::name::Name;

/// The exit status by which ssh says that it did not get there.
const NO_CONNECTION: i32 = 255;

/// What makes the tools fit for programs: no questions, one key exchange a node, an end where nobody answers.
const UNATTENDED: [&str; 7] = [
    "BatchMode=yes",
    "ConnectTimeout=15",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=6",
    "LogLevel=ERROR",
    "ControlMaster=auto",
    "ControlPersist=20",
];

/// A cluster's files in a folder that goes with this value.
pub struct Tools {
    folder: tempfile::TempDir,
    nodes: Vec<String>,
}

/// One node, to be run commands on.
pub struct Remote<'a> {
    tools: &'a Tools,
    node: String,
}

/// A command that was run on a node.
#[derive(Debug)]
pub struct Ran {
    /// Its exit status; absent where the time was over, or a signal ended ssh.
    pub status: Option<i32>,
    stderr: String,
}

impl Ran {
    /// Whether the node was not reached, or did not answer any more.
    pub fn unreachable(&self) -> bool {
        matches!(self.status, None | Some(NO_CONNECTION))
    }

    /// Whether nothing was printed into the file.
    pub fn said_nothing(&self, file: &Path) -> bool {
        std::fs::metadata(file).is_ok_and(|file| file.len() == 0)
    }

    /// Why it did not succeed.
    pub fn why(&self) -> String {
        let said = self.stderr.trim();
        match self.status {
            None => "no answer within the time limit".to_owned(),
            Some(NO_CONNECTION) if said.is_empty() => "it cannot be reached by SSH".to_owned(),
            Some(NO_CONNECTION) => format!("it cannot be reached by SSH: {said}"),
            Some(status) if said.is_empty() => format!("exit status {status}"),
            Some(status) => format!("exit status {status}: {said}"),
        }
    }
}

impl Tools {
    /// Asks the cluster's agent, and writes the files.
    pub async fn of(which: &Which) -> Result<Self, Box<dyn Fault>> {
        Self::with(&which.client()?.cluster().await?)
    }

    /// Writes the files of a cluster.
    pub fn with(cluster: &Cluster) -> Result<Self, Box<dyn Fault>> {
        let folder = tempfile::tempdir().map_err(IoFault)?;
        // ssh needs no API, and the agent's own socket no token.
        let no_api = ApiAccess {
            fingerprint: cluster.fingerprint.to_string(),
            token: Secret("-".to_owned()),
        };
        access::write(folder.path(), cluster, &no_api, &Default::default(), None)?;
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
        let status = Command::new(self.folder.path().join(tool))
            .args(arguments)
            .status()
            .await
            .map_err(IoFault)?;
        Ok(exit::of(status))
    }

    /// A node, to be run commands on without anybody at hand.
    pub fn remote(&self, node: &Name) -> Remote<'_> {
        Remote {
            tools: self,
            node: node.to_string(),
        }
    }

    /// Copies a file, or a folder with all that is in it, from a node; why not, for people.
    pub async fn copy(&self, node: &Name, path: &str, to: &Path, limit: Duration) -> Result<(), String> {
        // Absolute, so that no colon in it is taken for a node's.
        let to = std::path::absolute(to).map_err(|error| error.to_string())?;
        let mut scp = self.unattended("scp");
        let scp = scp.args(["-r", "-p", "--"]).arg(format!("{node}:{path}")).arg(to);
        let scp = scp
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let output = within(limit, scp.output()).await;
        match output.map_err(|error| error.to_string())? {
            Some(Output { status, .. }) if status.success() => Ok(()),
            Some(Output { stderr, .. }) => Err(String::from_utf8_lossy(&stderr).trim().to_owned()),
            None => Err("no answer within the time limit".to_owned()),
        }
    }

    fn unattended(&self, tool: &str) -> Command {
        let mut command = Command::new(self.folder.path().join(tool));
        for option in UNATTENDED {
            command.args(["-o", option]);
        }
        let control = format!("ControlPath={}", self.folder.path().join("%C").display());
        command.args(["-o", &control]).kill_on_drop(true);
        command
    }
}

impl Remote<'_> {
    /// Runs a POSIX shell's script on the node; what it prints goes into a file.
    pub async fn print(&self, script: &str, into: &Path, limit: Duration) -> std::io::Result<Ran> {
        let file = File::create(into)?;
        let mut ssh = self.tools.unattended("ssh");
        // The script goes by stdin, so that it matters to no login shell what is in it.
        let ssh = ssh.args(["-T", &self.node, "sh"]);
        let ssh = ssh.stdin(Stdio::piped()).stdout(file).stderr(Stdio::piped());
        let mut child = ssh.spawn()?;
        let mut stdin = child.stdin.take();
        let ended = within(limit, async {
            if let Some(stdin) = &mut stdin {
                // A node that is not reached takes nothing; ssh says why.
                let _ = stdin.write_all(script.as_bytes()).await;
            }
            drop(stdin.take());
            child.wait_with_output().await
        });
        Ok(match ended.await? {
            Some(output) => Ran {
                status: output.status.code(),
                stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            },
            None => Ran {
                status: None,
                stderr: String::new(),
            },
        })
    }

    /// Ends the connection that was kept for the next command.
    pub async fn close(&self) {
        let mut ssh = self.tools.unattended("ssh");
        let ssh = ssh.args(["-O", "exit", &self.node]);
        let ssh = ssh
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // It would end by itself, a little later.
        let _ = ssh.status().await;
    }
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = std::io::Result<T>>,
) -> std::io::Result<Option<T>> {
    tokio::time::timeout(limit, work).await.ok().transpose()
}
