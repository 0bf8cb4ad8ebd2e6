//! `nodectl up`: boots a cluster and leaves it standing.

use std::path::PathBuf;
use std::process::ExitCode;

use super::boot::{Wanted, boot, write_files};
use super::output::Output;
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
    #[command(flatten)]
    wanted: Wanted,
    /// Where the cluster's files go, the same as a get writes; made where it is not there.
    #[arg(short, long, value_name = "DIR", default_value = "nodes")]
    output: PathBuf,
}

/// Boots the nodes, writes their files, and returns.
pub async fn up(args: Args) -> Result<ExitCode, Box<dyn Fault>> {
    let log = BuildLog::terminal();
    let output = Output::in_folder(&args.output)?;
    let mut booted = boot(&args.wanted, Down::Commit, None, &log).await?;
    match booted.outcome {
        Outcome::Ready(summary) => {
            write_files(output.folder(), &summary, &booted.token, &log).await?;
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
