//! From an order to a cluster of which every node is ready.

mod collect;
mod nodes;
mod standing;

use std::collections::BTreeMap;

use super::api::types::Versions;
use super::daemons::{self, DaemonError};
use super::host::accelerator::{self, AcceleratorError};
use super::host::admission::{self, AdmissionError, Need};
use super::host::limits::{self, LimitsError};
use super::host::nested::{self, NestedOff};
use super::host::{self, HostError, leftovers};
use super::order::Order;
use crate::boot::recording::Diagnosis;
use crate::boot::show;
use crate::fault::Fault;
use crate::first_boot::FirstBootError;
use crate::hypervisor::{Connection, Events, HypervisorError};
use crate::image::{self, ImageError, Prepared};
use crate::progress::Progress;
use crate::topology::model::{Accelerator, ImageSource, Networking};
use crate::topology::name::Name;
use crate::units::ByteSize;

pub use self::standing::Standing;

/// Why a cluster did not get ready.
#[derive(Debug, thiserror::Error)]
pub enum BringUpError {
    /// The container cannot hold it.
    #[error(transparent)]
    Host(#[from] HostError),
    /// What is free could not be read.
    #[error(transparent)]
    Limits(#[from] LimitsError),
    /// It asks for more than there is.
    #[error(transparent)]
    Admission(#[from] AdmissionError),
    /// KVM was demanded and is not to be had.
    #[error(transparent)]
    Accelerator(#[from] AcceleratorError),
    /// Nested virtualisation was asked for and is not to be had.
    #[error(transparent)]
    Nested(#[from] NestedOff),
    /// An image cannot be used.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// libvirtd or virtlogd did not start.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    /// libvirt refused.
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
    /// A node's seed could not be made.
    #[error("node {0}")]
    FirstBoot(Name, #[source] FirstBootError),
    /// A file or directory of the cluster could not be made.
    #[error("{}: cannot be written", .0.display())]
    Write(std::path::PathBuf, #[source] std::io::Error),
    /// API, forwards or proxy cannot listen.
    #[error("cannot listen on the container's address {0}")]
    Listen(std::net::Ipv4Addr, #[source] std::io::Error),
    /// A node did not get ready.
    #[error("{}", show::failure(node.as_str(), diagnosis))]
    NotReady {
        /// Which.
        node: Name,
        /// Why, as its judge has it.
        diagnosis: Box<Diagnosis>,
    },
    /// A Vagrant box let its own user in, who could not hand it over.
    #[error("node {node}: the Vagrant box cannot be made the cluster's own: {said}")]
    Box {
        /// Which.
        node: Name,
        /// What the box said.
        said: String,
    },
    /// A file could not be copied from a node.
    #[error("collect.{name}: {path} cannot be copied from {node}: {said}")]
    Collect {
        /// The name in the artifact.
        name: Name,
        /// The node.
        node: Name,
        /// The path there.
        path: String,
        /// What the node said.
        said: String,
    },
    /// A part of the work broke.
    #[error("{0} broke off unexpectedly")]
    Broken(&'static str),
}

impl Fault for BringUpError {
    fn help(&self) -> Option<String> {
        match self {
            Self::Host(error) => error.help(),
            Self::Limits(error) => error.help(),
            Self::Admission(error) => error.help(),
            Self::Accelerator(error) => error.help(),
            Self::Nested(error) => error.help(),
            Self::Image(error) => error.help(),
            Self::Daemon(error) => error.help(),
            Self::Hypervisor(error) => error.help(),
            Self::FirstBoot(_, error) => error.help(),
            Self::Write(..) => Some("is the disk full, or mounted read-only?".to_owned()),
            Self::Listen(..) => Some("see whether the container's network is up".to_owned()),
            Self::NotReady { diagnosis, .. } => diagnosis.verdict.as_ref().map(|verdict| verdict.advice.clone()),
            Self::Box { .. } => Some(
                "a box needs what Vagrant asks of every box: a user vagrant with the published key, who may do everything by sudo \
                 without a password; and ssh_user must be a user that it has"
                    .to_owned(),
            ),
            Self::Collect { .. } => {
                Some("is the file there once the ready command has succeeded? Paths are absolute, read as ssh_user".to_owned())
            }
            Self::Broken(_) => Some("please report it with the agent's log".to_owned()),
        }
    }
}

/// Brings everything up, side by side where nothing depends on each other. What it has made is in `standing`, so that
/// whoever calls can take it down at any moment; dropping the future stops the work.
///
/// # Errors
/// The first thing that went wrong; the nodes' consoles have been quoted in the log by then.
pub async fn bring_up(standing: &mut Standing) -> Result<(), BringUpError> {
    let held = standing.held.clone();
    let (order, progress) = (&held.order, standing.progress.clone());
    let images_directory = order.images.clone();
    let networking = host::prepare(standing.family, order.networking, &progress)?;
    let _ = held.found.networking.set(networking);
    standing.listen(networking).await?;
    let standing_so_far = &*standing;
    let accelerator = async {
        let verdict = accelerator::probe(order.accelerator, &progress).await?;
        nest(order, verdict.accelerator, &progress)?;
        let cpus = admit(order, verdict.accelerator)?;
        Ok::<_, BringUpError>((verdict.accelerator, cpus))
    };
    let disks = async {
        let mut sources: Vec<&ImageSource> = order.plan.nodes.iter().map(|node| &node.node.image).collect();
        sources.sort();
        sources.dedup();
        let prepared = sources.into_iter().map(|source| async {
            let prepared = image::prepare(source, &images_directory, &progress).await?;
            Ok::<_, ImageError>((source.clone(), prepared))
        });
        let all = futures_util::future::try_join_all(prepared).await?;
        let images = all.into_iter().collect::<BTreeMap<ImageSource, Prepared>>();
        nodes::lay_out(standing_so_far, &images).await
    };
    let hypervisor = async {
        // What is left of bridges and rules must be gone before networks come up; the daemons do not mind it.
        let daemons = daemons::start(
            standing_so_far.family,
            &order.directory,
            standing_so_far.deaths.clone(),
        );
        let leftovers = async {
            // Who may make no bridge has left none.
            if networking == Networking::Bridges {
                clear_leftovers(&progress).await;
            }
        };
        let (daemons, ()) = tokio::join!(daemons, leftovers);
        let daemons = daemons?;
        let connection = blocking(|| Connection::open("qemu:///system")).await??;
        let events = connection.run(Events::subscribe).await?;
        // The first question about QEMU makes libvirtd probe it for half a second: networks come up beside that.
        let networks = async {
            // User-mode networks are there already: nothing of them is libvirt's.
            let bridged = order
                .plan
                .networks
                .iter()
                .filter(|_| networking == Networking::Bridges);
            for network in bridged {
                let (plan, network) = (order.plan.clone(), network.clone());
                let bridge = network.bridge.clone();
                connection
                    .run(move |connection| connection.create_network(&plan, &network))
                    .await?;
                // Without it nodes are found a little later, no more.
                if let Err(error) = host::namespaces::ask_for_neighbours_often(&bridge) {
                    eprintln!("{}", crate::fault::tell(&error));
                }
            }
            Ok(())
        };
        let (found, ()) = tokio::try_join!(connection.run(Connection::versions), networks)?;
        Ok::<_, BringUpError>((daemons, connection, events, found))
    };
    let ((accelerator, cpus), disks, (daemons, connection, events, found)) =
        tokio::try_join!(accelerator, disks, hypervisor)?;
    let _ = held.found.accelerator.set(accelerator);
    let _ = held.found.versions.set(Versions {
        resource: env!("CARGO_PKG_VERSION").to_owned(),
        libvirt: found.libvirt.clone(),
        qemu: found.hypervisor.clone(),
    });
    progress.info(format!(
        "libvirt {} and QEMU {} are up, accelerator {accelerator}, networking {networking}: starting {}",
        found.libvirt,
        found.hypervisor,
        count(order.plan.nodes.len(), "node")
    ));
    standing.libvirt_is_up(daemons, connection, events)?;
    nodes::bring_up(standing, accelerator, cpus, disks).await?;
    collect::collect(standing).await?;
    let _ = held.found.expires_at.set(super::view::now() + order.lifetime);
    let _ = held.found.ready_seconds.set(held.started.elapsed().as_secs_f64());
    Ok(())
}

/// Removes every trace of a cluster before this one.
async fn clear_leftovers(progress: &Progress) {
    let cleared = leftovers::clear().await;
    if !cleared.removed.is_empty() {
        progress.info(format!(
            "removed what an earlier cluster left: {}",
            cleared.removed.join(", ")
        ));
    }
    for failed in cleared.failed {
        progress.warn(format!(
            "an earlier cluster left what cannot be removed: {failed}"
        ));
    }
}

/// Before anything is booted: whether nodes that are to run KVM machines can.
fn nest(order: &Order, accelerator: Accelerator, progress: &Progress) -> Result<(), NestedOff> {
    let parameter = nested::Parameter::read();
    let mut asking = order.plan.nodes.iter().filter(|node| node.node.nested);
    // What holds for one holds for all.
    if let Some(node) = asking.next() {
        if let Some(told) = nested::check(node.name(), accelerator, parameter.as_ref())? {
            progress.warn(told);
        }
    }
    Ok(())
}

/// Before anything is booted: whether the nodes fit into what is free. Gives the CPUs that there are for them.
fn admit(order: &Order, accelerator: Accelerator) -> Result<usize, BringUpError> {
    let nodes = &order.plan.nodes;
    let memory = nodes
        .iter()
        .map(|node| node.node.memory.bytes())
        .fold(0, u64::saturating_add);
    let need = Need {
        nodes: nodes.len(),
        memory: ByteSize(memory),
        disk: ByteSize(nodes.len() as u64 * DISK_A_NODE.bytes()),
        disks: order.directory.clone(),
    };
    let room = limits::room(&order.directory)?;
    admission::check(&need, accelerator, &room)?;
    Ok(room.cpus)
}

/// What a node writes while it boots: logs, keys, grown file system. Disks are sparse, so their sizes say nothing.
const DISK_A_NODE: ByteSize = ByteSize::mib(64);

fn count(number: usize, thing: &str) -> String {
    if number == 1 {
        format!("1 {thing}")
    } else {
        format!("{number} {thing}s")
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, BringUpError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| BringUpError::Broken("a blocking call"))
}
