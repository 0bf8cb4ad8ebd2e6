//! Waits until a node is ready, and tells each step on the way.

use std::io::ErrorKind;
use std::net::SocketAddrV4;
use std::process::Output;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::adopt::{Adoption, Refusal};
use super::judging::Judging;
use super::ssh::Ssh;
use super::watch::Notes;
use super::wire::ways::Ways;
use crate::boot::evidence::{Evidence, ReadyCommand, Ssh as SshSeen};
use crate::boot::phase::Phase;
use crate::progress::{Level, Progress};
use crate::topology::plan::PlannedNode;

/// How the wait for a node ended, where the node is not ready. Why is the judge's to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReady {
    /// Its machine stopped.
    Stopped,
    /// The time was over.
    Late,
    /// The judge saw no sense in waiting any longer.
    Judged,
    /// It boots from a Vagrant box that cannot be made the cluster's: its [`Adoption`] says why.
    NotAdopted,
}

/// How long is waited.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From power on to ready, at most.
    pub all: Duration,
    /// From the login to the success of the ready command, at most.
    pub command: Duration,
}

/// How a node is entered.
#[derive(Clone, Copy, Debug)]
pub struct Entrance<'a> {
    /// With the cluster's keys.
    pub ssh: &'a Ssh,
    /// To its ports.
    pub ways: &'a Ways,
    /// What makes it the cluster's on the way, where it boots from a Vagrant box.
    pub adoption: Option<&'a Adoption>,
}

/// Follows one node until it is ready. What is seen on the way goes to `judging`. `stopped` tells when its machine is not
/// running any more.
pub async fn until_ready(
    node: &PlannedNode,
    entrance: Entrance<'_>,
    limits: Limits,
    mut stopped: watch::Receiver<Option<String>>,
    judging: &Judging,
    progress: &Progress,
) -> Result<Duration, NotReady> {
    let begun = Instant::now();
    let waiting = Waiting::new(Some(judging.notes()));
    let walk = walk(
        node,
        entrance,
        progress,
        begun + limits.all,
        limits.command,
        &waiting,
    );
    // A build log that stands still looks like a build that hangs.
    let remind = async {
        let mut at = REMINDER;
        loop {
            tokio::time::sleep_until(begun + at).await;
            at += at.min(LAZIEST_REMINDER);
            let phase = judging.judged().phase();
            // Nobody expects SSH of a node that has no init yet.
            let heard = if phase < Phase::Userspace {
                String::new()
            } else {
                format!(": {}", waiting.tell())
            };
            let text = format!(
                "still waiting after {} s, in the phase {phase}{heard}",
                begun.elapsed().as_secs(),
            );
            progress.node(Level::Info, node.name(), text);
        }
    };
    // The senders live as long as the cluster; should they not, the time limit still holds.
    let gone = async {
        if stopped.wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let mut ends = judging.ends();
    let judged = async {
        if ends.wait_for(|ends| *ends).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        // Ready is ready, whatever else is the case at the same moment.
        biased;
        walked = timeout_at(begun + limits.all, walk) => match walked {
            Ok(Ok(())) => Ok(begun.elapsed()),
            Ok(Err(late)) => Err(late),
            Err(_) => Err(NotReady::Late),
        },
        () = gone => Err(NotReady::Stopped),
        () = judged => Err(NotReady::Judged),
        () = remind => Err(NotReady::Late),
    }
}

/// Logs in to a node that was ready once, and runs its ready command, until both succeed; gives how long that took, or what it
/// was waiting for at the end.
pub async fn check(
    node: &PlannedNode,
    entrance: Entrance<'_>,
    limit: Duration,
    progress: &Progress,
) -> Result<Duration, String> {
    // A connection of before would prove nothing.
    entrance.ssh.forget(node).await;
    let begun = Instant::now();
    let waiting = Waiting::new(None);
    let walk = walk(node, entrance, progress, begun + limit, limit, &waiting);
    match timeout_at(begun + limit, walk).await {
        Ok(Ok(())) => Ok(begun.elapsed()),
        Ok(Err(_)) | Err(_) => Err(waiting.tell()),
    }
}

/// When a node that does not get on is first spoken of; then after twice the time, and so on.
const REMINDER: Duration = Duration::from_secs(30);

/// However long it takes, it is not forgotten for longer than this.
const LAZIEST_REMINDER: Duration = Duration::from_secs(240);

/// The same answer again is news after so long.
const AGAIN: Duration = Duration::from_secs(5);

/// What is waited for, and what was heard last.
struct Waiting {
    /// Where the node has a judge.
    notes: Option<Notes>,
    heard: Mutex<Heard>,
}

struct Heard {
    waiting: &'static str,
    last: Option<String>,
    told: Option<(Evidence, Instant)>,
}

impl Waiting {
    fn new(notes: Option<Notes>) -> Self {
        let heard = Heard {
            waiting: "its SSH port does not answer",
            last: None,
            told: None,
        };
        Self {
            notes,
            heard: Mutex::new(heard),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, waiting: &'static str) {
        let mut heard = self.lock();
        heard.waiting = waiting;
        heard.last = None;
    }

    /// `last` is for people; `what` goes to the judge, unless it has just been told the same.
    fn heard(&self, last: String, what: Evidence) {
        let mut heard = self.lock();
        heard.last = Some(last).filter(|last| !last.is_empty());
        let news = heard
            .told
            .as_ref()
            .is_none_or(|(told, at)| *told != what || at.elapsed() >= AGAIN);
        if news {
            heard.told = Some((what.clone(), Instant::now()));
            if let Some(notes) = &self.notes {
                notes.seen(what);
            }
        }
    }

    fn tell(&self) -> String {
        let heard = self.lock();
        match &heard.last {
            Some(last) => format!("{} ({last})", heard.waiting),
            None => heard.waiting.to_owned(),
        }
    }
}

async fn walk(
    node: &PlannedNode,
    Entrance {
        ssh,
        ways,
        mut adoption,
    }: Entrance<'_>,
    progress: &Progress,
    deadline: Instant,
    command_limit: Duration,
    waiting: &Waiting,
) -> Result<(), NotReady> {
    loop {
        match greet(node, ways, waiting).await {
            Ok(text) => {
                waiting.heard(String::new(), Evidence::Ssh(SshSeen::Banner { text }));
                break;
            }
            Err((said, seen)) => waiting.heard(said, Evidence::Ssh(seen)),
        }
        sleep(TRY_EVERY).await;
    }
    waiting.next("its SSH login is refused");
    let mut pause = Duration::from_millis(200);
    let mut failures = INSIDE_AGAIN;
    let mut penalties = Penalties::default();
    loop {
        // A box that reads its seed after all lets the cluster in without it.
        let mut refused = None;
        if let Some(stranger) = adoption {
            match stranger.try_once(ssh.door(node)).await {
                Ok(()) => {
                    adoption = None;
                    progress.node(Level::Info, node.name(), ADOPTED);
                }
                Err(Refusal::Inside(said)) if failures == 0 => {
                    stranger.give_up(said);
                    return Err(NotReady::NotAdopted);
                }
                Err(Refusal::Inside(said)) => {
                    failures -= 1;
                    refused = Some(said);
                }
                Err(Refusal::Outside(said)) => refused = Some(said),
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let tried = ssh.log_in(node, left).await.map(Answer::from);
        let mut denied = false;
        match tried {
            Ok(Answer { status: Some(0), .. }) => break,
            _ if refused.is_some() => {
                let said = format!(
                    "as vagrant, by Vagrant's own key: {}",
                    refused.unwrap_or_default()
                );
                waiting.heard(last_line(&said), Evidence::Ssh(refusal(said)));
            }
            answer => {
                let said = answer.unwrap_or_else(Answer::of).said();
                if said.contains("REMOTE HOST IDENTIFICATION HAS CHANGED")
                    || said.contains("Host key verification failed")
                {
                    // cloud-init puts our host key in place while sshd may run with one of the image's already: for a
                    // while that is the ordinary course; only at the time limit is it the answer.
                    waiting
                        .next("its SSH login is refused, since it shows another host key than it was given");
                }
                let seen = refusal(said.clone());
                denied = match &seen {
                    SshSeen::Denied { .. } => true,
                    SshSeen::Closed { text } => !text.contains("kex_exchange_identification"),
                    _ => false,
                };
                waiting.heard(last_line(&said), Evidence::Ssh(seen));
            }
        }
        if denied {
            pause = penalties.next();
        }
        sleep(pause).await;
        // A guest that is still booting under emulation has better things to do than key exchanges.
        pause = (pause * 3 / 2).min(Duration::from_secs(3));
    }
    waiting.heard(String::new(), Evidence::Ssh(SshSeen::LoggedIn));
    if let Some(command) = &node.node.ready.command {
        waiting.next("its ready command does not succeed");
        // A little before the limit of all, so that a command that hangs is told as one.
        let deadline = deadline.min(Instant::now() + command_limit);
        let deadline = deadline.checked_sub(LAST_WORD).unwrap_or(deadline);
        let mut pause = Duration::from_millis(500);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = attempt(node, ssh, command, left).await.unwrap_or_else(Answer::of);
            let late = Instant::now() + pause >= deadline;
            let seen = ReadyCommand {
                exit_status: answer.status,
                timed_out: answer.status.is_none(),
                will_retry: !late,
                stdout: end_of(&answer.stdout),
                stderr: end_of(&answer.stderr),
            };
            // 255 is ssh's own word for a connection that failed; the command itself may never have run.
            let seen = match answer.status {
                Some(255) => Evidence::Ssh(refusal(answer.said())),
                _ => Evidence::ReadyCommand(seen),
            };
            waiting.heard(last_line(&answer.said()), seen);
            if answer.status == Some(0) {
                break;
            }
            if late {
                return Err(NotReady::Late);
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }
    Ok(())
}

/// How often a box that lets Vagrant's user in and then fails is tried again: it may still be booting.
const INSIDE_AGAIN: u32 = 3;

/// What the log says of a box that is the cluster's now.
const ADOPTED: &str = "a Vagrant box: its published key is replaced by the cluster's, and its host key";

/// What the end of a ready command needs to be told before the time is over.
const LAST_WORD: Duration = Duration::from_millis(500);

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
async fn greet(node: &PlannedNode, ways: &Ways, waiting: &Waiting) -> Result<String, (String, SshSeen)> {
    let mut stream = connect(node, ways, waiting).await;
    let mut greeting = [0; 255];
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut greeting)).await;
    match read {
        Ok(Ok(count)) if greeting[..count].starts_with(b"SSH-") => {
            Ok(last_line(&String::from_utf8_lossy(&greeting[..count])))
        }
        Ok(Ok(0)) | Ok(Err(_)) => {
            let said = "port 22 closes the connection without a greeting".to_owned();
            Err((said.clone(), SshSeen::Closed { text: said }))
        }
        Ok(Ok(_)) => {
            let said = "port 22 answers, but not as an SSH server".to_owned();
            Err((said.clone(), SshSeen::Failed { text: said }))
        }
        Err(_) => Err((
            "port 22 accepts, but sends no greeting".to_owned(),
            SshSeen::NoBanner,
        )),
    }
}

/// Waits until port 22 accepts.
async fn connect(node: &PlannedNode, ways: &Ways, waiting: &Waiting) -> TcpStream {
    let to = SocketAddrV4::new(node.address(), 22);
    let mut number = 0u32;
    loop {
        number = number.wrapping_add(1);
        let patient = number % PATIENT == 0;
        let limit = if patient { PATIENT_LIMIT } else { TRY_LIMIT };
        let tried = tokio::time::timeout(limit, ways.reach(to)).await;
        match tried {
            Ok(Ok(stream)) => return stream,
            Ok(Err(error)) => {
                waiting.heard(error.to_string(), Evidence::Ssh(unanswered(&error)));
                sleep(TRY_EVERY).await;
            }
            // Only a long silence says something: a guest may be too busy for a short one.
            Err(_) if patient => {
                waiting.heard(
                    "no answer at its address".to_owned(),
                    Evidence::Ssh(SshSeen::TimedOut),
                );
            }
            Err(_) => {}
        }
    }
}

fn unanswered(error: &std::io::Error) -> SshSeen {
    match error.kind() {
        ErrorKind::ConnectionRefused => SshSeen::Refused,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => SshSeen::Unreachable,
        ErrorKind::TimedOut => SshSeen::TimedOut,
        _ => SshSeen::Failed {
            text: error.to_string(),
        },
    }
}

/// How a command on a node ended.
struct Answer {
    /// `None` where it had no answer within the time limit.
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Answer {
    /// ssh could not be run.
    fn of(error: std::io::Error) -> Self {
        Self {
            status: None,
            stdout: String::new(),
            stderr: error.to_string(),
        }
    }

    /// What is worth showing of it.
    fn said(&self) -> String {
        [&self.stderr, &self.stdout]
            .into_iter()
            .find(|text| !text.trim().is_empty())
            .cloned()
            .unwrap_or_else(|| {
                self.status
                    .map_or_else(String::new, |status| format!("exit status {status}"))
            })
    }
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

async fn attempt(node: &PlannedNode, ssh: &Ssh, command: &str, limit: Duration) -> std::io::Result<Answer> {
    ssh.run(node, command, limit).await.map(Answer::from)
}

/// How long to wait after a login that was denied.
///
/// OpenSSH 9.8 and later (sshd_config(5), `PerSourcePenalties`) counts 5 s for each denial and 1 s for a connection that tried none, and
/// from 15 s on shuts the source out until they are over. At this pace the sum stays below that, so that a key that comes late is
/// found when it comes.
#[derive(Debug, Default)]
struct Penalties(usize);

impl Penalties {
    fn next(&mut self) -> Duration {
        let pause = [1, 2, 4].get(self.0).copied().unwrap_or(5);
        self.0 += 1;
        Duration::from_secs(pause)
    }
}

/// What a login that failed tells, in the words of OpenSSH's client.
fn refusal(text: String) -> SshSeen {
    if text.contains("Permission denied") {
        SshSeen::Denied { text }
    } else if [
        "kex_exchange_identification",
        "Connection closed by",
        "Connection reset by",
    ]
    .iter()
    .any(|words| text.contains(words))
    {
        SshSeen::Closed { text }
    } else {
        SshSeen::Failed { text }
    }
}

/// The end of what a command printed: enough to see what was wrong.
fn end_of(text: &str) -> String {
    crate::boot::console::last_lines(text.as_bytes(), 20).join("\n")
}

fn last_line(text: &str) -> String {
    crate::boot::console::last_lines(text.as_bytes(), 1)
        .pop()
        .unwrap_or_default()
}
