//! What libvirt made of a domain that runs: its NICs' taps, its QEMU's log.

use std::path::PathBuf;

use serde::Deserialize;

use super::connection::{Connection, mac};
use super::error::{Action, HypervisorError, LibvirtError, Thing};
use super::text::ObjectName;
use crate::topology::plan::MacAddress;

/// A NIC of a running domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveNic {
    /// Its address.
    pub mac: MacAddress,
    /// The host's end of its cable: a network interface, `vnet0`.
    pub tap: String,
}

impl Connection {
    /// The NICs of a running domain, in the order in which the guest sees them.
    pub fn nics(&self, domain: &str) -> Result<Vec<LiveNic>, HypervisorError> {
        let refused =
            |error| HypervisorError::refused(Action::Inspect, Thing::Domain(domain.to_owned()), error);
        let xml = self
            .connect()
            .lookup_domain_by_name(domain)
            .and_then(|found| found.xml_desc(0))
            .map_err(refused)?;
        nics(&xml).map_err(|source| HypervisorError::Refused {
            action: Action::Inspect,
            thing: Thing::Domain(domain.to_owned()),
            source: LibvirtError {
                message: format!("its definition cannot be read: {source}"),
                number: None,
            },
        })
    }
}

/// The NICs of a definition that are plugged into a tap. libvirt writes the devices kind by kind.
fn nics(xml: &str) -> Result<Vec<LiveNic>, quick_xml::DeError> {
    #[derive(Deserialize)]
    struct Domain {
        devices: Devices,
    }
    #[derive(Deserialize)]
    struct Devices {
        #[serde(rename = "interface", default)]
        interfaces: Vec<Interface>,
    }
    #[derive(Deserialize)]
    struct Interface {
        mac: Mac,
        target: Option<Target>,
    }
    #[derive(Deserialize)]
    struct Mac {
        #[serde(rename = "@address")]
        address: String,
    }
    #[derive(Deserialize)]
    struct Target {
        #[serde(rename = "@dev")]
        dev: Option<String>,
    }
    let domain: Domain = quick_xml::de::from_str(xml)?;
    let nic = |interface: Interface| {
        Some(LiveNic {
            mac: mac(&interface.mac.address)?,
            tap: interface.target?.dev?,
        })
    };
    Ok(domain.devices.interfaces.into_iter().filter_map(nic).collect())
}

/// Where libvirtd writes what a domain's QEMU says, each start appended to the last.
pub fn qemu_log(domain: &ObjectName) -> PathBuf {
    PathBuf::from(format!("/var/log/libvirt/qemu/{domain}.log"))
}

/// Of the lines of [`qemu_log`], those that QEMU said itself, and why it ended; without its long command line, and without
/// what libvirt notes at every start and every question.
pub fn qemu_said(log: &str) -> Vec<&str> {
    const NOTES: [&str; 4] = [
        ": starting up libvirt version",
        "is tainted: ",
        "char device redirected to",
        "char device added",
    ];
    let mut continued = false;
    let mut said = Vec::new();
    for line in log.lines() {
        // The command line is written as a shell would take it.
        let part = std::mem::replace(&mut continued, line.ends_with('\\')) || continued;
        if !part && !line.trim().is_empty() && !NOTES.iter().any(|note| line.contains(note)) {
            said.push(line);
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn taps_are_found_in_a_definition() {
        let xml = "<domain type='qemu' id='1'><name>a</name><devices><emulator>/usr/bin/q</emulator><disk type='file'/>\
            <interface type='network'><mac address='52:54:00:aa:bb:01'/><source network='n' bridge='b'/>\
            <target dev='vnet0'/><model type='virtio'/></interface>\
            <interface type='user'><mac address='52:54:00:aa:bb:02'/></interface>\
            <interface type='network'><mac address='52:54:00:aa:bb:03'/><target dev='vnet7'/></interface>\
            </devices></domain>";
        let found = nics(xml).unwrap();
        let found: Vec<_> = found.iter().map(|nic| (nic.mac.0[5], nic.tap.as_str())).collect();
        assert_eq!(found, [(1, "vnet0"), (3, "vnet7")]);
        assert!(nics("<domain><devices/></domain>").unwrap().is_empty());
        assert!(nics("<domain>").is_err());
    }

    #[test]
    fn qemus_own_words_are_told_from_libvirts() {
        let log = "2026-01-01 10:00:00.000+0000: starting up libvirt version: 11.3.0, package: 3\n\
            LC_ALL=C \\\nPATH=/usr/bin \\\n/usr/bin/qemu-system-x86_64 \\\n-name guest=a \\\n-msg timestamp=on\n\
            char device redirected to /dev/pts/3 (label charserial0)\n\
            2026-01-01 10:00:01.000+0000: Domain id=1 name='a' uuid=b is tainted: custom-monitor\n\
            2026-01-01T10:00:02.000000Z qemu-system-x86_64: warning: something\n\n\
            2026-01-01 10:00:03.000+0000: shutting down, reason=crashed\n";
        let said = qemu_said(log);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].ends_with("warning: something") && said[1].ends_with("reason=crashed"));
    }

    proptest! {
        #[test]
        fn no_log_is_a_panic(log in "(\\PC{0,20}\\\\?\n){0,8}") {
            prop_assert!(qemu_said(&log).len() <= log.lines().count());
        }
    }
}
