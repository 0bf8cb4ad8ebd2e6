//! Makes a Vagrant box a node of the cluster.
//!
//! Most boxes have no cloud-init, and so read no seed: they let in the user `vagrant` by a key pair that is published
//! with Vagrant, and leave it to whoever boots them to replace it. So does this: it logs in by that key, puts the
//! cluster's login key, the node's host key and its name in place, and removes the published key from every account.
//!
//! The first login trusts whichever host key it is shown: nothing else is known of a box. It goes over the cluster's own
//! bridge, to an address that DHCP gives to this node's MAC alone. From then on the host key is checked.

use std::io;
use std::net::SocketAddrV4;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::first_boot::keys::{ClusterKeys, HostKey};
use crate::topology::model::ImageSource;
use crate::topology::plan::PlannedNode;

/// The key pairs that Vagrant publishes: the old one, which every box knows, and the one of Vagrant 2.4.
const PUBLISHED: [(&str, &str); 2] = [
    ("vagrant_rsa", include_str!("vagrant_rsa")),
    ("vagrant_ed25519", include_str!("vagrant_ed25519")),
];

/// What is done in the box, as root.
const SCRIPT: &str = include_str!("script.sh");

/// A box's user `vagrant` may do everything by sudo, without a password: Vagrant asks that of every box.
const AS_ROOT: &str = r#"if [ "$(id -u)" = 0 ]; then exec sh -s; else exec sudo -n sh -s; fi"#;

/// The longest that one try may take: it is a few lines of shell, on a guest that may be emulated and busy.
const LIMIT: Duration = Duration::from_secs(60);

/// What a node that boots from a box still needs before it is the cluster's.
#[derive(Debug)]
pub struct Adoption {
    keys: [PathBuf; 2],
    script: Script,
    given_up: OnceLock<String>,
}

/// Why a try did not succeed.
#[derive(Debug)]
pub enum Refusal {
    /// Nobody was let in, for now at least: a box that is still booting, or one that has other keys.
    Outside(String),
    /// Vagrant's user was let in, and could not do it.
    Inside(String),
}

/// Holds a private key: not to be shown.
struct Script(String);

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Script(…)")
    }
}

/// Writes the published keys (0600) into `directory`, for the client to read.
///
/// # Errors
/// As the file system gives them.
pub fn write_keys(directory: &Path) -> io::Result<()> {
    for (name, text) in PUBLISHED {
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(directory.join(name))?;
        io::Write::write_all(&mut file, text.as_bytes())?;
    }
    Ok(())
}

/// Whether a node boots from what is said to be a box.
pub fn is_box(node: &PlannedNode) -> bool {
    matches!(node.node.image, ImageSource::Box(_))
}

impl Adoption {
    /// Of a node that boots from a box; `directory` is where [`write_keys`] wrote.
    pub fn of(node: &PlannedNode, keys: &ClusterKeys, host: &HostKey, directory: &Path) -> Option<Self> {
        is_box(node).then(|| Self {
            keys: PUBLISHED.map(|(name, _)| directory.join(name)),
            script: Script(script_of(
                node.node.ssh_user.as_str(),
                node.name().as_str(),
                keys,
                host,
            )),
            given_up: OnceLock::new(),
        })
    }

    /// It will not succeed any more; `said` is what the box said last.
    pub fn give_up(&self, said: String) {
        let _ = self.given_up.set(said);
    }

    /// What the box said last, if it was given up.
    pub fn given_up(&self) -> Option<&str> {
        self.given_up.get().map(String::as_str)
    }

    /// Tries it once; `to` is where the box's SSH port is reached.
    ///
    /// # Errors
    /// What the client or the box said.
    pub async fn try_once(&self, to: SocketAddrV4) -> Result<(), Refusal> {
        let told = |error: io::Error| Refusal::Outside(error.to_string());
        let mut child = self.command(to).spawn().map_err(told)?;
        let mut stdin = child.stdin.take();
        let work = async {
            if let Some(stdin) = &mut stdin {
                // A client that was refused reads nothing: what it says is the better error.
                let _ = stdin.write_all(self.script.0.as_bytes()).await;
            }
            drop(stdin.take());
            child.wait_with_output().await
        };
        let output = match tokio::time::timeout(LIMIT, work).await {
            Ok(output) => output.map_err(told)?,
            Err(_) => return Err(Refusal::Outside("no answer within the time limit".to_owned())),
        };
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        match output.status.code() {
            Some(0) => Ok(()),
            // ssh's own word for a connection or a login that failed.
            Some(255) | None => Err(Refusal::Outside(said)),
            Some(status) if said.is_empty() => Err(Refusal::Inside(format!("exit status {status}"))),
            Some(_) => Err(Refusal::Inside(said)),
        }
    }

    fn command(&self, to: SocketAddrV4) -> Command {
        let mut command = Command::new("ssh");
        command.args(["-F", "/dev/null", "-T"]);
        for key in &self.keys {
            command.arg("-i").arg(key);
        }
        for option in [
            "User=vagrant",
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "PreferredAuthentications=publickey",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "GlobalKnownHostsFile=/dev/null",
            "ConnectTimeout=10",
            "ServerAliveInterval=5",
            "ServerAliveCountMax=6",
            "LogLevel=ERROR",
        ] {
            command.args(["-o", option]);
        }
        command
            .args(["-p", &to.port().to_string(), &to.ip().to_string()])
            .args(["--", AS_ROOT])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }
}

/// None of these values can hold a quotation mark: names are checked, keys are base64 with a name behind it.
fn script_of(user: &str, name: &str, keys: &ClusterKeys, host: &HostKey) -> String {
    let values = [
        ("user", user),
        ("name", name),
        ("login", keys.login_public.as_str()),
        ("host_public", host.public.as_str()),
        ("host_private", host.private.trim_end()),
    ];
    let lines = values.map(|(name, value)| format!("{name}='{value}'\n"));
    lines.concat() + SCRIPT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(user: &str) -> String {
        let keys = ClusterKeys::generate(&"brisk-otter-3f9c".parse().unwrap()).unwrap();
        let host = HostKey::generate().unwrap();
        script_of(user, "node-1", &keys, &host)
    }

    #[test]
    fn the_script_is_one_that_a_shell_reads() {
        let text = values("vagrant");
        let checked = std::process::Command::new("sh")
            .args(["-n", "-c", &text])
            .output()
            .unwrap();
        assert!(checked.status.success(), "{checked:?}");
        assert!(text.starts_with("user='vagrant'\nname='node-1'\nlogin='ssh-ed25519 AAAA"));
        // Quotation marks in pairs, whatever is between them.
        assert_eq!(
            text.lines().filter(|line| line.starts_with("-----BEGIN")).count(),
            0
        );
        assert_eq!(text.matches("OPENSSH PRIVATE KEY-----").count(), 2);
    }

    #[test]
    fn the_published_keys_are_those_that_the_script_removes() {
        for (name, text) in PUBLISHED {
            let key = ssh_key::PrivateKey::from_openssh(text);
            // Vagrant's RSA key is in PKCS#1 form, which is not read here: its public part stands in the script all the same.
            if let Ok(key) = key {
                let public = key.public_key().to_openssh().unwrap();
                let blob = public.split(' ').nth(1).unwrap();
                assert!(SCRIPT.contains(blob), "{name}");
            }
        }
        assert!(SCRIPT.contains("rsa=AAAAB3NzaC1yc2EAAAABIwAAAQEA6NF8iallvQVp22WDkTkyrtvp9eWW6A8YVr"));
    }

    #[test]
    fn a_private_key_is_not_shown() {
        assert!(!format!("{:?}", Script(values("vagrant"))).contains("PRIVATE"));
    }
}
