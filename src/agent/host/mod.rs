//! What the agent does to its container before libvirtd starts, and what it must know of it.
//!
//! [`prepare`] does everything that needs no judgement; [`accelerator`], [`limits`] and [`admission`] judge; [`leftovers`]
//! clears what a killed agent left.

pub mod accelerator;
pub mod admission;
pub mod command;
pub mod cpu;
pub mod devices;
pub mod leftovers;
pub mod limits;
pub mod namespaces;
pub mod nested;

use devices::{Condition, Devices};
pub use namespaces::NamespaceError;

use crate::fault::Fault;
use crate::progress::Progress;

/// Why the container cannot hold nodes at all.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Mounts, /proc or /sys.
    #[error("the container cannot be prepared")]
    Namespace(#[from] NamespaceError),
    /// Without it no node has a NIC.
    #[error("/dev/net/tun {0}")]
    Tun(Condition),
}

impl Fault for HostError {
    fn help(&self) -> Option<String> {
        match self {
            Self::Namespace(error) => error.help(),
            Self::Tun(condition) => Some(tun_cure(condition).to_owned()),
        }
    }
}

/// What would make `/dev/net/tun` usable.
pub fn tun_cure(condition: &Condition) -> &'static str {
    match condition {
        Condition::Refused {
            errno: rustix::io::Errno::NODEV | rustix::io::Errno::NXIO,
        } => "Load the module on the worker: `modprobe tun`.",
        Condition::Occupied => "Remove what stands under /dev/net/tun in the container.",
        _ => {
            "Set `privileged: true` on the resource type (or run the task with `privileged: true`, docker with `--privileged` or \
             `--device /dev/net/tun`)."
        }
    }
}

/// Makes the container ready for libvirtd. Call it in the agent's own mount and PID namespaces, before any thread needs
/// /proc; harmless to repeat.
///
/// # Errors
/// When the container lacks a privilege without which no node runs.
pub fn prepare(progress: &Progress) -> Result<Devices, HostError> {
    namespaces::make_mounts_private()?;
    namespaces::mount_proc()?;
    let changed = namespaces::make_writable()?;
    if !changed.is_empty() {
        progress.info(format!("made writable: {}", changed.join(", ")));
    }
    // From about -998 up to 0; refused only where the inherited score is higher than that, which is no harm.
    if let Err(error) = namespaces::set_oom_score(None, namespaces::AGENT_OOM_SCORE) {
        progress.warn(crate::fault::tell(&error));
    }
    namespaces::forward_ipv4()?;
    let devices = devices::ensure();
    if !devices.tun.usable() {
        return Err(HostError::Tun(devices.tun));
    }
    Ok(devices)
}
