//! What the agent does when its API is asked.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::api::server::{self, Consoles, NoScreenshot};
use super::api::types::{Cluster, ClusterState, NodeInfo, NodeState, PowerState, Readiness, Switch};
use super::machines::{Machines, NoSwitch};
use super::view::Held;
use crate::fault::tell;
use crate::hypervisor::{Connection, DomainState, ObjectName};
use crate::report::Report;
use crate::topology::name::Name;
use crate::topology::plan::PlannedNode;

/// The agent, as its API sees it.
#[derive(Clone, Debug)]
pub struct Service {
    held: Arc<Held>,
    asked: Arc<Notify>,
    gone: watch::Sender<bool>,
    dismissed: Arc<Notify>,
    connection: Arc<Mutex<Option<Connection>>>,
    machines: Arc<Mutex<Option<Arc<Machines>>>>,
}

impl Service {
    /// For a cluster that stands.
    pub fn new(held: Arc<Held>) -> Self {
        Self {
            held,
            asked: Arc::new(Notify::new()),
            gone: watch::Sender::new(false),
            dismissed: Arc::default(),
            connection: Arc::default(),
            machines: Arc::default(),
        }
    }

    /// From now on machines can be switched, or no longer.
    pub fn set_machines(&self, machines: Option<Arc<Machines>>) {
        *self.machines.lock().unwrap_or_else(PoisonError::into_inner) = machines;
    }

    /// From now on nodes can be asked through libvirt, or no longer.
    pub fn set_connection(&self, connection: Option<Connection>) {
        *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = connection;
    }

    /// Returns once somebody wants the cluster to end.
    pub async fn asked_to_end(&self) {
        self.asked.notified().await;
    }

    /// Returns once somebody wants the agent itself to go, its cluster being no more.
    pub async fn dismissed(&self) {
        self.dismissed.notified().await;
    }

    fn planned(&self, node: &Name) -> Option<&PlannedNode> {
        let nodes = &self.held.order.plan.nodes;
        nodes.iter().find(|planned| planned.name() == node)
    }

    fn knows(&self, node: &Name) -> bool {
        self.planned(node).is_some()
    }

    /// The machines of a cluster that stands.
    fn machines(&self) -> Result<Arc<Machines>, NoSwitch> {
        let ended = match &*self.held.state.borrow() {
            ClusterState::Starting => return Err(NoSwitch::Starting),
            state => state.has_ended(),
        };
        let machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
        machines.clone().filter(|_| !ended).ok_or(NoSwitch::Ended)
    }

    /// Tells those who wanted it, and who will want it, that it has ended.
    pub fn ended(&self) {
        self.gone.send_replace(true);
    }
}

impl server::Service for Service {
    fn cluster(&self) -> Cluster {
        self.held.cluster()
    }

    async fn destroy(&self) {
        self.asked.notify_one();
        // The sender is this very service's: it cannot be gone.
        let _ = self.gone.subscribe().wait_for(|gone| *gone).await;
    }

    fn dismiss(&self) -> bool {
        let gone = *self.gone.borrow();
        if gone {
            self.dismissed.notify_one();
        }
        gone
    }

    fn console(&self, node: &Name) -> Option<Consoles> {
        self.knows(node).then(|| Consoles {
            earlier: self.held.earlier_console(node),
            current: self.held.console(node),
        })
    }

    async fn switch(&self, node: &Name, switch: Switch) -> Result<NodeInfo, NoSwitch> {
        let planned = self.planned(node).ok_or(NoSwitch::Node)?;
        self.machines()?.switch(node, switch).await?;
        Ok(self.held.node(planned))
    }

    async fn wait(&self, node: &Name, limit: Duration) -> Result<Readiness, NoSwitch> {
        let planned = self.planned(node).ok_or(NoSwitch::Node)?;
        let machines = self.machines()?;
        let begun = Instant::now();
        let booted = self.held.wait_for(node, |live| live.state != NodeState::Booting);
        let waited = tokio::time::timeout(limit, booted).await;
        let checked = match waited {
            Err(_) => Err("it still boots".to_owned()),
            Ok(live) => match live.power {
                PowerState::Running => {
                    machines
                        .check(planned, limit.saturating_sub(begun.elapsed()))
                        .await
                }
                PowerState::Paused => Err("its machine is paused".to_owned()),
                PowerState::Off => Err("its machine is off".to_owned()),
                PowerState::Crashed => Err("its machine has crashed".to_owned()),
            },
        };
        let failed = self.held.node_state(node) != NodeState::Ready;
        let diagnosis = || self.held.diagnosis(node).filter(|_| failed).map(Box::new);
        Ok(Readiness {
            node: node.clone(),
            ready: checked.is_ok(),
            seconds: begun.elapsed().as_secs_f64(),
            diagnosis: if checked.is_ok() { None } else { diagnosis() },
            reason: checked.err(),
        })
    }

    fn report(&self) -> Report {
        self.held.report()
    }

    async fn screenshot(&self, node: &Name) -> Result<Vec<u8>, NoScreenshot> {
        if !self.knows(node) {
            return Err(NoScreenshot::Node);
        }
        let connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let connection = connection.ok_or(NoScreenshot::Off)?;
        let domain = ObjectName::new(&self.held.order.plan.cluster, node);
        let taken = connection.run(
            move |connection| match connection.domain_state(domain.as_str())? {
                None | Some(DomainState::Off) => Ok(None),
                Some(_) => connection.screenshot(domain.as_str()).map(Some),
            },
        );
        match taken.await {
            Ok(Some(png)) => Ok(png),
            Ok(None) => Err(NoScreenshot::Off),
            Err(error) if error.is_gone() => Err(NoScreenshot::Off),
            Err(error) => Err(NoScreenshot::Failed(tell(&error))),
        }
    }

    fn ended(&self) -> watch::Receiver<bool> {
        self.gone.subscribe()
    }
}
