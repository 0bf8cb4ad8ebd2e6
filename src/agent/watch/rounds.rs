//! What is asked for all nodes at once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::hypervisor::{Connection, DomainCounters, Lease};
use crate::topology::name::Name;
use crate::topology::plan::Plan;

/// How often.
const PAUSE: Duration = Duration::from_secs(2);

/// With less than this free, the next write of a guest is refused, and with it the guest stops.
const FULL: u64 = 4 << 20;

/// Goes its rounds while any node is watched; ends when dropped.
#[derive(Debug)]
pub struct Rounds {
    connection: Connection,
    found: watch::Sender<Arc<Found>>,
    task: JoinHandle<()>,
}

/// What the last round found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// By the domains' names.
    pub counters: BTreeMap<String, DomainCounters>,
    /// Of all the cluster's networks.
    pub leases: Vec<Lease>,
    /// The directory of the nodes' disks, where its file system is full.
    pub full: Option<PathBuf>,
}

impl Rounds {
    /// For one cluster; `disks` is where its nodes' disks are. To be called on a Tokio runtime.
    pub fn start(connection: Connection, plan: &Plan, disks: PathBuf) -> Arc<Self> {
        let found = watch::Sender::new(Arc::default());
        let networks = plan.networks.iter().map(|network| network.name.clone()).collect();
        let walk = walk(
            connection.clone(),
            plan.cluster.clone(),
            networks,
            disks,
            found.clone(),
        );
        Arc::new(Self {
            connection,
            found,
            task: tokio::spawn(walk),
        })
    }

    /// The connection that the rounds are gone over.
    pub(super) fn connection(&self) -> Connection {
        self.connection.clone()
    }

    /// Follows the rounds.
    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<Found>> {
        self.found.subscribe()
    }
}

impl Drop for Rounds {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn walk(
    connection: Connection,
    cluster: Name,
    networks: Vec<Name>,
    disks: PathBuf,
    found: watch::Sender<Arc<Found>>,
) {
    loop {
        tokio::time::sleep(PAUSE).await;
        if found.receiver_count() == 0 {
            continue;
        }
        let (cluster, networks, disks) = (cluster.clone(), networks.clone(), disks.clone());
        let round = connection.run(move |connection| {
            let mut leases = Vec::new();
            for network in &networks {
                // A network that is gone has no leases; that libvirtd is gone shows elsewhere.
                leases.extend(connection.leases(&cluster, network).unwrap_or_default());
            }
            Ok(Found {
                counters: connection.counters()?,
                leases,
                full: is_full(&disks).then_some(disks),
            })
        });
        if let Ok(round) = round.await {
            found.send_replace(Arc::new(round));
        }
    }
}

fn is_full(directory: &std::path::Path) -> bool {
    rustix::fs::statvfs(directory).is_ok_and(|room| room.f_bavail.saturating_mul(room.f_frsize) < FULL)
}
