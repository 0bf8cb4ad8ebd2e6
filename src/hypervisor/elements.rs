//! libvirt's XML, as far as we write it: <https://libvirt.org/formatdomain.html>, <https://libvirt.org/formatnetwork.html>.
//!
//! The names are libvirt's; what is chosen, and why, stands where they are filled in.

use serde::{Deserialize, Serialize};

/// `<x/>`: it is there.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Present {}

/// `<x state='on'/>`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    #[serde(rename = "@state")]
    pub state: String,
}

/// `<x enabled='no'/>`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Enabled {
    #[serde(rename = "@enabled")]
    pub enabled: String,
}

/// `<x unit='MiB'>5</x>`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Quantity {
    #[serde(rename = "@unit")]
    pub unit: String,
    #[serde(rename = "$text")]
    pub amount: u64,
}

/// `<x type='…'/>`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Typed {
    #[serde(rename = "@type")]
    pub kind: String,
}

/// `<x model='…'/>`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Modelled {
    #[serde(rename = "@model")]
    pub model: String,
}

/// `<mtu size='1500'/>`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Mtu {
    #[serde(rename = "@size")]
    pub size: u32,
}

// Domains.

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename = "domain")]
pub(super) struct Domain {
    #[serde(rename = "@type")]
    pub kind: String,
    pub name: String,
    pub uuid: String,
    pub title: String,
    pub memory: Memory,
    pub vcpu: u32,
    pub iothreads: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sysinfo: Option<SysInfo>,
    pub os: Os,
    pub features: Features,
    pub cpu: Cpu,
    pub clock: Clock,
    pub on_poweroff: String,
    pub on_reboot: String,
    pub on_crash: String,
    pub pm: Pm,
    pub devices: Devices,
    pub seclabel: Typed,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Memory {
    #[serde(rename = "@unit")]
    pub unit: String,
    #[serde(rename = "@dumpCore")]
    pub dump_core: String,
    #[serde(rename = "$text")]
    pub amount: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SysInfo {
    #[serde(rename = "@type")]
    pub kind: String,
    #[serde(rename = "entry")]
    pub entries: Vec<Entry>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    #[serde(rename = "@name")]
    pub name: String,
    #[serde(rename = "@file")]
    pub file: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Os {
    #[serde(rename = "type")]
    pub kind: OsType,
    pub bios: Bios,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct OsType {
    #[serde(rename = "@arch")]
    pub arch: String,
    #[serde(rename = "@machine")]
    pub machine: String,
    #[serde(rename = "$text")]
    pub kind: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Bios {
    #[serde(rename = "@useserial")]
    pub use_serial: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Features {
    pub acpi: Present,
    pub apic: Present,
    pub vmport: State,
    pub smm: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcg: Option<Tcg>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Tcg {
    #[serde(rename = "tb-cache")]
    pub tb_cache: Quantity,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Cpu {
    #[serde(rename = "@mode")]
    pub mode: String,
    #[serde(rename = "@check")]
    pub check: String,
    #[serde(rename = "@migratable")]
    pub migratable: String,
    pub topology: CpuTopology,
    #[serde(rename = "feature", default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<CpuFeature>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct CpuTopology {
    #[serde(rename = "@sockets")]
    pub sockets: u32,
    #[serde(rename = "@cores")]
    pub cores: u32,
    #[serde(rename = "@threads")]
    pub threads: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct CpuFeature {
    #[serde(rename = "@policy")]
    pub policy: String,
    #[serde(rename = "@name")]
    pub name: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Clock {
    #[serde(rename = "@offset")]
    pub offset: String,
    #[serde(rename = "timer", default)]
    pub timers: Vec<Timer>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Timer {
    #[serde(rename = "@name")]
    pub name: String,
    #[serde(rename = "@tickpolicy", skip_serializing_if = "Option::is_none")]
    pub tick_policy: Option<String>,
    #[serde(rename = "@present", skip_serializing_if = "Option::is_none")]
    pub present: Option<String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Pm {
    #[serde(rename = "suspend-to-mem")]
    pub suspend_to_mem: Enabled,
    #[serde(rename = "suspend-to-disk")]
    pub suspend_to_disk: Enabled,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Devices {
    #[serde(rename = "disk", default)]
    pub disks: Vec<Disk>,
    #[serde(rename = "interface", default)]
    pub interfaces: Vec<Interface>,
    #[serde(rename = "controller")]
    pub controllers: Vec<Controller>,
    pub serial: Serial,
    #[serde(rename = "channel")]
    pub channels: Vec<Channel>,
    pub video: Video,
    pub audio: Audio,
    pub rng: Rng,
    pub panic: Modelled,
    pub memballoon: Balloon,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Disk {
    #[serde(rename = "@type")]
    pub kind: String,
    #[serde(rename = "@device")]
    pub device: String,
    pub driver: DiskDriver,
    pub source: FileSource,
    pub target: DiskTarget,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot: Option<Boot>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readonly: Option<Present>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct DiskDriver {
    #[serde(rename = "@name")]
    pub name: String,
    #[serde(rename = "@type")]
    pub format: String,
    #[serde(rename = "@cache")]
    pub cache: String,
    #[serde(rename = "@discard", skip_serializing_if = "Option::is_none")]
    pub discard: Option<String>,
    #[serde(rename = "@iothread")]
    pub iothread: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct FileSource {
    #[serde(rename = "@file")]
    pub file: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct DiskTarget {
    #[serde(rename = "@dev")]
    pub dev: String,
    #[serde(rename = "@bus")]
    pub bus: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Boot {
    #[serde(rename = "@order")]
    pub order: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Interface {
    #[serde(rename = "@type")]
    pub kind: String,
    pub mac: Mac,
    pub source: NetworkSource,
    pub model: Typed,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<Mtu>,
    pub rom: Enabled,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Mac {
    #[serde(rename = "@address")]
    pub address: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct NetworkSource {
    #[serde(rename = "@network", skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    #[serde(rename = "@address", skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    #[serde(rename = "@port", skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

impl NetworkSource {
    pub fn network(name: String) -> Self {
        Self {
            network: Some(name),
            address: None,
            port: None,
        }
    }

    pub fn socket(address: std::net::SocketAddrV4) -> Self {
        Self {
            network: None,
            address: Some(address.ip().to_string()),
            port: Some(address.port()),
        }
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Controller {
    #[serde(rename = "@type")]
    pub kind: String,
    #[serde(rename = "@model")]
    pub model: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Serial {
    #[serde(rename = "@type")]
    pub kind: String,
    pub log: Log,
    pub target: SerialTarget,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Log {
    #[serde(rename = "@file")]
    pub file: String,
    #[serde(rename = "@append")]
    pub append: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SerialTarget {
    #[serde(rename = "@type")]
    pub kind: String,
    #[serde(rename = "@port")]
    pub port: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Channel {
    #[serde(rename = "@type")]
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<ChannelFile>,
    pub target: ChannelTarget,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ChannelFile {
    #[serde(rename = "@path")]
    pub path: String,
    #[serde(rename = "@append")]
    pub append: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ChannelTarget {
    #[serde(rename = "@type")]
    pub kind: String,
    #[serde(rename = "@name")]
    pub name: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Video {
    pub model: VideoModel,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct VideoModel {
    #[serde(rename = "@type")]
    pub kind: String,
    #[serde(rename = "@vram")]
    pub vram: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Audio {
    #[serde(rename = "@id")]
    pub id: u32,
    #[serde(rename = "@type")]
    pub kind: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Rng {
    #[serde(rename = "@model")]
    pub model: String,
    pub backend: Modelled,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Balloon {
    #[serde(rename = "@model")]
    pub model: String,
    #[serde(rename = "@autodeflate")]
    pub autodeflate: String,
    #[serde(rename = "@freePageReporting")]
    pub free_page_reporting: String,
}

// Networks.

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename = "network")]
pub(super) struct Network {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forward: Option<Forward>,
    pub bridge: Bridge,
    pub mtu: Mtu,
    pub domain: DnsDomain,
    pub dns: Dns,
    pub ip: Ip,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Forward {
    #[serde(rename = "@mode")]
    pub mode: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Bridge {
    #[serde(rename = "@name")]
    pub name: String,
    #[serde(rename = "@stp")]
    pub stp: String,
    #[serde(rename = "@delay")]
    pub delay: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct DnsDomain {
    #[serde(rename = "@name")]
    pub name: String,
    #[serde(rename = "@localOnly")]
    pub local_only: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Dns {
    #[serde(rename = "@enable", skip_serializing_if = "Option::is_none")]
    pub enable: Option<String>,
    #[serde(rename = "@forwardPlainNames", skip_serializing_if = "Option::is_none")]
    pub forward_plain_names: Option<String>,
    #[serde(rename = "host", default)]
    pub hosts: Vec<DnsHost>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct DnsHost {
    #[serde(rename = "@ip")]
    pub ip: String,
    #[serde(rename = "hostname")]
    pub names: Vec<String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Ip {
    #[serde(rename = "@address")]
    pub address: String,
    #[serde(rename = "@netmask")]
    pub netmask: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dhcp: Option<Dhcp>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Dhcp {
    #[serde(rename = "host")]
    pub hosts: Vec<DhcpHost>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct DhcpHost {
    #[serde(rename = "@mac")]
    pub mac: String,
    #[serde(rename = "@name", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(rename = "@ip")]
    pub ip: String,
    pub lease: Lease,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Lease {
    #[serde(rename = "@expiry")]
    pub expiry: u32,
}
