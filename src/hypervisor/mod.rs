//! The only room that speaks to libvirt: connection, domain and network XML, events.
//!
//! - [`Connection`] is a handle that may be cloned and shared between threads. **Its calls block**: async callers go
//!   through [`Connection::run`].
//! - [`DomainSpec`] and [`network_xml`] say what is to be made, in types that can hold nothing XML or libvirt would choke
//!   on; every definition is checked against libvirt's own schema when it is created.
//! - [`Events`] tells what becomes of domains, [`Connection::closed`] when libvirtd is gone.
//! - What a running domain shows of itself: [`Connection::counters`], [`Connection::virtio`], [`Connection::registers`],
//!   [`Connection::text_screen`], [`Connection::screenshot`], [`Connection::nics`] and, on the link, [`TapEar`].
//!
//! All domains and networks are transient: libvirt forgets them the moment they stop.
//!
//! The project's only unsafe code is in `raw.rs` and `tap.rs`.

mod connection;
mod counters;
mod defaults;
mod domain;
mod elements;
mod error;
mod events;
mod frames;
mod live;
mod monitor;
mod network;
mod raw;
mod registers;
mod screen;
mod screenshot;
mod tap;
#[cfg(test)]
mod tests;
mod text;
mod virtio;

pub use connection::{Connection, Domain, DomainState, Lease, Versions};
pub use counters::{DiskCounters, DomainCounters};
pub use domain::{Cable, Disk, DiskFormat, DiskRole, DomainNic, DomainSpec, domain_xml, translation_cache};
pub use error::{Action, HypervisorError, LibvirtError, Thing};
pub use events::{CloseReason, DomainEvent, EventKind, Events, StopReason, SuspendReason};
pub use frames::{DhcpKind, LinkNews};
pub use live::{LiveNic, qemu_log, qemu_said};
pub use monitor::Questions;
pub use network::network_xml;
pub use registers::Registers;
pub use screen::{TextMemory, TextScreen};
pub use tap::TapEar;
pub use text::{BadPath, FilePath, ObjectName, Text};
pub use virtio::VirtioState;
