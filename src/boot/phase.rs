//! The phases that a node walks through.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A phase, in the order in which a node comes to them. Not every node comes through each.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// SeaBIOS or OVMF looks for something to boot.
    #[default]
    Firmware,
    /// The firmware or iPXE boots from the network.
    Netboot,
    /// A boot sector, GRUB, systemd-boot, syslinux.
    Bootloader,
    /// The kernel, until it starts the first program.
    Kernel,
    /// The programs of the initial RAM disk, until the root file system is theirs no more.
    Initramfs,
    /// The init of the installed system.
    Userspace,
    /// cloud-init or Ignition configures the node.
    FirstBoot,
    /// The node gets its address.
    Address,
    /// The SSH server starts to answer.
    SshPort,
    /// The login by key.
    SshLogin,
    /// The user's ready command.
    ReadyCommand,
    /// All done.
    Ready,
}

impl Phase {
    /// All of them, in order.
    pub const ALL: [Self; 12] = [
        Self::Firmware,
        Self::Netboot,
        Self::Bootloader,
        Self::Kernel,
        Self::Initramfs,
        Self::Userspace,
        Self::FirstBoot,
        Self::Address,
        Self::SshPort,
        Self::SshLogin,
        Self::ReadyCommand,
        Self::Ready,
    ];

    /// As people read it.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Firmware => "firmware",
            Self::Netboot => "network boot",
            Self::Bootloader => "bootloader",
            Self::Kernel => "kernel",
            Self::Initramfs => "initramfs",
            Self::Userspace => "userspace",
            Self::FirstBoot => "first-boot configuration",
            Self::Address => "address",
            Self::SshPort => "SSH port",
            Self::SshLogin => "SSH login",
            Self::ReadyCommand => "ready command",
            Self::Ready => "ready",
        }
    }

    /// Seconds that may pass on a machine with KVM without anything moving. The waits that the programs themselves
    /// give up after are shorter: device jobs of systemd 90 s, its wait for the network 120 s, dracut 180 s.
    pub const fn patience(self) -> u64 {
        match self {
            Self::Firmware | Self::Bootloader => 60,
            Self::Kernel => 90,
            Self::Netboot | Self::Address | Self::SshPort | Self::SshLogin => 180,
            Self::Initramfs | Self::Userspace => 240,
            Self::FirstBoot => 600,
            // The user's own limit ends these.
            Self::ReadyCommand | Self::Ready => u64::MAX,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())
    }
}
