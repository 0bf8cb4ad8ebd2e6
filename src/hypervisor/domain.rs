//! A node as libvirt is to make it.

use std::net::SocketAddrV4;

use uuid::Uuid;

use super::elements as xml;
use super::error::{HypervisorError, Thing};
use super::text::{FilePath, ObjectName, Text};
use crate::first_boot::FW_CFG_NAMES;
use crate::topology::model::{Accelerator, DiskSerial};
use crate::topology::plan::MacAddress;
use crate::units::ByteSize;

/// A machine, with all that libvirt has to know.
#[derive(Clone, Debug, PartialEq)]
pub struct DomainSpec {
    /// Its name in libvirt.
    pub name: ObjectName,
    /// Its UUID; the guest reads it as its SMBIOS system UUID.
    pub uuid: Uuid,
    /// What a person reads in `virsh list --title`.
    pub title: Text,
    /// Hardware virtualisation or translation.
    pub accelerator: Accelerator,
    /// Virtual CPUs, at least 1: the cores of one socket.
    pub cpus: u32,
    /// RAM.
    pub memory: ByteSize,
    /// Whether the guest can run KVM machines of its own.
    pub nested: bool,
    /// In the order in which the guest sees them: `/dev/vda`, `/dev/vdb`…
    pub disks: Vec<Disk>,
    /// In the order in which the guest sees them.
    pub nics: Vec<DomainNic>,
    /// An Ignition configuration, given as fw_cfg under each of [`FW_CFG_NAMES`].
    pub ignition: Option<FilePath>,
    /// Where the guest's journal is written, from empty, when Ignition has failed: the initramfs of Fedora CoreOS and its
    /// kin looks for a port of that name then, and writes to it (`journalctl -o json`).
    pub ignition_journal: Option<FilePath>,
    /// Where all that the serial console says is written, from empty.
    pub console_log: FilePath,
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The file. Where it is an overlay, its header must name its base's format too: libvirt does not guess.
    pub path: FilePath,
    /// Its format.
    pub format: DiskFormat,
    /// What the guest reads as its serial number (`/dev/disk/by-id/virtio-…`).
    pub serial: Option<DiskSerial>,
    /// What it is for.
    pub role: DiskRole,
}

/// The format of a disk's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFormat {
    /// QEMU's.
    Qcow2,
    /// The disk's bytes as they are.
    Raw,
}

/// What a disk is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskRole {
    /// Booted from.
    Root,
    /// Blank, for the guest to use.
    Extra,
    /// First-boot data, read-only.
    Seed,
}

/// A network card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainNic {
    /// What it is plugged into.
    pub cable: Cable,
    /// Its address.
    pub mac: MacAddress,
    /// The MTU that the guest is told, in bytes.
    pub mtu: u32,
}

/// What a network card is plugged into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cable {
    /// A network of libvirt's, by its name there.
    Network(ObjectName),
    /// A switch that takes Ethernet frames over TCP, each behind its length (QEMU's `-netdev socket`).
    Socket(SocketAddrV4),
}

/// The domain's definition as libvirt reads it.
pub fn domain_xml(spec: &DomainSpec) -> Result<String, HypervisorError> {
    quick_xml::se::to_string(&domain(spec)).map_err(|source| HypervisorError::Xml {
        thing: Thing::Domain(spec.name.to_string()),
        source,
    })
}

fn domain(spec: &DomainSpec) -> xml::Domain {
    let tcg = spec.accelerator == Accelerator::Tcg;
    xml::Domain {
        kind: if tcg { "qemu" } else { "kvm" }.into(),
        name: spec.name.to_string(),
        uuid: spec.uuid.to_string(),
        title: spec.title.as_str().into(),
        memory: xml::Memory {
            unit: "KiB".into(),
            // A crashed QEMU must not fill the disk with its guest's RAM.
            dump_core: "off".into(),
            amount: spec.memory.bytes() >> 10,
        },
        vcpu: spec.cpus,
        // Disk I/O beside QEMU's main loop, whose lock the CPUs of a translated guest hold most of the time.
        iothreads: 1,
        sysinfo: spec.ignition.as_ref().map(|path| xml::SysInfo {
            kind: "fwcfg".into(),
            entries: FW_CFG_NAMES
                .iter()
                .map(|name| xml::Entry {
                    name: (*name).into(),
                    file: path.as_str().into(),
                })
                .collect(),
        }),
        os: xml::Os {
            kind: xml::OsType {
                arch: "x86_64".into(),
                machine: "q35".into(),
                kind: "hvm".into(),
            },
            // SeaBIOS talks on the serial line too: without it, "No bootable device" would be seen by nobody.
            bios: xml::Bios {
                use_serial: "yes".into(),
            },
        },
        features: xml::Features {
            acpi: xml::Present {},
            apic: xml::Present {},
            vmport: xml::State { state: "off".into() },
            // System management mode serves Secure Boot alone, which SeaBIOS has not.
            smm: xml::State { state: "off".into() },
            tcg: tcg.then(|| xml::Tcg {
                tb_cache: xml::Quantity {
                    unit: "MiB".into(),
                    amount: translation_cache(spec.memory).bytes() >> 20,
                },
            }),
        },
        cpu: cpu(spec),
        clock: xml::Clock {
            offset: "utc".into(),
            timers: vec![
                timer("rtc", Some("catchup"), None),
                timer("pit", Some("delay"), None),
                // Emulated by QEMU's main loop: slower than every other clock a guest has.
                timer("hpet", None, Some("no")),
            ],
        },
        on_poweroff: "destroy".into(),
        on_reboot: "restart".into(),
        // What panicked stays, its CPUs stopped, so that its screen and registers can be read.
        on_crash: "preserve".into(),
        // A node that fell asleep would look hung, and nobody could wake it.
        pm: xml::Pm {
            suspend_to_mem: enabled("no"),
            suspend_to_disk: enabled("no"),
        },
        devices: devices(spec),
        // The container is the boundary; no security driver runs inside it.
        seclabel: xml::Typed { kind: "none".into() },
    }
}

/// How much translated code QEMU keeps for a guest of that memory, in whole MiB: half of it, from 64 MiB to 1 GiB.
///
/// QEMU takes up to 1 GiB a guest if not told (an eighth of the host's RAM at most), which twenty nodes would not leave
/// free. It fills what it has: a busy guest's whole cache is resident. When it is full it is emptied, and all that is
/// still run is translated anew: a guest whose code is small loses nothing by a small one (a tiny Linux fills 38 MiB on
/// its way up, a Debian with systemd 230 MiB), but a Kubernetes control plane in 256 MiB empties it every ten seconds and
/// does little but translate.
pub fn translation_cache(memory: ByteSize) -> ByteSize {
    ByteSize::mib((memory.bytes() >> 21).clamp(64, 1024))
}

fn cpu(spec: &DomainSpec) -> xml::Cpu {
    xml::Cpu {
        // All that the host, or the translator, can do: images for x86-64-v2 and v3 boot.
        mode: if spec.accelerator == Accelerator::Tcg {
            "maximum"
        } else {
            "host-passthrough"
        }
        .into(),
        check: "none".into(),
        // Leaves out the features (invariant TSC) with which a guest's memory cannot be saved.
        migratable: "on".into(),
        topology: xml::CpuTopology {
            sockets: 1,
            cores: spec.cpus,
            threads: 1,
        },
        features: features(spec),
    }
}

fn features(spec: &DomainSpec) -> Vec<xml::CpuFeature> {
    let feature = |policy: &str, name: &str| xml::CpuFeature {
        policy: policy.into(),
        name: name.into(),
    };
    let virtualisation: &[_] = match (spec.nested, spec.accelerator) {
        // QEMU translates AMD's virtualisation and no other. In the model `maximum` already; a QEMU without it is to
        // refuse, and not to leave it out.
        (true, Accelerator::Tcg) => &[("require", "svm")],
        // The host's own, whichever that is, if its module allows it.
        (true, Accelerator::Kvm) => &[],
        // Not there by chance: whether a test passes must not hang on the worker that it ran on.
        (false, _) => &[("disable", "svm"), ("disable", "vmx")],
    };
    // Five levels of page tables make every walk of a translated guest longer, for memory that none here has.
    let paging: &[_] = match spec.accelerator {
        Accelerator::Tcg => &[("disable", "la57")],
        Accelerator::Kvm => &[],
    };
    let all = paging.iter().chain(virtualisation);
    all.map(|(policy, name)| feature(policy, name)).collect()
}

/// A guest with a frame buffer writes all of it once: enough for 1280 x 800 in full colour, half of QEMU's default.
const VIDEO_KIB: u32 = 8192;

fn devices(spec: &DomainSpec) -> xml::Devices {
    xml::Devices {
        disks: spec
            .disks
            .iter()
            .enumerate()
            .map(|(index, one)| disk(index, one))
            .collect(),
        interfaces: spec.nics.iter().map(interface).collect(),
        controllers: vec![xml::Controller {
            kind: "usb".into(),
            model: "none".into(),
        }],
        serial: xml::Serial {
            kind: "pty".into(),
            log: xml::Log {
                file: spec.console_log.as_str().into(),
                append: "off".into(),
            },
            target: xml::SerialTarget {
                kind: "isa-serial".into(),
                port: 0,
            },
        },
        channels: channels(spec),
        // Nothing listens; a screenshot tells what a guest without a serial console shows.
        video: xml::Video {
            model: xml::VideoModel {
                kind: "vga".into(),
                vram: VIDEO_KIB,
            },
        },
        audio: xml::Audio {
            id: 1,
            kind: "none".into(),
        },
        // Without it, first boots wait for randomness before they make their SSH host keys.
        rng: xml::Rng {
            model: "virtio".into(),
            backend: xml::Modelled {
                model: "builtin".into(),
            },
        },
        panic: xml::Modelled { model: "isa".into() },
        // The guest's free memory goes back to the host, where the other nodes are.
        memballoon: xml::Balloon {
            model: "virtio".into(),
            autodeflate: "on".into(),
            free_page_reporting: "on".into(),
        },
    }
}

fn channels(spec: &DomainSpec) -> Vec<xml::Channel> {
    let channel = |kind: &str, name: &str, source| xml::Channel {
        kind: kind.into(),
        source,
        target: xml::ChannelTarget {
            kind: "virtio".into(),
            name: name.into(),
        },
    };
    let journal = spec.ignition_journal.as_ref().map(|path| {
        let file = xml::ChannelFile {
            path: path.as_str().into(),
            append: "off".into(),
        };
        channel("file", "com.coreos.ignition.journal", Some(file))
    });
    let agent = channel("unix", "org.qemu.guest_agent.0", None);
    std::iter::once(agent).chain(journal).collect()
}

fn disk(index: usize, disk: &Disk) -> xml::Disk {
    let seed = disk.role == DiskRole::Seed;
    xml::Disk {
        kind: "file".into(),
        device: "disk".into(),
        driver: xml::DiskDriver {
            name: "qemu".into(),
            format: match disk.format {
                DiskFormat::Qcow2 => "qcow2",
                DiskFormat::Raw => "raw",
            }
            .into(),
            // The guest's flushes are not passed on. They guard against the loss of the host's power, after which
            // nothing of the cluster is left anyway; a guest that crashes alone loses nothing by it.
            cache: "unsafe".into(),
            // What the guest trims, the host's file system gets back.
            discard: (!seed).then(|| "unmap".into()),
            iothread: 1,
        },
        source: xml::FileSource {
            file: disk.path.as_str().into(),
        },
        target: xml::DiskTarget {
            dev: format!("vd{}", letters(index)),
            bus: "virtio".into(),
        },
        serial: disk.serial.as_ref().map(|serial| serial.as_str().into()),
        boot: (disk.role == DiskRole::Root).then_some(xml::Boot { order: 1 }),
        readonly: seed.then_some(xml::Present {}),
    }
}

fn interface(nic: &DomainNic) -> xml::Interface {
    let (kind, source) = match &nic.cable {
        Cable::Network(name) => ("network", xml::NetworkSource::network(name.to_string())),
        Cable::Socket(address) => ("client", xml::NetworkSource::socket(*address)),
    };
    xml::Interface {
        kind: kind.into(),
        mac: xml::Mac {
            address: nic.mac.to_string(),
        },
        source,
        model: xml::Typed {
            kind: "virtio".into(),
        },
        // libvirt tells it for none but its networks' NICs; first-boot data and DHCP tell it, too.
        mtu: matches!(nic.cable, Cable::Network(_)).then_some(xml::Mtu { size: nic.mtu }),
        // Nobody boots from it; iPXE's ROM would only make the firmware slower.
        rom: enabled("no"),
    }
}

fn timer(name: &str, tick_policy: Option<&str>, present: Option<&str>) -> xml::Timer {
    xml::Timer {
        name: name.into(),
        tick_policy: tick_policy.map(Into::into),
        present: present.map(Into::into),
    }
}

fn enabled(enabled: &str) -> xml::Enabled {
    xml::Enabled {
        enabled: enabled.into(),
    }
}

/// `a` to `z`, then `aa`, `ab`…, as Linux counts its disks.
fn letters(mut index: usize) -> String {
    let mut letters = Vec::new();
    loop {
        letters.insert(0, char::from(b'a' + (index % 26) as u8));
        if index < 26 {
            return letters.into_iter().collect();
        }
        index = index / 26 - 1;
    }
}
