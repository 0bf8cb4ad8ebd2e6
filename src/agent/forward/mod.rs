//! Forwards: TCP ports of nodes on the container's own address, since a later step can add no route to the nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::topology::name::Name;

/// Connections at once through one forward; more wait to be accepted.
const CONNECTIONS: usize = 1024;

/// How long a node may take to accept. One that is not up yet does not answer at all, and whoever asks tries again.
const CONNECT: Duration = Duration::from_secs(5);

/// Of each direction's buffer. A megabit-second or two at the speed of a virtual NIC; larger ones gained nothing.
const BUFFER: usize = 128 << 10;

/// All forwards of a cluster; they end when it is dropped.
#[derive(Debug)]
pub struct Forwards {
    ports: BTreeMap<Name, BTreeMap<u16, u16>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Forwards {
    /// Listens on `address` for every port of every node. The ports are the kernel's choice.
    ///
    /// # Errors
    /// When the address is not this container's, or ports have run out.
    pub async fn bind<'a>(
        address: Ipv4Addr,
        nodes: impl Iterator<Item = (&'a Name, Ipv4Addr, &'a BTreeSet<u16>)>,
    ) -> std::io::Result<Self> {
        let mut forwards = Self {
            ports: BTreeMap::new(),
            tasks: Vec::new(),
        };
        for (name, node, wanted) in nodes {
            for &port in wanted {
                let listener = TcpListener::bind((address, 0)).await?;
                let local = listener.local_addr()?.port();
                forwards
                    .ports
                    .entry(name.clone())
                    .or_default()
                    .insert(port, local);
                forwards
                    .tasks
                    .push(tokio::spawn(forward(listener, SocketAddrV4::new(node, port))));
            }
        }
        Ok(forwards)
    }

    /// From a node's port to the port on the container's address.
    pub fn ports(&self) -> &BTreeMap<Name, BTreeMap<u16, u16>> {
        &self.ports
    }
}

impl Drop for Forwards {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn forward(listener: TcpListener, node: SocketAddrV4) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    // Owned by this task: when the forwards end, so do the connections through them.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((client, _)) => {
                connections.spawn(async move {
                    let _slot = slot;
                    carry(client, node).await;
                });
            }
            // Out of descriptors, as a rule.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn carry(client: TcpStream, node: SocketAddrV4) {
    if let Some(node) = connect(node).await {
        join(client, node).await;
    } else {
        // A reset rather than an orderly end: the client must not take this for an answer.
        let _ = client.set_zero_linger();
    }
}

/// Connects to a node, or gives up.
pub async fn connect(node: SocketAddrV4) -> Option<TcpStream> {
    tokio::time::timeout(CONNECT, TcpStream::connect(node))
        .await
        .ok()?
        .ok()
}

/// Copies both ways until both have ended; each end is passed on as it comes (half-close).
pub async fn join(mut client: TcpStream, mut node: TcpStream) {
    let _ = client.set_nodelay(true);
    let _ = node.set_nodelay(true);
    if copy_bidirectional_with_sizes(&mut client, &mut node, BUFFER, BUFFER)
        .await
        .is_err()
    {
        let _ = client.set_zero_linger();
        let _ = node.set_zero_linger();
    }
}
