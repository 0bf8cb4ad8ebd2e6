//! What is allowed, and why no more than that. The reference page and every message take their figures from here.

use std::ops::RangeInclusive;

use crate::units::{ByteSize, Span};

/// Nodes in one cluster: what one put container can be expected to hold, and every /24 has addresses for.
pub const NODES: RangeInclusive<u64> = 1..=64;

/// Virtual CPUs of a node. No worker has threads to run more; a greater number is a slip.
pub const CPUS: RangeInclusive<u64> = 1..=512;

/// Where nobody says: what kubeadm's own preflight check asks for at the least.
pub const DEFAULT_CPUS: u32 = 2;

/// RAM of a node. Below, a current Linux kernel does not boot; no worker has more, so that above lies a slip of the unit.
pub const MEMORY: RangeInclusive<ByteSize> = ByteSize::mib(32)..=ByteSize::gib(8 << 10);

/// Where nobody says: enough for a control plane of Kubernetes, which refuses less than 1700 MB.
pub const DEFAULT_MEMORY: ByteSize = ByteSize::gib(2);

/// Disks, the root disk and the blank ones. They are sparse, so that the upper end only catches slips of the unit.
pub const DISK: RangeInclusive<ByteSize> = ByteSize::mib(1)..=ByteSize::gib(64 << 10);

/// Blank disks of a node: each takes a PCI slot of its own.
pub const EXTRA_DISKS: usize = 16;

/// NICs of a node, for the same reason.
pub const NICS: usize = 8;

/// Networks of a cluster.
pub const NETWORKS: usize = 32;

/// Forwards of a node; each is a listener in the agent.
pub const FORWARDS: usize = 64;

/// MTU of a network. IPv4 itself would allow 68 (RFC 791), but every host must take datagrams of 576 bytes, and a DHCP
/// server counts on that (RFC 2131, section 2); a bridge and virtio-net end at 65535.
pub const MTU: RangeInclusive<u64> = 576..=65_535;

/// Prefix length of a network: from a whole 10.0.0.0/8 to the smallest that has room for a gateway and five nodes.
pub const PREFIX: RangeInclusive<u8> = 8..=29;

/// Subnets under `avoid`.
pub const AVOID: usize = 64;

/// Files under `collect`.
pub const COLLECT: usize = 64;

/// How long a cluster lives. Concourse keeps the containers of a failed build for 120 hours at the most, so a longer
/// promise could not be kept.
pub const LIFETIME: RangeInclusive<Span> = Span::seconds(60)..=Span::hours(120);

/// Where nobody says.
pub const DEFAULT_LIFETIME: Span = Span::hours(2);

/// How long a node may take to get ready.
pub const READY_TIMEOUT: RangeInclusive<Span> = Span::seconds(1)..=Span::hours(24);

/// A ready command: the kernel takes no single argument of 128 KiB (`MAX_ARG_STRLEN`), and SSH quotes it once more.
pub const COMMAND: usize = 32 << 10;

/// A first-boot file: cloud-init's NoCloud seed and Ignition's fw_cfg are read whole into a small machine's memory.
pub const FIRST_BOOT: usize = 1 << 20;

/// A path, as in Linux's `PATH_MAX`.
pub const PATH: usize = 4096;

/// The longest group name that leaves room for `-64` in a DNS label.
pub const GROUP_NAME: usize = 60;
