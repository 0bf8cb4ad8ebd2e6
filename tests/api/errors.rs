//! What a client says of everything that may stand, or not stand, at an endpoint.

use std::net::SocketAddrV4;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use libvirt_resource::agent::api::client::{Client, ClientError, Limits};
use libvirt_resource::agent::api::identity::Identity;
use libvirt_resource::agent::api::tls::acceptor;
use libvirt_resource::agent::api::types::ClusterState;
use libvirt_resource::concourse::Token;
use libvirt_resource::fault::{Fault as _, tell};
use libvirt_resource::topology::model::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};

use crate::bed::{Bed, hurried, token};
use crate::loopback::{HERE, name};

/// The whole text; ports and digests, which differ from run to run, left out.
fn told(error: &ClientError, endpoint: SocketAddrV4) -> String {
    assert!(error.help().is_some_and(|help| help.ends_with('.')), "{error}");
    tell(error)
        .replace(&endpoint.to_string(), "AGENT")
        .replace("\n  help: ", " | ")
}

async fn failure(client: Client) -> ClientError {
    client.fetch().await.map(drop).unwrap_err()
}

fn to(endpoint: SocketAddrV4) -> Client {
    Client::tls_within(hurried(), endpoint, Sha256([7; 32]), &token()).unwrap()
}

/// A server that says some bytes to everyone, reads what comes, and then does as it is told.
async fn fake(says: &'static [u8], and_hangs_up: bool) -> SocketAddrV4 {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(says).await;
                if !and_hangs_up {
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                }
            });
        }
    });
    SocketAddrV4::new(HERE, port)
}

/// An agent as far as TLS goes, that answers every request with the same bytes and hangs up.
async fn agent_that_says(says: &'static [u8]) -> (SocketAddrV4, Sha256) {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let identity = Identity::generate(&name("brisk-otter-3f9c")).unwrap();
    let fingerprint = identity.fingerprint;
    let acceptor = acceptor(identity).unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await.unwrap();
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(says).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    (SocketAddrV4::new(HERE, port), fingerprint)
}

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let endpoint = SocketAddrV4::new(HERE, listener.local_addr().unwrap().port());
    drop(listener);
    let error = failure(to(endpoint)).await;
    assert_eq!(
        told(&error, endpoint),
        "the cluster's agent at AGENT cannot be reached: the connection is refused | The put's container stands, but its agent is gone: it was killed, or it ended an hour after its cluster did. Run the put again."
    );
}

#[tokio::test]
async fn nothing_leads_there() {
    // No TCP goes to a group of hosts, whatever the routes.
    let endpoint = "224.0.0.1:7669".parse().unwrap();
    let error = failure(to(endpoint)).await;
    assert_eq!(
        told(&error, endpoint),
        "the cluster's agent at AGENT cannot be reached: Network is unreachable (os error 101) | The put's container is gone, or this step runs on another worker: containers of different workers cannot reach each other. Pin put and get to one worker with the same `tags`."
    );
}

#[tokio::test]
async fn nothing_is_said_at_all() {
    let endpoint = fake(b"", false).await;
    let limits = Limits {
        connect: Duration::from_millis(1000),
        ..hurried()
    };
    let client = Client::tls_within(limits, endpoint, Sha256([7; 32]), &token()).unwrap();
    let error = failure(client).await;
    assert_eq!(
        told(&error, endpoint),
        "the cluster's agent at AGENT has not answered within 3 s | The worker is overloaded, or the agent hangs. Try again; if it stays so, run the put again and report it with the agent's log."
    );
}

#[tokio::test]
async fn the_answer_does_not_come() {
    let bed = Bed::new().await;
    let limits = Limits {
        connect: Duration::from_secs(10),
        answer: Duration::from_secs(1),
    };
    let client = Client::tls_within(limits, bed.endpoint, bed.fingerprint, &token()).unwrap();
    // Nobody ends this cluster.
    let error = client.destroy().await.unwrap_err();
    assert_eq!(
        told(&error, bed.endpoint),
        "the cluster's agent at AGENT has not answered within 1 s | The worker is overloaded, or the agent hangs. Try again; if it stays so, run the put again and report it with the agent's log."
    );
}

#[tokio::test]
async fn it_hangs_up() {
    let endpoint = fake(b"", true).await;
    let error = failure(to(endpoint)).await;
    assert!(matches!(error, ClientError::BrokeOff { .. }), "{error:?}");
    let (endpoint, fingerprint) = agent_that_says(b"").await;
    let error = failure(Client::tls(endpoint, fingerprint, &token()).unwrap()).await;
    assert_eq!(
        told(&error, endpoint),
        "the cluster's agent at AGENT broke off before it had answered: connection closed before message completed | The agent died (look for \"Out of memory\" in the worker's kernel log), or its container was ended. Run the put again."
    );
    // In the middle of the answer.
    let (endpoint, fingerprint) =
        agent_that_says(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"cluster\":").await;
    let error = failure(Client::tls(endpoint, fingerprint, &token()).unwrap()).await;
    assert!(matches!(error, ClientError::BrokeOff { .. }), "{error:?}");
}

#[tokio::test]
async fn the_token_is_another() {
    let bed = Bed::new().await;
    let other = Token::generate();
    let error = failure(Client::tls(bed.endpoint, bed.fingerprint, &other).unwrap()).await;
    assert_eq!(
        told(&error, bed.endpoint),
        "the cluster's agent at AGENT refuses the token | source.token is another one than when the cluster was put. Set it back, or run the put again."
    );
}

#[tokio::test]
async fn the_certificate_is_another() {
    let bed = Bed::new().await;
    let error = failure(Client::tls(bed.endpoint, Sha256([7; 32]), &token()).unwrap()).await;
    assert_eq!(
        told(&error, bed.endpoint),
        format!(
            "at AGENT is another agent than this cluster's: the certificate's fingerprint is {}, not {} | The cluster of this version is gone, and its address was given to another one. Run the put again.",
            bed.fingerprint,
            Sha256([7; 32])
        )
    );
}

#[tokio::test]
async fn it_does_not_speak_tls() {
    for says in [
        &b"SSH-2.0-OpenSSH_10.0\r\n"[..],
        b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
    ] {
        let endpoint = fake(says, true).await;
        let error = failure(to(endpoint)).await;
        assert_eq!(
            told(&error, endpoint),
            "what listens at AGENT is no cluster's agent: it does not speak TLS | The cluster of this version is gone, and its address was given to another container. Run the put again."
        );
    }
}

#[tokio::test]
async fn it_is_of_another_release() {
    for says in [
        &b"HTTP/1.1 200 OK\r\nserver: libvirt-resource/9.0.0\r\ncontent-length: 2\r\n\r\n{}"[..],
        b"HTTP/1.1 404 Not Found\r\nserver: libvirt-resource/9.0.0\r\ncontent-length: 43\r\n\r\n{\"error\":{\"code\":\"path\",\"message\":\"gone\"}}\n",
        b"HTTP/1.1 500 Oh\r\nserver: libvirt-resource/9.0.0\r\ncontent-length: 0\r\n\r\n",
    ] {
        let (endpoint, fingerprint) = agent_that_says(says).await;
        let error = failure(Client::tls(endpoint, fingerprint, &token()).unwrap()).await;
        assert_eq!(
            told(&error, endpoint),
            format!(
                "the cluster's agent at AGENT is release 9.0.0, this program is {}: they do not understand each other | The image of the resource type has changed since the put. Run the put again, or use the image that it ran with.",
                env!("CARGO_PKG_VERSION")
            )
        );
    }
}

#[tokio::test]
async fn it_is_something_else() {
    for (says, expected) in [
        (
            &b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>"[..],
            "expected value at line 1 column 1",
        ),
        (
            b"HTTP/1.1 302 Found\r\nlocation: http://x/\r\ncontent-length: 0\r\n\r\n",
            "HTTP status 302 Found",
        ),
        (b"SSH-2.0-OpenSSH_10.0\r\n", "invalid HTTP version parsed"),
    ] {
        let (endpoint, fingerprint) = agent_that_says(says).await;
        let error = failure(Client::tls(endpoint, fingerprint, &token()).unwrap()).await;
        assert_eq!(
            told(&error, endpoint),
            format!(
                "what answers at AGENT does not speak this program's protocol: {expected} | Please report it, with the release of the resource type that the put ran with."
            )
        );
    }
}

#[tokio::test]
async fn the_socket_of_the_container() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.sock");
    let client = Client::unix(&path).unwrap();
    assert!(matches!(
        failure(client.clone()).await,
        ClientError::Refused { .. }
    ));
    let listener = UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    if tokio::net::UnixStream::connect(&path).await.is_ok() {
        println!("left out: root may open every socket");
    } else {
        assert!(matches!(
            failure(client.clone()).await,
            ClientError::Denied { .. }
        ));
    }
    drop(listener);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(failure(client).await, ClientError::Refused { .. }));
}

#[tokio::test]
async fn each_state_is_its_own_error() {
    let bed = Bed::new().await;
    let reason = || "libvirtd ended, or was killed".to_owned();
    for (state, expected) in [
        (
            ClusterState::Starting,
            "the cluster brisk-otter-3f9c is still being brought up | Wait for its put to end.",
        ),
        (
            ClusterState::Kept { reason: reason() },
            "the cluster brisk-otter-3f9c did not get ready: libvirtd ended, or was killed | It is kept for inspection by `fly hijack` (on_failure: keep): see the log of its put.",
        ),
        (
            ClusterState::Destroyed,
            "the cluster brisk-otter-3f9c was destroyed | Run the put again.",
        ),
        (
            ClusterState::Expired { lifetime: 7200 },
            "the cluster brisk-otter-3f9c has expired: its lifetime of 7200 s ended at 2027-01-15 08:00:00 UTC | Run the put again, with a longer `lifetime` if the build needs it.",
        ),
        (
            ClusterState::Lost { reason: reason() },
            "the cluster brisk-otter-3f9c is lost: libvirtd ended, or was killed | Run the put again; look for the cause in the worker's kernel log (\"Out of memory\") first.",
        ),
    ] {
        bed.held.state.send_replace(state);
        assert_eq!(told(&failure(bed.client()).await, bed.endpoint), expected);
        // It tells what it is all the same.
        bed.client().cluster().await.unwrap();
    }
}

#[tokio::test]
async fn there_is_no_such_node() {
    let bed = Bed::new().await;
    let error = bed
        .client()
        .console(&name("worker-99"), false, None, &mut Vec::new())
        .await
        .unwrap_err();
    assert_eq!(
        told(&error, bed.endpoint),
        "the cluster has no node worker-99 | `nodectl list` lists the nodes."
    );
}
