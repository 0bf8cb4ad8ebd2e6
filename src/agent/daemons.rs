//! virtlogd and libvirtd as children of the agent: their configuration, their start, their death.
//!
//! They see directories of the cluster's own in place of the container's `/etc/libvirt`, `/var/lib/libvirt` and so on
//! (bind mounts in the agent's mount namespace), so that nothing of a cluster is left in the container and a read-only
//! root file system will do. An agent without namespaces uses the container's own, and empties them.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::family::Family;
use super::host::command;
use super::launch::tail;
use crate::fault::Fault;

/// The directories that libvirt's daemons use, and what stands in for each.
const OWN: [(&str, &str); 5] = [
    ("etc", "/etc/libvirt"),
    ("run", "/run/libvirt"),
    ("lib", "/var/lib/libvirt"),
    ("log", "/var/log/libvirt"),
    ("cache", "/var/cache/libvirt"),
];

/// Where libvirtd listens.
const LIBVIRT_SOCKET: &str = "/run/libvirt/libvirt-sock";

/// Only root of this container reaches the socket (mode 0700), so that no polkit is needed; nothing listens on TCP.
///
/// Many nodes are created over one connection, each a request that takes a worker (libvirt's default: 5 requests a
/// client). What libvirtd reads as the host's UUID is that of the worker's board, and not always there: ours is random.
const LIBVIRTD: &str = r#"unix_sock_dir = "/run/libvirt"
unix_sock_group = "root"
unix_sock_rw_perms = "0700"
unix_sock_ro_perms = "0700"
unix_sock_admin_perms = "0700"
auth_unix_rw = "none"
auth_unix_ro = "none"
min_workers = 4
max_workers = 64
max_client_requests = 64
keepalive_interval = -1
log_outputs = "3:stderr"
"#;

/// QEMU runs as root of the container: images are used in place, whatever their owner and mode. Its seccomp sandbox is on.
/// No cgroup controllers: the container's tree is not libvirt's to arrange (KubeVirt's cure, kubevirt#8233). No mount
/// namespace a guest: the device nodes were made by the agent, in this very namespace.
const QEMU: &str = r#"user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
security_default_confined = 0
cgroup_controllers = [ ]
namespaces = [ ]
seccomp_sandbox = 1
stdio_handler = "logd"
max_core = 0
"#;

/// libvirt's nftables backend wants the kernel's `act_csum`, which not every worker has; its iptables backend does without,
/// and its rules stand in the same chains as Docker's, whose FORWARD policy of DROP they pass. So iptables where it
/// works, as it does on every worker that runs containers, and nftables elsewhere.
const FIREWALLS: [(&str, &[&str]); 2] = [
    ("iptables", &["iptables", "-w", "5", "-t", "nat", "-S"]),
    ("nftables", &["nft", "list", "tables"]),
];

/// A console that prints without end must not fill the worker's disk: 16 MiB a file, three old ones.
const VIRTLOGD: &str = "max_size = 16777216\nmax_backups = 3\n";

/// A daemon that did not start, or died.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A file or mount that it needs could not be made.
    #[error("{}: cannot be prepared for libvirtd", path.display())]
    Prepare {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An agent without namespaces cannot run beside another libvirt.
    #[error("another libvirtd listens at {LIBVIRT_SOCKET}")]
    Occupied,
    /// Its program could not be started.
    #[error("{name} could not be started")]
    Start {
        /// Which.
        name: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It did not open its socket.
    #[error("{name} did not open {socket} within {seconds} s; the end of its log:\n{said}")]
    Silent {
        /// Which.
        name: &'static str,
        /// Its socket.
        socket: &'static str,
        /// How long was waited.
        seconds: u64,
        /// The end of its log.
        said: String,
    },
    /// It ended while it was needed.
    #[error("{name} died ({status}){}", if said.is_empty() { String::new() } else { format!("; the end of its log:\n{said}") })]
    Died {
        /// Which.
        name: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        said: String,
    },
}

impl Fault for DaemonError {
    fn help(&self) -> Option<String> {
        Some(match self {
            Self::Prepare { .. } => {
                "the container needs a writable root file system, or CAP_SYS_ADMIN: `privileged: true` on the resource type, or --privileged".to_owned()
            }
            Self::Occupied => "end it, or give the container CAP_SYS_ADMIN, with which each has directories of its own".to_owned(),
            Self::Start { .. } => "use the image as it was built: it holds libvirtd and virtlogd".to_owned(),
            Self::Silent { .. } => "run `nodectl doctor` in the same container: it names what libvirtd is refused".to_owned(),
            Self::Died { .. } => {
                "it was killed from outside or crashed: see the worker's kernel log; `nodectl doctor` tries a start by itself".to_owned()
            }
        })
    }
}

/// How long a daemon may take to open its socket. A busy worker under emulation needs some; a broken one is told at once
/// by its exit.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The running daemons. Their deaths are told on the channel that [`start`] was given.
#[derive(Debug)]
pub struct Daemons {
    /// So that the deaths of those that are stopped on purpose are not told.
    watchers: Vec<tokio::task::JoinHandle<()>>,
}

impl Daemons {
    /// Stops listening for deaths, before everything is killed on purpose.
    pub fn expect_death(&self) {
        for watcher in &self.watchers {
            watcher.abort();
        }
    }
}

/// Lays out directories and configuration below `directory`, mounts them where libvirt looks, and starts virtlogd and
/// libvirtd. Returns once libvirtd's socket takes connections.
pub async fn start(
    family: Family,
    directory: &Path,
    deaths: mpsc::UnboundedSender<DaemonError>,
) -> Result<Daemons, DaemonError> {
    prepare(family, directory, firewall().await)?;
    // Side by side: libvirtd asks virtlogd for nothing before its first machine.
    let started = [
        ("virtlogd", "/run/libvirt/virtlogd-sock"),
        ("libvirtd", LIBVIRT_SOCKET),
    ]
    .map(|(name, socket)| async move {
        let log = directory.join(format!("{name}.log"));
        let mut child = spawn(name, &log)?;
        wait_for_socket(name, socket, &log, &mut child).await?;
        Ok::<_, DaemonError>((name, log, child))
    });
    let mut watchers = Vec::new();
    for (name, log, mut child) in futures_util::future::try_join_all(started).await? {
        let deaths = deaths.clone();
        watchers.push(tokio::spawn(async move {
            if let Ok(status) = child.wait().await {
                let _ = deaths.send(DaemonError::Died {
                    name,
                    status,
                    said: tail(&log, 5),
                });
            }
        }));
    }
    Ok(Daemons { watchers })
}

/// The first backend whose program works here; the first of all where none does, for libvirt's own error to tell.
async fn firewall() -> &'static str {
    for (name, test) in FIREWALLS {
        let ran = command::run(arguments(test), "", FIREWALL_LIMIT).await;
        if ran.is_ok_and(|ran| ran.succeeded()) {
            return name;
        }
    }
    FIREWALLS[0].0
}

fn arguments(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

/// A firewall program answers at once, or waits for a lock that nobody gives back.
const FIREWALL_LIMIT: Duration = Duration::from_secs(10);

fn prepare(family: Family, directory: &Path, firewall: &str) -> Result<(), DaemonError> {
    // Open to all: dnsmasq reads its hosts file as its own user, from the cluster's directory that is root's alone.
    let make = |path: &Path| {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(path)
            .map_err(|source| DaemonError::Prepare {
                path: path.to_owned(),
                source,
            })
    };
    let root = directory.join("libvirt");
    if !family.has_namespaces() {
        if std::os::unix::net::UnixStream::connect(LIBVIRT_SOCKET).is_ok() {
            return Err(DaemonError::Occupied);
        }
        // What an agent that was killed has left.
        remove_state();
    }
    for (own, seen) in OWN {
        make(Path::new(seen))?;
        if !family.has_namespaces() {
            continue;
        }
        make(&root.join(own))?;
        rustix::mount::mount_bind(root.join(own), seen).map_err(|errno| DaemonError::Prepare {
            path: seen.into(),
            source: errno.into(),
        })?;
    }
    let libvirtd = format!("{LIBVIRTD}host_uuid = \"{}\"\n", uuid::Uuid::new_v4());
    let network = format!("firewall_backend = \"{firewall}\"\n");
    for (file, text) in [
        ("libvirtd.conf", libvirtd.as_str()),
        ("qemu.conf", QEMU),
        ("network.conf", network.as_str()),
        ("virtlogd.conf", VIRTLOGD),
    ] {
        let path = Path::new(OWN[0].1).join(file);
        std::fs::write(&path, text).map_err(|source| DaemonError::Prepare { path, source })?;
    }
    Ok(())
}

/// Empties the directories that libvirt's daemons have written to, where they are the container's own. Configuration stays: the
/// next start writes it anew. So does a pool's directory, which is the user's.
pub fn remove_state() {
    for directory in [
        "/run/libvirt",
        "/var/cache/libvirt",
        "/var/log/libvirt",
        "/var/lib/libvirt",
    ] {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            // What cannot be removed goes with the container.
            let _ = match entry.file_type() {
                Ok(kind) if kind.is_dir() && entry.file_name() != "images" => {
                    std::fs::remove_dir_all(entry.path())
                }
                Ok(kind) if kind.is_dir() => Ok(()),
                _ => std::fs::remove_file(entry.path()),
            };
        }
    }
}

fn spawn(name: &'static str, log: &Path) -> Result<Child, DaemonError> {
    let start = |source| DaemonError::Start { name, source };
    let file: File = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(log)
        .map_err(start)?;
    Command::new(format!("/usr/sbin/{name}"))
        .arg("--config")
        .arg(format!("/etc/libvirt/{name}.conf"))
        .arg("--pid-file")
        .arg(format!("/run/libvirt/{name}.pid"))
        .stdin(Stdio::null())
        .stdout(Stdio::from(file.try_clone().map_err(start)?))
        .stderr(Stdio::from(file))
        .spawn()
        .map_err(start)
}

async fn wait_for_socket(
    name: &'static str,
    socket: &'static str,
    log: &Path,
    child: &mut Child,
) -> Result<(), DaemonError> {
    let begun = tokio::time::Instant::now();
    loop {
        if tokio::net::UnixStream::connect(socket).await.is_ok() {
            return Ok(());
        }
        if let Ok(Some(status)) = child.try_wait() {
            return Err(DaemonError::Died {
                name,
                status,
                said: tail(log, 8),
            });
        }
        if begun.elapsed() > START_LIMIT {
            let seconds = START_LIMIT.as_secs();
            return Err(DaemonError::Silent {
                name,
                socket,
                seconds,
                said: tail(log, 8),
            });
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
