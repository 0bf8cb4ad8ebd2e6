//! Forwards: TCP ports of nodes on the container's own address, since a later step can add no route to the nodes.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::wire::door::{Door, Yields};
use super::wire::pump::{join, reset};
use super::wire::ways::Ways;
use super::wire::{self, prepare};
use crate::topology::name::Name;
use crate::topology::plan::Plan;

/// Connections at once through all forwards together, where the container lets the agent open as many files.
const CONNECTIONS: usize = 4096;

/// All forwards of a cluster; they and the connections through them end when it is dropped.
#[derive(Debug)]
pub struct Forwards {
    ports: BTreeMap<Name, BTreeMap<u16, u16>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Forwards {
    /// Listens on `address` for every forwarded port of every node. The ports are the kernel's choice.
    ///
    /// # Errors
    /// When the address is not this container's, or ports have run out.
    pub async fn bind(address: Ipv4Addr, plan: &Plan, ways: Ways) -> std::io::Result<Self> {
        // Two files a connection; a good part is left to everything else that the agent does.
        let files = usize::try_from(wire::raise_file_limit() / 4).unwrap_or(CONNECTIONS);
        Self::bind_at_most(address, plan, ways, files.clamp(64, CONNECTIONS)).await
    }

    /// As [`Forwards::bind`], with another limit of connections at once.
    ///
    /// # Errors
    /// As [`Forwards::bind`].
    pub async fn bind_at_most(
        address: Ipv4Addr,
        plan: &Plan,
        ways: Ways,
        connections: usize,
    ) -> std::io::Result<Self> {
        let mut forwards = Self {
            ports: BTreeMap::new(),
            tasks: Vec::new(),
        };
        let door = Door::new(connections, Yields::Newest);
        for node in &plan.nodes {
            for &port in &node.node.forward {
                let listener = TcpListener::bind((address, 0)).await?;
                let local = listener.local_addr()?.port();
                forwards
                    .ports
                    .entry(node.name().clone())
                    .or_default()
                    .insert(port, local);
                let to = SocketAddrV4::new(node.address(), port);
                forwards
                    .tasks
                    .push(tokio::spawn(forward(listener, to, ways.clone(), door.clone())));
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

async fn forward(listener: TcpListener, node: SocketAddrV4, ways: Ways, door: Door) {
    // Owned by this task: when the forwards end, so do the connections through them.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let (client, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            // Out of descriptors, as a rule.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(pass) = door.enter(peer.ip()) else {
            reset(&client);
            continue;
        };
        let ways = ways.clone();
        connections.spawn(async move {
            tokio::select! {
                () = carry(client, node, &ways) => {}
                () = pass.turned_out() => {}
            }
        });
    }
}

async fn carry(client: TcpStream, node: SocketAddrV4, ways: &Ways) {
    prepare(&client);
    match ways.connect(node).await {
        Ok(node) => join(client, node).await,
        // A reset rather than an orderly end: the client must not take this for an answer.
        Err(_) => reset(&client),
    }
}
