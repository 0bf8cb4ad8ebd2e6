//! What the agent does once the cluster is committed: serves, watches, and ends it when its time has come.

use std::time::Duration;

use tokio::sync::mpsc;

use super::api::types::ClusterState;
use super::bring_up::Standing;
use super::daemons::DaemonError;

/// For how long an agent without a cluster goes on telling how it ended. Long enough for whoever looks into a failed
/// build; not forever, since the containers of failed builds stay for days.
const TOMBSTONE: Duration = Duration::from_secs(60 * 60);

/// Returns how the cluster ends: its lifetime is over, somebody wants it gone, or something died under it.
pub async fn until_end(standing: &Standing, died: &mut mpsc::UnboundedReceiver<DaemonError>) -> ClusterState {
    let lifetime = standing.held.order.lifetime;
    let expiry = tokio::time::sleep(Duration::from_secs(lifetime));
    tokio::select! {
        () = expiry => ClusterState::Expired { lifetime },
        () = standing.asked_to_end() => ClusterState::Destroyed,
        Some(death) = died.recv() => ClusterState::Lost { reason: death.to_string() },
        reason = standing.connection_closed() => ClusterState::Lost { reason },
    }
}

/// Serves the API alone, so that the next caller is told how the cluster ended; until another cluster wants the container.
pub async fn stand_as_tombstone(standing: &Standing) {
    standing.answer_enders();
    let _ = tokio::time::timeout(TOMBSTONE, standing.service().dismissed()).await;
}
