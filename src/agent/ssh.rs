//! The agent's own way into its nodes: OpenSSH's client as a subprocess, with the cluster's keys and nothing else.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;

use crate::topology::name::Name;
use crate::topology::plan::PlannedNode;

/// What the client itself says on stderr: not the banners of the server.
const ERRORS: &str = "LogLevel=ERROR";

/// The files that the client needs: the login key and the nodes' host keys.
#[derive(Clone, Debug)]
pub struct Ssh {
    key: PathBuf,
    known_hosts: PathBuf,
    control: PathBuf,
    /// Where the nodes' SSH ports are reached, where their own addresses are not.
    doors: BTreeMap<Name, SocketAddrV4>,
}

impl Ssh {
    /// Writes the files (0600) into `directory`. `hosts` is each node's name and public host key. `run` is a directory
    /// with a short path, since that of a Unix socket has 107 characters at the most.
    pub fn new<'a>(
        directory: &Path,
        run: &Path,
        login_key: &str,
        hosts: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> io::Result<Self> {
        let key = directory.join("id_ed25519");
        let known_hosts = directory.join("known_hosts");
        let lines = hosts
            .map(|(name, key)| format!("{name} {key}\n"))
            .collect::<Vec<_>>()
            .concat();
        for (path, text) in [(&key, login_key), (&known_hosts, lines.as_str())] {
            let mut file = std::fs::OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(path)?;
            io::Write::write_all(&mut file, text.as_bytes())?;
        }
        Ok(Self {
            key,
            known_hosts,
            control: run.join("s%C"),
            doors: BTreeMap::new(),
        })
    }

    /// Reaches the nodes by their forwards from now on.
    pub fn go_through(&mut self, listen: Ipv4Addr, forwards: &BTreeMap<Name, BTreeMap<u16, u16>>) {
        let door = |ports: &BTreeMap<u16, u16>| Some(SocketAddrV4::new(listen, *ports.get(&22)?));
        self.doors = forwards
            .iter()
            .filter_map(|(name, ports)| Some((name.clone(), door(ports)?)))
            .collect();
    }

    /// Where a node's SSH port is reached from here.
    pub fn door(&self, node: &PlannedNode) -> SocketAddrV4 {
        let own = SocketAddrV4::new(node.address(), 22);
        self.doors.get(node.name()).copied().unwrap_or(own)
    }

    /// Runs a command line in the login shell of a node. The time limit covers all of it.
    ///
    /// # Errors
    /// `TimedOut` when the limit passed; else what refused the start of the client. That ssh itself failed shows as exit
    /// status 255 with its words on stderr.
    pub async fn run(&self, node: &PlannedNode, command: &str, limit: Duration) -> io::Result<Output> {
        self.run_at(ERRORS, node, command, limit).await
    }

    /// Tries whether a node lets its user in. Where it does not, stderr has whatever the server said about it: what an account is
    /// refused for is no error to the client.
    ///
    /// # Errors
    /// As those of [`Self::run`].
    pub async fn log_in(&self, node: &PlannedNode, limit: Duration) -> io::Result<Output> {
        self.run_at("LogLevel=INFO", node, "exit 0", limit).await
    }

    async fn run_at(
        &self,
        level: &str,
        node: &PlannedNode,
        command: &str,
        limit: Duration,
    ) -> io::Result<Output> {
        let child = self
            .command_for(node, level)
            .arg("--")
            .arg(command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        match tokio::time::timeout(limit, child.wait_with_output()).await {
            Ok(output) => output,
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "no answer within the time limit",
            )),
        }
    }

    /// Ends the connection to a node that was kept for the next command: one to a machine that has stopped since answers nobody, and
    /// would be waited for.
    pub async fn forget(&self, node: &PlannedNode) {
        let mut command = self.command_for(node, ERRORS);
        let command = command.args(["-O", "exit"]);
        // That there was none is as good.
        let _ = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .status()
            .await;
    }

    fn command_for(&self, node: &PlannedNode, level: &str) -> Command {
        self.command(
            level,
            node.name().as_str(),
            node.node.ssh_user.as_str(),
            self.door(node),
        )
    }

    fn command(&self, level: &str, name: &str, user: &str, to: SocketAddrV4) -> Command {
        let mut command = Command::new("ssh");
        command.args(["-F", "/dev/null", "-T", "-i"]).arg(&self.key);
        let known = format!("UserKnownHostsFile=\"{}\"", self.known_hosts.display());
        let control = format!("ControlPath={}", self.control.display());
        let alias = format!("HostKeyAlias={name}");
        let user = format!("User={user}");
        let port = format!("Port={}", to.port());
        for option in [
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "PreferredAuthentications=publickey",
            "StrictHostKeyChecking=yes",
            "GlobalKnownHostsFile=/dev/null",
            "ConnectTimeout=10",
            "ServerAliveInterval=5",
            "ServerAliveCountMax=6",
            // One key exchange a node: under emulation each costs the guest a second or more.
            "ControlMaster=auto",
            "ControlPersist=30",
            level,
            known.as_str(),
            control.as_str(),
            alias.as_str(),
            user.as_str(),
            port.as_str(),
        ] {
            command.args(["-o", option]);
        }
        command.arg(to.ip().to_string());
        command
    }
}
