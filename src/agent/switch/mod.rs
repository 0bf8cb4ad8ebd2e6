//! Networks without the kernel's help: where a container may make no bridge, the agent is its nodes' switch, and the router, DHCP
//! server and name server behind it.
//!
//! Each NIC is a TCP connection of its QEMU to a port of its own on the loopback interface ([`cable`]). What comes over it goes
//! to other NICs ([`fabric`]), or to the gateway: [`dhcp`] and [`names`] answer for themselves, [`stack`] ends TCP connections
//! (smoltcp), and [`outward`] and [`datagrams`] carry on what is meant for the outside by sockets of this process, as any
//! other program would. So nodes have the very names and addresses that they have on bridges, and no right is needed.

mod cable;
mod core;
mod datagrams;
mod dhcp;
mod fabric;
mod names;
mod outward;
mod packet;
mod stack;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

use self::core::{Core, Input};
use crate::topology::name::Name;
use crate::topology::plan::{MacAddress, Plan};

/// Frames on their way to the switch; QEMU waits when it is full.
const QUEUE: usize = 512;

/// The switches of a cluster, one a network; everything that goes over them ends when this is dropped.
#[derive(Debug)]
pub struct Switches(BTreeMap<Name, Switch>);

#[derive(Debug)]
struct Switch {
    line: Line,
    plugs: BTreeMap<MacAddress, SocketAddrV4>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

/// The agent's own way to the nodes of a network.
#[derive(Clone, Debug)]
pub struct Line(mpsc::Sender<Input>);

impl Switches {
    /// Starts a switch for each network of a plan. `nameservers` are asked for the names that are not the nodes'.
    ///
    /// # Errors
    /// When ports have run out.
    pub async fn start(plan: &Plan, nameservers: &[Ipv4Addr]) -> io::Result<Self> {
        let mut switches = BTreeMap::new();
        for network in &plan.networks {
            let (sender, inputs) = mpsc::channel(QUEUE);
            let (mut plugs, mut tasks) = (BTreeMap::new(), Vec::new());
            let nics = plan.nodes.iter().flat_map(|node| &node.nics);
            for (port, nic) in nics.filter(|nic| nic.network == network.name).enumerate() {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
                let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, listener.local_addr()?.port());
                plugs.insert(nic.mac, address);
                tasks.push(tokio::spawn(cable::serve(listener, port, sender.clone())));
            }
            let core = Core::new(plan, network, plugs.len(), nameservers, inputs, sender.clone());
            tasks.push(tokio::spawn(core.run()));
            let line = Line(sender);
            switches.insert(network.name.clone(), Switch { line, plugs, tasks });
        }
        Ok(Self(switches))
    }

    /// The way to the nodes of a network.
    pub fn line(&self, network: &Name) -> Option<Line> {
        Some(self.0.get(network)?.line.clone())
    }

    /// Where the QEMU of a NIC has to connect to.
    pub fn plug(&self, network: &Name, mac: MacAddress) -> Option<SocketAddrV4> {
        self.0.get(network)?.plugs.get(&mac).copied()
    }
}

/// Reads a frame in every way in which a switch reads those of its guests, and forgets it. For the fuzz target `frame`.
pub fn read_frame(bytes: &[u8]) {
    let gateway = Ipv4Addr::new(10, 9, 0, 1);
    let _ = fabric::Fabric::new(gateway).course(Some(0), bytes);
    let _ = outward::Matter::of(bytes);
    if let Some(datagram) = packet::Datagram::parse(bytes) {
        let _ = names::Names::default().answer(datagram.payload);
        let _ = dhcp::Dhcp::any(gateway).answer(&datagram);
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Line {
    /// Connects to a node. Waits for as long as the node is silent: the caller has a limit.
    ///
    /// # Errors
    /// `ConnectionRefused` where the node says so.
    pub async fn connect(&self, to: SocketAddrV4) -> io::Result<TcpStream> {
        let (reply, answer) = oneshot::channel();
        let gone = || io::Error::new(io::ErrorKind::NetworkDown, "the switch is gone");
        self.0
            .send(Input::Connect { to, reply })
            .await
            .map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

#[cfg(test)]
mod tests;
