//! What the agent does when its API is asked.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{Notify, watch};

use super::api::server;
use super::api::types::Cluster;
use super::view::Held;
use crate::topology::name::Name;

/// The agent, as its API sees it.
#[derive(Clone, Debug)]
pub struct Service {
    held: Arc<Held>,
    asked: Arc<Notify>,
    gone: watch::Sender<bool>,
}

impl Service {
    /// For a cluster that stands.
    pub fn new(held: Arc<Held>) -> Self {
        Self {
            held,
            asked: Arc::new(Notify::new()),
            gone: watch::Sender::new(false),
        }
    }

    /// Returns once somebody wants the cluster to end.
    pub async fn asked_to_end(&self) {
        self.asked.notified().await;
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

    fn console(&self, node: &Name) -> Option<PathBuf> {
        let known = self
            .held
            .order
            .plan
            .nodes
            .iter()
            .any(|planned| planned.name() == node);
        known.then(|| self.held.console(node))
    }

    fn ended(&self) -> watch::Receiver<bool> {
        self.gone.subscribe()
    }
}
