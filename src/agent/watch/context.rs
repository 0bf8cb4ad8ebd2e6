//! What a node is, as far as it helps to judge what is seen of it.

use std::fs::File;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;

use super::accelerator;
use crate::boot::evidence::{Context, Disk, Firmware, FirstBoot as Seed, Nic};
use crate::topology::model::{Accelerator, FirstBoot, Timeout};
use crate::topology::plan::PlannedNode;

/// The context of a planned node; `root` is the disk that it boots from. Whether DHCP is watched shows later.
pub fn context(planned: &PlannedNode, with: Accelerator, root: &Path) -> Context {
    let node = &planned.node;
    let disk = |index: u8, size| Disk {
        name: format!("vd{}", char::from(b'a' + index)),
        bus: "virtio".to_owned(),
        size,
    };
    // The seed comes last and is no disk to speak of. More than 25 extra disks there are not.
    let sizes = std::iter::once(virtual_size(root).unwrap_or(0));
    let sizes = sizes.chain(node.extra_disks.iter().map(|extra| extra.size.bytes()));
    Context {
        node: node.name.to_string(),
        accelerator: accelerator(with),
        cpus: node.cpus,
        memory: node.memory.bytes(),
        firmware: Firmware::Bios,
        first_boot: match node.first_boot {
            FirstBoot::Plain | FirstBoot::CloudInit { .. } => Seed::CloudInit,
            FirstBoot::Ignition { .. } => Seed::Ignition,
        },
        nics: planned
            .nics
            .iter()
            .map(|nic| Nic {
                mac: nic.mac.to_string(),
                network: nic.network.to_string(),
                address: Some(IpAddr::V4(nic.address)),
            })
            .collect(),
        disks: (0u8..26)
            .zip(sizes)
            .map(|(index, size)| disk(index, size))
            .collect(),
        limit: match node.ready.timeout {
            Timeout::Given(limit) => Some(limit),
            Timeout::Default => None,
        },
        ssh_user: node.ssh_user.as_str().to_owned(),
        ready_command: node.ready.command.clone(),
        direct_kernel: false,
        network_boot: false,
        dhcp_watched: false,
    }
}

/// The size that the guest sees of a qcow2 image: 8 bytes at 24, after the magic (QEMU's docs/interop/qcow2.txt).
fn virtual_size(path: &Path) -> Option<u64> {
    let mut header = [0; 32];
    File::open(path).ok()?.read_exact(&mut header).ok()?;
    let size = header[24..32].try_into().ok()?;
    header.starts_with(b"QFI\xfb").then(|| u64::from_be_bytes(size))
}
