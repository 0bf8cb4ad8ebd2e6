//! From a topology file to nodes that stand, for the commands that boot them.

use std::path::{Path, PathBuf};

use rand::distr::{Alphanumeric, SampleString};

use super::IoFault;
use super::cache::Cache;
use crate::access::{self, ApiAccess};
use crate::agent::api::client::Client;
use crate::agent::api::types::Secret;
use crate::agent::launch::follow::{Outcome, follow, told_to_stop};
use crate::agent::launch::prepare::prepare;
use crate::agent::launch::vacate::vacate;
use crate::agent::launch::{Launched, launch};
use crate::agent::order::{Down, Summary};
use crate::agent::state::Run;
use crate::buildlog::BuildLog;
use crate::concourse::Token;
use crate::fault::Fault;
use crate::progress::{Event, Level};
use crate::topology::model::{OnFailure, Topology};
use crate::topology::{Inputs, load, validate};

/// What was booted, or is being taken down after it failed.
pub struct Booted {
    /// The line to its agent.
    pub agent: Launched,
    /// Its directory in the container.
    pub directory: PathBuf,
    /// The API's token, of which nobody else knows.
    pub token: Token,
    /// How it went.
    pub outcome: Outcome,
}

/// What nodes are booted from.
#[derive(Debug, clap::Args)]
pub struct Wanted {
    /// The topology: YAML or JSON. Paths in it are relative to its folder.
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Keep downloaded and unpacked images in this folder, and find them there again: a task's cache. Several may use it at once.
    #[arg(long, value_name = "DIR", env = "NODECTL_CACHE")]
    cache: Option<Cache>,
}

/// Boots the nodes of a topology file, and answers `word` to the agent once they are ready. `on_failure` replaces the
/// file's own where it is given.
pub async fn boot(
    wanted: &Wanted,
    word: Down,
    on_failure: Option<OnFailure>,
    log: &BuildLog,
) -> Result<Booted, Box<dyn Fault>> {
    let mut topology = topology(&wanted.file)?;
    topology.on_failure = on_failure.unwrap_or(topology.on_failure);
    vacate(&Run::default()).await?;
    let token = Token::generate();
    // No two runs of this command are the same request.
    let request = Alphanumeric.sample_string(&mut rand::rng(), 32).into_bytes();
    let mut order = prepare(&topology, token.expose(), &request)?;
    if let Some(cache) = &wanted.cache {
        order.images = cache.ready()?;
    }
    let mut agent = launch(&order).await?;
    log.watch(order.plan.nodes.iter().map(|node| node.name().to_string()));
    let outcome = follow(&mut agent, word, log, told_to_stop()).await;
    log.rest();
    if outcome.is_err() {
        // What is left are logs, and the error has quoted them.
        let _ = std::fs::remove_dir_all(&order.directory);
    }
    let outcome = outcome?;
    Ok(Booted {
        agent,
        directory: order.directory,
        token,
        outcome,
    })
}

/// Paths in the file are relative to its folder.
fn topology(file: &Path) -> Result<Topology, Box<dyn Fault>> {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Absolute, since the agent works elsewhere.
    let inputs = Inputs::of_folder(std::path::absolute(folder).map_err(IoFault)?);
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let raw = load(&name, &inputs)?;
    Ok(validate(&raw, &inputs)?)
}

/// Writes the files that `in` writes into `folder`, which exists.
pub async fn write_files(
    folder: &Path,
    summary: &Summary,
    token: &Token,
    log: &BuildLog,
) -> Result<(), Box<dyn Fault>> {
    let (cluster, consoles, report) = Client::unix(&Run::default().socket())?.fetch().await?;
    let secrets = ApiAccess {
        fingerprint: summary.fingerprint.to_string(),
        token: Secret(token.expose().to_owned()),
    };
    for warning in access::write(folder, &cluster, &secrets, &consoles, Some(&report))? {
        log.event(&Event {
            level: Level::Warn,
            node: None,
            text: warning.to_string(),
        });
    }
    Ok(())
}
