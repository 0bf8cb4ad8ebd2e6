//! The SOCKS5 proxy on loopback: who gets through, where to, and what everybody else is told.

mod loopback;

use std::net::{Ipv4Addr, SocketAddrV4};

use libvirt_resource::agent::proxy::{Proxy, Rules};
use libvirt_resource::agent::wire::ways::Ways;
use libvirt_resource::concourse::Token;
use loopback::{GATEWAY, HERE, WORKER_1, plan};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const PASSWORD: &str = "correct-horse-battery";

struct Bed {
    node: TcpListener,
    proxy: Proxy,
}

impl Bed {
    async fn new() -> Self {
        let node = TcpListener::bind((WORKER_1, 0)).await.unwrap();
        let password = Token::try_from(PASSWORD.to_owned()).unwrap();
        let proxy = Proxy::bind(
            HERE,
            Rules::new("nodes", password, &plan(2, &[22]), Ways::new(&plan(2, &[22]))),
        )
        .await
        .unwrap();
        Self { node, proxy }
    }

    fn port(&self) -> u16 {
        self.node.local_addr().unwrap().port()
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.proxy.address()).await.unwrap()
    }

    /// As far as the password, which is right.
    async fn known(&self) -> TcpStream {
        let mut client = self.connect().await;
        client.write_all(&[5, 2, 0, 2]).await.unwrap();
        assert_eq!(read::<2>(&mut client).await, [5, 2]);
        client.write_all(&credentials("nodes", PASSWORD)).await.unwrap();
        assert_eq!(read::<2>(&mut client).await, [1, 0]);
        client
    }

    async fn ask(&self, host: &[u8], port: u16) -> (u8, TcpStream) {
        let mut client = self.known().await;
        client
            .write_all(&[&[5, 1, 0], host, &port.to_be_bytes()].concat())
            .await
            .unwrap();
        let reply: [u8; 10] = read(&mut client).await;
        assert_eq!((reply[0], &reply[2..]), (5, &[0, 1, 0, 0, 0, 0, 0, 0][..]));
        (reply[1], client)
    }
}

fn credentials(username: &str, password: &str) -> Vec<u8> {
    let mut bytes = vec![1, username.len() as u8];
    bytes.extend(username.as_bytes());
    bytes.push(password.len() as u8);
    bytes.extend(password.as_bytes());
    bytes
}

fn named(name: &str) -> Vec<u8> {
    [&[3, name.len() as u8], name.as_bytes()].concat()
}

fn numbered(address: Ipv4Addr) -> Vec<u8> {
    [&[1], &address.octets()[..]].concat()
}

async fn read<const N: usize>(stream: &mut TcpStream) -> [u8; N] {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

async fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Whether it ends in order or by a reset: what was said counts.
    let _ = stream.read_to_end(&mut bytes).await;
    bytes
}

#[tokio::test]
async fn nodes_are_reached_by_every_name_they_have() {
    let bed = Bed::new().await;
    let mapped = [&[4][..], &WORKER_1.to_ipv6_mapped().octets()[..]].concat();
    for host in [
        named("worker-1"),
        named("WORKER-1"),
        named("worker-1."),
        named("worker-1.default"),
        named("worker-1.brisk-otter-3f9c.internal"),
        named("127.9.0.11"),
        numbered(WORKER_1),
        mapped,
    ] {
        let (reply, mut client) = bed.ask(&host, bed.port()).await;
        assert_eq!(reply, 0, "{host:?}");
        let (mut node, _) = bed.node.accept().await.unwrap();
        // Half-close, both ways.
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut asked = String::new();
        node.read_to_string(&mut asked).await.unwrap();
        assert_eq!(asked, "question");
        node.write_all(b"answer").await.unwrap();
        drop(node);
        assert_eq!(rest(client).await, b"answer");
    }
}

#[tokio::test]
async fn nothing_else_is_reached() {
    let bed = Bed::new().await;
    // Something does listen there: it must not be reached all the same.
    let own = TcpListener::bind((HERE, 0)).await.unwrap();
    let gateway = TcpListener::bind((GATEWAY, 0)).await.unwrap();
    let port = own.local_addr().unwrap().port();
    const NOT_ALLOWED: u8 = 2;
    const UNKNOWN: u8 = 4;
    const ADDRESS_TYPE: u8 = 8;
    for (host, port, expected) in [
        (numbered(HERE), port, NOT_ALLOWED),
        (named("127.0.0.1"), port, NOT_ALLOWED),
        (numbered(Ipv4Addr::UNSPECIFIED), port, NOT_ALLOWED),
        (numbered(Ipv4Addr::new(169, 254, 169, 254)), 80, NOT_ALLOWED),
        (numbered(Ipv4Addr::new(10, 80, 0, 1)), 80, NOT_ALLOWED),
        (numbered(Ipv4Addr::new(1, 1, 1, 1)), 443, NOT_ALLOWED),
        (numbered(Ipv4Addr::BROADCAST), 80, NOT_ALLOWED),
        (numbered(Ipv4Addr::new(127, 9, 0, 0)), port, NOT_ALLOWED),
        (numbered(Ipv4Addr::new(127, 9, 0, 255)), port, NOT_ALLOWED),
        (
            numbered(GATEWAY),
            gateway.local_addr().unwrap().port(),
            NOT_ALLOWED,
        ),
        (named("localhost"), port, UNKNOWN),
        (named("worker-3"), 22, UNKNOWN),
        (named("worker-1.."), 22, UNKNOWN),
        (named("metadata.google.internal"), 80, UNKNOWN),
        (named("0x7f.1"), port, UNKNOWN),
        (named("2130706433"), port, UNKNOWN),
        (named("127.1"), port, UNKNOWN),
        (named("::1"), port, UNKNOWN),
        (named(""), port, UNKNOWN),
        (vec![3, 3, 0xff, 0, b'\n'], port, UNKNOWN),
        (
            [&[4], &std::net::Ipv6Addr::LOCALHOST.octets()[..]].concat(),
            port,
            ADDRESS_TYPE,
        ),
        (
            [&[4], &HERE.to_ipv6_mapped().octets()[..]].concat(),
            port,
            NOT_ALLOWED,
        ),
    ] {
        let (reply, client) = bed.ask(&host, port).await;
        assert_eq!(reply, expected, "{host:?}");
        assert_eq!(rest(client).await, b"");
    }
    for listener in [own, gateway] {
        listener.into_std().unwrap().accept().unwrap_err();
    }
}

#[tokio::test]
async fn what_the_node_says_is_passed_on() {
    let bed = Bed::new().await;
    let port = bed.port();
    // worker-2 is there, and nothing listens.
    let (reply, _) = bed.ask(&named("worker-2"), port).await;
    assert_eq!(reply, 5);
    // Neither BIND nor UDP.
    for command in [2, 3, 99] {
        let mut client = bed.known().await;
        let request = [&[5, command, 0], &named("worker-1")[..], &port.to_be_bytes()].concat();
        client.write_all(&request).await.unwrap();
        assert_eq!(read::<10>(&mut client).await[1], 7);
    }
}

#[tokio::test]
async fn strangers_are_told_nothing() {
    let bed = Bed::new().await;
    // No method that will do.
    for greeting in [&[5, 1, 0][..], &[5, 0], &[5, 2, 0, 1]] {
        let mut client = bed.connect().await;
        client.write_all(greeting).await.unwrap();
        assert_eq!(rest(client).await, [5, 0xff]);
    }
    // Wrong in one, the other, both; nearly right; empty. Side by side, since each waits for its answer.
    let wrong = [
        ("nodes", "wrong-horse-battery-"),
        ("root", PASSWORD),
        ("root", "wrong"),
        ("", ""),
        ("nodes", &PASSWORD[1..]),
    ];
    let bed = &bed;
    futures_util::future::join_all(wrong.map(|(username, password)| async move {
        let mut client = bed.connect().await;
        client.write_all(&[5, 1, 2]).await.unwrap();
        client.write_all(&credentials(username, password)).await.unwrap();
        assert_eq!(rest(client).await, [5, 2, 1, 1], "{username}");
    }))
    .await;
    // No SOCKS5 at all.
    for garbage in [
        &b"GET http://worker-1/ HTTP/1.1\r\n\r\n"[..],
        b"\x04\x01\x00\x16\x7f\x09\x00\x0b\x00",
        b"SSH-2.0-x\r\n",
        b"\x16\x03\x01\x02\x00",
    ] {
        let mut client = bed.connect().await;
        client.write_all(garbage).await.unwrap();
        assert_eq!(rest(client).await, b"");
    }
}

#[tokio::test]
async fn silent_strangers_shut_nobody_out() {
    let bed = Bed::new().await;
    let mut silent = Vec::new();
    for number in 0..400 {
        let mut client = bed.connect().await;
        // Some have begun to speak.
        let _ = client.write_all(&[5, 1, 2][..number % 4]).await;
        silent.push(client);
    }
    let (reply, mut client) = bed.ask(&named("worker-1"), bed.port()).await;
    assert_eq!(reply, 0);
    // Who is through has a place of its own.
    let (mut node, _) = bed.node.accept().await.unwrap();
    for _ in 0..400 {
        silent.push(bed.connect().await);
    }
    node.write_all(b"still here").await.unwrap();
    assert_eq!(read::<10>(&mut client).await, *b"still here");
    // The first has been given up for another one.
    assert!(rest(silent.swap_remove(0)).await.len() <= 2);
}

#[tokio::test]
async fn many_at_once_and_all_end_with_the_proxy() {
    let bed = Bed::new().await;
    let mut pairs = Vec::new();
    for number in 0..200_u32 {
        let (reply, mut client) = bed.ask(&named("worker-1"), bed.port()).await;
        assert_eq!(reply, 0);
        let (mut node, _) = bed.node.accept().await.unwrap();
        client.write_u32(number).await.unwrap();
        assert_eq!(node.read_u32().await.unwrap(), number);
        pairs.push((client, node));
    }
    drop(bed.proxy);
    for (mut client, mut node) in pairs {
        assert!(client.read_u32().await.is_err() && node.read_u32().await.is_err());
    }
}

#[tokio::test]
async fn a_message_may_come_in_pieces_or_all_at_once() {
    let bed = Bed::new().await;
    let whole = [
        &[5, 1, 2][..],
        &credentials("nodes", PASSWORD),
        &[5, 1, 0],
        &named("worker-1"),
        &bed.port().to_be_bytes(),
        b"and what comes after",
    ]
    .concat();
    for size in [1, 7, whole.len()] {
        let mut client = bed.connect().await;
        client.set_nodelay(true).unwrap();
        for piece in whole.chunks(size) {
            client.write_all(piece).await.unwrap();
        }
        client.shutdown().await.unwrap();
        assert_eq!(read::<4>(&mut client).await, [5, 2, 1, 0]);
        assert_eq!(read::<10>(&mut client).await[1], 0);
        let (mut node, peer) = bed.node.accept().await.unwrap();
        assert!(matches!(peer, std::net::SocketAddr::V4(_)));
        let mut heard = String::new();
        node.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "and what comes after");
    }
    let address: SocketAddrV4 = bed.proxy.address();
    assert_eq!(*address.ip(), HERE);
}
