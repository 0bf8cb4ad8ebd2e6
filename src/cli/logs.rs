//! `nodectl logs`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap_complete::engine::ArgValueCompleter;
use futures_util::StreamExt as _;
use serde::Serialize;

use super::cluster::Which;
use super::each::named_or_all;
use super::tools::{Remote, Tools};
use super::{complete, print};
use crate::agent::api::client::{Client, ready};
use crate::agent::api::types::{ClusterState, NodeInfo, PowerState};
use crate::buildlog::{BuildLog, name_width};
use crate::exit;
use crate::fault::{Fault, tell};
use crate::report;
use crate::topology::name::Name;

/// So many nodes are asked at once: each reads its whole journal, and they share the host's CPUs.
const SIDE_BY_SIDE: usize = 8;

/// How long one log of one node may take: a long journal over an emulated CPU.
const PATIENCE: Duration = Duration::from_secs(300);

/// The exit status by which a node says that it has no such log.
const ABSENT: i32 = 66;

/// What comes before every command: how somebody who is not root reads what only root may.
const AS_ROOT: &str = "S=; [ \"$(id -u)\" = 0 ] || { sudo -n true 2>/dev/null && S='sudo -n'; }\n";

/// The file, and the POSIX shell commands that print it on a node.
const LOGS: [(&str, &str); 10] = [
    (
        "journal.log",
        "command -v journalctl >/dev/null || exit 66\nexec $S journalctl --no-pager -o short-precise",
    ),
    (
        "kernel.log",
        "command -v journalctl >/dev/null && exec $S journalctl --no-pager -o short-precise -k\nexec $S dmesg",
    ),
    ("kubelet.log", "unit kubelet"),
    ("containerd.log", "unit containerd"),
    ("crio.log", "unit crio"),
    ("k3s.log", "unit k3s"),
    // What the kubelet keeps of containers, of those that ended too, each after its path.
    (
        "pods.log",
        "$S test -d /var/log/pods || exit 66\nexec $S find /var/log/pods -name '*.log' -exec tail -v -n +1 {} +",
    ),
    (
        "ignition.log",
        "command -v journalctl >/dev/null || exit 66\n[ -n \"$($S journalctl -q -n 1 -t ignition)\" ] || exit 66\nexec $S journalctl --no-pager -o short-precise -t ignition",
    ),
    ("cloud-init.log", "file /var/log/cloud-init.log"),
    ("cloud-init-output.log", "file /var/log/cloud-init-output.log"),
];

/// What the commands of [`LOGS`] may use.
const WORDS: &str = "\
unit() {\n\
  command -v systemctl >/dev/null && systemctl cat \"$1\" >/dev/null 2>&1 || exit 66\n\
  exec $S journalctl --no-pager -o short-precise -u \"$1\"\n\
}\n\
file() { $S test -e \"$1\" || exit 66; exec $S cat \"$1\"; }\n";

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Writes, a folder a node: console.log, journal.log, kernel.log, and, where the node has them, kubelet.log, containerd.log, crio.log, k3s.log, pods.log, ignition.log, cloud-init.log and cloud-init-output.log; and report.json and report.html beside the folders.\n\n  nodectl logs -o logs       for on_failure: of a task\n\nOf a node that is off or does not answer there is its console at least.\n\nExit status: 1 where any node's logs are not complete; all others were written."
)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// The nodes; all of them where none is named.
    #[arg(value_name = "NODE", add = ArgValueCompleter::new(complete::nodes))]
    nodes: Vec<Name>,
    /// Where the logs go; made where it is not there.
    #[arg(short, long, value_name = "DIR", default_value = "logs")]
    output: PathBuf,
    /// Say as JSON what was written.
    #[arg(long)]
    json: bool,
}

/// What was written of one node.
#[derive(Debug, Serialize)]
struct Gathered {
    name: Name,
    /// Nothing is missing.
    complete: bool,
    files: Vec<String>,
    problems: Vec<String>,
}

/// A file or folder of the logs cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot be written", path.display())]
pub struct NotWritten {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub source: std::io::Error,
}

impl Fault for NotWritten {
    fn help(&self) -> Option<String> {
        Some("name another folder, or make room".to_owned())
    }
}

/// Gathers every node's logs.
pub async fn logs(args: Args) -> Result<ExitCode, Box<dyn Fault>> {
    let client = args.which.client()?;
    let cluster = client.cluster().await?;
    let names = named_or_all(&args.nodes, &cluster)?;
    make(&args.output)?;
    let stands = matches!(cluster.state, ClusterState::Ready | ClusterState::Kept { .. });
    let tools = Tools::with(&cluster)?;
    let nodes = cluster.nodes.iter().filter(|node| names.contains(&node.name));
    let gathering = nodes.map(|node| {
        let folder = args.output.join(node.name.as_str());
        let remote = (stands && node.power == PowerState::Running).then(|| tools.remote(&node.name));
        gather(&client, node, remote, folder)
    });
    let gathered: Vec<Gathered> = futures_util::stream::iter(gathering)
        .buffered(SIDE_BY_SIDE)
        .collect()
        .await;
    let log = BuildLog::terminal();
    let mut well = gathered.iter().all(|node| node.complete);
    match client.report().await {
        Ok(told) => report::write(&args.output, &told)?,
        Err(error) => {
            log.error(&format!("no report: {}", tell(&error)));
            well = false;
        }
    }
    if args.json {
        // Plain data always serialises.
        print(&(serde_json::to_string_pretty(&gathered).unwrap_or_default() + "\n"));
    } else {
        let width = name_width(names.iter());
        for node in &gathered {
            print(&format!(
                "{:<width$}  {}\n",
                node.name.as_str(),
                node.files.join(" ")
            ));
        }
    }
    for node in &gathered {
        for problem in &node.problems {
            log.error(&format!("node {}: {problem}", node.name));
        }
    }
    if !stands {
        ready(&cluster)?;
    }
    Ok(ExitCode::from(if well { 0 } else { exit::FAILED }))
}

async fn gather(client: &Client, node: &NodeInfo, remote: Option<Remote<'_>>, folder: PathBuf) -> Gathered {
    let mut gathered = Gathered {
        name: node.name.clone(),
        complete: false,
        files: Vec::new(),
        problems: Vec::new(),
    };
    if let Err(error) = make(&folder) {
        gathered.problems.push(tell(&error));
        return gathered;
    }
    let mut console = Vec::new();
    let read = client.console(&node.name, false, None, &mut console).await;
    let console = match read {
        Ok(()) => save(&folder.join("console.log"), &console).map_err(|error| tell(&error)),
        Err(error) => Err(tell(&error)),
    };
    match console {
        Ok(()) => gathered.files.push("console.log".to_owned()),
        Err(problem) => gathered.problems.push(problem),
    }
    let Some(remote) = remote else {
        let power = node.power;
        gathered
            .problems
            .push(format!("its machine is {power}: only its console was written"));
        return gathered;
    };
    for (file, commands) in LOGS {
        let script = format!("{AS_ROOT}{WORDS}{commands}\n");
        let path = folder.join(file);
        match remote.print(&script, &path, PATIENCE).await {
            Ok(ran) if ran.status == Some(ABSENT) => {
                let _ = std::fs::remove_file(&path);
            }
            Ok(ran) if ran.status == Some(0) => gathered.files.push(file.to_owned()),
            Ok(ran) => {
                if ran.said_nothing(&path) {
                    let _ = std::fs::remove_file(&path);
                } else {
                    gathered.files.push(file.to_owned());
                }
                gathered.problems.push(format!("{file}: {}", ran.why()));
                if ran.unreachable() {
                    // The others would be waited for as long, to no end.
                    return gathered;
                }
            }
            Err(error) => gathered.problems.push(tell(&NotWritten { path, source: error })),
        }
    }
    remote.close().await;
    gathered.complete = gathered.problems.is_empty();
    gathered
}

/// Makes a folder where it is not there.
pub fn make(folder: &Path) -> Result<(), NotWritten> {
    std::fs::create_dir_all(folder).map_err(|source| NotWritten {
        path: folder.to_owned(),
        source,
    })
}

fn save(path: &Path, content: &[u8]) -> Result<(), NotWritten> {
    std::fs::write(path, content).map_err(|source| NotWritten {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_of_a_posix_shell() {
        for (file, commands) in LOGS {
            let mut shell = std::process::Command::new("sh");
            let shell = shell
                .args(["-n", "-c"])
                .arg(format!("{AS_ROOT}{WORDS}{commands}\n"));
            assert!(shell.status().unwrap().success(), "{file}");
        }
    }
}
