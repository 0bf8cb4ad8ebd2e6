//! How the nodes are networked: by the kernel's bridges where the container may make them, else by the agent itself.
//!
//! Bridges are fast and need rights that a plain `docker run` does not give. Without them the agent is the nodes' switch, router, DHCP
//! and DNS server (`agent::switch`): the same names and addresses, the same forwards and proxy, and no right needed.

use super::devices::{Condition, Devices};
use super::namespaces::{self, NamespaceError};
use super::needs::{NEEDS, Need, Sign};
use crate::fault::{Fault, tell};
use crate::progress::Progress;
use crate::topology::model::{Networking, NetworkingChoice};

/// What a container lacks that bridges need.
#[derive(Debug, thiserror::Error)]
pub enum Lack {
    /// A capability.
    #[error("{} is missing", .0.what)]
    Capability(&'static Need),
    /// No taps.
    #[error("/dev/net/tun {0}: no tap for a NIC")]
    Tun(Condition),
    /// Bridges cannot be set up, nor packets forwarded.
    #[error("{}: libvirt cannot set up its bridges", tell(.0).lines().next().unwrap_or_default())]
    Settings(NamespaceError),
}

impl Lack {
    /// What would give it, as a full sentence.
    pub fn cure(&self) -> String {
        match self {
            Self::Capability(need) => format!("docker run: {}.", need.flag.replace('`', "")),
            Self::Tun(condition) => super::tun_cure(condition).to_owned(),
            Self::Settings(_) => {
                "docker run: --security-opt systempaths=unconfined, or --cap-add SYS_ADMIN, with which the agent remounts it."
                    .to_owned()
            }
        }
    }
}

/// Bridges were demanded and cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("networking: bridges was asked for, and this container cannot have them: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct NoBridges(pub Vec<Lack>);

impl Fault for NoBridges {
    fn help(&self) -> Option<String> {
        let cures: Vec<String> = self.0.iter().map(Lack::cure).collect();
        Some(format!(
            "{}\nOr set `privileged: true` on the resource type (docker: --privileged), or write `networking: auto`, which falls back to \
             user-mode networks: slower, but they need nothing.",
            cures.join("\n")
        ))
    }
}

/// What is lacking for bridges. `writable` says whether /proc/sys could be made writable.
pub fn lacks(devices: &Devices, writable: Result<(), NamespaceError>) -> Vec<Lack> {
    let mut found: Vec<Lack> = NEEDS
        .iter()
        .filter(|need| need.for_bridges && matches!(need.sign, Sign::Capability(_)) && !need.is_met())
        .map(Lack::Capability)
        .collect();
    if !devices.tun.usable() {
        found.push(Lack::Tun(devices.tun.clone()));
    }
    if let Err(error) = writable.and_then(|()| namespaces::forward_ipv4()) {
        found.push(Lack::Settings(error));
    }
    found
}

/// Settles it; a fallback is told in `progress`, with cause, consequence and cure.
///
/// # Errors
/// Where bridges were demanded and something is lacking.
pub fn settle(
    choice: NetworkingChoice,
    lacks: Vec<Lack>,
    progress: &Progress,
) -> Result<Networking, NoBridges> {
    match choice {
        NetworkingChoice::User => return Ok(Networking::User),
        _ if lacks.is_empty() => return Ok(Networking::Bridges),
        NetworkingChoice::Bridges => return Err(NoBridges(lacks)),
        NetworkingChoice::Auto => {}
    }
    progress.warn(
        "no bridges here, the nodes' networks are user-mode: the agent carries every packet itself, slower; nodes reach \
         the outside by TCP and UDP, no ping",
    );
    for lack in &lacks {
        progress.warn(format!("no bridges: {lack}"));
        progress.warn(format!("to get bridges: {}", lack.cure()));
    }
    Ok(Networking::User)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    fn tun() -> Vec<Lack> {
        vec![Lack::Tun(Condition::CannotBeMade { errno: Errno::PERM })]
    }

    #[tokio::test]
    async fn a_fallback_is_loud_and_a_demand_is_refused() {
        let (progress, mut events) = Progress::channel();
        assert_eq!(
            settle(NetworkingChoice::Auto, tun(), &progress).unwrap(),
            Networking::User
        );
        drop(progress);
        let mut said = String::new();
        while let Some(event) = events.recv().await {
            said += &event.text;
        }
        assert!(
            said.contains("user-mode") && said.contains("--device /dev/net/tun"),
            "{said}"
        );
        let error = settle(NetworkingChoice::Bridges, tun(), &Progress::channel().0).unwrap_err();
        assert!(
            error
                .help()
                .is_some_and(|help| help.contains("--device /dev/net/tun"))
        );
    }

    #[test]
    fn where_nothing_is_lacking_the_choice_decides() {
        let progress = Progress::channel().0;
        let settled = |choice| settle(choice, Vec::new(), &progress).unwrap();
        assert_eq!(settled(NetworkingChoice::Auto), Networking::Bridges);
        assert_eq!(settled(NetworkingChoice::Bridges), Networking::Bridges);
        assert_eq!(settled(NetworkingChoice::User), Networking::User);
    }
}
