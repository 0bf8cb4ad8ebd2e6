//! Disks, seeds and machines, node by node and side by side.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _, TryStreamExt as _};
use tokio::sync::Semaphore;

use super::{BringUpError, Standing, blocking};
use crate::agent::adopt::{self, Adoption};
use crate::agent::api::types::NodeState;
use crate::agent::host::admission::bring_up_width;
use crate::agent::host::namespaces::{QEMU_OOM_SCORE, set_oom_score};
use crate::agent::judging::Judging;
use crate::agent::wait::{Entrance, Limits, NotReady, until_ready};
use crate::agent::watch::Subject;
use crate::boot::console::last_lines;
use crate::boot::evidence::{Evidence, Outcome};
use crate::boot::phase::Phase;
use crate::first_boot::{self, Seed};
use crate::hypervisor::{Connection, Disk, DiskFormat, DiskRole, DomainNic, DomainSpec, ObjectName, Text};
use crate::image::{self, Prepared};
use crate::progress::Level;
use crate::topology::model::{Accelerator, FirstBoot, ImageSource, Timeout};
use crate::topology::name::Name;
use crate::topology::plan::PlannedNode;

/// From power on to ready, where the user has not said. A distribution's cloud image needs well under a minute on KVM; a node
/// that does not get on is given up long before by its judge, one that gets on slowly is not cut short.
const DEFAULT_LIMIT: Duration = Duration::from_secs(20 * 60);

/// For the ready command alone, which no judge knows: from the login on, where the user has not said.
const COMMAND_LIMIT: Duration = Duration::from_secs(5 * 60);

/// How much longer everything may take under translation; boots were seen to take 5 to 20 times as long on a busy host,
/// of limits that are generous to begin with.
const TCG_FACTOR: u32 = 4;

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
            async move {
                // Held until the node is ready: what is staggered is the boot, not the start of a process.
                let _slot = slots
                    .acquire()
                    .await
                    .map_err(|_| BringUpError::Broken("the bring-up of a node"))?;
                let disks = disks.ok_or(BringUpError::Broken("the making of a disk"))?;
                one(standing, node, accelerator, disks).await
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

async fn one(
    standing: &Standing,
    planned: &PlannedNode,
    accelerator: Accelerator,
    disks: Laid,
) -> Result<(), BringUpError> {
    let held = &standing.held;
    let connection = standing.connection()?;
    let name = planned.name();
    let spec = spec(standing, planned, accelerator, disks)?;
    let stopped = standing.stopped(name);
    connection
        .run(move |connection: &Connection| connection.start_domain(&spec))
        .await?;
    prefer_for_oom(standing, name);
    standing
        .progress
        .node(Level::Info, name, format!("powered on, {}", planned.address()));
    let subject = Subject::new(held, planned, accelerator);
    let judging = Judging::begin(
        standing.rounds()?,
        subject,
        name.clone(),
        standing.progress.clone(),
    );
    held.follow(name, &judging);
    let factor = match accelerator {
        Accelerator::Tcg => TCG_FACTOR,
        Accelerator::Kvm => 1,
    };
    let limits = match planned.node.ready.timeout {
        Timeout::Given(limit) => Limits {
            all: limit,
            command: limit,
        },
        Timeout::Default => Limits {
            all: DEFAULT_LIMIT * factor,
            command: COMMAND_LIMIT * factor,
        },
    };
    let keys = held.order.directory.join("keys");
    let adoption = held
        .host_keys
        .get(name)
        .and_then(|host| Adoption::of(planned, &held.keys, host, &keys));
    let entrance = Entrance {
        ssh: &standing.ssh,
        ways: standing.ways()?,
        adoption: adoption.as_ref(),
    };
    let walked = until_ready(planned, entrance, limits, stopped, &judging, &standing.progress).await;
    match walked {
        Ok(took) => {
            let diagnosis = judging.end(Outcome::Ready).await;
            held.set_node(name, NodeState::Ready, Some(took.as_secs_f64()));
            let slowest = diagnosis
                .slowest
                .map(|step| format!(", slowest: {}, {:.1} s", step.phase, step.seconds))
                .unwrap_or_default();
            let text = format!("ready after {:.1} s{slowest}", took.as_secs_f64());
            standing.progress.node(Level::Good, name, text);
            Ok(())
        }
        Err(why) => {
            held.set_node(name, NodeState::Failed, None);
            last_look(standing, planned, why).await;
            let outcome = match why {
                NotReady::Late => Outcome::TimedOut,
                NotReady::Stopped | NotReady::Judged | NotReady::NotAdopted => Outcome::Failed,
            };
            if let Some(said) = adoption.as_ref().and_then(Adoption::given_up) {
                judging.end(outcome).await;
                return Err(BringUpError::Box {
                    node: name.clone(),
                    said: said.to_owned(),
                });
            }
            Err(BringUpError::NotReady {
                node: name.clone(),
                diagnosis: Box::new(judging.end(outcome).await),
            })
        }
    }
}

/// What can be asked of a node once more before it is given up: its screen, and where a login works cloud-init
/// and the journal.
async fn last_look(standing: &Standing, planned: &PlannedNode, why: NotReady) {
    let held = &standing.held;
    if why == NotReady::Stopped {
        return;
    }
    let domain = ObjectName::new(&held.order.plan.cluster, planned.name());
    let screenshot = async {
        let connection = standing.connection().ok()?;
        let taken = connection.run(move |connection| connection.screenshot(domain.as_str()));
        // A QEMU that hangs is not waited for.
        let png = tokio::time::timeout(LAST_LOOK, taken).await.ok()?.ok()?;
        held.keep_screenshot(planned.name(), png);
        Some(())
    };
    let logged_in = held
        .diagnosis(planned.name())
        .is_some_and(|diagnosis| diagnosis.phase >= Phase::ReadyCommand);
    let cloud_init = async {
        if !logged_in || matches!(planned.node.first_boot, FirstBoot::Ignition { .. }) {
            return None;
        }
        let command = "cloud-init status --format json";
        let output = standing.ssh.run(planned, command, LAST_LOOK).await.ok()?;
        let status = serde_json::from_slice(&output.stdout).ok()?;
        held.seen(planned.name(), Evidence::CloudInit { status });
        Some(())
    };
    let journal = async {
        if !logged_in {
            return None;
        }
        // The first complaints explain the later ones.
        let command = "journalctl -b -q -p warning -o short --no-pager | head -n 200";
        let output = standing.ssh.run(planned, command, LAST_LOOK).await.ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !text.is_empty() {
            held.seen(planned.name(), Evidence::Journal { text });
        }
        Some(())
    };
    tokio::join!(screenshot, cloud_init, journal);
}

/// How long a last look may take.
const LAST_LOOK: Duration = Duration::from_secs(15);

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

/// Where memory runs out, a machine is to be killed rather than the agent: one lost node is told, a lost agent is not.
fn prefer_for_oom(standing: &Standing, name: &Name) {
    let object = ObjectName::new(&standing.held.order.plan.cluster, name);
    let pid = std::fs::read_to_string(format!("/run/libvirt/qemu/{object}.pid"));
    let pid = pid.ok().and_then(|pid| pid.trim().parse().ok());
    // A machine that has gone already needs no score; one that keeps its old score runs all the same.
    if let Some(Err(error)) = pid.map(|pid| set_oom_score(Some(pid), QEMU_OOM_SCORE)) {
        eprintln!("{name}: {}", crate::fault::tell(&error));
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
