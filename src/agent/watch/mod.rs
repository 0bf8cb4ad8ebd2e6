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

use tokio::sync::{Notify, mpsc};
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
    closing: Arc<Notify>,
    task: JoinHandle<()>,
}

/// Begins to watch a node whose machine has just been started: now is time 0.
///
/// Evidence goes to `sender` in the order in which it was seen, its context first. A receiver that is slow slows the
/// reading of the console and nothing else; one that has gone away does not stop the recording. To be called on a Tokio
/// runtime.
pub fn node(rounds: &Arc<Rounds>, subject: Subject, sender: mpsc::Sender<Seen>) -> Watch {
    let (told, notes) = mpsc::unbounded_channel();
    let closing = Arc::new(Notify::new());
    let watcher = Watcher::new(rounds.clone(), subject, notes, sender, closing.clone());
    Watch {
        notes: Notes(told),
        closing,
        task: tokio::spawn(watcher.run()),
    }
}

impl Watch {
    /// Where others tell what they see of the node.
    pub fn notes(&self) -> Notes {
        self.notes.clone()
    }

    /// Ends the watch and completes the recording; returns when that is on disk.
    ///
    /// Whoever closes has as a rule stopped reading, and may still hold the receiver: from here on, what does not fit into
    /// the channel goes to the recording alone.
    pub async fn close(mut self, outcome: Outcome) {
        self.notes.seen(Evidence::End { outcome });
        self.closing.notify_one();
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
    use crate::hypervisor::Connection;
    use crate::topology::name::Name;
    use crate::topology::plan::Plan;

    #[tokio::test]
    async fn a_watch_closes_though_its_reader_has_stopped_reading() {
        let dir = tempfile::tempdir().unwrap();
        let console = dir.path().join("console.log");
        std::fs::write(&console, vec![b'x'; 1 << 20]).unwrap();
        let cluster: Name = "quiet-otter-5555".parse().unwrap();
        let subject = Subject {
            context: Context::default(),
            domain: ObjectName::new(&cluster, &"a".parse().unwrap()),
            console,
            ignition_journal: None,
            recording: dir.path().join("a.jsonl"),
        };
        let recording = subject.recording.clone();
        let plan = Plan {
            cluster,
            networks: Vec::new(),
            nodes: Vec::new(),
        };
        let rounds = Rounds::start(
            Connection::open("test:///default").unwrap(),
            &plan,
            dir.path().into(),
        );
        let (sender, mut receiver) = mpsc::channel(1);
        let watch = node(&rounds, subject, sender);
        // It has begun, has more to tell than fits, and nobody takes it.
        assert!(receiver.recv().await.is_some());
        watch.close(Outcome::Failed).await;
        let recorded = std::fs::read_to_string(recording).unwrap();
        let recorded: Vec<Seen> = recorded
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let printed: usize = recorded
            .iter()
            .map(|seen| match &seen.what {
                Evidence::Console { bytes } => bytes.len(),
                _ => 0,
            })
            .sum();
        assert_eq!(printed, 1 << 20);
        let outcome = Outcome::Failed;
        assert_eq!(
            recorded.last().map(|seen| &seen.what),
            Some(&Evidence::End { outcome })
        );
        drop(receiver);
    }
}
