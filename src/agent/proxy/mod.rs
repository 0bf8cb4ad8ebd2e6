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

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::socks::{Host, Reply, Target};
use super::wire::door::{Door, Yields};
use super::wire::names::names;
use super::wire::prepare;
use super::wire::pump::join;
use super::wire::ways::{Unreached, Ways};
use crate::concourse::Token;
use crate::topology::plan::Plan;

/// Connections at once of those who have shown the password.
const CONNECTIONS: usize = 1024;

/// How many may be about to show it.
const STRANGERS: usize = 128;

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
    ways: Ways,
}

impl Rules {
    /// To every node of a plan, by name or by address, and to whatever else is in its networks.
    pub fn new(username: &'static str, password: Token, plan: &Plan, ways: Ways) -> Self {
        Self {
            username,
            password,
            names: names(plan),
            ways,
        }
    }

    /// Nothing is asked of any resolver: the names are the nodes' and no others.
    fn resolve(&self, target: &Target) -> Result<SocketAddrV4, Reply> {
        let address = match &target.host {
            Host::V4(address) => *address,
            // Some clients speak of every address in this form (RFC 4291 §2.5.5.2).
            Host::V6(address) => address.to_ipv4_mapped().ok_or(Reply::AddressType)?,
            Host::Name(name) => match name.parse() {
                Ok(address) => address,
                // Names are spelt in any case (RFC 4343), and whole ones may end in a dot.
                Err(_) => *self
                    .names
                    .get(&name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase())
                    .ok_or(Reply::HostUnreachable)?,
            },
        };
        if self.ways.lead_to(address) {
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
    let door = Door::new(STRANGERS, Yields::Oldest);
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((mut client, peer)) => {
                let Some(pass) = door.enter(peer.ip()) else {
                    continue;
                };
                let (rules, slots) = (rules.clone(), slots.clone());
                connections.spawn(async move {
                    prepare(&client);
                    // What a client breaks off or gets wrong is its own affair.
                    let asked = tokio::select! {
                        asked = tokio::time::timeout(PATIENCE, ask(&mut client, &rules, &slots)) => asked,
                        () = pass.turned_out() => return,
                    };
                    drop(pass);
                    if let Ok(Ok(Some((target, _slot)))) = asked {
                        let _ = lead(client, &target, &rules).await;
                    }
                });
            }
            // Out of descriptors, as a rule.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn lead(mut client: TcpStream, target: &Target, rules: &Rules) -> std::io::Result<()> {
    let node = match rules.resolve(target) {
        Ok(address) => rules.ways.connect(address).await.map_err(|error| match error {
            Unreached::NotAllowed => Reply::NotAllowed,
            Unreached::Refused => Reply::Refused,
            Unreached::Silent => Reply::HostUnreachable,
        }),
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
async fn ask(
    client: &mut TcpStream,
    rules: &Rules,
    slots: &Arc<Semaphore>,
) -> std::io::Result<Option<(Target, OwnedSemaphorePermit)>> {
    let greeting = read(client, socks::greeting).await?;
    if !greeting.contains(&socks::PASSWORD) {
        client.write_all(&[socks::VERSION, socks::NO_METHOD]).await?;
        return Ok(None);
    }
    client.write_all(&[socks::VERSION, socks::PASSWORD]).await?;
    let given = read(client, socks::credentials).await?;
    // Both are compared in any case, so that the time taken does not tell which was wrong.
    let named = given.username == rules.username.as_bytes();
    if !(rules.password.matches(&given.password) & named) {
        tokio::time::sleep(DAMPING).await;
        client.write_all(&[socks::PASSWORD_VERSION, 1]).await?;
        return Ok(None);
    }
    client.write_all(&[socks::PASSWORD_VERSION, 0]).await?;
    let refusal = match read(client, socks::request).await? {
        Ok(target) => match slots.clone().try_acquire_owned() {
            Ok(slot) => return Ok(Some((target, slot))),
            Err(_) => Reply::Full,
        },
        Err(reply) => reply,
    };
    client.write_all(&refusal.encode()).await?;
    Ok(None)
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
