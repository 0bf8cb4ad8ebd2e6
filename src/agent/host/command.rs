//! Another program run within a time limit, with everything that it started gone afterwards.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

/// What is kept of each of a program's two outputs: its last bytes.
const KEPT: usize = 64 << 10;

/// What became of a program.
#[derive(Debug)]
pub struct Ran {
    /// `None` where the time limit ended it, or where somebody else reaped it (an agent that is PID 1 may).
    pub status: Option<ExitStatus>,
    /// Whether the time limit ended it.
    pub overdue: bool,
    /// The last 64 KiB of its standard output.
    pub stdout: String,
    /// The last 64 KiB of its standard error.
    pub stderr: String,
}

impl Ran {
    /// Whether it ended by itself and said that all was well.
    pub fn succeeded(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// Why it did not succeed: its last words, else how it ended.
    pub fn failure(&self) -> String {
        let said = [&self.stderr, &self.stdout]
            .into_iter()
            .find_map(|text| text.lines().rev().map(str::trim).find(|line| !line.is_empty()));
        match (said, self.status) {
            (Some(line), _) => line.to_owned(),
            (None, Some(status)) => status.to_string(),
            (None, None) if self.overdue => "did not end within its time limit".to_owned(),
            (None, None) => "ended silently".to_owned(),
        }
    }
}

/// A running program in a process group of its own; dropping it kills the whole group.
#[derive(Debug)]
pub struct Group {
    child: Child,
    pid: Option<Pid>,
}

impl Group {
    /// Starts the program in a new process group.
    ///
    /// # Errors
    /// When it cannot be started: not there, not executable, out of processes.
    pub fn spawn(mut command: Command) -> std::io::Result<Self> {
        let child = command.process_group(0).kill_on_drop(true).spawn()?;
        let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Ok(Self { child, pid })
    }

    /// The program itself.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Kills the whole group and waits for its leader.
    pub async fn end(&mut self) {
        self.kill();
        // Fails only where somebody else has reaped it already, which is as good.
        let _ = self.child.wait().await;
    }

    fn kill(&self) {
        if let Some(pid) = self.pid {
            // ESRCH: all of it is gone already.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a program with `input` as its standard input, for `limit` at the most.
///
/// # Errors
/// When it cannot be started.
pub async fn run(mut command: Command, input: &str, limit: Duration) -> std::io::Result<Ran> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut group = Group::spawn(command)?;
    let (stdin, stdout, stderr) = (
        group.child().stdin.take(),
        group.child().stdout.take(),
        group.child().stderr.take(),
    );
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let work = async {
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A program that does not read its input says by its exit status whether that was wrong.
                let _ = tokio::io::AsyncWriteExt::write_all(&mut stdin, input.as_bytes()).await;
            }
        };
        tokio::join!(feed, keep(stdout, &mut out), keep(stderr, &mut err));
        group.child().wait().await
    };
    let ended = tokio::time::timeout(limit, work).await;
    group.end().await;
    Ok(Ran {
        overdue: ended.is_err(),
        status: ended.ok().and_then(Result::ok),
        stdout: String::from_utf8_lossy(&out).into_owned(),
        stderr: String::from_utf8_lossy(&err).into_owned(),
    })
}

async fn keep(from: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut from) = from else { return };
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..count]);
        if kept.len() > 2 * KEPT {
            kept.drain(..kept.len() - KEPT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script);
        command
    }

    #[tokio::test]
    async fn what_a_program_says_is_kept() {
        let ran = run(
            shell("cat; echo bad >&2; exit 3"),
            "good\n",
            Duration::from_secs(60),
        )
        .await
        .unwrap();
        assert_eq!(
            (ran.stdout.as_str(), ran.stderr.as_str(), ran.overdue),
            ("good\n", "bad\n", false)
        );
        assert_eq!(ran.status.and_then(|s| s.code()), Some(3));
        assert!(!ran.succeeded());
        assert_eq!(ran.failure(), "bad");
    }

    #[tokio::test]
    async fn a_time_limit_ends_children_too() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; wait", pid.display());
        let mut group = Group::spawn(shell(&script)).unwrap();
        let grandchild = loop {
            if let Some(pid) = std::fs::read_to_string(&pid)
                .ok()
                .and_then(|text| text.trim().parse().ok())
            {
                break Pid::from_raw(pid).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        group.end().await;
        // The signal is on its way; a zombie may stay where no init reaps it.
        let stat = format!("/proc/{}/stat", grandchild.as_raw_nonzero());
        while std::fs::read_to_string(&stat)
            .is_ok_and(|text| !text.contains(") Z ") && !text.contains(") X "))
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn an_endless_program_is_overdue() {
        let ran = run(shell("sleep 1000"), "", Duration::from_millis(50))
            .await
            .unwrap();
        assert!(ran.overdue && ran.status.is_none());
        assert_eq!(ran.failure(), "did not end within its time limit");
    }

    #[tokio::test]
    async fn a_missing_program_is_an_error() {
        assert!(
            run(Command::new("/no/such/program"), "", Duration::from_secs(1))
                .await
                .is_err()
        );
    }
}
