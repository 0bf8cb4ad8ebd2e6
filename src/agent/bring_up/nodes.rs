//! Disks, seeds and machines, node by node and side by side.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt as _, TryStreamExt as _};
use tokio::sync::Semaphore;

use super::{BringUpError, Standing, blocking};
use crate::agent::adopt;
use crate::agent::host::admission::bring_up_width;
use crate::agent::machines::NotUp;
use crate::boot::console::last_lines;
use crate::first_boot::{self, Seed};
use crate::hypervisor::{Disk, DiskFormat, DiskRole, DomainNic, DomainSpec, ObjectName, Text};
use crate::image::{self, Prepared};
use crate::progress::Level;
use crate::topology::model::{Accelerator, ImageSource};
use crate::topology::name::Name;
use crate::topology::plan::PlannedNode;

/// How much of a console is quoted when its node fails.
const QUOTED_LINES: usize = 12;

/// What a machine is made of on disk: its disks, and its Ignition configuration where it has one.
type Laid = (Vec<Disk>, Option<std::path::PathBuf>);

/// How many nodes' disks are made side by side: each is a start of qemu-img.
const DISKS_AT_ONCE: usize = 8;

/// Makes every node's disks and seed. Needs no libvirt, and so is done while that starts.
pub async fn lay_out(
    standing: &Standing,
    images: &BTreeMap<ImageSource, Prepared>,
) -> Result<BTreeMap<Name, Laid>, BringUpError> {
    for name in ["disks", "seeds", "consoles", "evidence"] {
        let path = standing.held.order.directory.join(name);
        tokio::fs::create_dir_all(&path)
            .await
            .map_err(|source| BringUpError::Write(path, source))?;
    }
    if standing.held.order.plan.nodes.iter().any(adopt::is_box) {
        let place = standing.held.order.directory.join("keys");
        adopt::write_keys(&place).map_err(|source| BringUpError::Write(place, source))?;
    }
    let laid = standing.held.order.plan.nodes.iter().map(|node| async move {
        let image = images
            .get(&node.node.image)
            .ok_or(BringUpError::Broken("the choice of an image"))?;
        Ok((node.name().clone(), disks(standing, node, image).await?))
    });
    futures_util::stream::iter(laid)
        .buffer_unordered(DISKS_AT_ONCE)
        .try_collect()
        .await
}

/// Brings all nodes up. The first that fails ends it: a cluster of which one node is missing is no cluster.
pub async fn bring_up(
    standing: &Standing,
    accelerator: Accelerator,
    cpus: usize,
    mut laid: BTreeMap<Name, Laid>,
) -> Result<(), BringUpError> {
    let held = &standing.held;
    let machines = standing.machines()?;
    // One for all, though some of them wait for their turn.
    let _rounds = machines.rounds();
    let width = bring_up_width(held.order.plan.nodes.len(), cpus, accelerator);
    let slots = Arc::new(Semaphore::new(width));
    let mut walks: FuturesUnordered<_> = held
        .order
        .plan
        .nodes
        .iter()
        .map(|node| {
            let slots = slots.clone();
            let disks = laid.remove(node.name());
            let machines = machines.clone();
            async move {
                // Held until the node is ready: what is staggered is the boot, not the start of a process.
                let _slot = slots
                    .acquire()
                    .await
                    .map_err(|_| BringUpError::Broken("the bring-up of a node"))?;
                let disks = disks.ok_or(BringUpError::Broken("the making of a disk"))?;
                let spec = spec(standing, node, accelerator, disks)?;
                machines.boot(node, spec).await.map_err(|why| match why {
                    NotUp::Hypervisor(error) => error.into(),
                    NotUp::NotReady { diagnosis, .. } => BringUpError::NotReady {
                        node: node.name().clone(),
                        diagnosis,
                    },
                    NotUp::NotAdopted(said) => BringUpError::Box {
                        node: node.name().clone(),
                        said,
                    },
                })
            }
        })
        .collect();
    while let Some(result) = walks.next().await {
        if let Err(error) = result {
            if let BringUpError::NotReady { node, .. } = &error {
                quote_console(standing, node).await;
            }
            return Err(error);
        }
    }
    Ok(())
}

async fn quote_console(standing: &Standing, node: &Name) {
    let console = tokio::fs::read(standing.held.console(node))
        .await
        .unwrap_or_default();
    let lines = last_lines(&console, QUOTED_LINES);
    let title = match lines.len() {
        0 => "its serial console says nothing".to_owned(),
        count => format!("the last {count} lines of its serial console:"),
    };
    standing.progress.node(Level::Bad, node, title);
    for line in lines {
        standing.progress.node(Level::Quote, node, line);
    }
}

async fn disks(standing: &Standing, planned: &PlannedNode, image: &Prepared) -> Result<Laid, BringUpError> {
    let held = &standing.held;
    let name = planned.name();
    let place = held.order.directory.join("disks");
    let root = place.join(format!("{name}.qcow2"));
    image::overlay(image, &root, planned.node.disk).await?;
    let mut disks = vec![disk(&root, DiskFormat::Qcow2, DiskRole::Root)?];
    for (number, extra) in planned.node.extra_disks.iter().enumerate() {
        let path = place.join(format!("{name}-{}.raw", number + 1));
        image::blank(&path, extra.size).await?;
        let mut blank = disk(&path, DiskFormat::Raw, DiskRole::Extra)?;
        blank.serial = Some(extra.serial.clone());
        disks.push(blank);
    }
    let seeds = held.order.directory.join("seeds");
    let (work, node) = (held.clone(), planned.clone());
    let seed = blocking(move || {
        let key = work
            .host_keys
            .get(node.name())
            .ok_or(BringUpError::Broken("the choice of a host key"))?;
        first_boot::write(&node, &work.order.plan, &work.keys, key, &seeds)
            .map_err(|error| BringUpError::FirstBoot(node.name().clone(), error))
    })
    .await??;
    match seed {
        Seed::Cidata(path) => {
            disks.push(disk(&path, DiskFormat::Raw, DiskRole::Seed)?);
            Ok((disks, None))
        }
        Seed::FwCfg(path) => Ok((disks, Some(path))),
    }
}

fn disk(path: &Path, format: DiskFormat, role: DiskRole) -> Result<Disk, BringUpError> {
    Ok(Disk {
        path: file(path)?,
        format,
        serial: None,
        role,
    })
}

fn file(path: &Path) -> Result<crate::hypervisor::FilePath, BringUpError> {
    Ok(path
        .try_into()
        .map_err(crate::hypervisor::HypervisorError::from)?)
}

fn spec(
    standing: &Standing,
    planned: &PlannedNode,
    accelerator: Accelerator,
    (disks, ignition): Laid,
) -> Result<DomainSpec, BringUpError> {
    let held = &standing.held;
    let plan = &held.order.plan;
    let nics = planned.nics.iter().map(|nic| {
        let network = plan.networks.iter().find(|network| network.name == nic.network);
        Ok(DomainNic {
            cable: standing.cable(nic)?,
            mac: nic.mac,
            mtu: network.map_or(1500, |network| network.mtu),
        })
    });
    Ok(DomainSpec {
        name: ObjectName::new(&plan.cluster, planned.name()),
        uuid: planned.uuid,
        title: Text::new(format!("{} of {}", planned.name(), plan.cluster)),
        accelerator,
        cpus: planned.node.cpus,
        memory: planned.node.memory,
        nested: planned.node.nested,
        disks,
        nics: nics.collect::<Result<_, BringUpError>>()?,
        ignition_journal: match &ignition {
            Some(_) => Some(file(&held.ignition_journal(planned.name()))?),
            None => None,
        },
        ignition: ignition.as_deref().map(file).transpose()?,
        console_log: file(&held.console(planned.name()))?,
    })
}
