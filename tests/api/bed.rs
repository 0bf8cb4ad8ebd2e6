//! A cluster that nobody boots, and its agent's API.

use std::collections::BTreeMap;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use libvirt_resource::agent::api::client::{self, Client};
use libvirt_resource::agent::api::identity::Identity;
use libvirt_resource::agent::api::server::{Limits, Server, serve_tls_within};
use libvirt_resource::agent::api::tls::pinned;
use libvirt_resource::agent::api::types::{ClusterState, CollectedFile, NodeState, Secret, Versions};
use libvirt_resource::agent::order::Order;
use libvirt_resource::agent::service::Service;
use libvirt_resource::agent::view::Held;
use libvirt_resource::concourse::Token;
use libvirt_resource::first_boot::keys::{ClusterKeys, HostKey};
use libvirt_resource::topology::model::{
    Accelerator, AcceleratorChoice, Collect, NetworkingChoice, OnFailure, Sha256,
};
use rustls::pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::loopback::{HERE, WORKER_1, name, plan};

pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";

pub fn token() -> Token {
    Token::try_from(TOKEN.to_owned()).unwrap()
}

/// Short enough for a test, long enough for a busy machine.
pub fn hurried() -> client::Limits {
    client::Limits {
        connect: Duration::from_secs(10),
        answer: Duration::from_secs(30),
    }
}

/// As the agent's, without the pause that a wrong token brings.
pub fn limits() -> Limits {
    Limits {
        damping: Duration::ZERO,
        ..Limits::default()
    }
}

pub struct Bed {
    pub directory: tempfile::TempDir,
    pub held: Arc<Held>,
    pub service: Service,
    pub server: Server,
    pub endpoint: SocketAddrV4,
    pub fingerprint: Sha256,
}

pub fn held(directory: &std::path::Path) -> Held {
    let plan = plan(10, &[22]);
    assert_eq!(plan.nodes[0].address(), WORKER_1);
    let order = Order {
        collect: BTreeMap::from([(
            name("kubeconfig"),
            Collect {
                node: name("worker-1"),
                path: "/etc/kubernetes/admin.conf".to_owned(),
            },
        )]),
        lifetime: 7200,
        on_failure: OnFailure::Destroy,
        accelerator: AcceleratorChoice::Auto,
        networking: NetworkingChoice::Auto,
        token: Secret(TOKEN.to_owned()),
        listen: HERE,
        directory: directory.to_owned(),
        images: directory.join("images"),
        request: "a request".to_owned(),
        plan,
    };
    let keys = ClusterKeys::generate(&order.plan.cluster).unwrap();
    let host_keys = order
        .plan
        .nodes
        .iter()
        .map(|node| (node.name().clone(), HostKey::generate().unwrap()))
        .collect();
    std::fs::create_dir(directory.join("consoles")).unwrap();
    Held::new(order, keys, host_keys, "a-password-for-the-proxy".to_owned())
}

impl Bed {
    pub async fn new() -> Self {
        Self::within(limits()).await
    }

    pub async fn within(limits: Limits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let held = Arc::new(held(directory.path()));
        let listener = TcpListener::bind((HERE, 0)).await.unwrap();
        let SocketAddr::V4(endpoint) = listener.local_addr().unwrap() else {
            unreachable!()
        };
        let identity = Identity::generate(&name("brisk-otter-3f9c")).unwrap();
        let fingerprint = identity.fingerprint;
        held.found.endpoint.set((endpoint, fingerprint)).unwrap();
        held.found.accelerator.set(Accelerator::Tcg).unwrap();
        held.found.proxy.set(SocketAddrV4::new(HERE, 40_001)).unwrap();
        held.found
            .versions
            .set(Versions {
                resource: env!("CARGO_PKG_VERSION").to_owned(),
                libvirt: "11.3.0".to_owned(),
                qemu: "10.0.2".to_owned(),
            })
            .unwrap();
        held.found.expires_at.set(1_800_000_000).unwrap();
        held.found
            .forwards
            .set(BTreeMap::from([(
                name("worker-1"),
                BTreeMap::from([(22, 40_022)]),
            )]))
            .unwrap();
        held.set_node(&name("worker-1"), NodeState::Ready, Some(6.5));
        held.collect(
            name("kubeconfig"),
            CollectedFile {
                node: name("worker-1"),
                path: "/etc/kubernetes/admin.conf".to_owned(),
                content: Secret("e30K".to_owned()),
            },
        );
        held.state.send_replace(ClusterState::Ready);
        let service = Service::new(held.clone());
        let server = serve_tls_within(limits, listener, identity, token(), service.clone()).unwrap();
        Self {
            directory,
            held,
            service,
            server,
            endpoint,
            fingerprint,
        }
    }

    pub fn client(&self) -> Client {
        Client::tls(self.endpoint, self.fingerprint, &token()).unwrap()
    }

    pub fn console(&self, node: &str) -> std::path::PathBuf {
        self.held.console(&name(node))
    }

    /// As the agent ends its cluster.
    pub fn end(&self, state: ClusterState) {
        self.held.state.send_replace(state);
        self.service.ended();
    }

    /// A connection on which nothing has been said beyond TLS.
    pub async fn handshake(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.endpoint).await.unwrap();
        let connector = TlsConnector::from(Arc::new(pinned(self.fingerprint).unwrap()));
        connector
            .connect(ServerName::try_from("agent").unwrap(), stream)
            .await
            .unwrap()
    }
}
