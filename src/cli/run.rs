//! `nodectl run`: boots a cluster, runs a command with it, removes it.

use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use rand::distr::{Alphanumeric, SampleString};

use super::{IoFault, exit};
use crate::access::{self, ApiAccess};
use crate::agent::api::client::Client;
use crate::agent::api::types::Secret;
use crate::agent::launch::follow::{FAREWELL, Outcome, follow, told_to_stop};
use crate::agent::launch::launch;
use crate::agent::launch::prepare::prepare;
use crate::agent::order::{Down, Summary};
use crate::agent::state::{Found, Run};
use crate::buildlog::BuildLog;
use crate::concourse::Token;
use crate::fault::{Fault, tell};
use crate::progress::{Event, Level};
use crate::topology::model::OnFailure;
use crate::topology::{Inputs, load, validate};

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
    let (inputs, name) = place(&args.file)?;
    let raw = load(&name, &inputs)?;
    let mut topology = validate(&raw, &inputs)?;
    // The cluster is gone when this command ends, kept or not: what it leaves is its evidence in the log.
    topology.on_failure = OnFailure::Destroy;
    let place = Run::default();
    if let Ok(Found::Dead(record)) = place.find() {
        let _ = std::fs::remove_dir_all(&record.directory);
        place.forget().map_err(IoFault)?;
    }
    let token = Token::generate();
    let order = prepare(&topology, token.expose(), &random_request())?;
    let mut agent = launch(&order).await?;
    let outcome = follow(&mut agent, Down::Stay, &log, told_to_stop()).await?;
    let code = match outcome {
        Outcome::Ready(summary) => {
            log.summary(&summary);
            with_cluster(&args.command, &summary, &token, &place, &log).await
        }
        Outcome::Failed { reason } | Outcome::Kept { reason, .. } => {
            log.error(&reason);
            Ok(ExitCode::from(exit::NOT_READY))
        }
        Outcome::Interrupted => Ok(ExitCode::from(exit::INTERRUPTED)),
    };
    agent.abandon(FAREWELL).await;
    let _ = std::fs::remove_dir_all(&order.directory);
    match code {
        Ok(code) => Ok(code),
        Err(fault) => {
            log.error(&tell(fault.as_ref()));
            Ok(ExitCode::from(exit::FAILED))
        }
    }
}

/// The folder that paths in the topology are relative to, and the file's name in it.
fn place(file: &Path) -> Result<(Inputs, String), IoFault> {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Absolute, since the agent works elsewhere.
    let folder = std::path::absolute(folder).map_err(IoFault)?;
    let name = file
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    Ok((Inputs::of_folder(folder), name))
}

/// No two runs of this command are the same request.
fn random_request() -> Vec<u8> {
    Alphanumeric.sample_string(&mut rand::rng(), 32).into_bytes()
}

async fn with_cluster(
    command: &[String],
    summary: &Summary,
    token: &Token,
    place: &Run,
    log: &BuildLog,
) -> Result<ExitCode, Box<dyn Fault>> {
    let (cluster, consoles) = Client::unix(&place.socket())?.fetch().await?;
    let folder = tempfile::Builder::new()
        .prefix("nodes-")
        .tempdir()
        .map_err(IoFault)?;
    let secrets = ApiAccess {
        fingerprint: summary.fingerprint.to_string(),
        token: Secret(token.expose().to_owned()),
    };
    for warning in access::write(folder.path(), &cluster, &secrets, &consoles)? {
        log.event(&Event {
            level: Level::Warn,
            node: None,
            text: warning.to_string(),
        });
    }
    match run_command(command, folder.path()).await {
        Ok(status) => Ok(code_of(status)),
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

fn code_of(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(exit::FAILED))
}
