//! A SOCKS5 proxy with a password, for every port of a node that is not forwarded.
//!
//! CONNECT alone, to the nodes' names and subnets alone. Written by hand: of the crates that serve SOCKS5 none lets the
//! caller decide on names and targets before it resolves or connects, and the protocol is three short messages
//! ([`socks`]).

pub mod socks;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv4Net;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use self::socks::{Host, Reply, Target};
use super::forward::{connect, join};
use crate::concourse::Token;
use crate::topology::plan::Plan;

/// Connections at once; more wait to be accepted.
const CONNECTIONS: usize = 1024;

/// How long a client may take to say who it is and what it wants.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a wrong password is let wait, so that guessing is slow.
const DAMPING: Duration = Duration::from_secs(1);

/// Who may go where.
#[derive(Debug)]
pub struct Rules {
    username: &'static str,
    password: Token,
    names: BTreeMap<String, Ipv4Addr>,
    subnets: Vec<Ipv4Net>,
}

impl Rules {
    /// To every node of a plan, by name or by address.
    pub fn new(username: &'static str, password: Token, plan: &Plan) -> Self {
        let mut names = BTreeMap::new();
        for node in &plan.nodes {
            names.insert(node.name().to_string(), node.address());
            for nic in &node.nics {
                names.insert(format!("{}.{}", node.name(), nic.network), nic.address);
            }
        }
        let subnets = plan.networks.iter().map(|network| network.subnet).collect();
        Self {
            username,
            password,
            names,
            subnets,
        }
    }

    fn resolve(&self, target: &Target) -> Result<SocketAddrV4, Reply> {
        let address = match &target.host {
            Host::V4(address) => *address,
            Host::Name(name) => match name.parse() {
                Ok(address) => address,
                // Names are spelt in any case (RFC 4343).
                Err(_) => *self
                    .names
                    .get(&name.to_ascii_lowercase())
                    .ok_or(Reply::HostUnreachable)?,
            },
            Host::V6 => return Err(Reply::AddressType),
        };
        if self.subnets.iter().any(|subnet| subnet.contains(&address)) {
            Ok(SocketAddrV4::new(address, target.port))
        } else {
            Err(Reply::NotAllowed)
        }
    }
}

/// A running proxy; it and its connections end when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddrV4,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Listens on `address`, at a port of the kernel's choice.
    ///
    /// # Errors
    /// When the address is not this container's.
    pub async fn bind(address: Ipv4Addr, rules: Rules) -> std::io::Result<Self> {
        let listener = TcpListener::bind((address, 0)).await?;
        let address = SocketAddrV4::new(address, listener.local_addr()?.port());
        Ok(Self {
            address,
            task: tokio::spawn(serve(listener, Arc::new(rules))),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, rules: Arc<Rules>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((client, _)) => {
                let rules = rules.clone();
                connections.spawn(async move {
                    let _slot = slot;
                    // What a client breaks off or gets wrong is its own affair.
                    let _ = one(client, &rules).await;
                });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn one(mut client: TcpStream, rules: &Rules) -> std::io::Result<()> {
    let asked = tokio::time::timeout(PATIENCE, ask(&mut client, rules)).await;
    let Some(target) = asked.map_err(std::io::Error::other)?? else {
        return Ok(());
    };
    let node = match rules.resolve(&target) {
        Ok(address) => connect(address).await.ok_or(Reply::HostUnreachable),
        Err(reply) => Err(reply),
    };
    match node {
        Ok(node) => {
            client.write_all(&Reply::Granted.encode()).await?;
            join(client, node).await;
        }
        Err(reply) => client.write_all(&reply.encode()).await?,
    }
    Ok(())
}

/// The client's greeting, password and request; `None` where it was refused and told so.
async fn ask(client: &mut TcpStream, rules: &Rules) -> std::io::Result<Option<Target>> {
    let greeting = read(client, socks::greeting).await?;
    if !greeting.contains(&socks::PASSWORD) {
        client.write_all(&[socks::VERSION, socks::NO_METHOD]).await?;
        return Ok(None);
    }
    client.write_all(&[socks::VERSION, socks::PASSWORD]).await?;
    let (username, password) = read(client, socks::credentials).await?;
    // Both are compared in any case, so that the time taken does not tell which was wrong.
    let named = username == rules.username.as_bytes();
    if !(rules.password.matches(&password) & named) {
        tokio::time::sleep(DAMPING).await;
        client.write_all(&[socks::PASSWORD_VERSION, 1]).await?;
        return Ok(None);
    }
    client.write_all(&[socks::PASSWORD_VERSION, 0]).await?;
    match read(client, socks::request).await? {
        Ok(target) => Ok(Some(target)),
        Err(reply) => {
            client.write_all(&reply.encode()).await?;
            Ok(None)
        }
    }
}

/// Reads byte by byte until the parser has its message: it must take nothing of what follows, and all are short.
async fn read<T>(
    client: &mut TcpStream,
    parse: impl Fn(&[u8]) -> Result<Option<T>, socks::Malformed>,
) -> std::io::Result<T> {
    let mut bytes = Vec::with_capacity(64);
    loop {
        bytes.push(client.read_u8().await?);
        if let Some(message) = parse(&bytes).map_err(std::io::Error::other)? {
            return Ok(message);
        }
    }
}
