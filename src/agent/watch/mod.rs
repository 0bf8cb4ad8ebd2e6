//! Looks at nodes while they boot, and turns what is seen into a stream of timed evidence: for the judge, and for a
//! recording that can be judged again.
//!
//! - [`Rounds`] asks libvirtd, for all nodes at once, what costs the same for one as for all: counters, leases.
//! - [`node`] watches one node: its console ([`tail`]), its virtual hardware ([`hardware`]), its link ([`link`]), QEMU's
//!   log ([`logs`]). What others see of the node (libvirt's events, attempts to log in) they tell by [`Notes`].
//! - Everything passes through one task a node, which gives it its time and its place in the [`recording`].
//!
//! What is seen is not judged here.

mod context;
pub mod hardware;
pub mod link;
pub mod logs;
mod pace;
pub mod recording;
mod rounds;
pub mod tail;
mod watcher;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub use self::context::context;
pub use self::rounds::Rounds;
use self::watcher::Watcher;
use crate::agent::view::Held;
use crate::boot::evidence::{self, Context, Evidence, Life, Outcome, Seen};
use crate::hypervisor::{EventKind, ObjectName, StopReason, SuspendReason};
use crate::topology::model::{Accelerator, FirstBoot};
use crate::topology::plan::PlannedNode;

/// What is to be watched, and where it is found.
#[derive(Clone, Debug)]
pub struct Subject {
    /// What the node is.
    pub context: Context,
    /// Its machine.
    pub domain: ObjectName,
    /// The file to which its serial console is written.
    pub console: PathBuf,
    /// The file to which its journal is written when Ignition fails, where it has Ignition.
    pub ignition_journal: Option<PathBuf>,
    /// Where the recording goes.
    pub recording: PathBuf,
}

impl Subject {
    /// A node of the agent's cluster.
    pub fn new(held: &Held, planned: &PlannedNode, accelerator: Accelerator) -> Self {
        let name = planned.name();
        let ignition = matches!(planned.node.first_boot, FirstBoot::Ignition { .. });
        let root = held.order.directory.join("disks").join(format!("{name}.qcow2"));
        Self {
            context: context(planned, accelerator, &root),
            domain: ObjectName::new(&held.order.plan.cluster, name),
            console: held.console(name),
            ignition_journal: ignition.then(|| held.ignition_journal(name)),
            recording: held.evidence(name),
        }
    }
}

/// A node that is being watched. When dropped, it no longer is; what was recorded by then may miss its last second.
#[derive(Debug)]
pub struct Watch {
    notes: Notes,
    task: JoinHandle<()>,
}

/// Begins to watch a node whose machine has just been started: now is time 0.
///
/// Evidence goes to `sender` in the order in which it was seen, its context first. A receiver that is slow slows the
/// reading of the console and nothing else; one that has gone away does not stop the recording. To be called on a Tokio
/// runtime.
pub fn node(rounds: &Arc<Rounds>, subject: Subject, sender: mpsc::Sender<Seen>) -> Watch {
    let (told, notes) = mpsc::unbounded_channel();
    let watcher = Watcher::new(rounds.clone(), subject, notes, sender);
    Watch {
        notes: Notes(told),
        task: tokio::spawn(watcher.run()),
    }
}

impl Watch {
    /// Where others tell what they see of the node.
    pub fn notes(&self) -> Notes {
        self.notes.clone()
    }

    /// Ends the watch and completes the recording; returns when that is on disk.
    pub async fn close(mut self, outcome: Outcome) {
        self.notes.seen(Evidence::End { outcome });
        // That it broke off is of no more interest to anyone.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Tells the watch what others see of its node: attempts to log in, libvirt's events. Cheap to clone, never blocks.
#[derive(Clone, Debug)]
pub struct Notes(mpsc::UnboundedSender<Evidence>);

impl Notes {
    /// Something seen just now. Once somebody has logged in, the costly looks at the node's hardware end.
    pub fn seen(&self, what: Evidence) {
        // A watch that has ended needs to know no more.
        let _ = self.0.send(what);
    }
}

/// What an event of libvirt says of a node. `None` for what is no news: the watch begins with the start.
pub fn life(event: &EventKind) -> Option<Evidence> {
    use crate::boot::evidence::{PauseReason, StopReason as Stop};
    Some(Evidence::Life(match event {
        EventKind::Started | EventKind::ShuttingDown => return None,
        EventKind::GuestAgent { connected } => {
            return Some(Evidence::GuestAgent {
                connected: *connected,
            });
        }
        EventKind::Resumed => Life::Resumed,
        EventKind::Rebooted => Life::Rebooted,
        EventKind::Panicked => Life::Panicked,
        EventKind::Suspended(reason) => Life::Paused {
            reason: match reason {
                SuspendReason::Asked => PauseReason::User,
                SuspendReason::DiskError => PauseReason::IoError,
                SuspendReason::Watchdog => PauseReason::Watchdog,
                SuspendReason::Other => PauseReason::Unknown,
            },
        },
        EventKind::Stopped(reason) => Life::Stopped {
            reason: match reason {
                StopReason::Shutdown => Stop::Shutdown,
                StopReason::Destroyed => Stop::Destroyed,
                StopReason::Crashed => Stop::Crashed,
                StopReason::Failed => Stop::Failed,
                StopReason::Saved | StopReason::Other => Stop::Unknown,
            },
        },
        EventKind::DiskFailed { path, reason } => Life::DiskFailed {
            path: path.clone(),
            reason: reason.clone(),
        },
    }))
}

/// What the evidence of a node is gathered into: the watcher's own end, for those who look.
type Gathered = mpsc::Sender<Evidence>;

/// Accelerators, as evidence has them.
fn accelerator(accelerator: Accelerator) -> evidence::Accelerator {
    match accelerator {
        Accelerator::Kvm => evidence::Accelerator::Kvm,
        Accelerator::Tcg => evidence::Accelerator::Tcg,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::evidence::{Ssh, StopReason as Stop};
    use crate::hypervisor::Connection;
    use crate::topology::plan::Plan;

    /// libvirt's own test driver knows no such domain: the hardware says nothing, which must stop nothing else.
    #[tokio::test(flavor = "multi_thread")]
    async fn all_that_is_seen_passes_in_order_and_is_recorded() {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan {
            cluster: "quiet-otter-9999".parse().unwrap(),
            networks: Vec::new(),
            nodes: Vec::new(),
        };
        let connection = Connection::open("test:///default").unwrap();
        let rounds = Rounds::start(connection, &plan, dir.path().to_owned());
        let subject = Subject {
            context: Context {
                node: "a".to_owned(),
                ..Context::default()
            },
            domain: ObjectName::new(&plan.cluster, &"a".parse().unwrap()),
            console: dir.path().join("a.log"),
            ignition_journal: None,
            recording: dir.path().join("a.jsonl"),
        };
        let recording = subject.recording.clone();
        let console = subject.console.clone();
        std::fs::write(&console, "Linux version é").unwrap();
        let (sender, mut receiver) = mpsc::channel(1);
        let watch = node(&rounds, subject, sender);
        let mut seen = Vec::new();
        while !matches!(
            seen.last(),
            Some(Seen {
                what: Evidence::Console { .. },
                ..
            })
        ) {
            seen.push(receiver.recv().await.unwrap());
        }
        let notes = watch.notes();
        notes.seen(Evidence::Ssh(Ssh::Refused));
        // Printed while the stop is being told: it is heard before the stop.
        let mut file = std::fs::OpenOptions::new().append(true).open(&console).unwrap();
        std::io::Write::write_all(&mut file, b"Kernel panic\n\xc3").unwrap();
        notes.seen(life(&EventKind::Stopped(StopReason::Crashed)).unwrap());
        let close = tokio::spawn(watch.close(Outcome::Failed));
        while let Some(next) = receiver.recv().await {
            seen.push(next);
        }
        close.await.unwrap();
        let text = std::fs::read_to_string(&recording).unwrap();
        let recorded: Vec<Seen> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(recorded.len(), seen.len());
        assert!(recorded.is_sorted_by_key(|seen| seen.at));
        assert!(
            matches!(recorded[0].what, Evidence::Context(_)),
            "{:?}",
            recorded[0]
        );
        assert_eq!(recorded[1].what, Evidence::Life(Life::Started));
        let place = |wanted: &Evidence| seen.iter().position(|seen| seen.what == *wanted).unwrap();
        let stopped = place(&Evidence::Life(Life::Stopped {
            reason: Stop::Crashed,
        }));
        assert!(place(&Evidence::Ssh(Ssh::Refused)) < stopped);
        let printed: Vec<u8> = seen[..stopped]
            .iter()
            .filter_map(|seen| match &seen.what {
                Evidence::Console { bytes } => Some(bytes.as_slice()),
                _ => None,
            })
            .collect::<Vec<_>>()
            .concat();
        assert_eq!(
            printed,
            "Linux version éKernel panic\n"
                .bytes()
                .chain([0xc3])
                .collect::<Vec<u8>>()
        );
        let outcome = Outcome::Failed;
        assert_eq!(seen.last().unwrap().what, Evidence::End { outcome });
    }
}
