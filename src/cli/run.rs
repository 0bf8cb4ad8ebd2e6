//! `nodectl run`: boots a cluster, runs a command with it, removes it.

use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use super::IoFault;
use super::boot::{Wanted, boot, write_files};
use super::output::Output;
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
    after_help = "The command finds the cluster's files, the same as a get writes, in the folder that NODES_DIR names:\n\n  nodectl run -f nodes.yml -- sh -c '$NODES_DIR/ssh worker-1 uname -a'\n\nWith --output the folder holds afterwards what an artifact of a get holds; of nodes that did not get ready, consoles and report.\n\nExit status: that of the command; 69 where the nodes did not get ready; 127 where the command was not found."
)]
pub struct Args {
    #[command(flatten)]
    wanted: Wanted,
    /// Leave the cluster's files, its consoles and its report in this folder, whether the nodes got ready and the command
    /// succeeded or not; made where it is not there. NODES_DIR names it.
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Runs the command with a cluster, and gives its exit code.
pub async fn run(args: Args) -> Result<ExitCode, Box<dyn Fault>> {
    let log = BuildLog::terminal();
    // The cluster is gone when this command ends, kept or not: what it leaves is its evidence in the log.
    let output = args.output.as_deref().map(Output::in_folder).transpose()?;
    let mut booted = boot(&args.wanted, Down::Stay, Some(OnFailure::Destroy), &log).await?;
    let code = match booted.outcome {
        Outcome::Ready(summary) => {
            log.summary(&summary);
            with_cluster(&args.command, output.as_ref(), &summary, &booted.token, &log).await
        }
        Outcome::Failed { reason } | Outcome::Kept { reason, .. } => {
            log.error(&reason);
            if let Some(output) = &output {
                output.of_failure(&booted.directory, &log);
            }
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
    output: Option<&Output>,
    summary: &Summary,
    token: &Token,
    log: &BuildLog,
) -> Result<ExitCode, Box<dyn Fault>> {
    let own;
    let folder = match output {
        Some(output) => output.folder(),
        None => {
            let builder = || tempfile::Builder::new().prefix("nodes-").tempdir();
            own = builder().map_err(IoFault)?;
            own.path()
        }
    };
    write_files(folder, summary, token, log).await?;
    let ran = run_command(command, folder).await;
    if output.is_some() {
        // Once more: the consoles have gone on, and nodes may have been switched.
        if let Err(error) = write_files(folder, summary, token, log).await {
            log.error(&tell(error.as_ref()));
        }
    }
    match ran {
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
