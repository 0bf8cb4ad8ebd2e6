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
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Destroy => "destroy",
            Self::Inspect => "inspect",
            Self::List => "list",
            Self::Watch => "watch",
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

    /// Whether the domain or network is not there (any more).
    pub fn is_gone(&self) -> bool {
        self.libvirt()
            .is_some_and(|error| matches!(error.number, Some(ErrorNumber::NoDomain | ErrorNumber::NoNetwork)))
    }
}

impl Fault for HypervisorError {
    fn help(&self) -> Option<String> {
        None
    }
}
