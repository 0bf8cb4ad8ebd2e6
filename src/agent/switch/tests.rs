//! A switch with guests on it, each a TCP/IP stack of its own behind a cable.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use smoltcp::wire::{DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress, IpAddress, IpCidr};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;
use uuid::Uuid;

use super::packet::{Datagram, frame};
use super::stack::Stack;
use super::*;
use crate::topology::model::{FirstBoot, ImageSource, NetworkKind, Node, Ready, Timeout, UserName};
use crate::topology::plan::{Nic, PlannedNetwork, PlannedNode};
use crate::units::ByteSize;

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, 0, 10 + number)
}

fn mac(number: u8) -> MacAddress {
    MacAddress([0x52, 0x54, 0, 0, 0, number])
}

fn plan(kind: NetworkKind) -> Plan {
    let node = |number: u8| PlannedNode {
        node: Node {
            name: name(&format!("worker-{number}")),
            role: name("worker"),
            cpus: 1,
            nested: false,
            memory: ByteSize::mib(64),
            disk: None,
            image: ImageSource::File("/disk".into()),
            extra_disks: Vec::new(),
            networks: vec![name("default")],
            forward: [22].into(),
            ssh_user: UserName::root(),
            first_boot: FirstBoot::Plain,
            ready: Ready {
                command: None,
                timeout: Timeout::Default,
            },
        },
        uuid: Uuid::nil(),
        nics: vec![Nic {
            network: name("default"),
            mac: mac(number),
            address: address(number),
        }],
    };
    Plan {
        cluster: name("brisk-otter-3f9c"),
        networks: vec![PlannedNetwork {
            name: name("default"),
            kind,
            bridge: "none".to_owned(),
            subnet: "10.9.0.0/24".parse().unwrap(),
            gateway: GATEWAY,
            mtu: 1500,
        }],
        nodes: vec![node(1), node(2)],
    }
}

enum Do {
    /// Answers one connection at that port by this stream.
    Serve(u16, TcpStream),
    Connect(SocketAddrV4, oneshot::Sender<io::Result<TcpStream>>),
    Send(Vec<u8>),
}

struct Guest {
    orders: mpsc::Sender<Do>,
    heard: mpsc::UnboundedReceiver<Vec<u8>>,
}

impl Guest {
    async fn plug_in(switches: &Switches, number: u8) -> Self {
        let plug = switches.plug(&name("default"), mac(number)).unwrap();
        let stream = TcpStream::connect(plug).await.unwrap();
        let (orders, received) = mpsc::channel(8);
        let (said, heard) = mpsc::unbounded_channel();
        tokio::spawn(run(stream, number, received, said));
        Self { orders, heard }
    }

    async fn connect(&self, to: SocketAddrV4) -> io::Result<TcpStream> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(Do::Connect(to, reply)).await.unwrap();
        answer.await.unwrap()
    }

    /// The other end of the next connection to that port.
    async fn serve(&self, port: u16) -> TcpStream {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (theirs, _) = listener.accept().await.unwrap();
        self.orders.send(Do::Serve(port, theirs)).await.unwrap();
        ours
    }
}

async fn run(
    stream: TcpStream,
    number: u8,
    mut orders: mpsc::Receiver<Do>,
    said: mpsc::UnboundedSender<Vec<u8>>,
) {
    let kick = Arc::new(Notify::new());
    let own = IpCidr::new(IpAddress::Ipv4(address(number)), 24);
    let mut stack = Stack::new(EthernetAddress(mac(number).0), own, GATEWAY, 1500, kick.clone());
    let (mut read, mut write) = stream.into_split();
    let (sender, mut frames) = mpsc::channel(64);
    tokio::spawn(async move {
        while let Ok(length) = read.read_u32().await {
            let mut frame = vec![0; length as usize];
            if read.read_exact(&mut frame).await.is_err() || sender.send(frame).await.is_err() {
                return;
            }
        }
    });
    loop {
        let delay = stack.poll(&mut Vec::new()).unwrap_or(Duration::from_secs(60));
        for frame in stack.frames() {
            write.write_u32(frame.len() as u32).await.unwrap();
            write.write_all(&frame).await.unwrap();
        }
        tokio::select! {
            frame = frames.recv() => match frame {
                Some(frame) => {
                    let _ = said.send(frame.clone());
                    stack.receive(frame);
                }
                None => return,
            },
            order = orders.recv() => match order {
                Some(Do::Serve(port, stream)) => {
                    let own = SocketAddrV4::new(address(number), port);
                    stack.accept((own, own), stream, Vec::new());
                }
                Some(Do::Connect(to, reply)) => stack.connect(to, reply),
                Some(Do::Send(frame)) => {
                    write.write_u32(frame.len() as u32).await.unwrap();
                    write.write_all(&frame).await.unwrap();
                }
                None => return,
            },
            () = kick.notified() => {}
            () = tokio::time::sleep(delay) => {}
        }
    }
}

async fn start(kind: NetworkKind) -> (Switches, Guest, Guest) {
    let switches = Switches::start(&plan(kind), &[]).await.unwrap();
    let one = Guest::plug_in(&switches, 1).await;
    let two = Guest::plug_in(&switches, 2).await;
    (switches, one, two)
}

/// What is said on one side is heard on the other, both ways, and so is the end.
async fn converse(mut one: TcpStream, mut other: TcpStream) {
    let long: Vec<u8> = (0..300_000u32).map(|number| number as u8).collect();
    let (said, expected) = (long.clone(), long.clone());
    let speak = tokio::spawn(async move {
        one.write_all(&said).await.unwrap();
        one.shutdown().await.unwrap();
        let mut heard = Vec::new();
        one.read_to_end(&mut heard).await.unwrap();
        heard
    });
    let mut heard = Vec::new();
    other.read_to_end(&mut heard).await.unwrap();
    assert!(heard == expected, "{} bytes", heard.len());
    other.write_all(b"and back").await.unwrap();
    drop(other);
    assert_eq!(speak.await.unwrap(), b"and back");
}

#[tokio::test]
async fn the_agent_reaches_a_node_or_is_refused() {
    let (switches, one, _two) = start(NetworkKind::Isolated).await;
    let line = switches.line(&name("default")).unwrap();
    let node = one.serve(22).await;
    converse(
        line.connect(SocketAddrV4::new(address(1), 22)).await.unwrap(),
        node,
    )
    .await;
    let refused = line.connect(SocketAddrV4::new(address(1), 23)).await;
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    // Nobody has this address: there is no answer, however long one waits.
    let silent = line.connect(SocketAddrV4::new(address(9), 22));
    assert!(
        tokio::time::timeout(Duration::from_millis(300), silent)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn nodes_reach_each_other() {
    let (_switches, one, two) = start(NetworkKind::Isolated).await;
    let node = two.serve(80).await;
    converse(
        one.connect(SocketAddrV4::new(address(2), 80)).await.unwrap(),
        node,
    )
    .await;
}

#[tokio::test]
async fn a_node_reaches_the_outside_where_its_network_leads_there() {
    // Any address of this machine but the loopback's: which one, the routing table says (nothing is sent).
    let probe = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let own = probe
        .connect((Ipv4Addr::new(192, 0, 2, 1), 9))
        .and_then(|()| probe.local_addr());
    let Ok(SocketAddr::V4(own)) = own else {
        eprintln!("skipped: this machine has no network");
        return;
    };
    let listener = TcpListener::bind((*own.ip(), 0)).await.unwrap();
    let to = SocketAddrV4::new(*own.ip(), listener.local_addr().unwrap().port());
    let (_switches, one, _two) = start(NetworkKind::Nat).await;
    let (near, far) = tokio::join!(one.connect(to), listener.accept());
    converse(near.unwrap(), far.unwrap().0).await;
    drop(listener);
    let refused = one.connect(to).await;
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    // An isolated network leads nowhere: not even a refusal comes.
    let (_switches, lonely, _two) = start(NetworkKind::Isolated).await;
    let silent = tokio::time::timeout(Duration::from_millis(300), lonely.connect(to));
    assert!(silent.await.is_err());
}

#[tokio::test]
async fn a_node_is_given_its_own_address_and_no_other() {
    let (_switches, mut one, _two) = start(NetworkKind::Nat).await;
    let ask = |message_type, requested_ip| {
        let asked = DhcpRepr {
            message_type,
            transaction_id: 7,
            secs: 0,
            client_hardware_address: EthernetAddress(mac(1).0),
            client_ip: Ipv4Addr::UNSPECIFIED,
            your_ip: Ipv4Addr::UNSPECIFIED,
            server_ip: Ipv4Addr::UNSPECIFIED,
            router: None,
            subnet_mask: None,
            relay_agent_ip: Ipv4Addr::UNSPECIFIED,
            broadcast: false,
            requested_ip,
            client_identifier: None,
            server_identifier: None,
            parameter_request_list: None,
            dns_servers: None,
            max_size: None,
            lease_duration: None,
            renew_duration: None,
            rebind_duration: None,
            additional_options: &[],
        };
        let mut payload = vec![0; asked.buffer_len()];
        asked
            .emit(&mut DhcpPacket::new_unchecked(&mut payload[..]))
            .unwrap();
        let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
        let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67);
        frame(
            (EthernetAddress(mac(1).0), from),
            (EthernetAddress::BROADCAST, to),
            &payload,
        )
    };
    for (asked, wanted, answered, given) in [
        (
            DhcpMessageType::Discover,
            None,
            DhcpMessageType::Offer,
            address(1),
        ),
        (
            DhcpMessageType::Request,
            Some(address(1)),
            DhcpMessageType::Ack,
            address(1),
        ),
        (
            DhcpMessageType::Request,
            Some(address(2)),
            DhcpMessageType::Nak,
            Ipv4Addr::UNSPECIFIED,
        ),
    ] {
        one.orders.send(Do::Send(ask(asked, wanted))).await.unwrap();
        // Between them comes ARP: the guest wants to say that nobody listens.
        let frame = loop {
            let frame = one.heard.recv().await.unwrap();
            if Datagram::parse(&frame).is_some() {
                break frame;
            }
        };
        let datagram = Datagram::parse(&frame).unwrap();
        let packet = DhcpPacket::new_checked(datagram.payload).unwrap();
        let answer = DhcpRepr::parse(&packet).unwrap();
        assert_eq!((answer.message_type, answer.your_ip), (answered, given));
        let router = (answered != DhcpMessageType::Nak).then_some(GATEWAY);
        assert_eq!(answer.router, router);
    }
}
