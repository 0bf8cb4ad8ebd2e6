//! What the agent does when its API is asked.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, watch};

use super::api::server::{self, NoScreenshot};
use super::api::types::Cluster;
use super::view::Held;
use crate::fault::tell;
use crate::hypervisor::{Connection, DomainState, ObjectName};
use crate::report::Report;
use crate::topology::name::Name;

/// The agent, as its API sees it.
#[derive(Clone, Debug)]
pub struct Service {
    held: Arc<Held>,
    asked: Arc<Notify>,
    gone: watch::Sender<bool>,
    dismissed: Arc<Notify>,
    connection: Arc<Mutex<Option<Connection>>>,
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
        }
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

    fn knows(&self, node: &Name) -> bool {
        let nodes = &self.held.order.plan.nodes;
        nodes.iter().any(|planned| planned.name() == node)
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

    fn console(&self, node: &Name) -> Option<PathBuf> {
        self.knows(node).then(|| self.held.console(node))
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
