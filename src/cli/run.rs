//! `nodectl run`: boots a cluster, runs a command with it, removes it.

use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use super::IoFault;
use super::boot::{boot, write_files};
use crate::agent::launch::follow::{FAREWELL, Outcome, told_to_stop};
use crate::agent::order::{Down, Summary};
use crate::buildlog::BuildLog;
use crate::concourse::Token;
use crate::exit;
use crate::fault::{Fault, tell};
use crate::topology::model::OnFailure;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The command finds the cluster's files, the same as a get writes, in the folder that NODES_DIR names:\n\n  nodectl run -f nodes.yml -- sh -c '$NODES_DIR/ssh worker-1 uname -a'\n\nExit status: that of the command; 69 where the nodes did not get ready; 127 where the command was not found."
)]
pub struct Args {
    /// The topology: YAML or JSON. Paths in it are relative to its folder.
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Runs the command with a cluster, and gives its exit code.
pub async fn run(args: Args) -> Result<ExitCode, Box<dyn Fault>> {
    let log = BuildLog::terminal();
    // The cluster is gone when this command ends, kept or not: what it leaves is its evidence in the log.
    let mut booted = boot(&args.file, Down::Stay, Some(OnFailure::Destroy), &log).await?;
    let code = match booted.outcome {
        Outcome::Ready(summary) => {
            log.summary(&summary);
            with_cluster(&args.command, &summary, &booted.token, &log).await
        }
        Outcome::Failed { reason } | Outcome::Kept { reason, .. } => {
            log.error(&reason);
            Ok(ExitCode::from(exit::NOT_READY))
        }
        Outcome::Interrupted => Ok(ExitCode::from(exit::INTERRUPTED)),
    };
    booted.agent.abandon(FAREWELL).await;
    let _ = std::fs::remove_dir_all(&booted.directory);
    match code {
        Ok(code) => Ok(code),
        Err(fault) => {
            log.error(&tell(fault.as_ref()));
            Ok(ExitCode::from(exit::FAILED))
        }
    }
}

async fn with_cluster(
    command: &[String],
    summary: &Summary,
    token: &Token,
    log: &BuildLog,
) -> Result<ExitCode, Box<dyn Fault>> {
    let folder = tempfile::Builder::new()
        .prefix("nodes-")
        .tempdir()
        .map_err(IoFault)?;
    write_files(folder.path(), summary, token, log).await?;
    match run_command(command, folder.path()).await {
        Ok(status) => Ok(exit::of(status)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            log.error(&format!("{}: not found", command[0]));
            Ok(ExitCode::from(exit::NOT_FOUND))
        }
        Err(error) => Err(IoFault(error).into()),
    }
}

/// Runs the command to its end. A signal that stops this program is passed on to it: SIGTERM at first, and SIGKILL if it
/// has not ended 5 s later, so that the cluster is gone before Concourse's own 10 s are over.
async fn run_command(command: &[String], nodes: &Path) -> std::io::Result<ExitStatus> {
    let mut child = tokio::process::Command::new(&command[0])
        .args(&command[1..])
        .env("NODES_DIR", nodes)
        .kill_on_drop(true)
        .spawn()?;
    tokio::select! {
        status = child.wait() => return status,
        _ = told_to_stop() => {}
    }
    if let Some(pid) = child
        .id()
        .and_then(|id| rustix::process::Pid::from_raw(id as i32))
    {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    if tokio::time::timeout(Duration::from_secs(5), child.wait())
        .await
        .is_err()
    {
        child.start_kill()?;
    }
    child.wait().await
}
