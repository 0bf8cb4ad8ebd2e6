//! What a container may lack, what stops working then, and the flag that gives it. `docs/privileges.md` is made from this, and
//! `nodectl doctor` tells the same of the container that it is in.

use rustix::thread::{CapabilitySet, capabilities};

use super::devices::{Device, ensure_one};
use super::namespaces;

/// One thing that a container may have or lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Stable, for programs.
    pub id: &'static str,
    /// What it is.
    pub what: &'static str,
    /// What stops working without it.
    pub loss: &'static str,
    /// The flag of `docker run` that gives it.
    pub flag: &'static str,
    /// How it is seen.
    pub sign: Sign,
    /// Whether networks of libvirt's own (bridges, NAT) need it.
    pub for_bridges: bool,
}

/// How it is seen whether it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It is among the effective capabilities.
    Capability(CapabilitySet),
    /// `/dev/net/tun` opens.
    Tun,
    /// `/dev/kvm` opens.
    Kvm,
    /// `/dev/vhost-net` opens.
    VhostNet,
    /// `/proc/sys` can be written, or remounted.
    ProcSys,
    /// libvirt's directories can be written, or mounted over.
    Directories,
}

const fn capability(
    set: CapabilitySet,
    [id, what, loss, flag]: [&'static str; 4],
    for_bridges: bool,
) -> Need {
    Need {
        id,
        what,
        loss,
        flag,
        sign: Sign::Capability(set),
        for_bridges,
    }
}

const fn thing(sign: Sign, [id, what, loss, flag]: [&'static str; 4], for_bridges: bool) -> Need {
    Need {
        id,
        what,
        loss,
        flag,
        sign,
        for_bridges,
    }
}

/// All of them, the weightiest first.
pub const NEEDS: &[Need] = &[
    thing(
        Sign::Kvm,
        [
            "dev_kvm",
            "`/dev/kvm`",
            "hardware virtualisation: nodes run on QEMU's translation (TCG), many times slower",
            "`--device /dev/kvm`",
        ],
        false,
    ),
    capability(
        CapabilitySet::NET_ADMIN,
        [
            "net_admin",
            "CAP_NET_ADMIN",
            "bridges, taps and firewall rules: the nodes' networks are user-mode",
            "`--cap-add NET_ADMIN`",
        ],
        true,
    ),
    thing(
        Sign::ProcSys,
        [
            "proc_sys",
            "a writable `/proc/sys`",
            "the setting up of bridges: the nodes' networks are user-mode",
            "`--security-opt systempaths=unconfined`, or `--cap-add SYS_ADMIN`, with which it is remounted",
        ],
        true,
    ),
    thing(
        Sign::Tun,
        [
            "dev_tun",
            "`/dev/net/tun`",
            "taps: the nodes' networks are user-mode",
            "`--device /dev/net/tun` (needed where the container may not make the node, or runc does not allow it by default)",
        ],
        true,
    ),
    capability(
        CapabilitySet::NET_RAW,
        [
            "net_raw",
            "CAP_NET_RAW",
            "the DHCP server of a bridge: the nodes' networks are user-mode",
            "`--cap-add NET_RAW` (a default of Docker's)",
        ],
        true,
    ),
    capability(
        CapabilitySet::NET_BIND_SERVICE,
        [
            "net_bind_service",
            "CAP_NET_BIND_SERVICE",
            "the DHCP and name server of a bridge: the nodes' networks are user-mode",
            "`--cap-add NET_BIND_SERVICE` (a default of Docker's)",
        ],
        true,
    ),
    capability(
        CapabilitySet::SYS_ADMIN,
        [
            "sys_admin",
            "CAP_SYS_ADMIN",
            "namespaces and mounts of the agent's own: a guard process holds the cluster's processes together instead, and libvirt uses the \
             container's directories; `nodectl session` does not start",
            "`--cap-add SYS_ADMIN` (with AppArmor: `--security-opt apparmor=unconfined` too)",
        ],
        false,
    ),
    thing(
        Sign::Directories,
        [
            "directories",
            "a writable root file system, CAP_CHOWN or CAP_DAC_OVERRIDE",
            "libvirt's use of the container's directories: no node boots",
            "`--cap-add SYS_ADMIN`, with which the agent mounts directories of its own; or no `--read-only`, and `--cap-add CHOWN \
             --cap-add DAC_OVERRIDE` (defaults of Docker's)",
        ],
        false,
    ),
    capability(
        CapabilitySet::MKNOD,
        [
            "mknod",
            "CAP_MKNOD",
            "the making of device nodes: only those that the container was given are there",
            "`--device` for each, or `--cap-add MKNOD` (a default of Docker's)",
        ],
        false,
    ),
    capability(
        CapabilitySet::SETUID
            .union(CapabilitySet::SETGID)
            .union(CapabilitySet::SETPCAP),
        [
            "setuid",
            "CAP_SETUID, CAP_SETGID or CAP_SETPCAP",
            "the start of QEMU by libvirt: no node boots",
            "`--cap-add SETUID --cap-add SETGID --cap-add SETPCAP` (defaults of Docker's)",
        ],
        false,
    ),
    thing(
        Sign::VhostNet,
        [
            "dev_vhost_net",
            "`/dev/vhost-net`",
            "nothing: NICs on bridges are slower",
            "`--device /dev/vhost-net`",
        ],
        false,
    ),
];

/// What no node boots without.
pub const ESSENTIAL: [&str; 2] = ["directories", "setuid"];

impl Need {
    /// Whether this process has it. Device nodes that are missing are made where they can be.
    pub fn is_met(&self) -> bool {
        let have = || capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
        let mounts = || have().contains(CapabilitySet::SYS_ADMIN);
        match self.sign {
            Sign::Capability(set) => have().contains(set),
            Sign::Tun => ensure_one(&Device::tun()).usable(),
            Sign::Kvm => ensure_one(&Device::kvm()).usable(),
            Sign::VhostNet => ensure_one(&Device::vhost_net()).usable(),
            Sign::ProcSys => mounts() || namespaces::are_writable().is_ok(),
            Sign::Directories => {
                let rights = CapabilitySet::CHOWN.union(CapabilitySet::DAC_OVERRIDE);
                let writable =
                    ["/etc", "/run", "/var/lib"].map(|path| namespaces::is_writable(path.as_ref()));
                mounts() || have().contains(rights) && writable == [true; 3]
            }
        }
    }
}

/// The first without which no node boots, and which is not there.
pub fn essential() -> Option<&'static Need> {
    NEEDS
        .iter()
        .find(|need| ESSENTIAL.contains(&need.id) && !need.is_met())
}

/// The document, as Markdown.
pub fn markdown() -> String {
    let mut text = INTRODUCTION.to_owned();
    text += "| missing | what stops working | `docker run` flag that gives it |\n|---|---|---|\n";
    for Need { what, loss, flag, .. } in NEEDS {
        text += &format!("| {what} | {loss} | {flag} |\n");
    }
    text
}

/// What stands before the table, written by hand.
const INTRODUCTION: &str = include_str!("needs.md");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/privileges.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        assert_eq!(
            std::fs::read_to_string(path).unwrap_or_default(),
            markdown(),
            "docs/privileges.md is not that of src/agent/host/needs.rs: UPDATE_DOCS=1 cargo test --lib host::needs"
        );
    }

    #[test]
    fn every_id_is_one_of_its_own_and_the_essential_are_among_them() {
        let mut ids: Vec<&str> = NEEDS.iter().map(|need| need.id).collect();
        assert!(ESSENTIAL.iter().all(|id| ids.contains(id)));
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), NEEDS.len());
    }
}
