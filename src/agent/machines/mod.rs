//! The machines of a cluster, from the first start of each to its last: what all who start, follow or switch them need.
//!
//! [`boot`] starts one and follows it until its node is ready; [`switch`] is its power button, its plug and its pause key. What
//! libvirt tells of the machines is kept in [`Held`], by [`events`].

mod boot;
mod events;
mod switch;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::ssh::Ssh;
use super::view::Held;
use super::watch::Rounds;
use super::wire::ways::Ways;
use crate::hypervisor::{Connection, DomainSpec, Events};
use crate::progress::Progress;
use crate::topology::name::Name;
use crate::topology::plan::PlannedNode;

pub use boot::NotUp;
pub use switch::NoSwitch;

/// Why a machine stopped; `None` while it runs.
type Stopped = watch::Sender<Option<String>>;

/// See the module. Whoever has it may start machines: [`Machines::end`] ends what it began.
#[derive(Debug)]
pub struct Machines {
    held: Arc<Held>,
    progress: Progress,
    ssh: Ssh,
    ways: Ways,
    connection: Connection,
    stops: Arc<BTreeMap<Name, Stopped>>,
    specs: Mutex<BTreeMap<Name, DomainSpec>>,
    /// What goes round all nodes while any of them boots.
    rounds: Mutex<Weak<Rounds>>,
    switches: BTreeMap<Name, switch::Lock>,
    tasks: Mutex<JoinSet<()>>,
}

impl Machines {
    /// Those of a cluster none of whose machines was started yet; what `events` tells is kept from here on.
    pub fn new(
        held: Arc<Held>,
        progress: Progress,
        ssh: Ssh,
        ways: Ways,
        connection: Connection,
        events: Events,
    ) -> Self {
        let names = || held.order.plan.nodes.iter().map(PlannedNode::name);
        let stops = names().map(|name| (name.clone(), watch::Sender::new(None)));
        let stops = Arc::new(stops.collect());
        let switches = names()
            .map(|name| (name.clone(), switch::Lock::default()))
            .collect();
        let mut tasks = JoinSet::new();
        tasks.spawn(events::keep(
            events,
            held.clone(),
            Arc::clone(&stops),
            progress.clone(),
        ));
        Self {
            held,
            progress,
            ssh,
            ways,
            connection,
            stops,
            specs: Mutex::default(),
            rounds: Mutex::default(),
            switches,
            tasks: Mutex::new(tasks),
        }
    }

    /// The rounds, begun where nobody goes them. They end with the last who holds them.
    pub fn rounds(&self) -> Arc<Rounds> {
        let mut rounds = lock(&self.rounds);
        if let Some(going) = rounds.upgrade() {
            return going;
        }
        let order = &self.held.order;
        let begun = Rounds::start(
            self.connection.clone(),
            &order.plan,
            order.directory.join("disks"),
        );
        *rounds = Arc::downgrade(&begun);
        begun
    }

    /// Ends everything that was begun here; the machines run on.
    pub fn end(&self) {
        lock(&self.tasks).abort_all();
    }

    fn planned(&self, name: &Name) -> Option<&PlannedNode> {
        let nodes = &self.held.order.plan.nodes;
        nodes.iter().find(|node| node.name() == name)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
