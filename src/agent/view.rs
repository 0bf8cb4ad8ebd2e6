//! What the agent knows of its cluster while it lives, and how that is told to callers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::watch;

use super::api::types::{
    Cluster, ClusterState, Collectable, CollectedFile, NodeAddress, NodeInfo, NodeState, PowerState, Proxy,
    Secret, Versions,
};
use super::judging::{Judged, Judging};
use super::order::{NodeSummary, Order, Summary};
use super::watch::Notes;
use crate::boot::console::last_lines;
use crate::boot::evidence::Evidence;
use crate::boot::recording::Diagnosis;
use crate::first_boot::keys::{ClusterKeys, HostKey};
use crate::report::{self, NodeReport, Report};
use crate::topology::model::{Accelerator, ImageSource, Networking, Sha256};
use crate::topology::name::Name;
use crate::topology::plan::PlannedNode;

/// One cluster, shared by everything that works on it.
#[derive(Debug)]
pub struct Held {
    /// What was ordered.
    pub order: Order,
    /// When the order came.
    pub started: Instant,
    /// The same on the wall clock: seconds since the Unix epoch.
    pub created_at: u64,
    /// The login key.
    pub keys: ClusterKeys,
    /// Each node's host key.
    pub host_keys: BTreeMap<Name, HostKey>,
    /// The proxy's password.
    pub proxy_password: String,
    /// What is known once it has been found out.
    pub found: Found,
    /// Where the cluster is in its life.
    pub state: watch::Sender<ClusterState>,
    nodes: watch::Sender<BTreeMap<Name, Live>>,
    followed: Mutex<BTreeMap<Name, Followed>>,
    collected: Mutex<BTreeMap<Name, CollectedFile>>,
}

/// What is found out on the way, each once.
#[derive(Debug, Default)]
pub struct Found {
    /// Which accelerator is used.
    pub accelerator: OnceLock<Accelerator>,
    /// Who carries the nodes' packets.
    pub networking: OnceLock<Networking>,
    /// Of this program, libvirt and QEMU.
    pub versions: OnceLock<Versions>,
    /// Where the API listens, and the fingerprint of its certificate.
    pub endpoint: OnceLock<(SocketAddrV4, Sha256)>,
    /// Where the proxy listens.
    pub proxy: OnceLock<SocketAddrV4>,
    /// Each node's forwards.
    pub forwards: OnceLock<BTreeMap<Name, BTreeMap<u16, u16>>>,
    /// Seconds from the order to the last node's readiness.
    pub ready_seconds: OnceLock<f64>,
    /// Seconds since the Unix epoch: when the cluster goes at the latest.
    pub expires_at: OnceLock<u64>,
}

/// A node whose machine was started.
#[derive(Clone, Debug)]
struct Followed {
    judged: Judged,
    notes: Notes,
    screenshot: Option<Vec<u8>>,
}

/// A node, as it is now.
#[derive(Clone, Copy, Debug)]
pub struct Live {
    /// What it is doing.
    pub state: NodeState,
    /// What its machine is doing.
    pub power: PowerState,
    /// From power on to ready, of the last boot that got so far.
    pub ready_seconds: Option<f64>,
}

/// What a node that there is not is said to be.
const NOT_THERE: Live = Live {
    state: NodeState::Off,
    power: PowerState::Off,
    ready_seconds: None,
};

impl Held {
    /// A cluster of which nothing is up yet.
    pub fn new(
        order: Order,
        keys: ClusterKeys,
        host_keys: BTreeMap<Name, HostKey>,
        proxy_password: String,
    ) -> Self {
        let nodes = order
            .plan
            .nodes
            .iter()
            .map(|node| {
                (
                    node.name().clone(),
                    Live {
                        state: NodeState::Booting,
                        power: PowerState::Off,
                        ready_seconds: None,
                    },
                )
            })
            .collect();
        Self {
            order,
            started: Instant::now(),
            created_at: now(),
            keys,
            host_keys,
            proxy_password,
            found: Found::default(),
            state: watch::Sender::new(ClusterState::Starting),
            nodes: watch::Sender::new(nodes),
            followed: Mutex::default(),
            collected: Mutex::default(),
        }
    }

    /// Notes what a node is doing.
    pub fn set_node(&self, name: &Name, state: NodeState, ready_seconds: Option<f64>) {
        self.change(name, |live| {
            live.state = state;
            live.ready_seconds = ready_seconds.or(live.ready_seconds);
        });
    }

    /// Notes what a node's machine is doing. One that has panicked stays so until it is stopped, though its CPUs stand still, too.
    pub fn set_power(&self, name: &Name, power: PowerState) {
        self.change(name, |live| {
            if (live.power, power) != (PowerState::Crashed, PowerState::Paused) {
                live.power = power;
            }
        });
    }

    /// What a node's machine is doing.
    pub fn power(&self, name: &Name) -> PowerState {
        self.live(name).power
    }

    /// Whether the node was ready at any time.
    pub fn has_been_ready(&self, name: &Name) -> bool {
        self.live(name).ready_seconds.is_some()
    }

    /// Waits until a node is as it is asked for, and gives how it is then.
    pub async fn wait_for(&self, name: &Name, is: impl Fn(&Live) -> bool) -> Live {
        let mut nodes = self.nodes.subscribe();
        let waited = nodes.wait_for(|nodes| nodes.get(name).is_some_and(&is)).await;
        // The sender lives as long as this does.
        waited
            .ok()
            .and_then(|nodes| nodes.get(name).copied())
            .unwrap_or(NOT_THERE)
    }

    fn change(&self, name: &Name, change: impl FnOnce(&mut Live)) {
        self.nodes.send_modify(|nodes| {
            if let Some(live) = nodes.get_mut(name) {
                change(live);
            }
        });
    }

    /// Where a node is in its life.
    pub fn node_state(&self, name: &Name) -> NodeState {
        self.live(name).state
    }

    /// From here on the node is judged.
    pub fn follow(&self, name: &Name, judging: &Judging) {
        let followed = Followed {
            judged: judging.judged(),
            notes: judging.notes(),
            screenshot: None,
        };
        self.followed().insert(name.clone(), followed);
    }

    /// Tells a node's judge what was seen of it.
    pub fn seen(&self, name: &Name, what: Evidence) {
        if let Some(followed) = self.followed().get(name) {
            followed.notes.seen(what);
        }
    }

    /// What a node's judge says now; `None` before its machine was started.
    pub fn diagnosis(&self, name: &Name) -> Option<Diagnosis> {
        // Cloned, so that nobody waits for a judge at work with the map in his hands.
        let judged = self.followed().get(name).map(|followed| followed.judged.clone());
        judged.map(|judged| judged.diagnosis())
    }

    /// Keeps a picture (PNG) of a node's display.
    pub fn keep_screenshot(&self, name: &Name, png: Vec<u8>) {
        if let Some(followed) = self.followed().get_mut(name) {
            followed.screenshot = Some(png);
        }
    }

    /// How every node came up so far. Reads the consoles: blocks.
    pub fn report(&self) -> Report {
        let versions = self.found.versions.get();
        Report {
            report: 1,
            cluster: self.order.plan.cluster.to_string(),
            started_at: self.created_at,
            accelerator: self.found.accelerator.get().map(ToString::to_string),
            libvirt: versions.map(|versions| versions.libvirt.clone()),
            qemu: versions.map(|versions| versions.qemu.clone()),
            nodes: self
                .order
                .plan
                .nodes
                .iter()
                .map(|node| self.node_report(node))
                .collect(),
        }
    }

    fn node_report(&self, node: &PlannedNode) -> NodeReport {
        let name = node.name();
        let console = std::fs::read(self.console(name)).unwrap_or_default();
        let from = console.len().saturating_sub(report::CONSOLE);
        let screenshot = self
            .followed()
            .get(name)
            .and_then(|followed| followed.screenshot.clone());
        NodeReport {
            name: name.to_string(),
            state: self.live(name).state.to_string(),
            address: node.address(),
            diagnosis: self.diagnosis(name),
            console: last_lines(&console[from..], usize::MAX).join("\n"),
            console_cut: from > 0,
            screenshot: screenshot.map(|png| STANDARD.encode(png)),
        }
    }

    fn followed(&self) -> MutexGuard<'_, BTreeMap<Name, Followed>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that no machine runs any more.
    pub fn all_off(&self) {
        self.nodes.send_modify(|nodes| {
            for live in nodes.values_mut() {
                live.state = NodeState::Off;
                live.power = PowerState::Off;
            }
        });
    }

    /// Keeps a file that was copied from a node.
    pub fn collect(&self, name: Name, file: CollectedFile) {
        self.collected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name, file);
    }

    /// Where a node's console is written.
    pub fn console(&self, node: &Name) -> PathBuf {
        self.order.directory.join("consoles").join(format!("{node}.log"))
    }

    /// Where what it printed is kept of the boots before the last time that its power was switched on.
    pub fn earlier_console(&self, node: &Name) -> PathBuf {
        self.order
            .directory
            .join("consoles")
            .join(format!("{node}.earlier.log"))
    }

    /// Where the journal of a node whose Ignition failed is written.
    pub fn ignition_journal(&self, node: &Name) -> PathBuf {
        self.order
            .directory
            .join("consoles")
            .join(format!("{node}.journal"))
    }

    /// Where what was seen of a node is recorded.
    pub fn evidence(&self, node: &Name) -> PathBuf {
        self.order
            .directory
            .join("evidence")
            .join(format!("{node}.jsonl"))
    }

    /// A node, as it is now.
    pub fn live(&self, name: &Name) -> Live {
        self.nodes.borrow().get(name).copied().unwrap_or(NOT_THERE)
    }

    fn endpoint(&self) -> SocketAddrV4 {
        self.found
            .endpoint
            .get()
            .map_or(SocketAddrV4::new(self.order.listen, 0), |(address, _)| *address)
    }

    fn fingerprint(&self) -> Sha256 {
        // All zeroes is no certificate's: until there is one, none will fit.
        self.found
            .endpoint
            .get()
            .map_or(Sha256([0; 32]), |(_, fingerprint)| *fingerprint)
    }

    fn accelerator(&self) -> Accelerator {
        self.found.accelerator.get().copied().unwrap_or(Accelerator::Tcg)
    }

    /// Bridges until something else is settled.
    pub fn networking(&self) -> Networking {
        self.found
            .networking
            .get()
            .copied()
            .unwrap_or(Networking::Bridges)
    }

    fn versions(&self) -> Versions {
        self.found.versions.get().cloned().unwrap_or_else(|| Versions {
            resource: env!("CARGO_PKG_VERSION").to_owned(),
            libvirt: "unknown".to_owned(),
            qemu: "unknown".to_owned(),
        })
    }

    fn expires_at(&self) -> u64 {
        // Until the commit the lifetime has not begun.
        self.found
            .expires_at
            .get()
            .copied()
            .unwrap_or(self.created_at + self.order.lifetime)
    }

    fn images(&self) -> Vec<String> {
        let nodes = self.order.plan.nodes.iter();
        let images: BTreeSet<String> = nodes.map(|node| image_name(&node.node.image)).collect();
        images.into_iter().collect()
    }

    /// Everything that a caller with the token may know.
    pub fn cluster(&self) -> Cluster {
        let nodes = self.order.plan.nodes.iter().map(|planned| self.node(planned));
        Cluster {
            cluster: self.order.plan.cluster.clone(),
            state: self.state.borrow().clone(),
            endpoint: self.endpoint(),
            fingerprint: self.fingerprint(),
            accelerator: self.accelerator(),
            networking: self.networking(),
            created_at: self.created_at,
            expires_at: self.expires_at(),
            ready_seconds: self.found.ready_seconds.get().copied(),
            images: self.images(),
            versions: self.versions(),
            login_key: Secret(self.keys.login_private.clone()),
            proxy: Proxy {
                address: self
                    .found
                    .proxy
                    .get()
                    .copied()
                    .unwrap_or(SocketAddrV4::new(self.order.listen, 0)),
                username: "nodes".to_owned(),
                password: Secret(self.proxy_password.clone()),
            },
            nodes: nodes.collect(),
            collect: self
                .order
                .collect
                .iter()
                .map(|(name, wanted)| {
                    let (node, path) = (wanted.node.clone(), wanted.path.clone());
                    (name.clone(), Collectable { node, path })
                })
                .collect(),
            collected: self
                .collected
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        }
    }

    /// One node, as its callers may know it.
    pub fn node(&self, planned: &PlannedNode) -> NodeInfo {
        let live = self.live(planned.name());
        let prefix = |network: &Name| {
            let found = self
                .order
                .plan
                .networks
                .iter()
                .find(|candidate| candidate.name == *network);
            found.map_or(24, |network| network.subnet.prefix_len())
        };
        NodeInfo {
            name: planned.name().clone(),
            role: planned.node.role.clone(),
            state: live.state,
            power: live.power,
            ssh_user: planned.node.ssh_user.clone(),
            host_key: self
                .host_keys
                .get(planned.name())
                .map(|key| key.public.clone())
                .unwrap_or_default(),
            addresses: planned
                .nics
                .iter()
                .map(|nic| NodeAddress {
                    network: nic.network.clone(),
                    address: nic.address,
                    prefix: prefix(&nic.network),
                    mac: nic.mac.to_string(),
                })
                .collect(),
            forwards: self
                .found
                .forwards
                .get()
                .and_then(|all| all.get(planned.name()))
                .cloned()
                .unwrap_or_default(),
            ready_seconds: live.ready_seconds,
        }
    }

    /// What is said of the cluster to everyone who sees the build: no secret in it.
    pub fn summary(&self) -> Summary {
        let plan = &self.order.plan;
        let nodes = plan.nodes.iter().map(|planned| NodeSummary {
            name: planned.name().clone(),
            address: planned.address(),
            ssh_port: self
                .found
                .forwards
                .get()
                .and_then(|all| all.get(planned.name())?.get(&22).copied())
                .unwrap_or_default(),
            cpus: planned.node.cpus,
            memory: planned.node.memory,
            ready_seconds: self.live(planned.name()).ready_seconds,
        });
        Summary {
            cluster: plan.cluster.clone(),
            endpoint: self.endpoint(),
            fingerprint: self.fingerprint(),
            accelerator: self.accelerator(),
            networking: self.networking(),
            versions: self.versions(),
            expires_at: self.expires_at(),
            ready_seconds: self
                .found
                .ready_seconds
                .get()
                .copied()
                .unwrap_or(self.started.elapsed().as_secs_f64()),
            images: self.images(),
            nodes: nodes.collect(),
        }
    }
}

/// As a person would name it: the path within the step's inputs is known to whoever wrote the pipeline by its last parts.
fn image_name(image: &ImageSource) -> String {
    match image {
        ImageSource::File(path) | ImageSource::Box(path) => {
            let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
            parts[parts.len().saturating_sub(2)..].join("/")
        }
        ImageSource::Url { url, .. } => {
            // No user, password or query: a signed URL is a secret, and metadata is shown to everyone.
            let host = url.host_str().unwrap_or_default();
            format!("{}://{host}{}", url.scheme(), url.path())
        }
    }
}

/// Seconds since the Unix epoch.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs())
}
