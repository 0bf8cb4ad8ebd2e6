//! Everything of a cluster that stands at a given moment, in one place, so that it can be taken down at any moment.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use super::BringUpError;
use crate::agent::api::identity::Identity;
use crate::agent::api::server::{Server, serve_tls, serve_unix};
use crate::agent::api::types::NodeState;
use crate::agent::daemons::{DaemonError, Daemons};
use crate::agent::family::Family;
use crate::agent::forward::Forwards;
use crate::agent::host::leftovers;
use crate::agent::order::Order;
use crate::agent::proxy::{Proxy, Rules};
use crate::agent::service::Service;
use crate::agent::ssh::Ssh;
use crate::agent::state::Run;
use crate::agent::switch::Switches;
use crate::agent::view::Held;
use crate::agent::watch::{Rounds, life};
use crate::agent::wire::ways::Ways;
use crate::concourse::Token;
use crate::first_boot::keys::{ClusterKeys, HostKey, KeyError};
use crate::hypervisor::{
    Cable, CloseReason, Connection, DomainEvent, EventKind, Events, ObjectName, StopReason,
};
use crate::progress::{Level, Progress};
use crate::topology::model::Networking;
use crate::topology::name::Name;
use crate::topology::plan::{HostNetwork, Nic};

/// The port at which the API listens where it is free; else the kernel chooses.
const API_PORT: u16 = 7669;

/// How long the last answers may take to be read.
const GOODBYE: Duration = Duration::from_secs(2);

/// When a machine stopped, and why; `None` while it runs.
type Stops = BTreeMap<Name, watch::Sender<Option<String>>>;

/// What stands.
#[derive(Debug)]
pub struct Standing {
    /// What is known of the cluster.
    pub held: Arc<Held>,
    /// Where the log's lines go.
    pub progress: Progress,
    /// The way into the nodes.
    pub ssh: Ssh,
    /// Where its processes are.
    pub family: Family,
    /// Where the daemons' deaths are told.
    pub deaths: mpsc::UnboundedSender<DaemonError>,
    run: Run,
    service: Service,
    stops: Arc<Stops>,
    daemons: Option<Daemons>,
    connection: Option<Connection>,
    watcher: Option<tokio::task::JoinHandle<()>>,
    rounds: Option<Arc<Rounds>>,
    servers: Vec<Server>,
    ways: Option<Ways>,
    forwards: Option<Forwards>,
    proxy: Option<Proxy>,
    switches: Option<Switches>,
}

/// Why there is not even a beginning.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// No keys.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The keys' files.
    #[error("{}: the cluster's keys cannot be written", .0.display())]
    Write(std::path::PathBuf, #[source] std::io::Error),
}

impl Standing {
    /// A cluster of which only the keys are there.
    pub fn new(
        order: Order,
        family: Family,
        run: Run,
        progress: Progress,
        deaths: mpsc::UnboundedSender<DaemonError>,
    ) -> Result<Self, BeginError> {
        let keys = ClusterKeys::generate(&order.plan.cluster)?;
        let mut host_keys = BTreeMap::new();
        for node in &order.plan.nodes {
            host_keys.insert(node.name().clone(), HostKey::generate()?);
        }
        let place = order.directory.join("keys");
        let ssh = std::fs::create_dir_all(&place).and_then(|()| {
            let hosts = host_keys
                .iter()
                .map(|(name, key)| (name.as_str(), key.public.as_str()));
            Ssh::new(&place, run.directory(), &keys.login_private, hosts)
        });
        let ssh = ssh.map_err(|source| BeginError::Write(place, source))?;
        let stops = order
            .plan
            .nodes
            .iter()
            .map(|node| (node.name().clone(), watch::Sender::new(None)));
        let stops = Arc::new(stops.collect());
        let held = Arc::new(Held::new(
            order,
            keys,
            host_keys,
            Token::generate().expose().to_owned(),
        ));
        Ok(Self {
            service: Service::new(held.clone()),
            held,
            progress,
            ssh,
            family,
            deaths,
            run,
            stops,
            daemons: None,
            connection: None,
            watcher: None,
            rounds: None,
            servers: Vec::new(),
            ways: None,
            forwards: None,
            proxy: None,
            switches: None,
        })
    }

    /// Opens API, forwards and proxy. From here on a caller can see how the cluster comes up.
    pub async fn listen(&mut self, networking: Networking) -> Result<(), BringUpError> {
        let order = &self.held.order;
        let address = order.listen;
        let failed = |error| BringUpError::Listen(address, error);
        let ways = match networking {
            Networking::Bridges => Ways::new(&order.plan),
            Networking::User => {
                // A container without a resolver has none to ask.
                let nameservers = HostNetwork::read().map_or(Vec::new(), |host| host.nameservers);
                let switches = Switches::start(&order.plan, &nameservers).await.map_err(failed)?;
                let ways = Ways::through(&switches, &order.plan);
                self.switches = Some(switches);
                ways
            }
        };
        let token = Token::try_from(order.token.0.clone())
            .map_err(|error| failed(std::io::Error::other(format!("the token {error}"))))?;
        let listener = match TcpListener::bind((address, API_PORT)).await {
            Ok(listener) => listener,
            Err(_) => TcpListener::bind((address, 0)).await.map_err(failed)?,
        };
        let endpoint = SocketAddrV4::new(address, listener.local_addr().map_err(failed)?.port());
        let identity =
            Identity::generate(&order.plan.cluster).map_err(|error| failed(std::io::Error::other(error)))?;
        let _ = self.held.found.endpoint.set((endpoint, identity.fingerprint));
        let forwards = Forwards::bind(address, &order.plan, ways.clone())
            .await
            .map_err(failed)?;
        let _ = self.held.found.forwards.set(forwards.ports().clone());
        if networking == Networking::User {
            self.ssh.go_through(address, forwards.ports());
        }
        self.forwards = Some(forwards);
        let password = Token::try_from(self.held.proxy_password.clone())
            .map_err(|error| failed(std::io::Error::other(format!("the proxy's password {error}"))))?;
        let proxy = Proxy::bind(address, Rules::new("nodes", password, &order.plan, ways.clone()))
            .await
            .map_err(failed)?;
        let _ = self.held.found.proxy.set(proxy.address());
        self.proxy = Some(proxy);
        self.ways = Some(ways);
        self.servers
            .push(serve_tls(listener, identity, token, self.service.clone()).map_err(failed)?);
        self.servers
            .push(serve_unix(&self.run.socket(), self.service.clone()).map_err(failed)?);
        Ok(())
    }

    /// Takes over what runs once libvirt is up.
    pub fn libvirt_is_up(&mut self, daemons: Daemons, connection: Connection, events: Events) {
        let watcher = watch_domains(
            events,
            self.held.clone(),
            self.stops.clone(),
            self.progress.clone(),
        );
        self.watcher = Some(tokio::spawn(watcher));
        self.daemons = Some(daemons);
        self.service.set_connection(Some(connection.clone()));
        let disks = self.held.order.directory.join("disks");
        self.rounds = Some(Rounds::start(connection.clone(), &self.held.order.plan, disks));
        self.connection = Some(connection);
    }

    /// The connection to libvirt.
    pub fn connection(&self) -> Result<Connection, BringUpError> {
        self.connection
            .clone()
            .ok_or(BringUpError::Broken("the connection to libvirt"))
    }

    /// The ways to the nodes.
    pub fn ways(&self) -> Result<&Ways, BringUpError> {
        self.ways
            .as_ref()
            .ok_or(BringUpError::Broken("the way to the nodes"))
    }

    /// What a NIC of a node is plugged into.
    pub fn cable(&self, nic: &Nic) -> Result<Cable, BringUpError> {
        match &self.switches {
            None => Ok(Cable::Network(ObjectName::new(
                &self.held.order.plan.cluster,
                &nic.network,
            ))),
            Some(switches) => switches
                .plug(&nic.network, nic.mac)
                .map(Cable::Socket)
                .ok_or(BringUpError::Broken("the switch of a network")),
        }
    }

    /// What goes round all nodes while they boot.
    pub fn rounds(&self) -> Result<&Arc<Rounds>, BringUpError> {
        self.rounds
            .as_ref()
            .ok_or(BringUpError::Broken("the watch over the nodes"))
    }

    /// Nothing boots any more: what looks at all nodes while they do, ends.
    pub fn all_are_up(&mut self) {
        self.rounds = None;
    }

    /// Tells when a node's machine stops, and why.
    pub fn stopped(&self, name: &Name) -> watch::Receiver<Option<String>> {
        // A node that is not in the plan never runs, and so never stops.
        self.stops
            .get(name)
            .map_or_else(|| watch::channel(None).1, watch::Sender::subscribe)
    }

    /// Whether the cluster has come so far that a person could look into it.
    pub fn is_reachable(&self) -> bool {
        self.connection.is_some()
    }

    /// What the API is served by.
    pub fn service(&self) -> Service {
        self.service.clone()
    }

    /// Returns once somebody wants the cluster to end.
    pub async fn asked_to_end(&self) {
        self.service.asked_to_end().await;
    }

    /// Returns, with the reason, once libvirtd no longer answers.
    pub async fn connection_closed(&self) -> String {
        let Some(connection) = &self.connection else {
            return std::future::pending().await;
        };
        match connection.closed().await {
            CloseReason::Eof | CloseReason::Error => "libvirtd ended, or was killed",
            CloseReason::KeepAlive => "libvirtd no longer answers",
            CloseReason::Client => "the connection to libvirtd was closed",
        }
        .to_owned()
    }

    /// Ends what is only of use to a living cluster; the API goes on.
    pub fn close(&mut self) {
        if let Some(daemons) = self.daemons.take() {
            daemons.expect_death();
        }
        if let Some(watcher) = self.watcher.take() {
            watcher.abort();
        }
        self.ways = None;
        self.forwards = None;
        self.proxy = None;
        self.switches = None;
        self.service.set_connection(None);
        self.rounds = None;
        self.connection = None;
    }

    /// Removes what the kernel keeps of a cluster when its processes are gone: bridges, taps, firewall rules.
    pub async fn remove_leftovers(&self) {
        for failed in leftovers::clear().await.failed {
            eprintln!("left behind: {failed}");
        }
    }

    /// Answers those who asked for the cluster's end, and ends the consoles that are followed. The API goes on.
    pub fn answer_enders(&self) {
        self.service.ended();
    }

    /// The same, and ends the API as soon as they have their answer: this process may exit then.
    pub async fn say_goodbye(&mut self) {
        self.service.ended();
        let finishes = self.servers.drain(..).map(|server| server.finish(GOODBYE));
        futures_util::future::join_all(finishes).await;
    }
}

/// Keeps the nodes' states by what libvirt tells of their machines.
async fn watch_domains(mut events: Events, held: Arc<Held>, stops: Arc<Stops>, progress: Progress) {
    while let Some(DomainEvent { name, kind, .. }) = events.next().await {
        let cluster = &held.order.plan.cluster;
        let Some((node, stop)) = stops
            .iter()
            .find(|(node, _)| ObjectName::new(cluster, node).as_str() == name)
        else {
            continue;
        };
        if let Some(seen) = life(&kind) {
            held.seen(node, seen);
        }
        let why = match kind {
            EventKind::Stopped(reason) => match reason {
                StopReason::Shutdown => "the guest switched itself off".to_owned(),
                StopReason::Crashed => "its QEMU died: killed, out of memory, or a bug".to_owned(),
                StopReason::Destroyed => "somebody destroyed it".to_owned(),
                StopReason::Failed | StopReason::Saved | StopReason::Other => "libvirt stopped it".to_owned(),
            },
            // Its judge waits for what the console says of it.
            EventKind::Panicked if held.node_state(node) == NodeState::Booting => continue,
            EventKind::Panicked => "the guest's kernel panicked".to_owned(),
            EventKind::DiskFailed { path, reason } => {
                let text = match reason.as_str() {
                    "enospc" => format!("{path}: the container's disk is full"),
                    _ => format!("{path}: reading or writing failed {reason}"),
                };
                progress.node(Level::Warn, node, text);
                continue;
            }
            // Of a node that boots, its judge tells it.
            EventKind::Rebooted if held.node_state(node) == NodeState::Booting => continue,
            EventKind::Rebooted => {
                progress.node(Level::Info, node, "reboots");
                continue;
            }
            EventKind::Started
            | EventKind::Suspended(_)
            | EventKind::Resumed
            | EventKind::ShuttingDown
            | EventKind::GuestAgent { .. } => continue,
        };
        if held.node_state(node) != NodeState::Failed {
            held.set_node(node, NodeState::Off, None);
        }
        progress.node(Level::Warn, node, format!("stopped: {why}"));
        stop.send_replace(Some(why));
    }
}
