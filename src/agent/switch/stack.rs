//! The gateway's own end of TCP: connections to nodes, and those of nodes that go on outwards. smoltcp does the protocol; bytes are carried
//! between its sockets and the system's.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{ETHERNET_HEADER_LEN, EthernetAddress, HardwareAddress, IpAddress, IpCidr, IpEndpoint};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;

use super::fabric::GATEWAY_MAC;
use super::outward::Flow;
use crate::topology::plan::PlannedNetwork;

/// What each direction of a connection holds at the most: the window that a node may fill.
const BUFFER: usize = 128 << 10;

/// How much is carried at a time, and how many of these wait.
const PIECE: usize = 16 << 10;
const PIECES: usize = 8;

/// A node that says nothing for so long is asked; one that does not answer for so long is given up.
const ASK: Duration = Duration::from_secs(60);
const GIVE_UP: Duration = Duration::from_secs(180);

/// Where our own ends' ports begin (RFC 6335 §6).
const FIRST_PORT: u16 = 49_152;

/// What is carried between a socket of the system and one of the stack.
enum Word {
    Data(Vec<u8>),
    /// The sender has no more to say.
    End,
    /// The sender is gone without that.
    Broken,
}

/// Frames in and out, in memory.
#[derive(Debug)]
struct Wire {
    received: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
    mtu: usize,
}

struct Received(Vec<u8>);
struct Sent<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl TxToken for Sent<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut frame = vec![0; length];
        let result = write(&mut frame);
        self.0.push(frame);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sent<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sent<'_>)> {
        let frame = self.received.pop_front()?;
        Some((Received(frame), Sent(&mut self.sent)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sent<'_>> {
        Some(Sent(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu + ETHERNET_HEADER_LEN;
        capabilities
    }
}

/// The stack, and whatever goes through it.
pub(super) struct Stack {
    interface: Interface,
    wire: Wire,
    sockets: SocketSet<'static>,
    connections: Vec<Connection>,
    tasks: JoinSet<()>,
    kick: Arc<Notify>,
    next_port: u16,
}

struct Connection {
    handle: SocketHandle,
    /// Of one that a node has opened.
    flow: Option<Flow>,
    step: Step,
}

enum Step {
    /// To a node, which has not answered.
    Opening(oneshot::Sender<io::Result<TcpStream>>),
    /// From a node: the other end stands already.
    Accepting(TcpStream),
    Open(Relay),
    Over,
}

struct Relay {
    to_node: mpsc::Receiver<Word>,
    /// Of the last piece to the node, what it has not taken yet.
    rest: Vec<u8>,
    /// `None` once the node has no more to say.
    from_node: Option<mpsc::Sender<Word>>,
    /// Whether the system's side has no more to say.
    ended: bool,
}

impl Stack {
    /// The gateway's. Segments to anywhere are taken, by the way over itself: nodes' connections outwards end here. `kick` is
    /// notified when there is something to carry.
    pub fn of_gateway(network: &PlannedNetwork, kick: Arc<Notify>) -> Self {
        let own = IpCidr::new(IpAddress::Ipv4(network.gateway), network.subnet.prefix_len());
        let mut stack = Self::new(GATEWAY_MAC, own, network.gateway, network.mtu, kick);
        stack.interface.set_any_ip(true);
        stack
    }

    pub(super) fn new(
        mac: EthernetAddress,
        own: IpCidr,
        gateway: Ipv4Addr,
        mtu: u32,
        kick: Arc<Notify>,
    ) -> Self {
        let mut wire = Wire {
            received: VecDeque::new(),
            sent: Vec::new(),
            mtu: mtu as usize,
        };
        let mut config = Config::new(HardwareAddress::Ethernet(mac));
        config.random_seed = rand::random();
        let mut interface = Interface::new(config, &mut wire, Instant::now());
        interface.update_ip_addrs(|addresses| {
            // The first of several places: it fits.
            let _ = addresses.push(own);
        });
        // The first of several, too.
        let _ = interface.routes_mut().add_default_ipv4_route(gateway);
        Self {
            interface,
            wire,
            sockets: SocketSet::new(Vec::new()),
            connections: Vec::new(),
            tasks: JoinSet::new(),
            kick,
            next_port: FIRST_PORT,
        }
    }

    /// Takes a frame, to be looked at by the next [`Stack::poll`].
    pub fn receive(&mut self, frame: Vec<u8>) {
        self.wire.received.push_back(frame);
    }

    /// Opens a connection to a node.
    pub fn connect(&mut self, to: SocketAddrV4, reply: oneshot::Sender<io::Result<TcpStream>>) {
        let mut socket = socket();
        let port = self.next_port;
        self.next_port = port.checked_add(1).unwrap_or(FIRST_PORT);
        let context = self.interface.context();
        if let Err(error) = socket.connect(context, (IpAddress::Ipv4(*to.ip()), to.port()), port) {
            let _ = reply.send(Err(io::Error::other(error.to_string())));
            return;
        }
        let handle = self.sockets.add(socket);
        self.connections.push(Connection {
            handle,
            flow: None,
            step: Step::Opening(reply),
        });
    }

    /// Accepts a node's connection, whose first segment is `syn`; `stream` is its other end.
    pub fn accept(&mut self, flow: Flow, stream: TcpStream, syn: Vec<u8>) {
        let mut socket = socket();
        let (address, port) = (*flow.1.ip(), flow.1.port());
        let end = IpEndpoint::new(IpAddress::Ipv4(address), port);
        if socket.listen(end).is_ok() {
            let handle = self.sockets.add(socket);
            self.connections.push(Connection {
                handle,
                flow: Some(flow),
                step: Step::Accepting(stream),
            });
        }
        self.receive(syn);
    }

    /// Moves everything on as far as it goes, and says when to look again; the connections of nodes that are over go to `ended`.
    pub fn poll(&mut self, ended: &mut Vec<Flow>) -> Option<std::time::Duration> {
        while self.tasks.try_join_next().is_some() {}
        loop {
            let now = Instant::now();
            self.interface.poll(now, &mut self.wire, &mut self.sockets);
            let mut moved = false;
            for connection in &mut self.connections {
                let socket = self.sockets.get_mut::<Socket<'_>>(connection.handle);
                moved |= connection.go_on(socket, &mut self.tasks, &self.kick);
            }
            let sockets = &mut self.sockets;
            self.connections.retain(|connection| {
                let socket = sockets.get::<Socket<'_>>(connection.handle);
                let over = matches!(connection.step, Step::Over)
                    && matches!(socket.state(), State::Closed | State::TimeWait);
                if over {
                    sockets.remove(connection.handle);
                    ended.extend(connection.flow);
                }
                !over
            });
            if !moved && self.wire.received.is_empty() {
                let delay = self.interface.poll_delay(now, &self.sockets)?;
                return Some(delay.into());
            }
        }
    }

    /// What has to go to nodes.
    pub fn frames(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.wire.sent)
    }
}

fn socket() -> Socket<'static> {
    let buffer = || SocketBuffer::new(vec![0; BUFFER]);
    let mut socket = Socket::new(buffer(), buffer());
    socket.set_nagle_enabled(false);
    socket.set_keep_alive(Some(ASK));
    socket.set_timeout(Some(GIVE_UP));
    socket
}

impl Connection {
    /// Says whether something has moved, so that the stack may have more to do.
    fn go_on(&mut self, socket: &mut Socket<'_>, tasks: &mut JoinSet<()>, kick: &Arc<Notify>) -> bool {
        match std::mem::replace(&mut self.step, Step::Over) {
            Step::Opening(reply) => match socket.state() {
                State::Closed => {
                    let _ = reply.send(Err(io::ErrorKind::ConnectionRefused.into()));
                    true
                }
                // The caller's time is over.
                _ if reply.is_closed() => {
                    socket.abort();
                    true
                }
                State::SynSent | State::SynReceived => {
                    self.step = Step::Opening(reply);
                    false
                }
                _ => {
                    match pair() {
                        Ok((ours, theirs)) => {
                            self.step = Step::Open(Relay::start(ours, tasks, kick));
                            let _ = reply.send(Ok(theirs));
                        }
                        Err(error) => {
                            socket.abort();
                            let _ = reply.send(Err(error));
                        }
                    }
                    true
                }
            },
            Step::Accepting(stream) => match socket.state() {
                State::Listen | State::SynReceived => {
                    self.step = Step::Accepting(stream);
                    false
                }
                State::Closed => true,
                _ => {
                    self.step = Step::Open(Relay::start(stream, tasks, kick));
                    true
                }
            },
            Step::Open(mut relay) => {
                let moved = relay.move_to_client(socket) | relay.move_to_node(socket);
                if relay.from_node.is_some() || !relay.ended {
                    self.step = Step::Open(relay);
                    return moved;
                }
                true
            }
            Step::Over => false,
        }
    }
}

impl Relay {
    fn start(stream: TcpStream, tasks: &mut JoinSet<()>, kick: &Arc<Notify>) -> Self {
        let _ = stream.set_nodelay(true);
        let (read, write) = stream.into_split();
        let (to_node, from_client) = mpsc::channel(PIECES);
        let (from_node, to_client) = mpsc::channel(PIECES);
        tasks.spawn(read_client(read, to_node, kick.clone()));
        tasks.spawn(write_client(write, to_client, kick.clone()));
        Self {
            to_node: from_client,
            rest: Vec::new(),
            from_node: Some(from_node),
            ended: false,
        }
    }

    fn move_to_client(&mut self, socket: &mut Socket<'_>) -> bool {
        let mut moved = false;
        while let Some(sender) = self.from_node.clone() {
            let permit = match sender.try_reserve() {
                Ok(permit) => permit,
                Err(mpsc::error::TrySendError::Full(())) => return moved,
                // Nobody reads any more.
                Err(mpsc::error::TrySendError::Closed(())) => {
                    socket.abort();
                    self.from_node = None;
                    self.ended = true;
                    return true;
                }
            };
            if socket.can_recv() {
                let mut piece = vec![0; PIECE];
                let count = socket.recv_slice(&mut piece).unwrap_or(0);
                piece.truncate(count);
                permit.send(Word::Data(piece));
                moved = true;
                continue;
            }
            let last = match socket.state() {
                State::Closed => Word::Broken,
                _ if !socket.may_recv() => Word::End,
                _ => return moved,
            };
            self.ended |= matches!(last, Word::Broken);
            permit.send(last);
            self.from_node = None;
            moved = true;
        }
        moved
    }

    fn move_to_node(&mut self, socket: &mut Socket<'_>) -> bool {
        let mut moved = false;
        while !self.ended {
            if !self.rest.is_empty() {
                let taken = socket.send_slice(&self.rest).unwrap_or(0);
                self.rest.drain(..taken);
                moved |= taken > 0;
                if !self.rest.is_empty() {
                    // One that is closed takes nothing any more.
                    self.ended = !socket.may_send();
                    return moved;
                }
            }
            match self.to_node.try_recv() {
                Ok(Word::Data(piece)) => self.rest = piece,
                Ok(Word::End) => {
                    socket.close();
                    self.ended = true;
                }
                Ok(Word::Broken) | Err(mpsc::error::TryRecvError::Disconnected) => {
                    socket.abort();
                    self.ended = true;
                }
                Err(mpsc::error::TryRecvError::Empty) => {
                    self.ended = socket.state() == State::Closed;
                    return moved;
                }
            }
            moved = true;
        }
        moved
    }
}

async fn read_client(mut read: OwnedReadHalf, to_node: mpsc::Sender<Word>, kick: Arc<Notify>) {
    loop {
        let mut piece = vec![0; PIECE];
        let word = tokio::select! {
            count = read.read(&mut piece) => match count {
                Ok(0) => Word::End,
                Ok(count) => {
                    piece.truncate(count);
                    Word::Data(piece)
                }
                Err(_) => Word::Broken,
            },
            // The connection is over, whatever the client thinks of it.
            () = to_node.closed() => return,
        };
        let last = !matches!(word, Word::Data(_));
        let sent = to_node.send(word).await;
        kick.notify_one();
        if last || sent.is_err() {
            return;
        }
    }
}

async fn write_client(mut write: OwnedWriteHalf, mut from_node: mpsc::Receiver<Word>, kick: Arc<Notify>) {
    while let Some(word) = from_node.recv().await {
        // There is a place for the next piece.
        kick.notify_one();
        match word {
            Word::Data(piece) => {
                if write.write_all(&piece).await.is_err() {
                    break;
                }
            }
            Word::End => {
                let _ = write.shutdown().await;
                return;
            }
            // A reset rather than an orderly end: nobody must take this for an answer.
            Word::Broken => {
                let _ = write.as_ref().set_zero_linger();
                write.forget();
                break;
            }
        }
    }
    drop(from_node);
    kick.notify_one();
}

/// Two ends of one connection within this process, so that whoever asks gets a stream like any other.
fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let ours = std::net::TcpStream::connect(listener.local_addr()?)?;
    let own = ours.local_addr()?;
    loop {
        let (theirs, peer) = listener.accept()?;
        // Somebody else in the container may have been faster.
        if peer == own {
            ours.set_nonblocking(true)?;
            theirs.set_nonblocking(true)?;
            return Ok((TcpStream::from_std(ours)?, TcpStream::from_std(theirs)?));
        }
    }
}
