//! What a stranger in another container can do: nothing that others would notice.

use std::time::Duration;

use libvirt_resource::agent::api::client::ClientError;
use libvirt_resource::agent::api::server::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::bed::{Bed, TOKEN, limits};
use crate::loopback::name;

async fn rest(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    // Whether it ends in order or by a reset: what was said counts.
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Bed {
    /// Sends bytes over TLS and gives all that comes until the agent hangs up.
    async fn say(&self, bytes: &[u8]) -> String {
        let mut stream = self.handshake().await;
        stream.write_all(bytes).await.unwrap();
        stream.flush().await.unwrap();
        rest(&mut stream).await
    }
}

#[tokio::test]
async fn whatever_a_stranger_asks_the_answer_is_the_same() {
    let bed = Bed::new().await;
    let mut answers = Vec::new();
    for request in [
        "GET /v1/cluster",
        "DELETE /v1/cluster",
        "POST /v1/cluster",
        "GET /v1/nodes/worker-1/console",
        "GET /v1/nodes/worker-99/console",
        "GET /v1/nodes/%ff/console?tail=x",
        "GET /",
        "GET /v2/what/there/may/be",
        "OPTIONS *",
        "TRACE /v1/cluster",
        "GET http://169.254.169.254/latest/meta-data",
        "CONNECT worker-1:22",
    ] {
        for header in [
            "",
            "authorization: \r\n",
            "authorization: Bearer\r\n",
            "authorization: Bearer \r\n",
            "authorization: Bearer 0123456789abcdef0123456789abcdeg\r\n",
            "authorization: Bearer 0123456789abcdef0123456789abcdef0\r\n",
            "authorization: Basic 0123456789abcdef0123456789abcdef\r\n",
            "authorization: 0123456789abcdef0123456789abcdef\r\n",
            "x-token: 0123456789abcdef0123456789abcdef\r\n",
        ] {
            let said = bed
                .say(format!("{request} HTTP/1.1\r\nhost: x\r\n{header}\r\n").as_bytes())
                .await;
            let lines = said.lines().filter(|line| !line.starts_with("date: "));
            answers.push(lines.collect::<Vec<_>>().join("\n"));
        }
    }
    answers.sort();
    answers.dedup();
    assert_eq!(
        answers,
        [
            "HTTP/1.1 401 Unauthorized\ncontent-type: application/json\nwww-authenticate: Bearer\nconnection: close\ncontent-length: 68\n\n{\"error\":{\"code\":\"token\",\"message\":\"the token is missing or wrong\"}}"
        ]
    );
    // HEAD has no body; the rest of it is alike.
    let head = bed.say(b"HEAD /v1/cluster HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(
        head.starts_with("HTTP/1.1 401 ") && !head.contains("worker"),
        "{head}"
    );
}

#[tokio::test]
async fn who_has_the_token_is_told_what_is_wrong() {
    let bed = Bed::new().await;
    for (request, status, code) in [
        ("GET /v1/nodes/worker-99/console", 404, "node"),
        ("GET /v1/nodes/%ff/console", 404, "node"),
        ("GET /v1/nodes/..%2f..%2fetc%2fpasswd/console", 404, "node"),
        ("GET /v1/nodes/worker-1/console?tail=x", 400, "query"),
        ("GET /v1/nodes/worker-1/console?tail=-1", 400, "query"),
        ("GET /v1/nodes/worker-1/console?follow=yes", 400, "query"),
        ("GET /", 404, "path"),
        ("GET /v1/cluster/", 404, "path"),
        ("POST /v1/cluster", 405, "method"),
    ] {
        let head = format!(
            "{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: bearer {TOKEN}\r\n\r\n"
        );
        let said = bed.say(head.as_bytes()).await;
        assert!(
            said.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}: {said}"
        );
        assert!(
            said.contains(&format!("{{\"code\":\"{code}\",")),
            "{request}: {said}"
        );
    }
}

#[tokio::test]
async fn what_is_no_request_is_no_panic() {
    let bed = Bed::new().await;
    let long = "x".repeat(100_000);
    let many = (0..100)
        .map(|number| format!("x-{number}: y"))
        .collect::<Vec<_>>()
        .join("\r\n")
        + "\r\n";
    for (bytes, status) in [
        (&b"\x00\xff\xfe garbage\r\n\r\n"[..], "400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""),
        (b"\r\n\r\n\r\n\r\nGET\r\n\r\n", "400"),
        (format!("GET /{long} HTTP/1.1\r\n\r\n").as_bytes(), "431"),
        (format!("GET / HTTP/1.1\r\nx: {long}\r\n\r\n").as_bytes(), "431"),
        (format!("GET / HTTP/1.1\r\n{many}\r\n").as_bytes(), "431"),
        // A body that would never end is not waited for.
        (
            b"POST /v1/cluster HTTP/1.1\r\nhost: x\r\ncontent-length: 1099511627776\r\n\r\nx",
            "401",
        ),
        (
            b"POST /v1/cluster HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello",
            "401",
        ),
        (
            b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n",
            "401",
        ),
        (
            b"POST / HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
            "400",
        ),
    ] {
        let mut stream = bed.handshake().await;
        // The agent may have hung up before it has it all.
        let _ = stream.write_all(bytes).await;
        let _ = stream.flush().await;
        let said = rest(&mut stream).await;
        assert_eq!(said.split(' ').nth(1).unwrap_or(""), status, "{said}");
    }
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"SSH-2.0-x\r\n",
        b"\x16\x03\x01\xff\xff\x01",
        &[0; 64],
    ] {
        let mut stream = TcpStream::connect(bed.endpoint).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        assert!(!rest(&mut stream).await.contains("HTTP"));
    }
    bed.client().cluster().await.unwrap();
}

#[tokio::test]
async fn a_thousand_silent_connections_shut_nobody_out() {
    let bed = Bed::new().await;
    std::fs::write(bed.console("worker-1"), "the console\n").unwrap();
    let (mut reader, mut writer) = tokio::io::duplex(1024);
    let client = bed.client();
    let follower =
        tokio::spawn(async move { client.console(&name("worker-1"), true, None, &mut writer).await });
    let mut line = [0; 12];
    reader.read_exact(&mut line).await.unwrap();
    let mut tcp = Vec::new();
    let mut tls = Vec::new();
    for number in 0..1000 {
        if number % 10 == 0 {
            // Every tenth goes as far as a request that never ends.
            let mut stream = bed.handshake().await;
            stream.write_all(b"GET /v1/cluster HTTP/1.1\r\n").await.unwrap();
            stream.flush().await.unwrap();
            tls.push(stream);
        } else {
            let mut stream = TcpStream::connect(bed.endpoint).await.unwrap();
            // Some begin a handshake.
            let _ = stream.write_all(&[0x16, 3, 1, 2, 0][..number % 6]).await;
            tcp.push(stream);
        }
        if number % 250 == 249 {
            bed.client().cluster().await.unwrap();
        }
    }
    // The first of them have been given up for later ones.
    rest(&mut tcp[0]).await;
    rest(&mut tls[0]).await;
    // One that has shown the token is none of them.
    let mut file = std::fs::File::options()
        .append(true)
        .open(bed.console("worker-1"))
        .unwrap();
    std::io::Write::write_all(&mut file, b"and more\n").unwrap();
    let mut line = [0; 9];
    reader.read_exact(&mut line).await.unwrap();
    assert_eq!(&line, b"and more\n");
    follower.abort();
}

#[tokio::test]
async fn a_strangers_time_is_limited_however_busy_it_is() {
    let bed = Bed::within(Limits {
        patience: Duration::from_secs(2),
        ..limits()
    })
    .await;
    // Nothing at all; a handshake that stops; a head that drips.
    let silent = async {
        let mut stream = TcpStream::connect(bed.endpoint).await.unwrap();
        assert_eq!(rest(&mut stream).await, "");
    };
    let stopped = async {
        let mut stream = TcpStream::connect(bed.endpoint).await.unwrap();
        stream.write_all(&[0x16, 3, 1, 2, 0, 1]).await.unwrap();
        assert_eq!(rest(&mut stream).await, "");
    };
    let dripping = async {
        let mut stream = bed.handshake().await;
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nx: ").await;
        while stream.write_all(b"y").await.is_ok() && stream.flush().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::join!(silent, stopped, dripping);
    // Who has shown the token may take its time over an answer, but not keep a connection for nothing.
    let client = bed.client();
    client.cluster().await.unwrap();
    let mut known = bed.handshake().await;
    let request = format!(
        "GET /v1/nodes/worker-1/console HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\r\n"
    );
    known.write_all(request.as_bytes()).await.unwrap();
    assert!(rest(&mut known).await.starts_with("HTTP/1.1 204 "));
    // And a client whose connection was closed meanwhile opens another.
    client.cluster().await.unwrap();
}

#[tokio::test]
async fn those_who_have_the_token_are_limited_too() {
    let bed = Bed::within(Limits { known: 3, ..limits() }).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = bed.handshake().await;
        let request = format!(
            "GET /v1/nodes/worker-1/console?follow=true HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = [0; 15];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");
        held.push(stream);
    }
    let error = bed.client().cluster().await.unwrap_err();
    assert!(matches!(error, ClientError::Busy { .. }), "{error:?}");
    held.clear();
    // Their places are free again as soon as the agent has noticed.
    while matches!(bed.client().cluster().await, Err(ClientError::Busy { .. })) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
