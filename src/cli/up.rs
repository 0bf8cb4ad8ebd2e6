//! `nodectl up`: boots a cluster and leaves it standing.

use std::path::PathBuf;
use std::process::ExitCode;

use super::boot::{boot, write_files};
use crate::agent::launch::follow::{FAREWELL, Outcome};
use crate::agent::order::Down;
use crate::buildlog::BuildLog;
use crate::exit;
use crate::fault::Fault;
use crate::step::metadata::utc;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The nodes stand until `nodectl down`, the end of their lifetime, or the end of the container:\n\n  nodectl up -f nodes.yml\n  nodectl ssh worker-1\n  nodectl down\n\nWith `on_failure: keep` in the topology, nodes that did not get ready stand too, to be looked into.\n\nExit status: 69 where the nodes did not get ready."
)]
pub struct Args {
    /// The topology: YAML or JSON. Paths in it are relative to its folder.
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Where the cluster's files go, the same as a get writes; made where it is not there.
    #[arg(short, long, value_name = "DIR", default_value = "nodes")]
    output: PathBuf,
}

/// The output folder cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("--output {}: cannot be made", folder.display())]
struct NoFolder {
    folder: PathBuf,
    source: std::io::Error,
}

impl Fault for NoFolder {
    fn help(&self) -> Option<String> {
        Some("name a folder that can be written".to_owned())
    }
}

/// Boots the nodes, writes their files, and returns.
pub async fn up(args: Args) -> Result<ExitCode, Box<dyn Fault>> {
    let log = BuildLog::terminal();
    // Before anything is booted: a folder that cannot be written would be found out too late.
    std::fs::create_dir_all(&args.output).map_err(|source| NoFolder {
        folder: args.output.clone(),
        source,
    })?;
    let mut booted = boot(&args.file, Down::Commit, None, &log).await?;
    match booted.outcome {
        Outcome::Ready(summary) => {
            write_files(&args.output, &summary, &booted.token, &log).await?;
            log.summary(&summary);
            log.note(&format!(
                "{} stands until {}; its files are in {}",
                summary.cluster,
                utc(summary.expires_at),
                args.output.display()
            ));
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Kept { summary, reason } => {
            log.error(&reason);
            log.note(&format!(
                "{} is kept until {}: `nodectl list`, `nodectl console NODE`, then `nodectl down`",
                summary.cluster,
                utc(summary.expires_at)
            ));
            Ok(ExitCode::from(exit::NOT_READY))
        }
        Outcome::Failed { reason } => {
            booted.agent.abandon(FAREWELL).await;
            let _ = std::fs::remove_dir_all(&booted.directory);
            log.error(&reason);
            Ok(ExitCode::from(exit::NOT_READY))
        }
        Outcome::Interrupted => {
            let _ = std::fs::remove_dir_all(&booted.directory);
            Ok(ExitCode::from(exit::INTERRUPTED))
        }
    }
}
