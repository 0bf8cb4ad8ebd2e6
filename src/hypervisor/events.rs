//! What becomes of domains, told as it happens.

use std::ffi::c_int;
use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use uuid::Uuid;
use virt::sys;

use super::connection::{Connection, Link};
use super::error::{Action, HypervisorError, Thing};
use super::raw::{self, RawEvent, RawKind, Subject};

/// One thing that happened to one domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainEvent {
    /// The domain's name in libvirt.
    pub name: String,
    /// Its UUID.
    pub uuid: Uuid,
    /// What happened.
    pub kind: EventKind,
}

/// What happened to a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// QEMU runs. May arrive after [`EventKind::Resumed`].
    Started,
    /// Its CPUs stand still.
    Suspended(SuspendReason),
    /// Its CPUs run (again).
    Resumed,
    /// The machine is being switched off, by its guest or by the host; [`EventKind::Stopped`] follows.
    ShuttingDown,
    /// QEMU is gone, and so is the domain.
    Stopped(StopReason),
    /// The guest's kernel has panicked and its panic device said so. The domain stays, its CPUs stopped, for diagnosis.
    Panicked,
    /// The machine was reset. One reboot of a guest can give several of these.
    Rebooted,
    /// A disk of the domain failed on the host's side.
    DiskFailed {
        /// The file.
        path: String,
        /// QEMU's reason: `enospc` where the host's disk is full, else empty.
        reason: String,
    },
    /// The guest agent opened (or closed) its channel: user space is up, network or not.
    GuestAgent {
        /// Opened.
        connected: bool,
    },
}

/// Why a domain's CPUs stand still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuspendReason {
    /// Somebody asked for it.
    Asked,
    /// A disk failed; see [`EventKind::DiskFailed`].
    DiskError,
    /// The watchdog bit.
    Watchdog,
    /// Any other.
    Other,
}

/// Why a domain is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The guest switched itself off.
    Shutdown,
    /// Somebody destroyed it.
    Destroyed,
    /// QEMU died: killed, or out of memory, or a bug.
    Crashed,
    /// It did not start.
    Failed,
    /// Its memory was saved.
    Saved,
    /// Any other.
    Other,
}

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The socket failed.
    Error,
    /// libvirtd closed it: it ended, or was killed.
    Eof,
    /// libvirtd no longer answered.
    KeepAlive,
    /// We closed it.
    Client,
}

/// A subscription to the events of all domains of a connection. Ends when dropped.
#[derive(Debug)]
pub struct Events {
    receiver: UnboundedReceiver<DomainEvent>,
    watches: Vec<c_int>,
    link: Arc<Link>,
}

impl Events {
    /// Subscribes. Whoever wants to see a domain start subscribes before creating it. Blocks.
    pub fn subscribe(connection: &Connection) -> Result<Self, HypervisorError> {
        let (sender, receiver) = unbounded_channel();
        // Made first, so that a subscription that fails half-way is undone by its Drop.
        let mut events = Self {
            receiver,
            watches: Vec::new(),
            link: connection.link(),
        };
        for subject in [
            Subject::Lifecycle,
            Subject::Reboot,
            Subject::IoError,
            Subject::GuestAgent,
        ] {
            let sender = sender.clone();
            let sink = Box::new(move |event| {
                if let Some(event) = meaning(event) {
                    // Nobody listens any more: the subscription is about to end.
                    let _ = sender.send(event);
                }
            });
            match raw::watch_domains(&events.link.connect, subject, sink) {
                Ok(watch) => events.watches.push(watch),
                Err(error) => return Err(HypervisorError::refused(Action::Watch, Thing::Domains, error)),
            }
        }
        Ok(events)
    }

    /// The next event; `None` once the connection is closed. Loses nothing when cancelled.
    pub async fn next(&mut self) -> Option<DomainEvent> {
        tokio::select! {
            biased;
            event = self.receiver.recv() => event,
            _ = self.link.closed() => self.receiver.try_recv().ok(),
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        for watch in &self.watches {
            raw::unwatch_domains(&self.link.connect, *watch);
        }
    }
}

impl CloseReason {
    pub(super) fn from_raw(reason: u32) -> Self {
        match reason {
            sys::VIR_CONNECT_CLOSE_REASON_EOF => Self::Eof,
            sys::VIR_CONNECT_CLOSE_REASON_KEEPALIVE => Self::KeepAlive,
            sys::VIR_CONNECT_CLOSE_REASON_CLIENT => Self::Client,
            _ => Self::Error,
        }
    }
}

/// What an event means; `None` for what cannot happen to transient domains that never migrate, or says nothing.
fn meaning(event: RawEvent) -> Option<DomainEvent> {
    let kind = match event.kind {
        RawKind::Lifecycle { event, detail } => lifecycle(event, detail)?,
        RawKind::Reboot => EventKind::Rebooted,
        RawKind::IoError { disk, reason } => EventKind::DiskFailed { path: disk, reason },
        RawKind::GuestAgent { state } => EventKind::GuestAgent {
            connected: state == sys::VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED,
        },
    };
    Some(DomainEvent {
        name: event.name,
        uuid: Uuid::from_bytes(event.uuid),
        kind,
    })
}

fn lifecycle(event: u32, detail: u32) -> Option<EventKind> {
    Some(match event {
        sys::VIR_DOMAIN_EVENT_STARTED => EventKind::Started,
        sys::VIR_DOMAIN_EVENT_SUSPENDED => EventKind::Suspended(match detail {
            sys::VIR_DOMAIN_EVENT_SUSPENDED_PAUSED => SuspendReason::Asked,
            sys::VIR_DOMAIN_EVENT_SUSPENDED_IOERROR => SuspendReason::DiskError,
            sys::VIR_DOMAIN_EVENT_SUSPENDED_WATCHDOG => SuspendReason::Watchdog,
            _ => SuspendReason::Other,
        }),
        sys::VIR_DOMAIN_EVENT_RESUMED => EventKind::Resumed,
        sys::VIR_DOMAIN_EVENT_SHUTDOWN => EventKind::ShuttingDown,
        sys::VIR_DOMAIN_EVENT_STOPPED => EventKind::Stopped(match detail {
            sys::VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN => StopReason::Shutdown,
            sys::VIR_DOMAIN_EVENT_STOPPED_DESTROYED => StopReason::Destroyed,
            sys::VIR_DOMAIN_EVENT_STOPPED_CRASHED => StopReason::Crashed,
            sys::VIR_DOMAIN_EVENT_STOPPED_FAILED => StopReason::Failed,
            sys::VIR_DOMAIN_EVENT_STOPPED_SAVED => StopReason::Saved,
            _ => StopReason::Other,
        }),
        sys::VIR_DOMAIN_EVENT_CRASHED => EventKind::Panicked,
        _ => return None,
    })
}
