//! What the agent does to its container before libvirtd starts, and what it must know of it.
//!
//! [`prepare`] does everything that needs no judgement; [`accelerator`], [`networking`], [`limits`] and [`admission`] judge; [`leftovers`]
//! clears what a killed agent left.

pub mod accelerator;
pub mod admission;
pub mod command;
pub mod cpu;
pub mod devices;
pub mod leftovers;
pub mod limits;
pub mod namespaces;
pub mod needs;
pub mod nested;
pub mod networking;

use devices::Condition;
pub use namespaces::NamespaceError;
use needs::Need;
pub use networking::NoBridges;

use super::family::Family;
use crate::fault::Fault;
use crate::progress::Progress;
use crate::topology::model::{Networking, NetworkingChoice};

/// Why the container cannot hold nodes as they are asked for.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Mounts or /proc.
    #[error("the container cannot be prepared")]
    Namespace(#[from] NamespaceError),
    /// No node boots here.
    #[error("this container lacks {}, and with it {}", .0.what.replace('`', ""), .0.loss)]
    Essential(&'static Need),
    /// Bridges are demanded.
    #[error(transparent)]
    NoBridges(#[from] NoBridges),
}

impl Fault for HostError {
    fn help(&self) -> Option<String> {
        match self {
            Self::Namespace(error) => error.help(),
            Self::Essential(need) => Some(format!("docker run: {}", need.flag.replace('`', ""))),
            Self::NoBridges(error) => error.help(),
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

/// Makes the container ready for libvirtd, as far as it lets itself, and says how its nodes will be networked. Harmless to
/// repeat.
///
/// # Errors
/// When the container lacks what was demanded.
pub fn prepare(
    family: Family,
    choice: NetworkingChoice,
    progress: &Progress,
) -> Result<Networking, HostError> {
    let writable = if family.has_namespaces() {
        namespaces::make_mounts_private()?;
        namespaces::mount_proc()?;
        namespaces::make_writable()
    } else {
        progress.info("no namespaces here (CAP_SYS_ADMIN is missing): the cluster's processes are held together by a guard");
        namespaces::are_writable()
    };
    let writable = writable.map(|changed| {
        if !changed.is_empty() {
            progress.info(format!("made writable: {}", changed.join(", ")));
        }
    });
    if let Some(need) = needs::essential() {
        return Err(HostError::Essential(need));
    }
    // From about -998 up to 0; refused only where the inherited score is higher than that, which is no harm.
    if let Err(error) = namespaces::set_oom_score(None, namespaces::AGENT_OOM_SCORE) {
        progress.warn(crate::fault::tell(&error));
    }
    let devices = devices::ensure();
    let lacks = networking::lacks(&devices, writable);
    Ok(networking::settle(choice, lacks, progress)?)
}
