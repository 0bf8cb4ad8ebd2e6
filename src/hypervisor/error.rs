//! What goes wrong with libvirt, and what to do about it.

use virt::error::{Error as VirtError, ErrorNumber};

use super::text::BadPath;
use crate::fault::Fault;

/// What was being done when it went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A network or domain was being created.
    Create,
    /// It was being stopped and removed.
    Destroy,
    /// It was being asked about.
    Inspect,
    /// All of a kind were being listed.
    List,
    /// Its events were being subscribed to.
    Watch,
    /// Its QEMU was being asked through the monitor.
    Ask,
    /// Its screen was being taken a picture of.
    Photograph,
    /// Its power button was being pressed.
    PressPowerButton,
    /// Its CPUs were being stopped.
    Pause,
    /// Its CPUs were being let go on.
    Resume,
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Destroy => "destroy",
            Self::Inspect => "inspect",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Ask => "ask the monitor of",
            Self::Photograph => "take a screenshot of",
            Self::PressPowerButton => "press the power button of",
            Self::Pause => "pause",
            Self::Resume => "resume",
        })
    }
}

/// What it was being done to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Thing {
    /// A network, by its name in libvirt.
    Network(String),
    /// A domain, by its name in libvirt.
    Domain(String),
    /// A storage pool.
    Pool(String),
    /// All networks.
    Networks,
    /// All domains.
    Domains,
    /// The machine that libvirt runs on.
    Host,
}

impl std::fmt::Display for Thing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Network(name) => write!(f, "network {name}"),
            Self::Domain(name) => write!(f, "domain {name}"),
            Self::Pool(name) => write!(f, "storage pool {name}"),
            Self::Networks => f.write_str("networks"),
            Self::Domains => f.write_str("domains"),
            Self::Host => f.write_str("the host"),
        }
    }
}

/// What libvirt itself said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct LibvirtError {
    /// libvirt's text, without its codes.
    pub message: String,
    /// libvirt's kind of error; `None` for one that is newer than our bindings.
    pub number: Option<ErrorNumber>,
}

impl From<VirtError> for LibvirtError {
    fn from(error: VirtError) -> Self {
        let number = match error.code() {
            virt::enumutil::Enum::Known(number) => Some(number),
            _ => None,
        };
        // QEMU's own output comes with its own line ends.
        Self {
            message: error.message().trim_end().replace("\r\n", "\n"),
            number,
        }
    }
}

/// Why the hypervisor did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum HypervisorError {
    /// No connection.
    #[error("cannot connect to libvirt at {uri}")]
    Connect {
        /// The URI tried.
        uri: String,
        /// What libvirt said.
        source: LibvirtError,
    },
    /// libvirt's event loop, without which no event would ever arrive, does not start.
    #[error("cannot start libvirt's event loop")]
    EventLoop {
        /// What libvirt said.
        source: LibvirtError,
    },
    /// libvirt refused or failed.
    #[error("cannot {action} {thing}")]
    Refused {
        /// What was tried.
        action: Action,
        /// On what.
        thing: Thing,
        /// What libvirt said.
        source: LibvirtError,
    },
    /// A bridge cannot be called so.
    #[error("network {network}: {bridge:?} is no name for a bridge")]
    Bridge {
        /// The network's name in the topology.
        network: String,
        /// The name refused.
        bridge: String,
    },
    /// A path that libvirt's XML cannot hold.
    #[error(transparent)]
    Path(#[from] BadPath),
    /// The definition could not be written as XML.
    #[error("cannot write the definition of {thing} as XML")]
    Xml {
        /// What was defined.
        thing: Thing,
        /// Why.
        source: quick_xml::SeError,
    },
    /// QEMU's monitor refused a command, or answered what is no answer to it.
    #[error("QEMU's monitor of domain {domain} does not answer {command}: {said}")]
    Monitor {
        /// The domain's name in libvirt.
        domain: String,
        /// The command.
        command: String,
        /// What it said.
        said: String,
    },
    /// A picture came in a form that is not known.
    #[error("the screenshot of domain {domain} is {said}")]
    Picture {
        /// The domain's name in libvirt.
        domain: String,
        /// Its form.
        said: String,
    },
    /// The thread that spoke to libvirt ended without an answer.
    #[error("a call to libvirt ended without an answer")]
    Interrupted {
        /// How it ended.
        source: tokio::task::JoinError,
    },
}

impl HypervisorError {
    /// libvirt refused `action` on `thing`.
    pub(super) fn refused(action: Action, thing: Thing, error: VirtError) -> Self {
        Self::Refused {
            action,
            thing,
            source: error.into(),
        }
    }

    /// What libvirt itself said, where it said anything.
    pub fn libvirt(&self) -> Option<&LibvirtError> {
        match self {
            Self::Connect { source, .. } | Self::EventLoop { source } | Self::Refused { source, .. } => {
                Some(source)
            }
            _ => None,
        }
    }

    /// Whether the domain or network is not there (any more), or is not running.
    pub fn is_gone(&self) -> bool {
        self.libvirt().is_some_and(|error| match error.number {
            Some(ErrorNumber::NoDomain | ErrorNumber::NoNetwork) => true,
            Some(ErrorNumber::OperationInvalid) => says_not_running(&error.message),
            _ => false,
        })
    }
}

/// Whether libvirt refused an operation because what it is for does not run: "domain is not running", "network 'x' is not
/// active". Every message of this kind begins with "Requested operation is not valid": "is not" alone tells nothing.
pub(super) fn says_not_running(message: &str) -> bool {
    ["is not running", "is not active"]
        .iter()
        .any(|words| message.contains(words))
}

impl Fault for HypervisorError {
    fn help(&self) -> Option<String> {
        match self {
            Self::Bridge { .. } => Some("Use 1 to 15 letters, digits, '-', '_' or '.'.".to_owned()),
            Self::Path(BadPath::Relative(_)) => Some("Give the path from the root on.".to_owned()),
            Self::Path(BadPath::Unprintable(_)) => Some("Rename the file or its directory.".to_owned()),
            Self::Interrupted { .. } => {
                Some("This is a bug, or the process is ending. Look for a panic above.".to_owned())
            }
            _ => cure(&self.libvirt()?.message).map(str::to_owned),
        }
    }
}

/// What cures the failures that are known, told by a part of libvirt's (or QEMU's, or the kernel's) own text.
/// The first that matches is the answer: the narrow ones stand before the wide ones.
const CURES: &[(&[&str], &str)] = &[
    (
        &["failed to connect socket", "unable to connect to server"],
        "libvirtd does not run, or its socket is elsewhere. Look at libvirtd's log for why it ended.",
    ),
    (
        &[
            "end of file while reading data",
            "client socket is closed",
            "connection closed due to keepalive",
            "cannot recv data",
            "cannot write data",
        ],
        "libvirtd ended while it worked. Its log says why; where the kernel killed it for want of memory, ask for fewer \
         or smaller nodes.",
    ),
    (
        &["is already in use by interface"],
        "The container has an address or a route in that subnet. Choose another `subnet`, or leave it at `auto`.",
    ),
    (
        &["address already in use", "failed to create listening socket"],
        "Another DHCP or DNS server listens on that address in this container. Stop it, or choose another subnet.",
    ),
    (
        &[
            "file exists",
            "already exists with uuid",
            "domain is already active",
            "is already in use by",
        ],
        "Something of the same name is left from before. Destroy the older cluster, or start a new container.",
    ),
    (
        &["/dev/net/tun"],
        "The container has no tun device, or may not use it. It must be privileged: set `privileged: true` on the \
         resource type (or the task), or give docker run --privileged.",
    ),
    (
        &[
            "/dev/kvm",
            "failed to initialize kvm",
            "kvm is not available",
            "invalid accelerator kvm",
            "with domain type kvm",
            "does not support virt type 'kvm'",
            "virttype=kvm",
        ],
        "Hardware virtualisation is not to be had here. Start the worker with --containerd-allowed-device \"c 10:232 rwm\" \
         on a machine with VT-x or AMD-V, or set `accelerator: tcg`. `nodectl doctor` tells which it is.",
    ),
    (
        &[
            "no supported firewall backend",
            "failed to initialize a valid firewall backend",
            "'nft'",
            "/nft ",
            "nftables",
            "iptables",
            "could not process rule",
        ],
        "The firewall rules of a network cannot be made. The kernel needs nf_tables with its nat and masquerade modules: \
         run `modprobe -a nf_tables nft_masq nft_ct nft_chain_nat` on the worker itself, or use isolated networks only.",
    ),
    (
        &[
            "cannot set up guest memory",
            "cannot allocate memory",
            "out of memory",
        ],
        "The host has not enough memory for this node. Ask for fewer or smaller nodes, or a bigger worker.",
    ),
    (
        &["no space left on device"],
        "The disk is full. Free some of the worker's disk, or ask for smaller disks.",
    ),
    (
        &["cgroup"],
        "libvirt cannot use control groups here. Its qemu.conf must say `cgroup_controllers = []`, as the one that this \
         image generates does.",
    ),
    (
        &[
            "unable to create bridge",
            "error creating bridge",
            "unable to create tap device",
        ],
        "The container may not make network devices. It must be privileged: set `privileged: true` on the resource type \
         (or the task), or give docker run --privileged. The kernel needs its modules bridge and tun.",
    ),
    (
        &[
            "cannot find suitable emulator",
            "no emulator found",
            "failed to find any emulator",
            "cannot check qemu binary",
        ],
        "QEMU is not installed where libvirtd runs: install the package qemu-system-x86.",
    ),
    (
        &[
            "failed to find path for dnsmasq",
            "cannot find 'dnsmasq'",
            "dnsmasq not found",
            "/dnsmasq",
        ],
        "dnsmasq did not start; its own words are above. Where it is missing, install the package dnsmasq-base.",
    ),
    (
        &[
            "format of backing image",
            "backing file format",
            "without a backing format",
            "has no backing format",
        ],
        "The disk's header does not name the format of its backing file. Make overlays with `qemu-img create -F FORMAT`.",
    ),
    (
        &[
            "authentication failed",
            "authentication unavailable",
            "access denied by policy",
        ],
        "libvirtd wants to know who asks. Run as root, or be in the group libvirt.",
    ),
    (
        &["operation not permitted", "permission denied"],
        "The container lacks a right. It must be privileged: set `privileged: true` on the resource type (or the task), or \
         give docker run --privileged. `nodectl doctor` tells which right it is.",
    ),
];

fn cure(message: &str) -> Option<&'static str> {
    let message = message.to_lowercase();
    let known = |(signs, _): &&(&[&str], &str)| signs.iter().any(|sign| message.contains(sign));
    CURES.iter().find(known).map(|(_, cure)| *cure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_for_another_reason_is_still_there() {
        let gone = |message: &str| {
            let source = LibvirtError {
                message: message.to_owned(),
                number: Some(ErrorNumber::OperationInvalid),
            };
            let (action, thing) = (Action::Destroy, Thing::Domain("a".to_owned()));
            HypervisorError::Refused {
                action,
                thing,
                source,
            }
            .is_gone()
        };
        assert!(gone("Requested operation is not valid: domain is not running"));
        assert!(gone(
            "Requested operation is not valid: network 'a' is not active"
        ));
        assert!(!gone(
            "Requested operation is not valid: Network 'default' is already running"
        ));
    }

    #[test]
    fn a_libvirtd_that_ended_is_named_however_the_connection_broke() {
        for message in [
            "End of file while reading data: Input/output error",
            "Cannot recv data: Connection reset by peer",
            "Cannot write data: Broken pipe",
            "internal error: client socket is closed",
        ] {
            let told = cure(message).unwrap_or_default();
            assert!(
                told.starts_with("libvirtd ended while it worked."),
                "{message}: {told}"
            );
        }
    }
}
