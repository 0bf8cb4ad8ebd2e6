//! `nodectl session`: libvirt for one command.

use std::path::Path;
use std::process::ExitCode;

use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};

use super::IoFault;
use crate::agent::launch::isolate;
use crate::agent::launch::prepare::base_directory;
use crate::agent::launch::vacate::vacate;
use crate::agent::session::LINE;
use crate::agent::state::Run;
use crate::exit;
use crate::fault::Fault;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "LIBVIRT_DEFAULT_URI is set for the command, and libvirt has the network `default` (NAT) and the pool `default` (/var/lib/libvirt/images):\n\n  nodectl session -- virsh list --all\n  nodectl session -- vagrant up\n\nWhatever the command has started is gone when it ends: machines, networks, and programs that it left in the background. What the pool holds is kept where /var/lib/libvirt/images was there before, such as a volume.\n\nExit status: that of the command; 69 where libvirt did not start; 126 and 127 where the command could not be run."
)]
pub struct Args {
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Runs the command beside libvirt, and gives its exit status.
pub async fn session(args: Args) -> Result<ExitCode, Box<dyn Fault>> {
    vacate(&Run::default()).await?;
    let base = base_directory().join("sessions");
    std::fs::create_dir_all(&base).map_err(IoFault)?;
    remove_dead(&base);
    let folder = tempfile::Builder::new()
        .prefix("session-")
        .tempdir_in(base)
        .map_err(IoFault)?;
    // Kept open for as long as this process lives: its end tells the supervisor, however it comes.
    let listener = UnixListener::bind(folder.path().join(LINE)).map_err(IoFault)?;
    // Ctrl-C and Ctrl-\ go to the command too, which shares the terminal: it decides what they mean.
    let _interrupts = signal(SignalKind::interrupt()).map_err(IoFault)?;
    let _quits = signal(SignalKind::quit()).map_err(IoFault)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(IoFault)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(IoFault)?;
    let init = isolate::session(folder.path(), &args.command).map_err(NoNamespace)?;
    let mut init = tokio::process::Command::from(init).spawn().map_err(IoFault)?;
    // The supervisor's one connection, and the socket that it comes by; both closed to tell it to stop.
    let mut line = (Some(listener), None);
    loop {
        let accept = async {
            match &line {
                (Some(listener), None) => listener.accept().await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            status = init.wait() => {
                return Ok(exit::of(status.map_err(IoFault)?));
            }
            accepted = accept => line.1 = accepted.ok(),
            _ = terminate.recv() => line = (None, None),
            _ = hangup.recv() => line = (None, None),
        }
    }
}

/// A session has no other way to end whatever its command starts.
#[derive(Debug, thiserror::Error)]
#[error("a session needs a PID namespace of its own, which this container may not make")]
struct NoNamespace(#[source] std::io::Error);

impl Fault for NoNamespace {
    fn help(&self) -> Option<String> {
        Some("give it CAP_SYS_ADMIN: `privileged: true` on the task, docker with --privileged or --cap-add SYS_ADMIN; `nodectl run` does without".to_owned())
    }
}

/// Removes what sessions have left whose own process was killed: the socket of one that lives takes connections.
fn remove_dead(base: &Path) {
    for entry in std::fs::read_dir(base).into_iter().flatten().flatten() {
        let line = entry.path().join(LINE);
        if line.exists() && std::os::unix::net::UnixStream::connect(line).is_err() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
