//! The definitions, as text and against libvirt's own schema.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::topology::model::{
    Accelerator, DiskSerial, FirstBoot, ImageSource, NetworkKind, Node, Ready, Timeout, UserName,
};
use crate::topology::name::Name;
use crate::topology::plan::{MacAddress, Nic, Plan, PlannedNetwork, PlannedNode};
use crate::units::ByteSize;

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn network(called: &str, kind: NetworkKind, third: u8) -> PlannedNetwork {
    PlannedNetwork {
        name: name(called),
        kind,
        bridge: format!("br{third}"),
        subnet: format!("10.8.{third}.0/24").parse().expect("a subnet"),
        gateway: Ipv4Addr::new(10, 8, third, 1),
        mtu: 1450,
    }
}

fn node(number: u8, on: &[(&str, u8)]) -> PlannedNode {
    PlannedNode {
        node: Node {
            name: name(&format!("worker-{number}")),
            role: name("worker"),
            cpus: 2,
            memory: ByteSize::gib(2),
            disk: None,
            image: ImageSource::File(PathBuf::from("/disk.img")),
            extra_disks: Vec::new(),
            nested: false,
            networks: on.iter().map(|(on, _)| name(on)).collect(),
            forward: [22].into(),
            ssh_user: UserName::root(),
            first_boot: FirstBoot::Plain,
            ready: Ready {
                command: None,
                timeout: Timeout::Default,
            },
        },
        uuid: Uuid::from_u128(u128::from(number)),
        nics: on
            .iter()
            .map(|(on, third)| Nic {
                network: name(on),
                mac: MacAddress([0x52, 0x54, 0, 0, *third, number]),
                address: Ipv4Addr::new(10, 8, *third, 10 + number),
            })
            .collect(),
    }
}

fn plan() -> Plan {
    Plan {
        cluster: name("brisk-otter-3f9c"),
        networks: vec![
            network("default", NetworkKind::Nat, 0),
            network("storage", NetworkKind::Isolated, 1),
            network("lonely", NetworkKind::Isolated, 2),
        ],
        nodes: vec![
            node(1, &[("default", 0), ("storage", 1)]),
            node(2, &[("default", 0)]),
            node(3, &[("lonely", 2)]),
        ],
    }
}

fn spec(accelerator: Accelerator) -> DomainSpec {
    let path = |path: &str| FilePath::try_from(Path::new(path)).expect("a plain path");
    let serial = |serial: &str| Some(DiskSerial::try_from(serial.to_owned()).expect("a serial"));
    DomainSpec {
        name: ObjectName::new(&name("brisk-otter-3f9c"), &name("worker-1")),
        uuid: Uuid::from_u128(1),
        title: Text::new("worker-1 of brisk-otter-3f9c"),
        accelerator,
        cpus: 2,
        memory: ByteSize::gib(2),
        nested: accelerator == Accelerator::Kvm,
        disks: vec![
            Disk {
                path: path("/scratch/root & 'more'.qcow2"),
                format: DiskFormat::Qcow2,
                serial: serial("root"),
                role: DiskRole::Root,
            },
            Disk {
                path: path("/scratch/data"),
                format: DiskFormat::Raw,
                serial: None,
                role: DiskRole::Extra,
            },
            Disk {
                path: path("/scratch/s"),
                format: DiskFormat::Raw,
                serial: serial("s"),
                role: DiskRole::Seed,
            },
        ],
        nics: vec![DomainNic {
            cable: Cable::Network(ObjectName::new(&name("brisk-otter-3f9c"), &name("default"))),
            mac: MacAddress([0x52, 0x54, 0, 0, 0, 1]),
            mtu: 1450,
        }],
        ignition: (accelerator == Accelerator::Kvm).then(|| path("/scratch/worker-1.ign")),
        ignition_journal: (accelerator == Accelerator::Kvm).then(|| path("/scratch/worker-1.journal")),
        console_log: path("/scratch/worker-1.log"),
    }
}

/// One element a line, so that a change is seen where it is.
fn lines(xml: &str) -> String {
    xml.replace("><", ">\n<")
}

#[test]
fn definitions_are_these() {
    insta::assert_snapshot!(
        "domain-tcg",
        lines(&domain_xml(&spec(Accelerator::Tcg)).expect("xml"))
    );
    insta::assert_snapshot!(
        "domain-kvm",
        lines(&domain_xml(&spec(Accelerator::Kvm)).expect("xml"))
    );
    let plan = plan();
    for network in &plan.networks {
        let xml = network_xml(&plan, network).expect("xml");
        insta::assert_snapshot!(format!("network-{}", network.name), lines(&xml));
    }
}

#[test]
fn definitions_satisfy_libvirts_schema() {
    let schemas = Path::new("/usr/share/libvirt/schemas");
    let has_tool = Command::new("xmllint").arg("--version").output().is_ok();
    if !schemas.is_dir() || !has_tool {
        eprintln!("skipped: needs libvirt's schemas (package libvirt-common) and xmllint (libxml2-utils)");
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let check = |schema: &str, xml: &str| {
        let file = dir.path().join("definition.xml");
        std::fs::write(&file, xml).expect("written");
        let mut command = Command::new("xmllint");
        command
            .args(["--noout", "--relaxng"])
            .arg(schemas.join(schema))
            .arg(&file);
        let output = command.output().expect("run");
        assert!(
            output.status.success(),
            "{xml}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    for accelerator in [Accelerator::Kvm, Accelerator::Tcg] {
        check("domain.rng", &domain_xml(&spec(accelerator)).expect("xml"));
    }
    let plan = plan();
    for network in &plan.networks {
        check("network.rng", &network_xml(&plan, network).expect("xml"));
    }
}

#[test]
fn what_xml_cannot_hold_does_not_get_in() {
    assert!(matches!(
        FilePath::try_from(Path::new("a/b")),
        Err(BadPath::Relative(_))
    ));
    assert!(matches!(
        FilePath::try_from(Path::new("/a\u{1}b")),
        Err(BadPath::Unprintable(_))
    ));
    assert_eq!(Text::new("a\nb\0c\u{ffff}").as_str(), "a b c");
    let mut plan = plan();
    plan.networks[0].bridge = "a bridge".to_owned();
    let error = network_xml(&plan, &plan.networks[0]).expect_err("no bridge is called so");
    assert_eq!(
        error.to_string(),
        "network default: \"a bridge\" is no name for a bridge"
    );
}

proptest! {
    #[test]
    fn a_domain_reads_back_as_it_was_written(
        files in prop::collection::vec("/[^\\p{Cc}\u{fffe}\u{ffff}]{1,30}", 1..40),
        title in ".*",
        cpus in 1u32..512,
        memory in 1u64..1 << 50,
    ) {
        let mut spec = spec(Accelerator::Tcg);
        spec.title = Text::new(&title);
        spec.cpus = cpus;
        spec.memory = ByteSize(memory);
        spec.disks = files
            .iter()
            .map(|file| Disk {
                path: FilePath::try_from(Path::new(file)).expect("a plain path"),
                format: DiskFormat::Raw,
                serial: None,
                role: DiskRole::Extra,
            })
            .collect();
        let xml = domain_xml(&spec).expect("xml");
        let read: elements::Domain = quick_xml::de::from_str(&xml).expect("well-formed");
        prop_assert_eq!(quick_xml::se::to_string(&read).expect("xml"), xml);
        prop_assert_eq!(read.title, spec.title.as_str());
        let mut targets: Vec<_> = read.devices.disks.iter().map(|disk| disk.target.dev.clone()).collect();
        targets.dedup();
        prop_assert_eq!(targets.len(), files.len());
        for (disk, file) in read.devices.disks.iter().zip(&files) {
            prop_assert_eq!(&disk.source.file, file);
        }
    }

    #[test]
    fn a_network_reads_back_as_it_was_written(called in "[a-z]([a-z0-9-]{0,61}[a-z0-9])?", count in 0u8..60) {
        let mut plan = plan();
        plan.networks[0].name = name(&called);
        plan.nodes = (0..count).map(|number| node(number, &[(called.as_str(), 0)])).collect();
        let xml = network_xml(&plan, &plan.networks[0]).expect("xml");
        let read: elements::Network = quick_xml::de::from_str(&xml).expect("well-formed");
        prop_assert_eq!(quick_xml::se::to_string(&read).expect("xml"), xml);
        prop_assert_eq!(read.ip.dhcp.map_or(0, |dhcp| dhcp.hosts.len()), usize::from(count));
        prop_assert_eq!(read.dns.hosts.len(), usize::from(count));
    }
}
