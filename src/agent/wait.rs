//! Waits until a node is ready, and tells each step on the way.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::ssh::Ssh;
use crate::progress::{Level, Progress};
use crate::topology::plan::PlannedNode;

/// Why a node did not get ready.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotReady {
    /// Its machine stopped.
    #[error("its machine stopped: {0}")]
    Stopped(String),
    /// The time was over.
    #[error("not ready after {seconds} s: {waiting}{}", last.as_ref().map(|last| format!("; the last answer was: {last}")).unwrap_or_default())]
    Late {
        /// The limit.
        seconds: u64,
        /// What it was waited for.
        waiting: &'static str,
        /// What was heard last.
        last: Option<String>,
    },
}

impl NotReady {
    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Stopped(_) => {
                "look at its console: a guest that powers off at boot was told to (image, first boot data), one that crashed says why"
            }
            Self::Late { waiting, .. } if waiting.contains("command") => {
                "run the ready command by hand on a kept cluster (on_failure: keep, then fly hijack and nodectl ssh), or raise ready.timeout"
            }
            Self::Late { waiting, .. } if waiting.contains("host key") => {
                "the image or its first boot replaced the host key: keep the ssh_keys of the cloud-config that was handed in"
            }
            Self::Late { waiting, .. } if waiting.contains("login") => {
                "does the image have cloud-init (or Ignition, with first_boot.ignition), and is ssh_user right?"
            }
            Self::Late { .. } => {
                "look at its console: does the image boot with BIOS from a virtio disk, take an address by DHCP and start sshd? Raise ready.timeout if it is merely slow"
            }
        }
    }
}

/// Follows one node until it is ready. `stopped` tells when its machine is not running any more, and why.
pub async fn until_ready(
    node: &PlannedNode,
    ssh: &Ssh,
    limit: Duration,
    mut stopped: watch::Receiver<Option<String>>,
    progress: &Progress,
) -> Result<Duration, NotReady> {
    let begun = Instant::now();
    let waiting = Waiting::default();
    let walk = walk(node, ssh, begun + limit, &waiting, progress);
    // A build log that stands still looks like a build that hangs.
    let remind = async {
        let mut at = REMINDER;
        loop {
            tokio::time::sleep_until(begun + at).await;
            at += at.min(LAZIEST_REMINDER);
            let text = format!(
                "still waiting after {} s: {}",
                begun.elapsed().as_secs(),
                waiting.tell()
            );
            progress.node(Level::Info, node.name(), text);
        }
    };
    let gone = async {
        // The sender lives as long as the cluster; should it not, the time limit still holds.
        match stopped.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    };
    let result = tokio::select! {
        walked = timeout_at(begun + limit, walk) => walked.ok(),
        reason = gone => return Err(NotReady::Stopped(reason)),
        () = remind => None,
    };
    match result {
        Some(Ok(())) => Ok(begun.elapsed()),
        Some(Err(error)) => Err(error),
        None => {
            let (waiting, last) = waiting.take();
            Err(NotReady::Late {
                seconds: limit.as_secs(),
                waiting,
                last,
            })
        }
    }
}

/// When a node that does not get on is first spoken of; then after twice the time, and so on.
const REMINDER: Duration = Duration::from_secs(30);

/// However long it takes, it is not forgotten for longer than this.
const LAZIEST_REMINDER: Duration = Duration::from_secs(240);

/// What is waited for, and what was heard last.
struct Waiting(Mutex<(&'static str, Option<String>)>);

impl Default for Waiting {
    fn default() -> Self {
        Self(Mutex::new(("its SSH port does not answer", None)))
    }
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, (&'static str, Option<String>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, waiting: &'static str) {
        *self.lock() = (waiting, None);
    }

    fn heard(&self, last: String) {
        self.lock().1 = Some(last);
    }

    fn take(&self) -> (&'static str, Option<String>) {
        self.lock().clone()
    }

    fn tell(&self) -> String {
        match self.take() {
            (waiting, Some(last)) => format!("{waiting} ({last})"),
            (waiting, None) => waiting.to_owned(),
        }
    }
}

async fn walk(
    node: &PlannedNode,
    ssh: &Ssh,
    deadline: Instant,
    waiting: &Waiting,
    progress: &Progress,
) -> Result<(), NotReady> {
    let begun = Instant::now();
    let told = |text: String| {
        progress.node(
            Level::Info,
            node.name(),
            format!("{text} ({:.1}s)", begun.elapsed().as_secs_f64()),
        );
    };
    while let Err(error) = greet(node, waiting).await {
        waiting.heard(error);
        sleep(TRY_EVERY).await;
    }
    told("SSH port answers".to_owned());
    waiting.next("its SSH login is refused");
    let mut pause = Duration::from_millis(200);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match attempt(node, ssh, "exit 0", left).await {
            Ok(()) => break,
            Err(said)
                if said.contains("REMOTE HOST IDENTIFICATION HAS CHANGED")
                    || said.contains("Host key verification failed") =>
            {
                // cloud-init puts our host key in place while sshd may run with one of the image's already: for a
                // while that is the ordinary course; only at the time limit is it the answer.
                waiting.next("its SSH login is refused, since it shows another host key than it was given");
                waiting.heard(last_line(&said));
            }
            Err(said) => waiting.heard(last_line(&said)),
        }
        sleep(pause).await;
        // A guest that is still booting under emulation has better things to do than key exchanges.
        pause = (pause * 3 / 2).min(Duration::from_secs(3));
    }
    told("SSH login works".to_owned());
    if let Some(command) = &node.node.ready.command {
        waiting.next("its ready command does not succeed");
        let mut pause = Duration::from_millis(500);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match attempt(node, ssh, command, left).await {
                Ok(()) => break,
                Err(said) => waiting.heard(last_line(&said)),
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }
    Ok(())
}

/// The pause between two tries of a port.
const TRY_EVERY: Duration = Duration::from_millis(100);

/// How long one try waits for an answer. Packets to a guest that has no address yet are lost, and TCP repeats them only
/// after a second and more: a new try finds the node sooner. But one of them at a time: what waited for the node's
/// address would reach it all at once, and each be a process of its SSH server.
const TRY_LIMIT: Duration = Duration::from_millis(300);

/// Every so many tries one may take longer, for a guest that is too busy to answer within the short limit.
const PATIENT: u32 = 8;

/// The limit of such a try: TCP has repeated itself once by then.
const PATIENT_LIMIT: Duration = Duration::from_secs(2);

/// Connects to port 22 and reads the greeting (RFC 4253 §4.2: `SSH-2.0-…`).
async fn greet(node: &PlannedNode, waiting: &Waiting) -> Result<(), String> {
    let mut stream = connect(node, waiting).await;
    let mut greeting = [0; 4];
    match tokio::time::timeout(Duration::from_secs(20), stream.read_exact(&mut greeting)).await {
        Ok(Ok(_)) if &greeting == b"SSH-" => Ok(()),
        Ok(Ok(_)) => Err("port 22 answers, but not as an SSH server".to_owned()),
        Ok(Err(_)) => Err("port 22 closes the connection without a greeting".to_owned()),
        Err(_) => Err("port 22 accepts, but sends no greeting".to_owned()),
    }
}

/// Waits until port 22 accepts.
async fn connect(node: &PlannedNode, waiting: &Waiting) -> TcpStream {
    let mut number = 0u32;
    loop {
        number = number.wrapping_add(1);
        let limit = if number % PATIENT == 0 {
            PATIENT_LIMIT
        } else {
            TRY_LIMIT
        };
        let tried = tokio::time::timeout(limit, TcpStream::connect((node.address(), 22))).await;
        match tried {
            Ok(Ok(stream)) => return stream,
            Ok(Err(error)) => {
                waiting.heard(error.to_string());
                sleep(TRY_EVERY).await;
            }
            Err(_) => waiting.heard("no answer at its address".to_owned()),
        }
    }
}

async fn attempt(node: &PlannedNode, ssh: &Ssh, command: &str, limit: Duration) -> Result<(), String> {
    let output = ssh
        .run(node, command, limit)
        .await
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if !said.trim().is_empty() {
        return Err(said);
    }
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    Err(if out.trim().is_empty() {
        output.status.to_string()
    } else {
        out
    })
}

fn last_line(text: &str) -> String {
    crate::boot::console::last_lines(text.as_bytes(), 1)
        .pop()
        .unwrap_or_default()
}
