//! Forwards on loopback: what a client sees of a node that answers, refuses, is slow, or ends.

mod loopback;

use std::io::{ErrorKind, Read as _, Write as _};
use std::time::{Duration, Instant};

use libvirt_resource::agent::forward::Forwards;
use libvirt_resource::agent::wire::ways::Ways;
use loopback::{HERE, WORKER_1, name, plan};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A node's listener, the forwards to it, and the port by which it is reached.
async fn bed(connections: usize) -> (TcpListener, Forwards, u16) {
    let node = TcpListener::bind((WORKER_1, 0)).await.unwrap();
    let port = node.local_addr().unwrap().port();
    let forwards = Forwards::bind_at_most(HERE, &plan(1, &[port]), Ways::new(&plan(1, &[port])), connections)
        .await
        .unwrap();
    let forwarded = forwards.ports()[&name("worker-1")][&port];
    (node, forwards, forwarded)
}

async fn pair(node: &TcpListener, port: u16) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect((HERE, port)).await.unwrap();
    (client, node.accept().await.unwrap().0)
}

#[tokio::test]
async fn each_end_is_passed_on_and_the_other_way_stays_open() {
    let (node, _forwards, port) = bed(8).await;
    let (mut client, mut server) = pair(&node, port).await;
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let mut asked = String::new();
    server.read_to_string(&mut asked).await.unwrap();
    assert_eq!(asked, "question");
    server.write_all(b"answer").await.unwrap();
    drop(server);
    let mut answered = String::new();
    client.read_to_string(&mut answered).await.unwrap();
    assert_eq!(answered, "answer");
    // The other way round.
    let (mut client, mut server) = pair(&node, port).await;
    server.write_all(b"banner").await.unwrap();
    server.shutdown().await.unwrap();
    let mut told = String::new();
    client.read_to_string(&mut told).await.unwrap();
    assert_eq!(told, "banner");
    client.write_all(b"still").await.unwrap();
    drop(client);
    let mut heard = String::new();
    server.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "still");
}

#[tokio::test]
async fn a_node_that_refuses_is_a_reset_and_not_an_empty_answer() {
    let (node, _forwards, port) = bed(8).await;
    drop(node);
    let mut client = TcpStream::connect((HERE, port)).await.unwrap();
    let error = client.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn what_breaks_on_one_side_is_broken_off_on_the_other() {
    let (node, _forwards, port) = bed(8).await;
    let (mut client, server) = pair(&node, port).await;
    server.set_zero_linger().unwrap();
    drop(server);
    let error = client.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let (client, mut server) = pair(&node, port).await;
    client.set_zero_linger().unwrap();
    drop(client);
    let error = server.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn nobody_reads_so_nothing_more_is_taken() {
    let (node, _forwards, port) = bed(8).await;
    let (client, mut server) = pair(&node, port).await;
    // The kernel's buffers and one of ours: when they are full the writer waits.
    let chunk = vec![7; 1 << 20];
    let mut sent = 0;
    let full = async {
        loop {
            client.writable().await.unwrap();
            match client.try_write(&chunk) {
                Ok(count) => sent += count,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
    };
    assert!(
        tokio::time::timeout(Duration::from_millis(800), full)
            .await
            .is_err()
    );
    assert!(sent < 64 << 20, "{sent} bytes were taken that nobody read");
    drop(client);
    // And none of them is lost.
    let mut got = Vec::new();
    server.read_to_end(&mut got).await.unwrap();
    assert_eq!(got.len(), sent);
    assert!(got.iter().all(|byte| *byte == 7));
}

#[tokio::test]
async fn many_at_once_and_more_than_there_is_room_for() {
    let (node, forwards, port) = bed(200).await;
    let echo = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (mut stream, _) = node.accept().await.unwrap();
            connections.spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    let mut clients = Vec::new();
    for number in 0..200_u32 {
        let mut client = TcpStream::connect((HERE, port)).await.unwrap();
        client.write_u32(number).await.unwrap();
        // Seen through to the node, so that it has its place before the next one comes.
        assert_eq!(client.read_u32().await.unwrap(), number);
        clients.push(client);
    }
    let mut more = TcpStream::connect((HERE, port)).await.unwrap();
    let error = more.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    for (number, client) in (0..).zip(&mut clients) {
        client.write_u32(number).await.unwrap();
        assert_eq!(client.read_u32().await.unwrap(), number);
    }
    // They end with the forwards.
    drop(forwards);
    assert!(clients[0].read_u32().await.is_err());
    echo.abort();
}

#[tokio::test]
async fn another_peer_gets_a_place_of_the_greediest() {
    let (node, _forwards, port) = bed(4).await;
    let (mut first, _first_at_node) = pair(&node, port).await;
    first.write_all(b"x").await.unwrap();
    let mut rest = Vec::new();
    for _ in 1..4 {
        rest.push(pair(&node, port).await);
    }
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let other = socket.connect((HERE, port).into()).await.unwrap();
    let (mut at_node, _) = node.accept().await.unwrap();
    at_node.write_all(b"welcome").await.unwrap();
    let mut told = [0; 7];
    let mut other = other;
    other.read_exact(&mut told).await.unwrap();
    assert_eq!(&told, b"welcome");
    // The last one of the others has lost its place, the first has not.
    let (last, _) = rest.last_mut().unwrap();
    assert!(matches!(last.read(&mut [0; 8]).await, Ok(0) | Err(_)));
    first.write_all(b"y").await.unwrap();
}

/// `cargo test --release --test forward -- --ignored --nocapture`: prints, and judges nothing.
#[test]
#[ignore = "a figure, not a verdict"]
fn throughput_against_direct() {
    const TOTAL: usize = 2_000_000_000;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let node = std::net::TcpListener::bind((WORKER_1, 0)).unwrap();
    let to = node.local_addr().unwrap();
    let forwards = runtime
        .block_on(Forwards::bind(
            HERE,
            &plan(1, &[to.port()]),
            Ways::new(&plan(1, &[])),
        ))
        .unwrap();
    let forwarded = (HERE, forwards.ports()[&name("worker-1")][&to.port()]).into();
    let run = |at: std::net::SocketAddr| {
        let begun = Instant::now();
        let writer = std::thread::spawn(move || {
            let mut stream = std::net::TcpStream::connect(at).unwrap();
            let chunk = vec![7; 256 << 10];
            for _ in 0..TOTAL / chunk.len() {
                stream.write_all(&chunk).unwrap();
            }
        });
        let (mut stream, _) = node.accept().unwrap();
        let mut chunk = vec![0; 256 << 10];
        while stream.read(&mut chunk).unwrap() > 0 {}
        writer.join().unwrap();
        TOTAL as f64 / begun.elapsed().as_secs_f64() / 1e9
    };
    let mut rounds: Vec<(f64, f64)> = (0..9).map(|_| (run(to), run(forwarded))).collect();
    rounds.sort_by(|a, b| (a.1 / a.0).total_cmp(&(b.1 / b.0)));
    let (direct, through) = rounds[rounds.len() / 2];
    println!(
        "direct {direct:.2} GB/s, forwarded {through:.2} GB/s: {:.2} (the middle of 9 rounds side by side)",
        through / direct
    );
}
