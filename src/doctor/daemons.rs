//! virtlogd and libvirtd, really started: in namespaces and a state folder of their own, asked one question, and stopped.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::time::Instant;

use super::{Check, Verdict};
use crate::agent::host::command::Group;

/// The container's folders that the daemons write to; each is replaced by an empty one of the doctor's own, so that a
/// cluster that runs beside it notices nothing.
const FOLDERS: [&str; 5] = [
    "run",
    "etc/libvirt",
    "var/lib/libvirt",
    "var/cache/libvirt",
    "var/log/libvirt",
];

/// `$1` is the state folder, the rest are [`FOLDERS`].
///
/// The shell stays, as PID 1 that reaps: libvirtd questions a QEMU that has put itself into the background, and waits
/// until it is gone for good. As PID 1 itself it would wait for a zombie of its own.
const SCRIPT: &str = r#"
set -e
state=$1; shift
for folder; do mkdir -p "$state/$folder" "/$folder"; done
cp "$state/libvirtd.conf" "$state/virtlogd.conf" "$state/etc/libvirt/"
for folder; do mount --bind "$state/$folder" "/$folder"; done
virtlogd --config /etc/libvirt/virtlogd.conf 2>"/var/log/libvirt/virtlogd" &
libvirtd --config /etc/libvirt/libvirtd.conf &
wait $!
"#;

const LIBVIRTD: &str = "auth_unix_rw = \"none\"\nauth_unix_ro = \"none\"\nlog_outputs = \"3:stderr\"\n";
const VIRTLOGD: &str = "log_outputs = \"3:stderr\"\n";

/// The lines of a daemon's log that are shown.
const EVIDENCE: usize = 5;

pub(super) async fn examine(patience: Duration) -> Vec<Check> {
    if !may_make_namespaces() {
        let found = "not tried: without CAP_SYS_ADMIN there is no room apart for it; a cluster's uses the container's directories";
        return vec![Check::new("libvirtd", "libvirtd", Verdict::Skip, found)];
    }
    match Sandbox::start() {
        Ok(sandbox) => sandbox.examine(patience).await,
        Err(error) => {
            let found = format!("cannot be tried: {error}");
            vec![
                Check::new("libvirtd", "libvirtd", Verdict::Fail, found)
                    .cured_by("The image lacks util-linux (unshare), or /tmp cannot be written."),
            ]
        }
    }
}

pub(super) fn may_make_namespaces() -> bool {
    use rustix::thread::{CapabilitySet, capabilities};
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

struct Sandbox {
    folder: tempfile::TempDir,
    group: Group,
}

impl Sandbox {
    fn start() -> std::io::Result<Self> {
        // Short, since a socket's path has 107 characters at most (unix(7)).
        let folder = tempfile::Builder::new().prefix("doctor").tempdir()?;
        std::fs::write(folder.path().join("libvirtd.conf"), LIBVIRTD)?;
        std::fs::write(folder.path().join("virtlogd.conf"), VIRTLOGD)?;
        let errors = std::fs::File::create(folder.path().join("errors"))?;
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--",
        ]);
        command
            .args(["sh", "-c", SCRIPT, "sh"])
            .arg(folder.path())
            .args(FOLDERS)
            .env("LC_ALL", "C");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        Ok(Self {
            group: Group::spawn(command)?,
            folder,
        })
    }

    async fn examine(mut self, patience: Duration) -> Vec<Check> {
        let deadline = Instant::now() + patience;
        let run = self.folder.path().join("run/libvirt");
        let virtlogd = self.wait_for(&run.join("virtlogd-sock"), deadline).await;
        // Without virtlogd libvirtd starts all the same, and is worth a verdict of its own.
        let libvirtd = match self.wait_for(&run.join("libvirt-sock"), deadline).await {
            Ok(()) => self.ask(run.join("libvirt-sock"), deadline).await,
            Err(reason) => Err(reason),
        };
        let logs = self.folder.path().join("var/log/libvirt");
        let checks = vec![
            self.judge(
                "virtlogd",
                virtlogd.map(|()| "starts and listens".to_owned()),
                &logs.join("virtlogd"),
            ),
            self.judge("libvirtd", libvirtd, &self.folder.path().join("errors")),
        ];
        self.group.end().await;
        checks
    }

    async fn wait_for(&mut self, socket: &Path, deadline: Instant) -> Result<(), String> {
        loop {
            if UnixStream::connect(socket).await.is_ok() {
                return Ok(());
            }
            if let Ok(Some(status)) = self.group.child().try_wait() {
                return Err(format!("ended with {status}"));
            }
            if Instant::now() >= deadline {
                return Err("does not listen within the time limit".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Opens `qemu:///system` on that socket and asks for versions, which makes libvirtd find and question QEMU.
    async fn ask(&mut self, socket: PathBuf, deadline: Instant) -> Result<String, String> {
        let mut asking = tokio::task::spawn_blocking(move || versions(&socket));
        match tokio::time::timeout_at(deadline, &mut asking).await {
            Ok(answer) => answer.unwrap_or_else(|error| Err(error.to_string())),
            Err(_) => {
                // Its socket closes with it, which ends the blocked call too.
                self.group.end().await;
                let _ = asking.await;
                Err("listens, but does not answer within the time limit".to_owned())
            }
        }
    }

    fn judge(&self, name: &'static str, outcome: Result<String, String>, log: &Path) -> Check {
        let reason = match outcome {
            Ok(found) => return Check::new(name, name, Verdict::Ok, found),
            Err(reason) => reason,
        };
        let log = std::fs::read_to_string(log)
            .or_else(|_| std::fs::read_to_string(self.folder.path().join("errors")))
            .unwrap_or_default();
        let lines: Vec<&str> = log
            .lines()
            .filter(|line| !line.trim().is_empty() && !line.contains(": info :"))
            .collect();
        let evidence: Vec<String> = lines[lines.len().saturating_sub(EVIDENCE)..]
            .iter()
            .map(|line| (*line).to_owned())
            .collect();
        let cure = cure(&evidence);
        Check::new(name, name, Verdict::Fail, format!("does not start: {reason}"))
            .cured_by(cure)
            .with_evidence(evidence)
    }
}

fn cure(evidence: &[String]) -> &'static str {
    let said = |text| evidence.iter().any(|line| line.contains(text));
    if said("not permitted") || said("Permission denied") {
        "The container is not privileged: set `privileged: true` on the resource type (or run the task with `privileged: true`, docker with `--privileged`)."
    } else if said(": not found") || said("error while loading shared libraries") {
        "The image lacks a part of libvirt: use the image as it was built."
    } else {
        "The lines beside it are the daemon's own; docs/troubleshooting.md knows some of them."
    }
}

fn versions(socket: &Path) -> Result<String, String> {
    virt::error::clear_error_callback();
    let uri = format!("qemu:///system?socket={}", socket.display());
    let told = |error: virt::error::Error| error.message().to_owned();
    let connect = virt::connect::Connect::open(Some(&uri)).map_err(told)?;
    let answer = connect
        .lib_version()
        .and_then(|libvirt| Ok((libvirt, connect.hyp_version()?)));
    let (libvirt, qemu) = answer.map_err(told)?;
    Ok(format!(
        "starts and answers: libvirt {}, QEMU {}",
        version(libvirt),
        version(qemu)
    ))
}

/// libvirt packs versions as major * 1,000,000 + minor * 1,000 + release.
fn version(packed: u32) -> String {
    format!(
        "{}.{}.{}",
        packed / 1_000_000,
        packed / 1_000 % 1_000,
        packed % 1_000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_unpacked() {
        assert_eq!(version(11_003_000), "11.3.0");
        assert_eq!(version(10_000_008), "10.0.8");
    }

    #[test]
    fn the_cure_follows_what_was_said() {
        assert!(
            cure(&["unshare: unshare failed: Operation not permitted".to_owned()])
                .contains("privileged: true")
        );
        assert!(cure(&["sh: 1: virtlogd: not found".to_owned()]).contains("lacks"));
    }
}
