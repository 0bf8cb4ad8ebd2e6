//! A connection to libvirtd, and what is asked of it.

use std::fmt;
use std::future::pending;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::watch;
use uuid::Uuid;
use virt::connect::Connect;
use virt::domain::Domain as VirtDomain;
use virt::enumutil::Enum;
use virt::error::{Error as VirtError, ErrorNumber};
use virt::sys;

use super::domain::{DomainSpec, domain_xml};
use super::error::{Action, HypervisorError, LibvirtError, Thing, says_not_running};
use super::events::CloseReason;
use super::network::network_xml;
use super::raw;
use super::text::ObjectName;
use crate::topology::name::Name;
use crate::topology::plan::{MacAddress, Plan, PlannedNetwork};
use crate::units::ByteSize;

/// A connection to libvirtd. Cheap to clone; the clones share one socket, over which calls run side by side.
///
/// **Every method but the async ones blocks**, for as long as libvirtd takes. Async callers use [`Connection::run`].
#[derive(Clone, Debug)]
pub struct Connection {
    link: Arc<Link>,
}

/// What the clones of a connection, and its subscriptions, share.
pub(super) struct Link {
    pub connect: Connect,
    closed: watch::Receiver<Option<CloseReason>>,
    watched: bool,
}

impl Link {
    /// Waits until the connection is closed by anyone but us.
    pub async fn closed(&self) -> CloseReason {
        let mut closed = self.closed.clone();
        // No sender, nothing that could close it: libvirt's in-process test driver.
        let reason = closed
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|reason| *reason);
        match reason {
            Some(reason) => reason,
            None => pending().await,
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if self.watched {
            raw::unwatch_close(&self.connect);
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("closed", &*self.closed.borrow())
            .finish_non_exhaustive()
    }
}

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// libvirtd: `11.3.0`.
    pub libvirt: String,
    /// The hypervisor, QEMU as a rule: `10.0.13`.
    pub hypervisor: String,
}

/// A domain that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Its name in libvirt.
    pub name: String,
    /// Its UUID.
    pub uuid: Uuid,
    /// What it does.
    pub state: DomainState,
}

/// What a domain does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DomainState {
    /// It runs.
    Running,
    /// Its CPUs stand still.
    Paused,
    /// It is switching itself off.
    ShuttingDown,
    /// It is off.
    Off,
    /// Its kernel has panicked.
    Panicked,
    /// It sleeps (ACPI S3).
    Asleep,
    /// Any other.
    Other,
}

/// An address that a node was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// To which NIC.
    pub mac: MacAddress,
    /// The address.
    pub address: IpAddr,
    /// The name that the guest gave itself, if any.
    pub hostname: Option<String>,
}

impl Connection {
    /// Opens a connection: `qemu:///system`, `qemu:///system?socket=/run/libvirt/libvirt-sock`, `test:///default`.
    pub fn open(uri: &str) -> Result<Self, HypervisorError> {
        raw::start_event_loop().map_err(|error| HypervisorError::EventLoop { source: error.into() })?;
        let failed = |source| HypervisorError::Connect {
            uri: uri.to_owned(),
            source,
        };
        if uri.contains('\0') {
            // The binding would panic.
            let message = "the URI holds a NUL byte".to_owned();
            return Err(failed(LibvirtError {
                message,
                number: Some(ErrorNumber::InvalidArg),
            }));
        }
        let connect = Connect::open(Some(uri)).map_err(|error| failed(error.into()))?;
        let (sender, closed) = watch::channel(None);
        let sink = Box::new(move |reason| {
            sender.send_replace(Some(CloseReason::from_raw(reason)));
        });
        let watched = match raw::watch_close(&connect, sink) {
            Ok(()) => true,
            // libvirt's test driver lives in this process: nothing to lose.
            Err(error) if error.code().is(ErrorNumber::NoSupport) => false,
            Err(error) => return Err(failed(error.into())),
        };
        Ok(Self {
            link: Arc::new(Link {
                connect,
                closed,
                watched,
            }),
        })
    }

    /// Runs blocking calls on a thread where they may block: `connection.run(|c| c.domains()).await`.
    pub async fn run<T, F>(&self, calls: F) -> Result<T, HypervisorError>
    where
        T: Send + 'static,
        F: FnOnce(&Self) -> Result<T, HypervisorError> + Send + 'static,
    {
        let connection = self.clone();
        tokio::task::spawn_blocking(move || calls(&connection))
            .await
            .unwrap_or_else(|source| Err(HypervisorError::Interrupted { source }))
    }

    /// Waits until libvirtd is gone, or has dropped the connection.
    pub async fn closed(&self) -> CloseReason {
        self.link.closed().await
    }

    /// Who is at the other end.
    pub fn versions(&self) -> Result<Versions, HypervisorError> {
        let asked = |answer: Result<u32, VirtError>| {
            answer
                .map(version)
                .map_err(|error| HypervisorError::refused(Action::Inspect, Thing::Host, error))
        };
        Ok(Versions {
            libvirt: asked(self.connect().lib_version())?,
            hypervisor: asked(self.connect().hyp_version())?,
        })
    }

    /// The host's wholly unused memory, as libvirt counts it: without what its caches would give back.
    pub fn free_memory(&self) -> Result<ByteSize, HypervisorError> {
        self.connect()
            .free_memory()
            .map(ByteSize)
            .map_err(|error| HypervisorError::refused(Action::Inspect, Thing::Host, error))
    }

    /// Creates one of the plan's networks: bridge, firewall rules, DHCP and DNS are up when this returns.
    pub fn create_network(&self, plan: &Plan, network: &PlannedNetwork) -> Result<(), HypervisorError> {
        let xml = network_xml(plan, network)?;
        raw::create_network(self.connect(), &xml)
            .map(drop)
            .map_err(|error| {
                let name = ObjectName::new(&plan.cluster, &network.name);
                HypervisorError::refused(Action::Create, Thing::Network(name.to_string()), error)
            })
    }

    /// Removes a network with its bridge and rules. One that is gone already is no error.
    pub fn destroy_network(&self, name: &str) -> Result<(), HypervisorError> {
        let destroyed = || self.connect().lookup_network_by_name(name)?.destroy();
        self.unless_gone(name, destroyed).map_err(|error| {
            HypervisorError::refused(Action::Destroy, Thing::Network(name.to_owned()), error)
        })
    }

    /// The names of the networks that are up, ours or not.
    pub fn networks(&self) -> Result<Vec<String>, HypervisorError> {
        let names = || -> Result<Vec<String>, VirtError> {
            let networks = self
                .connect()
                .list_all_networks(sys::VIR_CONNECT_LIST_NETWORKS_ACTIVE)?;
            networks.iter().map(virt::network::Network::name).collect()
        };
        names().map_err(|error| HypervisorError::refused(Action::List, Thing::Networks, error))
    }

    /// The leases given out on one of a cluster's networks.
    pub fn leases(&self, cluster: &Name, network: &Name) -> Result<Vec<Lease>, HypervisorError> {
        let name = ObjectName::new(cluster, network);
        let leases = self
            .connect()
            .lookup_network_by_name(name.as_str())
            .and_then(|network| raw::leases(&network))
            .map_err(|error| {
                HypervisorError::refused(Action::Inspect, Thing::Network(name.to_string()), error)
            })?;
        Ok(leases.into_iter().filter_map(lease).collect())
    }

    /// Creates a domain and starts it. Its QEMU runs when this returns.
    pub fn start_domain(&self, spec: &DomainSpec) -> Result<(), HypervisorError> {
        self.start_domain_xml(&spec.name, &domain_xml(spec)?)
    }

    /// Creates a domain from a definition that somebody else wrote; `name` is for the error.
    pub fn start_domain_xml(&self, name: &ObjectName, xml: &str) -> Result<(), HypervisorError> {
        self.connect()
            .create_domain_xml(xml, raw::checked(sys::VIR_DOMAIN_START_VALIDATE))
            .map(drop)
            .map_err(|error| HypervisorError::refused(Action::Create, Thing::Domain(name.to_string()), error))
    }

    /// Cuts a domain's power; its QEMU is gone when this returns. One that is gone already is no error.
    pub fn destroy_domain(&self, name: &str) -> Result<(), HypervisorError> {
        let destroyed = || self.connect().lookup_domain_by_name(name)?.destroy();
        self.unless_gone(name, destroyed)
            .map_err(|error| HypervisorError::refused(Action::Destroy, Thing::Domain(name.to_owned()), error))
    }

    /// Presses a domain's power button (ACPI), and returns at once: what comes of it is for its guest to say.
    pub fn press_power_button(&self, name: &str) -> Result<(), HypervisorError> {
        self.with_domain(Action::PressPowerButton, name, |domain| {
            domain.shutdown_flags(sys::VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
        })
    }

    /// Stops a domain's CPUs.
    pub fn pause(&self, name: &str) -> Result<(), HypervisorError> {
        self.with_domain(Action::Pause, name, |domain| domain.suspend())
    }

    /// Lets a domain's CPUs go on.
    pub fn resume(&self, name: &str) -> Result<(), HypervisorError> {
        self.with_domain(Action::Resume, name, |domain| domain.resume())
    }

    fn with_domain(
        &self,
        action: Action,
        name: &str,
        call: impl FnOnce(&VirtDomain) -> Result<(), VirtError>,
    ) -> Result<(), HypervisorError> {
        let found = self.connect().lookup_domain_by_name(name);
        found
            .and_then(|domain| call(&domain))
            .map_err(|error| HypervisorError::refused(action, Thing::Domain(name.to_owned()), error))
    }

    /// What a domain does; `None` when there is no such domain (any more).
    pub fn domain_state(&self, name: &str) -> Result<Option<DomainState>, HypervisorError> {
        let mut state = None;
        let asked = || {
            state = Some(self.connect().lookup_domain_by_name(name)?.info()?.state);
            Ok(())
        };
        self.unless_gone(name, asked).map_err(|error| {
            HypervisorError::refused(Action::Inspect, Thing::Domain(name.to_owned()), error)
        })?;
        Ok(state.map(DomainState::from_virt))
    }

    /// The domains that are up, ours or not.
    pub fn domains(&self) -> Result<Vec<Domain>, HypervisorError> {
        let failed = |error| HypervisorError::refused(Action::List, Thing::Domains, error);
        let listed = self
            .connect()
            .list_all_domains(sys::VIR_CONNECT_LIST_DOMAINS_ACTIVE)
            .map_err(failed)?;
        let mut domains = Vec::with_capacity(listed.len());
        for domain in listed {
            let name = domain.name().map_err(failed)?;
            let uuid = domain.uuid().map_err(failed)?;
            match domain.info() {
                Ok(info) => domains.push(Domain {
                    name,
                    uuid,
                    state: DomainState::from_virt(info.state),
                }),
                // It stopped between the two questions.
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(domains)
    }

    pub(super) fn link(&self) -> Arc<Link> {
        self.link.clone()
    }

    pub(super) fn connect(&self) -> &Connect {
        &self.link.connect
    }

    /// Runs `calls`; that the object of that name is not there is no error.
    fn unless_gone(
        &self,
        name: &str,
        calls: impl FnOnce() -> Result<(), VirtError>,
    ) -> Result<(), VirtError> {
        // Nothing can have such a name, and the binding would panic.
        if name.contains('\0') {
            return Ok(());
        }
        match calls() {
            Err(error) if is_gone(&error) => Ok(()),
            done => done,
        }
    }
}

impl DomainState {
    fn from_virt(state: virt::domain::DomainStateEnum) -> Self {
        use virt::domain::DomainState as Virt;
        match state {
            Enum::Known(Virt::Running | Virt::Blocked) => Self::Running,
            Enum::Known(Virt::Paused) => Self::Paused,
            Enum::Known(Virt::Shutdown) => Self::ShuttingDown,
            Enum::Known(Virt::Shutoff) => Self::Off,
            Enum::Known(Virt::Crashed) => Self::Panicked,
            Enum::Known(Virt::PMSuspended) => Self::Asleep,
            _ => Self::Other,
        }
    }
}

/// Whether libvirt says that the object is not there, or, of a domain or network, that it is not running.
pub(super) fn is_gone(error: &VirtError) -> bool {
    let code = error.code();
    code.is(ErrorNumber::NoDomain)
        || code.is(ErrorNumber::NoNetwork)
        // It stopped between lookup and call.
        || (code.is(ErrorNumber::OperationInvalid) && says_not_running(error.message()))
}

/// libvirt's one number for a version: `major * 1,000,000 + minor * 1,000 + release` (virGetVersion).
fn version(number: u32) -> String {
    format!(
        "{}.{}.{}",
        number / 1_000_000,
        number / 1_000 % 1_000,
        number % 1_000
    )
}

/// `None` for what is no IP lease of an Ethernet NIC.
fn lease(raw: raw::RawLease) -> Option<Lease> {
    Some(Lease {
        mac: mac(&raw.mac)?,
        address: raw.address.parse().ok()?,
        hostname: raw.hostname,
    })
}

/// A MAC address as libvirt writes it: `52:54:00:12:34:56`.
pub(super) fn mac(text: &str) -> Option<MacAddress> {
    let mut mac = [0; 6];
    hex::decode_to_slice(text.replace(':', ""), &mut mac).ok()?;
    Some(MacAddress(mac))
}
