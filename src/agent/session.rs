//! libvirt for a command of the user's own: what a hand-written startup script does, and an end to it.
//!
//! Like a cluster's agent it runs in PID and mount namespaces of its own, so that whatever the command has started is
//! gone with it: machines, networks, daemons that it left behind.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use ipnet::Ipv4Net;
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::sync::mpsc;

use super::daemons::{self, DaemonError};
use super::family::Family;
use super::host::{self, HostError, leftovers};
use super::state::{Record, Run};
use super::takedown::kill_all;
use crate::exit;
use crate::fault::{Fault, tell};
use crate::hypervisor::{Connection, HypervisorError};
use crate::progress::{Event, Progress};
use crate::topology::model::NetworkingChoice;
use crate::topology::name::Name;
use crate::topology::plan::{HostError as NetworkError, HostNetwork, subnets};

/// The socket in a session's directory by which the supervisor knows that `nodectl session` lives.
pub const LINE: &str = "line.sock";

/// What libvirt's programs look for where nothing else is said.
const URI: &str = "qemu:///system";

/// Where the default pool's volumes are.
const POOL: &str = "/var/lib/libvirt/images";

/// How long the command may take to end once it was asked to: Concourse kills an aborted step after 10 s.
const GRACE: Duration = Duration::from_secs(5);

/// How long processes may take to die of SIGKILL, and libvirt to end machines and networks in order.
const END_LIMIT: Duration = Duration::from_secs(5);

/// Why the command was not run.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Something else holds the container.
    #[error("this container already holds a cluster or a session")]
    Occupied,
    /// A file could not be made.
    #[error("{}: cannot be used", .0.display())]
    Write(std::path::PathBuf, #[source] std::io::Error),
    /// The container cannot hold machines.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Its network cannot be read.
    #[error("the container's network cannot be read")]
    Network(#[source] NetworkError),
    /// No room for the default network.
    #[error("no subnet is free for the default network")]
    NoSubnet,
    /// libvirtd or virtlogd did not start.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    /// libvirt refused.
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
    /// The command could not be started.
    #[error("{0}: cannot be run")]
    Command(String, #[source] std::io::Error),
}

impl Fault for SessionError {
    fn help(&self) -> Option<String> {
        match self {
            Self::Occupied => {
                Some("`nodectl down` removes a cluster; a session ends with its command".to_owned())
            }
            Self::Write(..) => Some("is the disk full, or mounted read-only?".to_owned()),
            Self::Host(error) => error.help(),
            Self::Network(error) => error.help(),
            Self::NoSubnet => Some(
                "the container's routes cover all private addresses: run it in a network of its own"
                    .to_owned(),
            ),
            Self::Daemon(error) => error.help(),
            Self::Hypervisor(error) => error.help(),
            Self::Command(..) => None,
        }
    }
}

/// Runs the supervisor to its end: the exit status is the command's.
pub fn main(directory: &Path, command: &[String]) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("nodectl session: its runtime does not start: {error}");
            return ExitCode::from(exit::NOT_READY);
        }
    };
    let code = runtime.block_on(async {
        let (progress, mut events) = Progress::channel();
        let told = tokio::spawn(async move {
            while let Some(Event { text, .. }) = events.recv().await {
                eprintln!("nodectl session: {text}");
            }
        });
        let code = supervise(directory, command, &progress).await;
        drop(progress);
        let _ = told.await;
        code.unwrap_or_else(|error| {
            eprintln!("error: {}", tell(&error));
            ExitCode::from(match &error {
                SessionError::Command(_, source) if source.kind() == std::io::ErrorKind::NotFound => {
                    exit::NOT_FOUND
                }
                SessionError::Command(..) => exit::NOT_EXECUTABLE,
                _ => exit::NOT_READY,
            })
        })
    });
    runtime.shutdown_background();
    code
}

async fn supervise(
    directory: &Path,
    command: &[String],
    progress: &Progress,
) -> Result<ExitCode, SessionError> {
    let written = |error| SessionError::Write(directory.to_owned(), error);
    let mut line = UnixStream::connect(directory.join(LINE)).await.map_err(written)?;
    let run = Run::default();
    let record = Record {
        cluster: Name::try_from("session".to_owned())
            .map_err(|error| written(std::io::Error::other(error)))?,
        request: String::new(),
        directory: directory.to_owned(),
    };
    let taken = run
        .take(&record)
        .map_err(|error| SessionError::Write(run.directory().to_owned(), error))?
        .ok_or(SessionError::Occupied)?;
    let before = leftovers::link_names();
    let ended = hold(directory, command, progress, &mut line).await;
    if let Err(error) = kill_all(Family::Namespace, END_LIMIT).await {
        progress.warn(format!("{error}"));
    }
    // Also of networks that the command made under names of its own, where libvirtd was not there to end them.
    let mut cleared = leftovers::remove_links_but(&before).await;
    cleared.failed.extend(leftovers::clear().await.failed);
    for failed in cleared.failed {
        progress.warn(format!("left behind: {failed}"));
    }
    if let Err(error) = taken.leave() {
        progress.warn(format!(
            "{}: cannot be removed: {error}",
            run.directory().display()
        ));
    }
    ended
}

async fn hold(
    directory: &Path,
    command: &[String],
    progress: &Progress,
    line: &mut UnixStream,
) -> Result<ExitCode, SessionError> {
    host::prepare(Family::Namespace, NetworkingChoice::Bridges, progress)?;
    leftovers::clear().await;
    let subnet =
        free_subnet(&HostNetwork::read().map_err(SessionError::Network)?).ok_or(SessionError::NoSubnet)?;
    let pool = |errno: rustix::io::Errno| SessionError::Write(POOL.into(), errno.into());
    // A volume of the user's at the pool's place is to stay in sight below the session's own /var/lib/libvirt. It hangs on a
    // descriptor meanwhile, and never below the session's directory, which is removed with all that is in it.
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let given = match Path::new(POOL).is_dir() {
        true => Some(open_tree(CWD, POOL, clone).map_err(pool)?),
        false => None,
    };
    let (deaths, mut died) = mpsc::unbounded_channel();
    let _daemons = daemons::start(Family::Namespace, directory, deaths).await?;
    std::fs::create_dir_all(POOL).map_err(|error| SessionError::Write(POOL.into(), error))?;
    if let Some(given) = given {
        move_mount(given, "", CWD, POOL, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(pool)?;
    }
    let connection = open().await?;
    let versions = connection
        .run(move |connection| {
            connection.define_default_network(subnet)?;
            connection.define_default_pool(POOL)?;
            connection.versions()
        })
        .await?;
    progress.info(format!(
        "libvirt {} and QEMU {} at {URI}, network default {subnet}, pool default {POOL}",
        versions.libvirt, versions.hypervisor
    ));
    let ended = follow(command, line, &mut died, progress).await;
    // In order, so that firewall rules and bridges go too, whatever networks the command has made. A libvirtd that hangs
    // or is dead is not waited for: its processes are killed next.
    let in_order = connection.run(|connection| connection.end_everything());
    if !matches!(tokio::time::timeout(END_LIMIT, in_order).await, Ok(Ok(()))) {
        progress.warn("libvirt did not end its machines and networks in order");
    }
    ended
}

async fn open() -> Result<Connection, SessionError> {
    let opened = tokio::task::spawn_blocking(|| Connection::open(URI)).await;
    match opened {
        Ok(connection) => Ok(connection?),
        Err(source) => Err(HypervisorError::Interrupted { source }.into()),
    }
}

/// Runs the command to its end, or until `nodectl session` is told to stop, or is gone, or a daemon dies.
async fn follow(
    command: &[String],
    line: &mut UnixStream,
    died: &mut mpsc::UnboundedReceiver<DaemonError>,
    progress: &Progress,
) -> Result<ExitCode, SessionError> {
    let mut child = Command::new(&command[0])
        .args(&command[1..])
        .env("LIBVIRT_DEFAULT_URI", URI)
        .spawn()
        .map_err(|error| SessionError::Command(command[0].clone(), error))?;
    let mut nothing = [0];
    tokio::select! {
        status = child.wait() => return Ok(exit::of(status.map_err(|error| SessionError::Command(command[0].clone(), error))?)),
        // Nothing is ever sent: a read ends when the other side is closed.
        _ = line.read(&mut nothing) => {}
        Some(death) = died.recv() => progress.warn(tell(&death)),
    }
    if let Some(pid) = child.id().and_then(|id| Pid::from_raw(id as i32)) {
        let _ = kill_process(pid, Signal::TERM);
    }
    let status = tokio::time::timeout(GRACE, child.wait()).await;
    Ok(match status {
        Ok(Ok(status)) => exit::of(status),
        _ => ExitCode::from(exit::KILLED),
    })
}

/// The subnet of libvirt's own default network where it is free, as programs and people expect it; else any.
fn free_subnet(host: &HostNetwork) -> Option<Ipv4Net> {
    let usual = Ipv4Net::new(Ipv4Addr::new(192, 168, 122, 0), 24).ok()?;
    let nameservers = host.nameservers.iter().copied().map(Ipv4Net::from);
    let taken: Vec<Ipv4Net> = (host.routes.iter().chain(&host.addresses).copied())
        .chain(nameservers)
        .collect();
    if !taken.iter().any(|net| subnets::overlap(*net, usual)) {
        return Some(usual);
    }
    let taken: Vec<Ipv4Net> = taken.into_iter().chain(subnets::common()).collect();
    subnets::choose(200, &taken, &mut rand::rng())
}

#[cfg(test)]
mod tests {
    use super::{HostNetwork, free_subnet};

    #[test]
    fn the_default_network_is_where_it_always_is_or_else_where_it_is_free() {
        let mut host = HostNetwork::default();
        assert_eq!(free_subnet(&host).unwrap().to_string(), "192.168.122.0/24");
        host.nameservers = vec!["192.168.122.1".parse().unwrap()];
        let other = free_subnet(&host).unwrap();
        assert!(
            !other.contains(&"192.168.122.1".parse::<std::net::Ipv4Addr>().unwrap()),
            "{other}"
        );
    }
}
