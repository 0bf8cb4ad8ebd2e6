//! One switch at work: a single task to which everything comes, so that nothing in here needs a lock.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, oneshot};

use super::datagrams::Datagrams;
use super::dhcp::{self, Dhcp};
use super::fabric::{Course, Fabric, GATEWAY_MAC};
use super::names::{Names, Reply};
use super::outward::{Bounds, Flow, Matter, Outward, Segment};
use super::packet::{Datagram, frame};
use super::stack::Stack;
use crate::topology::model::NetworkKind;
use crate::topology::plan::{Plan, PlannedNetwork};

/// The port of name servers.
const DNS: u16 = 53;

/// Where nothing is due, it is looked all the same after so long.
const IDLE: Duration = Duration::from_secs(60);

/// How many inputs are taken before the stack has its turn.
const AT_A_TIME: usize = 64;

/// Whatever comes to a switch.
#[derive(Debug)]
pub(super) enum Input {
    /// A QEMU has connected.
    Plugged {
        port: usize,
        sender: mpsc::Sender<Vec<u8>>,
    },
    /// It has gone.
    Unplugged { port: usize },
    /// A NIC has sent this.
    Frame { port: usize, frame: Vec<u8> },
    /// The gateway has an answer to a node.
    FromGateway(Vec<u8>),
    /// The agent wants to reach a node.
    Connect {
        to: SocketAddrV4,
        reply: oneshot::Sender<std::io::Result<TcpStream>>,
    },
    /// A node's connection outwards was accepted, or was not.
    Outward {
        flow: Flow,
        syn: Vec<u8>,
        stream: Option<TcpStream>,
    },
}

/// One switch.
pub(super) struct Core {
    inputs: mpsc::Receiver<Input>,
    own: mpsc::Sender<Input>,
    kick: Arc<Notify>,
    ports: Vec<Option<mpsc::Sender<Vec<u8>>>>,
    fabric: Fabric,
    gateway: Ipv4Addr,
    dhcp: Dhcp,
    names: Names,
    resolver: Option<SocketAddrV4>,
    bounds: Bounds,
    stack: Stack,
    outward: Outward,
    datagrams: Datagrams,
}

impl Core {
    pub fn new(
        plan: &Plan,
        network: &PlannedNetwork,
        ports: usize,
        nameservers: &[Ipv4Addr],
        inputs: mpsc::Receiver<Input>,
        own: mpsc::Sender<Input>,
    ) -> Self {
        let kick = Arc::new(Notify::new());
        let outward = network.kind == NetworkKind::Nat;
        let resolver = nameservers
            .first()
            .filter(|_| outward)
            .map(|address| SocketAddrV4::new(*address, DNS));
        Self {
            inputs,
            own,
            ports: vec![None; ports],
            fabric: Fabric::new(network.gateway),
            gateway: network.gateway,
            dhcp: Dhcp::new(plan, network),
            names: Names::new(plan, resolver.is_some()),
            resolver,
            bounds: Bounds {
                outward,
                own: plan.networks.iter().map(|network| network.subnet).collect(),
            },
            stack: Stack::of_gateway(network, kick.clone()),
            outward: Outward::default(),
            datagrams: Datagrams::default(),
            kick,
        }
    }

    /// Works until its handle is dropped.
    pub async fn run(mut self) {
        let mut ended = Vec::new();
        loop {
            let delay = self.stack.poll(&mut ended).unwrap_or(IDLE);
            for flow in ended.drain(..) {
                self.outward.forget(&flow);
            }
            for frame in self.stack.frames() {
                self.pass_on(None, frame);
            }
            let kick = self.kick.clone();
            tokio::select! {
                input = self.inputs.recv() => match input {
                    Some(input) => self.take(input),
                    None => return,
                },
                () = kick.notified() => {}
                () = tokio::time::sleep(delay) => {}
            }
            for _ in 0..AT_A_TIME {
                match self.inputs.try_recv() {
                    Ok(input) => self.take(input),
                    Err(_) => break,
                }
            }
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Plugged { port, sender } => {
                if let Some(place) = self.ports.get_mut(port) {
                    *place = Some(sender);
                }
            }
            Input::Unplugged { port } => {
                if let Some(place) = self.ports.get_mut(port) {
                    *place = None;
                }
                self.fabric.unplug(port);
            }
            Input::Frame { port, frame } => self.switch(port, frame),
            Input::FromGateway(frame) => self.pass_on(None, frame),
            Input::Connect { to, reply } => self.stack.connect(to, reply),
            Input::Outward { flow, syn, stream } => match stream {
                Some(stream) => {
                    self.outward.stands(flow);
                    self.stack.accept(flow, stream, syn);
                }
                None => {
                    // Nobody listens for it: the stack refuses it.
                    self.outward.forget(&flow);
                    self.stack.receive(syn);
                }
            },
        }
    }

    fn switch(&mut self, port: usize, frame: Vec<u8>) {
        // The only DHCP server there is: nobody else is asked, and no node can answer in its place.
        if let Some(datagram) = Datagram::parse(&frame).filter(|it| it.destination.port() == dhcp::SERVER) {
            let answer = self.dhcp.answer(&datagram);
            self.fabric.course(Some(port), &frame);
            if let Some(answer) = answer {
                self.send(port, answer);
            }
            return;
        }
        self.pass_on(Some(port), frame);
    }

    fn pass_on(&mut self, from: Option<usize>, frame: Vec<u8>) {
        match self.fabric.course(from, &frame) {
            Course::Gateway => self.for_gateway(frame),
            Course::Port(port) => self.send(port, frame),
            Course::Flood => {
                for port in (0..self.ports.len()).filter(|port| Some(*port) != from) {
                    self.send(port, frame.clone());
                }
            }
            Course::Nowhere => {}
        }
    }

    fn for_gateway(&mut self, frame: Vec<u8>) {
        match Matter::of(&frame) {
            Some(Matter::Own) => self.stack.receive(frame),
            Some(Matter::Tcp { flow, opens }) => {
                let real = match self.resolver {
                    Some(resolver) if flow.1 == SocketAddrV4::new(self.gateway, DNS) => resolver,
                    _ if *flow.1.ip() == self.gateway => return self.stack.receive(frame),
                    _ if self.bounds.allow(*flow.1.ip()) => flow.1,
                    _ => return,
                };
                if self.outward.take(flow, opens, real, &frame, &self.own) == Segment::Pass {
                    self.stack.receive(frame);
                }
            }
            Some(Matter::Other(_)) if Datagram::parse(&frame).is_some() => self.datagram(&frame),
            // A ping of the gateway itself.
            Some(Matter::Other(to)) if to == self.gateway => self.stack.receive(frame),
            _ => {}
        }
    }

    fn datagram(&mut self, whole: &[u8]) {
        let Some(datagram) = Datagram::parse(whole) else {
            return;
        };
        let to = datagram.destination;
        if to != SocketAddrV4::new(self.gateway, DNS) {
            if self.bounds.allow(*to.ip()) {
                self.datagrams.send(&datagram, to, &self.own);
            }
            return;
        }
        match (self.names.answer(datagram.payload), self.resolver) {
            (Some(Reply::Answer(answer)), _) => {
                let to_node = (datagram.source_mac, datagram.source);
                let answer = frame((GATEWAY_MAC, to), to_node, &answer);
                self.pass_on(None, answer);
            }
            (Some(Reply::Elsewhere), Some(resolver)) => {
                self.datagrams.send(&datagram, resolver, &self.own);
            }
            _ => {}
        }
    }

    /// A guest that does not take its frames loses them.
    fn send(&mut self, port: usize, frame: Vec<u8>) {
        if let Some(Some(sender)) = self.ports.get(port) {
            let _ = sender.try_send(frame);
        }
    }
}
