//! The launcher's side: starts an agent, follows it, commits.

pub mod follow;
pub mod isolate;
pub mod prepare;
pub mod vacate;

use std::fs::OpenOptions;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::order::{Down, Order, Up};
use crate::fault::Fault;

/// Why an agent could not be started or was lost.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// `nodectl` is not where it is installed.
    #[error("the agent's program was not found: looked at {}", .0.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "))]
    NoProgram(Vec<PathBuf>),
    /// A file or directory of the cluster could not be made.
    #[error("{}: cannot be made", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The agent's process could not be started.
    #[error("the agent could not be started")]
    Spawn(#[source] std::io::Error),
    /// The first of its processes failed.
    #[error("the agent's first process failed ({status}): {said}")]
    Isolate {
        /// How it ended.
        status: std::process::ExitStatus,
        /// The end of its log.
        said: String,
    },
    /// The line to the agent broke.
    #[error("the agent ended without a word; the end of its log:\n{said}")]
    Lost {
        /// The end of its log.
        said: String,
    },
}

impl Fault for LaunchError {
    fn help(&self) -> Option<String> {
        Some(match self {
            Self::NoProgram(_) => "use the image as it was built: nodectl belongs beside out".to_owned(),
            Self::Directory { .. } => "give the container a writable disk at /scratch (Concourse does) or /var/lib".to_owned(),
            Self::Isolate { .. } => {
                "see whether the container may start processes and open sessions (setsid, unshare); `nodectl doctor` names what it lacks".to_owned()
            }
            Self::Spawn(_) => "see whether the container may start processes (pids limit, memory)".to_owned(),
            Self::Lost { .. } => {
                "it was killed, by a person or for want of memory: see the worker's kernel log for \"Out of memory\"".to_owned()
            }
        })
    }
}

/// An agent on its way, seen from its launcher. Dropping it before [`Down::Commit`] takes everything down.
#[derive(Debug)]
pub struct Launched {
    up: Lines<BufReader<OwnedReadHalf>>,
    down: Option<OwnedWriteHalf>,
    log: PathBuf,
}

impl Launched {
    /// The agent's next word; an error once it is gone without one.
    pub async fn next(&mut self) -> Result<Up, LaunchError> {
        match self.up.next_line().await {
            Ok(Some(line)) => serde_json::from_str(&line).map_err(|_| LaunchError::Lost {
                said: format!("it said: {line}"),
            }),
            Ok(None) | Err(_) => Err(LaunchError::Lost {
                said: tail(&self.log, 15),
            }),
        }
    }

    /// Tells the agent for how long to hold the cluster. It answers with [`Up::Committed`].
    pub async fn tell(&mut self, word: Down) -> Result<(), LaunchError> {
        let mut line = serde_json::to_vec(&word).unwrap_or_default();
        line.push(b'\n');
        let lost = LaunchError::Lost {
            said: tail(&self.log, 15),
        };
        match self.down.as_mut() {
            Some(down) => down.write_all(&line).await.map_err(|_| lost),
            None => Err(lost),
        }
    }

    /// Gives the cluster up, and waits until the agent has taken it down (or `limit` is over: the agent goes on with it
    /// by itself).
    pub async fn abandon(&mut self, limit: Duration) {
        self.down = None;
        let gone = async { while !matches!(self.next().await, Ok(Up::Gone) | Err(_)) {} };
        let _ = tokio::time::timeout(limit, gone).await;
    }
}

/// Starts an agent and hands it its order.
pub async fn launch(order: &Order) -> Result<Launched, LaunchError> {
    let directory = &order.directory;
    let made = |path: &Path| {
        let path = path.to_owned();
        move |source| LaunchError::Directory { path, source }
    };
    // 0700: keys, consoles and disks of the cluster are nobody else's.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(made(directory))?;
    let log = directory.join("agent.log");
    let log_file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&log)
        .map_err(made(&log))?;
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(LaunchError::Spawn)?;
    let mut child = tokio::process::Command::from(agent_command()?)
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
        .stdout(Stdio::from(log_file.try_clone().map_err(LaunchError::Spawn)?))
        .stderr(Stdio::from(log_file))
        .spawn()
        .map_err(LaunchError::Spawn)?;
    let status = child.wait().await.map_err(LaunchError::Spawn)?;
    if !status.success() {
        return Err(LaunchError::Isolate {
            status,
            said: tail(&log, 5),
        });
    }
    ours.set_nonblocking(true).map_err(LaunchError::Spawn)?;
    let (read, mut write) = UnixStream::from_std(ours)
        .map_err(LaunchError::Spawn)?
        .into_split();
    let mut line = serde_json::to_vec(order).map_err(|error| LaunchError::Spawn(error.into()))?;
    line.push(b'\n');
    write
        .write_all(&line)
        .await
        .map_err(|_| LaunchError::Lost { said: tail(&log, 15) })?;
    Ok(Launched {
        up: BufReader::new(read).lines(),
        down: Some(write),
        log,
    })
}

/// `nodectl agent launch`, with an environment that is known: a base resource type gets no PATH at all.
fn agent_command() -> Result<Command, LaunchError> {
    let mut places = Vec::new();
    if let Ok(own) = std::env::current_exe() {
        places.push(own.with_file_name("nodectl"));
    }
    places.push(PathBuf::from("/usr/local/bin/nodectl"));
    let program = places
        .iter()
        .find(|path| path.is_file())
        .ok_or(LaunchError::NoProgram(places.clone()))?;
    let mut command = Command::new(program);
    command
        .args(["agent", "launch"])
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("HOME", "/root")
        .env("LC_ALL", "C.UTF-8")
        .current_dir("/");
    // What downloads need: Concourse hands proxies in.
    for name in [
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
    ] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    Ok(command)
}

/// The last lines of a log, for an error that has nothing better to show.
pub fn tail(log: &Path, lines: usize) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(64 << 10)..]).into_owned();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
