//! Ends that are waited for, and consoles that are followed.

use std::io::Write as _;
use std::time::Duration;

use libvirt_resource::agent::api::client::{Client, ClientError};
use libvirt_resource::agent::api::server::serve_unix;
use libvirt_resource::agent::api::types::{ClusterState, Switch};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::bed::{Bed, TOKEN};
use crate::loopback::name;

/// Long: whoever waits for it waits for something that has to come.
const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn who_asks_for_the_end_has_an_answer_before_the_agent_exits() {
    for _ in 0..10 {
        let bed = Bed::new().await;
        let deletes: Vec<_> = (0..3)
            .map(|_| {
                let client = bed.client();
                tokio::spawn(async move { client.destroy().await })
            })
            .collect();
        bed.service.asked_to_end().await;
        // Whoever asks now is as good as the first.
        let late = bed.client();
        late.cluster().await.unwrap();
        let late = tokio::spawn(async move { late.destroy().await });
        // It may hear of this end or find that it has been; in either case it is answered.
        tokio::task::yield_now().await;
        bed.end(ClusterState::Destroyed);
        late.await.unwrap().unwrap();
        bed.server.finish(SOON).await;
        for delete in deletes {
            delete.await.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn the_end_may_be_asked_for_again_and_again() {
    let bed = Bed::new().await;
    bed.end(ClusterState::Expired { lifetime: 7200 });
    for _ in 0..3 {
        bed.client().destroy().await.unwrap();
    }
    assert!(matches!(
        bed.client().fetch().await,
        Err(ClientError::Expired { .. })
    ));
}

#[tokio::test]
async fn who_goes_away_has_asked_all_the_same() {
    let bed = Bed::new().await;
    let mut stream = bed.handshake().await;
    let request = format!("DELETE /v1/cluster HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    bed.service.asked_to_end().await;
    drop(stream);
    bed.end(ClusterState::Destroyed);
    bed.client().destroy().await.unwrap();
}

#[tokio::test]
async fn nobody_who_does_not_read_keeps_the_agent() {
    let bed = Bed::new().await;
    let mut stranger = bed.handshake().await;
    stranger.write_all(b"GET /v1/clu").await.unwrap();
    stranger.flush().await.unwrap();
    let idle = bed.client();
    idle.cluster().await.unwrap();
    // No limit of time is reached: this ends by itself.
    bed.server.finish(Duration::from_secs(3600)).await;
    assert!(matches!(idle.cluster().await, Err(ClientError::Refused { .. })));
}

#[tokio::test]
async fn ten_consoles_are_followed_to_the_clusters_end() {
    let bed = Bed::new().await;
    let socket = bed.directory.path().join("agent.sock");
    let own = serve_unix(&socket, bed.service.clone()).unwrap();
    let mut followers = Vec::new();
    for number in 1..=10 {
        // Half of them over the socket of the container; some before there is anything to read.
        let client = if number % 2 == 0 {
            Client::unix(&socket).unwrap()
        } else {
            bed.client()
        };
        if number % 3 == 0 {
            std::fs::write(bed.console(&format!("worker-{number}")), "").unwrap();
        }
        followers.push(tokio::spawn(async move {
            let node = name(&format!("worker-{number}"));
            let mut out = Vec::new();
            let end = client.console(&node, true, None, &mut out).await;
            (String::from_utf8(out).unwrap(), end)
        }));
    }
    let line = |number: usize, line: usize| format!("worker-{number} says {line}\n");
    for step in 0..20 {
        for number in 1..=10 {
            let mut file = std::fs::File::options()
                .append(true)
                .create(true)
                .open(bed.console(&format!("worker-{number}")))
                .unwrap();
            file.write_all(line(number, step).as_bytes()).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Others are served meanwhile.
    bed.client().cluster().await.unwrap();
    bed.end(ClusterState::Destroyed);
    for (number, follower) in (1..).zip(followers) {
        let (text, end) = follower.await.unwrap();
        assert_eq!(text, (0..20).map(|step| line(number, step)).collect::<String>());
        assert!(matches!(end, Err(ClientError::Destroyed(_))), "{end:?}");
    }
    own.finish(SOON).await;
    bed.server.finish(SOON).await;
}

#[tokio::test]
async fn an_agent_is_dismissed_from_its_own_container_once_its_cluster_has_ended() {
    let bed = Bed::new().await;
    let socket = bed.directory.path().join("agent.sock");
    let _own = serve_unix(&socket, bed.service.clone()).unwrap();
    let own = Client::unix(&socket).unwrap();
    let error = own.dismiss().await.unwrap_err().to_string();
    assert!(error.contains("has not ended"), "{error}");
    bed.end(ClusterState::Destroyed);
    let error = bed.client().dismiss().await.unwrap_err().to_string();
    assert!(error.contains("nothing at this path"), "{error}");
    own.dismiss().await.unwrap();
    bed.service.dismissed().await;
}

#[tokio::test]
async fn a_console_that_is_not_there_is_empty() {
    let bed = Bed::new().await;
    std::fs::write(bed.console("worker-2"), "a\nb\nc\n").unwrap();
    let (_, consoles, _) = bed.client().fetch().await.unwrap();
    assert_eq!(consoles[&name("worker-1")], b"");
    assert_eq!(consoles[&name("worker-2")], b"a\nb\nc\n");
    let mut out = Vec::new();
    let tail = bed.client();
    tail.console(&name("worker-2"), false, Some(2), &mut out)
        .await
        .unwrap();
    assert_eq!(out, b"b\nc\n");
}

#[tokio::test]
async fn what_was_printed_before_the_power_was_switched_on_again_comes_first() {
    let bed = Bed::new().await;
    std::fs::write(bed.held.earlier_console(&name("worker-2")), "a\nb\n").unwrap();
    std::fs::write(bed.console("worker-2"), "c\n").unwrap();
    let (_, consoles, _) = bed.client().fetch().await.unwrap();
    assert_eq!(consoles[&name("worker-2")], b"a\nb\nc\n");
}

#[tokio::test]
async fn machines_of_a_cluster_that_ends_are_not_switched() {
    let bed = Bed::new().await;
    let (client, node) = (bed.client(), name("worker-1"));
    for switch in [
        Switch::On,
        Switch::Off { seconds: 1 },
        Switch::Cut,
        Switch::Cycle,
        Switch::Pause,
        Switch::Resume,
    ] {
        let error = client.switch(&node, switch).await.unwrap_err();
        assert!(matches!(error, ClientError::NotNow { .. }), "{error}");
        let error = client.switch(&name("other"), switch).await.unwrap_err();
        assert!(matches!(error, ClientError::Node(_)), "{error}");
    }
    let error = client.switch(&node, Switch::Off { seconds: 86_401 }).await;
    assert!(error.unwrap_err().to_string().contains("86400 at most"));
    bed.held.state.send_replace(ClusterState::Starting);
    let error = client.wait(&node, SOON).await.unwrap_err().to_string();
    assert!(error.contains("still being brought up"), "{error}");
}

#[tokio::test]
async fn a_slow_reader_costs_no_memory() {
    let bed = Bed::new().await;
    let path = bed.console("worker-1");
    // A gigabyte that takes no room on the disk.
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(1 << 30).unwrap();
    let mut stream = bed.handshake().await;
    let request = format!(
        "GET /v1/nodes/worker-1/console?follow=true HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 15];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    // How far the agent has read: until it stands still.
    let mut at = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = position(&path);
        if now == at {
            break;
        }
        at = now;
    }
    assert!(
        at < 64 << 20,
        "the agent has read {at} bytes for somebody who reads none"
    );
    // Others are served meanwhile, and the end is not held up for longer than its limit.
    bed.client().cluster().await.unwrap();
    bed.end(ClusterState::Destroyed);
    bed.server.finish(Duration::from_millis(100)).await;
}

/// Where in a file this process reads, by proc(5).
fn position(path: &std::path::Path) -> u64 {
    let fds = std::fs::read_dir("/proc/self/fd").unwrap();
    let positions = fds.filter_map(|fd| {
        let fd = fd.ok()?;
        if std::fs::read_link(fd.path()).ok()? != path {
            return None;
        }
        let number = fd.file_name().into_string().ok()?;
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok()?;
        info.lines()
            .find_map(|line| line.strip_prefix("pos:")?.trim().parse::<u64>().ok())
    });
    positions.max().unwrap_or(0)
}
