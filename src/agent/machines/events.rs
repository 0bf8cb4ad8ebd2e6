//! What libvirt tells of the machines, kept where callers are told of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Stopped;
use crate::agent::api::types::{NodeState, PowerState};
use crate::agent::view::Held;
use crate::agent::watch::life;
use crate::hypervisor::{DomainEvent, EventKind, Events, ObjectName, StopReason};
use crate::progress::{Level, Progress};
use crate::topology::name::Name;

/// Keeps the nodes' states by what libvirt tells of their machines.
pub(super) async fn keep(
    mut events: Events,
    held: Arc<Held>,
    stops: Arc<BTreeMap<Name, Stopped>>,
    progress: Progress,
) {
    while let Some(DomainEvent { name, kind, .. }) = events.next().await {
        let cluster = &held.order.plan.cluster;
        let Some((node, stop)) = stops
            .iter()
            .find(|(node, _)| ObjectName::new(cluster, node).as_str() == name)
        else {
            continue;
        };
        if let Some(seen) = life(&kind) {
            held.seen(node, seen);
        }
        if let Some(power) = power(&kind) {
            held.set_power(node, power);
        }
        let why = match kind {
            EventKind::Stopped(reason) => match reason {
                StopReason::Shutdown => "the guest switched itself off".to_owned(),
                StopReason::Crashed => "its QEMU died: killed, out of memory, or a bug".to_owned(),
                StopReason::Destroyed => "its power was cut".to_owned(),
                StopReason::Failed | StopReason::Saved | StopReason::Other => "libvirt stopped it".to_owned(),
            },
            // Its judge waits for what the console says of it.
            EventKind::Panicked if held.node_state(node) == NodeState::Booting => continue,
            EventKind::Panicked => "the guest's kernel panicked".to_owned(),
            EventKind::DiskFailed { path, reason } => {
                let text = match reason.as_str() {
                    "enospc" => format!("{path}: the container's disk is full"),
                    _ => format!("{path}: reading or writing failed {reason}"),
                };
                progress.node(Level::Warn, node, text);
                continue;
            }
            // Of a node that boots, its judge tells it.
            EventKind::Rebooted if held.node_state(node) == NodeState::Booting => continue,
            EventKind::Rebooted => {
                progress.node(Level::Info, node, "reboots");
                continue;
            }
            EventKind::Started
            | EventKind::Suspended(_)
            | EventKind::Resumed
            | EventKind::ShuttingDown
            | EventKind::GuestAgent { .. } => continue,
        };
        if held.node_state(node) != NodeState::Failed {
            held.set_node(node, NodeState::Off, None);
        }
        progress.node(Level::Warn, node, format!("stopped: {why}"));
        stop.send_replace(Some(why));
    }
}

/// What an event says of a machine's power; `None` where it says nothing.
fn power(event: &EventKind) -> Option<PowerState> {
    Some(match event {
        EventKind::Started | EventKind::Resumed => PowerState::Running,
        EventKind::Suspended(_) => PowerState::Paused,
        EventKind::Panicked => PowerState::Crashed,
        EventKind::Stopped(StopReason::Crashed | StopReason::Failed) => PowerState::Crashed,
        EventKind::Stopped(_) => PowerState::Off,
        EventKind::ShuttingDown
        | EventKind::Rebooted
        | EventKind::DiskFailed { .. }
        | EventKind::GuestAgent { .. } => return None,
    })
}
