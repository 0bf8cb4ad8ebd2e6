//! `nodectl collect`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;

use super::cluster::{UnknownNode, Which};
use super::each::standing;
use super::logs::{NotWritten, make};
use super::print;
use super::tools::Tools;
use crate::access::{self, KUBECONFIG};
use crate::agent::api::types::{Cluster, Collectable, CollectedFile, Secret};
use crate::buildlog::BuildLog;
use crate::exit;
use crate::fault::{Fault, tell};
use crate::topology::name::Name;

/// How long the copy of one thing may take: a few gigabytes through an emulated CPU's cipher.
const PATIENCE: Duration = Duration::from_secs(1800);

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "  nodectl collect                                  all that the topology's collect names, as it is now\n  nodectl collect kubeconfig worker-1:/var/log/pods 'worker-2:/etc/*.conf'\n\nA name of the topology's `collect` is written as DIR/NAME (a kubeconfig with its server pointed at the forward), NODE:PATH below DIR/NODE/; folders with all that is in them. Files are read as ssh_user.\n\nExit status: 1 where anything could not be copied; all the rest was."
)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// NAME of the topology's `collect`, or NODE:PATH; all of `collect` where none is given.
    #[arg(value_name = "WHAT")]
    what: Vec<What>,
    /// Where the files go; made where it is not there.
    #[arg(short, long, value_name = "DIR", default_value = "collected")]
    output: PathBuf,
    /// Say as JSON what was written.
    #[arg(long)]
    json: bool,
}

/// What is to be copied.
#[derive(Clone, Debug)]
enum What {
    /// What the topology calls so.
    Named(Name),
    /// A path of a node.
    Path(Name, String),
}

impl std::str::FromStr for What {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None => text
                .parse()
                .map(Self::Named)
                .map_err(|error| format!("{error}; or write NODE:PATH")),
            Some((_, "")) => Err("there is no path after the colon".to_owned()),
            Some((node, path)) => match node.parse() {
                Ok(node) => Ok(Self::Path(node, path.to_owned())),
                Err(error) => Err(format!("its node: {error}")),
            },
        }
    }
}

/// The topology's `collect` has no such name.
#[derive(Debug, thiserror::Error)]
enum NoSuch {
    #[error("the topology's collect has no {name}: it has {}", there.join(", "))]
    Among { name: Name, there: Vec<String> },
    #[error("the topology has no collect")]
    Nothing,
}

impl Fault for NoSuch {
    fn help(&self) -> Option<String> {
        Some("any file can be had as NODE:PATH".to_owned())
    }
}

/// What came of one thing.
#[derive(Debug, Serialize)]
struct Copied {
    what: String,
    /// Where it was written; absent where it was not.
    path: Option<PathBuf>,
    problem: Option<String>,
}

/// Copies files from nodes, one after the other.
pub async fn collect(args: Args) -> Result<ExitCode, Box<dyn Fault>> {
    let (_, cluster) = standing(&args.which).await?;
    let wanted = wanted(&args.what, &cluster)?;
    make(&args.output)?;
    let tools = Tools::with(&cluster)?;
    let log = BuildLog::terminal();
    let mut all = Vec::new();
    for what in wanted {
        let copied = match &what {
            What::Named(name) => named(&tools, &cluster, name, args.output.join(name.as_str())).await,
            What::Path(node, path) => {
                let folder = args.output.join(node.as_str());
                below(&tools, node, path, folder).await
            }
        };
        let what = match what {
            What::Named(name) => name.to_string(),
            What::Path(node, path) => format!("{node}:{path}"),
        };
        let (path, problem) = match copied {
            Ok(path) => (Some(path), None),
            Err(problem) => (None, Some(problem)),
        };
        match (&path, &problem) {
            (Some(path), _) if !args.json => print(&format!("{}\n", path.display())),
            (_, Some(problem)) => log.error(&format!("{what}: {problem}")),
            _ => {}
        }
        all.push(Copied { what, path, problem });
    }
    if args.json {
        // Plain data always serialises.
        print(&(serde_json::to_string_pretty(&all).unwrap_or_default() + "\n"));
    }
    let well = all.iter().all(|copied| copied.problem.is_none());
    Ok(ExitCode::from(if well { 0 } else { exit::FAILED }))
}

/// What was asked for, where the cluster has all of it.
fn wanted(asked: &[What], cluster: &Cluster) -> Result<Vec<What>, Box<dyn Fault>> {
    let there = || cluster.collect.keys();
    if asked.is_empty() {
        if cluster.collect.is_empty() {
            return Err(NoSuch::Nothing.into());
        }
        return Ok(there().cloned().map(What::Named).collect());
    }
    for what in asked {
        match what {
            What::Named(name) if !cluster.collect.contains_key(name) => {
                let there: Vec<String> = there().map(ToString::to_string).collect();
                if there.is_empty() {
                    return Err(NoSuch::Nothing.into());
                }
                let name = name.clone();
                return Err(NoSuch::Among { name, there }.into());
            }
            What::Path(node, _) if !cluster.nodes.iter().any(|known| known.name == *node) => {
                return Err(UnknownNode::of(cluster, node).into());
            }
            What::Named(_) | What::Path(..) => {}
        }
    }
    Ok(asked.to_vec())
}

async fn named(tools: &Tools, cluster: &Cluster, name: &Name, to: PathBuf) -> Result<PathBuf, String> {
    let Some(Collectable { node, path }) = cluster.collect.get(name) else {
        return Err("it is not there".to_owned());
    };
    tools.copy(node, path, &to, PATIENCE).await?;
    if name.as_str() == KUBECONFIG {
        let read = std::fs::read(&to).map_err(|error| error.to_string())?;
        let from = CollectedFile {
            node: node.clone(),
            path: path.clone(),
            content: Secret(String::new()),
        };
        let (text, warnings) =
            access::point_at_forwards(&read, &from, cluster).map_err(|error| tell(&error))?;
        for warning in warnings {
            BuildLog::terminal().note(&warning.to_string());
        }
        access::write_secret(&to, &text).map_err(|source| {
            let path = to.clone();
            tell(&NotWritten { path, source })
        })?;
    }
    Ok(to)
}

async fn below(tools: &Tools, node: &Name, path: &str, folder: PathBuf) -> Result<PathBuf, String> {
    make(&folder).map_err(|error| tell(&error))?;
    tools.copy(node, path, &folder, PATIENCE).await?;
    let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    // A pattern has several, and of `/` nobody knows what it is called.
    let one = !last.is_empty() && !last.contains(['*', '?', '[', '{', '~']);
    Ok(if one { folder.join(last) } else { folder })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths_are_told_apart() {
        assert!(matches!("kubeconfig".parse(), Ok(What::Named(name)) if name.as_str() == "kubeconfig"));
        assert!(
            matches!("a-1:/x:y".parse(), Ok(What::Path(node, path)) if node.as_str() == "a-1" && path == "/x:y")
        );
        for wrong in ["", "a:", "A:/x", "Kubeconfig", "/etc/passwd", ":/x"] {
            assert!(wrong.parse::<What>().is_err(), "{wrong}");
        }
    }
}
