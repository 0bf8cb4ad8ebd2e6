//! Why a node is not ready: every cause that the judge knows, with its stable code and what to do about it.
//!
//! `docs/diagnosis.md` is made from this file.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::phase::Phase;

/// How much a sign weighs against others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// Something expected did not come.
    Absence,
    /// Counters moved or stood still.
    Counters,
    /// A program complained, and went on.
    Complaint,
    /// The host's view of the machine and its devices.
    Device,
    /// A program said that it cannot go on.
    Fatal,
}

/// When a sign alone ends the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// After so many seconds in which nothing has refuted it: time for the lines that follow, and for a quotation to
    /// show itself as one by what comes after.
    After(u64),
    /// After so many seconds on a machine with KVM, more where instructions are emulated, since something may be slow.
    Scaled(u64),
    /// Never: it explains, once another sign or the limit has ended the wait.
    Never,
}

macro_rules! causes {
    ($($variant:ident $code:literal $phase:ident $weight:ident $ends:expr, $sentence:literal, $advice:literal;)*) => {
        /// A cause. The codes are stable: scripts may rely on them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum Cause {
            $(
                #[doc = $sentence]
                #[serde(rename = $code)]
                $variant,
            )*
        }

        impl Cause {
            /// All of them, in the order in which a boot could meet them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The stable code.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The phase that it usually ends.
            pub const fn phase(self) -> Phase {
                match self { $(Self::$variant => Phase::$phase,)* }
            }

            /// How much its sign weighs.
            pub const fn weight(self) -> Weight {
                match self { $(Self::$variant => Weight::$weight,)* }
            }

            /// When its sign ends the wait.
            pub const fn ends(self) -> Ends {
                match self { $(Self::$variant => $ends,)* }
            }

            /// What is the matter, as one sentence without its end.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence,)* }
            }

            /// What to do about it.
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice,)* }
            }
        }
    };
}

use Ends::{After, Never, Scaled};

causes! {
    // The host and the virtual machine.
    QemuFailed "qemu-failed" Firmware Fatal After(0),
        "QEMU could not run the machine, or died",
        "Read the last lines of QEMU's log above. Where the host's kernel killed it for want of memory, ask for fewer or smaller nodes.";
    QemuOutOfMemory "qemu-out-of-memory" Firmware Fatal After(0),
        "The host has not the memory that the machine asks for",
        "Ask for fewer nodes or less `memory`, or use a worker with more.";
    HostDiskFull "host-disk-full" Firmware Fatal After(0),
        "The disk of the host is full, so that the node cannot write any more",
        "Free space on the worker, or ask for fewer nodes: every block that a node writes takes space there.";
    HostDiskFailed "host-disk-failed" Firmware Device After(5),
        "The host could not read or write the node's disk",
        "Look at the worker's own kernel log for errors of its disk; check that the image is whole.";
    InternalError "internal-error" Firmware Fatal After(0),
        "The accelerator gave up on the machine (QEMU's internal error)",
        "Nested KVM does this with some CPU models: try another CPU model, or `accelerator: tcg`.";
    Paused "paused" Firmware Device Scaled(30),
        "The machine is paused",
        "Somebody or something paused it from outside: resume it.";
    StoppedFromOutside "stopped-from-outside" Firmware Device After(0),
        "The machine was stopped from outside",
        "Somebody destroyed it through libvirt, or the cluster was being taken down.";
    NeverRan "never-ran" Firmware Counters Scaled(60),
        "The machine got no CPU time at all",
        "The host is starved or the machine paused: ask for fewer nodes or fewer CPUs.";

    // Firmware.
    NoBootableDevice "no-bootable-device" Firmware Fatal After(2),
        "The firmware found nothing to boot",
        "Check that the image is a whole disk with a bootloader rather than a partition or an installer's file, and that it fits the firmware: an image made for UEFI alone does not boot on a BIOS machine, nor the other way round.";
    BootDiskUnreadable "boot-disk-unreadable" Firmware Fatal After(5),
        "The firmware could not read the boot disk",
        "Check the image's checksum, and whether it is cut short.";
    UefiShell "uefi-shell" Firmware Fatal After(2),
        "UEFI found nothing to boot and opened its own shell",
        "The disk has no EFI system partition with /EFI/BOOT/BOOTX64.EFI: an image made for BIOS does not boot on a UEFI machine.";
    SecureBootRefused "secure-boot-refused" Bootloader Fatal After(3),
        "Secure Boot refused what was to be booted, because no key that the firmware trusts has signed it",
        "Switch Secure Boot off for this node, use a signed bootloader and kernel, or enrol the key.";
    NoOperatingSystem "no-operating-system" Bootloader Fatal After(5),
        "The disk's boot sector found no operating system",
        "The partition table has no active partition with a bootloader: install one, or boot a UEFI image on a UEFI machine.";
    BootSectorStuck "boot-sector-stuck" Bootloader Counters Scaled(30),
        "The firmware started the disk's boot sector, and nothing came of it",
        "The boot sector holds no working bootloader: install GRUB into it; an image made for UEFI needs a UEFI machine.";

    // Network boot.
    NetbootNoDhcp "netboot-no-dhcp" Netboot Fatal Scaled(8),
        "The network boot got no address: no DHCP server answered",
        "Check that a DHCP server serves this network, that it runs, and that nothing filters its packets (a bridge's firewall rules, FORWARD policy).";
    NetbootNoFileName "netboot-no-file-name" Netboot Fatal Scaled(8),
        "The network boot got an address, but nothing to boot",
        "Let the DHCP server give a boot file name (option 67, or `filename` and `next-server`).";
    NetbootFileNotFound "netboot-file-not-found" Netboot Fatal Scaled(8),
        "The boot server does not have the file that the network boot asked for",
        "Fetch the same URL from the host, and correct the name.";
    NetbootUnreachable "netboot-unreachable" Netboot Fatal Scaled(8),
        "The network boot could not reach the boot server",
        "Fetch the same URL from the host; check the server's address, its firewall and the route to it.";
    NetbootBadImage "netboot-bad-image" Netboot Fatal Scaled(8),
        "The network boot fetched something that this firmware cannot start",
        "Give the file that fits: a BIOS machine takes undionly.kpxe or a kernel, a UEFI machine an .efi file.";
    NetbootLinkDown "netboot-link-down" Netboot Fatal Scaled(8),
        "The network boot found no link on the NIC",
        "Check that the NIC is connected to its network and its link is up.";
    NetbootFailed "netboot-failed" Netboot Fatal Scaled(8),
        "The network boot failed",
        "Look the code up at the address that it prints.";

    // Bootloader.
    BootloaderRescue "bootloader-rescue" Bootloader Fatal After(2),
        "GRUB did not find its own files and stopped at its rescue prompt",
        "The disk is cut short or was copied from a machine with another layout: check the image's checksum, or run grub-install again.";
    BootloaderPrompt "bootloader-prompt" Bootloader Fatal After(3),
        "The bootloader has no configuration that it can use and waits at its prompt",
        "Write its configuration again (update-grub, grub2-mkconfig), onto the disk that is booted.";
    BootloaderKernelMissing "bootloader-kernel-missing" Bootloader Fatal Scaled(8),
        "The bootloader could not load the kernel or its initial RAM disk",
        "Its configuration names a file or a disk that is not there: reinstall the kernel package in the image, or update the configuration.";
    BootloaderOutOfMemory "bootloader-out-of-memory" Bootloader Fatal Scaled(8),
        "The bootloader had too little memory for the kernel and its initial RAM disk",
        "Give the node more `memory`.";
    BootloaderWaits "bootloader-waits" Bootloader Complaint Scaled(60),
        "The bootloader shows its menu and waits for a key",
        "Set a timeout in its configuration (GRUB_TIMEOUT, and GRUB_RECORDFAIL_TIMEOUT after a failed boot).";
    KernelCorrupt "kernel-corrupt" Kernel Fatal After(3),
        "The kernel's file is damaged or not made for this machine",
        "Check the image's checksum, and reinstall the kernel in it.";

    // Kernel.
    CpuTooOld "cpu-too-old" Kernel Fatal After(3),
        "The system needs a newer CPU than the node has",
        "Choose a newer CPU model for the node: x86-64-v2 needs at least Nehalem, x86-64-v3 Haswell. Without KVM the CPU is emulated and may lack what the real one has.";
    RootNotFound "root-not-found" Initramfs Fatal After(3),
        "The root file system was not found",
        "Compare `root=` on the kernel's command line with the disk (its UUID, its label, its bus): an image made for SCSI or NVMe names a disk that virtio calls vda. Where no driver took the disk, the initial RAM disk lacks it, or is missing itself.";
    NoInit "no-init" Initramfs Fatal After(3),
        "The root file system holds no init to start",
        "Check `init=` and `root=` on the kernel's command line: this may be another partition, or an unfinished file system.";
    InitDied "init-died" Userspace Fatal After(3),
        "The first program ended, and the kernel with it",
        "The lines before tell why init died: a library or a file is missing, or the initial RAM disk gave up (panic on failure).";
    InitramfsBroken "initramfs-broken" Kernel Fatal After(3),
        "The kernel could not unpack its initial RAM disk",
        "Make the initial RAM disk again; check that it is whole and compressed in a way that this kernel knows.";
    OutOfMemory "out-of-memory" Kernel Fatal After(3),
        "The node has too little memory to boot",
        "Give the node more `memory`.";
    KernelPanic "kernel-panic" Kernel Fatal After(3),
        "The kernel panicked",
        "The reason stands behind the word panic; the lines before it tell what it was doing.";
    KernelOops "kernel-oops" Kernel Complaint Never,
        "The kernel had a fault inside and went on",
        "Try another kernel, or another CPU model; what hangs afterwards may hang for this.";
    CpuStall "cpu-stall" Kernel Complaint Never,
        "The kernel says that a CPU was stuck",
        "Mostly a host with more virtual CPUs than it can serve: ask for fewer CPUs or nodes.";
    TaskStuck "task-stuck" Kernel Complaint Never,
        "The kernel says that a program has been waiting for more than two minutes",
        "Mostly a very slow disk: ask for fewer nodes, or look at the worker's disk.";
    DiskErrors "disk-errors" Kernel Complaint Never,
        "The node cannot read or write one of its disks",
        "Check that the image is whole and larger than its partitions say; look at the worker's own disk.";
    FilesystemCorrupt "filesystem-corrupt" Initramfs Fatal Scaled(8),
        "A file system is damaged and wants to be repaired by hand",
        "Check the image's checksum; run fsck on it once, and shut machines down before their disks are copied.";
    ResetLoop "boot-loop" Kernel Fatal After(2),
        "The node reboots over and over without getting further",
        "Find the first failure of a boot: a panic with `panic=N`, a watchdog, or an init that reboots on failure.";

    // Initramfs.
    InitramfsShell "initramfs-shell" Initramfs Fatal After(3),
        "The initial RAM disk gave up and opened a shell",
        "The lines before the prompt tell what it missed.";
    PassphraseWanted "passphrase-wanted" Initramfs Fatal Scaled(15),
        "The boot waits for somebody to type a passphrase",
        "An encrypted disk needs a key that is there without a person: a key file, a TPM, or an image without encryption.";

    // Userspace.
    MountFailed "mount-failed" Userspace Fatal After(3),
        "A file system could not be mounted, so that the system stopped in emergency mode",
        "Correct its line in /etc/fstab, or add `nofail` to it.";
    DeviceMissing "device-missing" Userspace Fatal After(3),
        "A device did not appear, so that the system stopped in emergency mode",
        "Attach the disk (`extra_disks`), or take its line out of /etc/fstab or add `nofail` to it.";
    EmergencyMode "emergency-mode" Userspace Fatal After(3),
        "The system stopped in emergency mode",
        "The first failure before it is the reason; mostly a line of /etc/fstab or a damaged file system.";
    RescueMode "rescue-mode" Userspace Fatal After(5),
        "The system was started into rescue mode and waits for somebody to log in",
        "Take `single`, `rescue` or `systemd.unit=rescue.target` off the kernel's command line.";
    InitFrozen "init-frozen" Userspace Fatal After(3),
        "The init system failed and stopped everything",
        "The lines before tell why: a missing file system, a damaged configuration, too little memory.";
    PoweredOff "powered-off" Userspace Fatal After(0),
        "The node powered itself off",
        "Look for what asked for it: a first-boot script, cloud-init's power_state, `rd.shell=0` of an initial RAM disk that gave up, a finished installer.";
    DiskFull "disk-full" Userspace Complaint Never,
        "A file system of the node is full",
        "Give the node a larger `disk`, and let the image grow its root file system at the first boot (growpart).";
    OomKilled "oom-killed" Userspace Complaint Never,
        "The node ran out of memory and killed a program",
        "Give the node more `memory`.";
    WatchdogFired "watchdog-fired" Userspace Device After(5),
        "The node's watchdog fired",
        "Something in the node hung or was too slow for the watchdog: lengthen its time, above all without KVM.";
    JobWaiting "job-waiting" Userspace Complaint Never,
        "The init system waits for something that has no end or has not come yet",
        "Give what it waits for, or make it optional; a limit of the unit's own (`TimeoutStartSec`) ends a wait.";
    UnitFailed "unit-failed" Userspace Complaint Never,
        "A service of the node failed",
        "Look at `systemctl status` of that unit in the node.";
    WaitsForConfig "waits-for-config" FirstBoot Fatal Scaled(30),
        "The node waits to be given its configuration by somebody",
        "Give its configuration at boot (Talos: `talos.config=` on the kernel's command line, or a seed disk).";
    InstallerWaits "installer-waits" Userspace Fatal Scaled(30),
        "The node runs an installer that waits for answers",
        "Use a disk image that is installed already, or give the installer its answers (preseed, kickstart, autoinstall).";

    // First-boot configuration.
    UserDataInvalid "user-data-invalid" FirstBoot Complaint Never,
        "cloud-init could not read the user-data and ignored it, so that it made no user and installed no key",
        "Correct the YAML at that place; `cloud-init schema --config-file` checks it beforehand, and the first line must be #cloud-config.";
    SeedNotFound "seed-not-found" FirstBoot Complaint Never,
        "cloud-init found no seed, so that nothing was configured",
        "Check that the seed disk is attached and labelled `cidata`, and that the image's datasource_list has NoCloud.";
    CloudInitAbsent "cloud-init-absent" FirstBoot Absence Never,
        "The node came up without running cloud-init",
        "The image has no cloud-init, or it switched itself off because it found no seed: use a cloud image, or check the seed disk's label `cidata`.";
    CloudInitFailed "cloud-init-failed" FirstBoot Complaint Never,
        "cloud-init failed",
        "Look at /var/log/cloud-init.log and /var/log/cloud-init-output.log in the node.";
    IgnitionFailed "ignition-failed" FirstBoot Fatal After(3),
        "Ignition failed, and the node stopped before its system was started",
        "Correct the config where its message says so; ignition-validate checks it beforehand.";
    IgnitionNoConfig "ignition-no-config" FirstBoot Complaint Never,
        "Ignition was given no config",
        "Check that the node's first boot is Ignition's, and that the image reads its config from QEMU's fw_cfg (its platform must be qemu).";
    IgnitionFetching "ignition-fetching" FirstBoot Complaint Scaled(90),
        "Ignition tries again and again to fetch something",
        "Fetch the URL from the host; check the name, the proxy, and that the node has an address then.";

    // Network.
    NicNotDriven "nic-not-driven" Address Device Scaled(60),
        "No driver of the node took its NIC",
        "The image's kernel or initial RAM disk lacks virtio_net, or the module was not installed with its kernel.";
    NoDhcpRequest "no-dhcp-request" Address Absence Scaled(45),
        "The node is up but never asked for an address",
        "Configure its NIC by DHCP: the image may name an interface that is called otherwise here (eth0, ens3, enp1s0), or match another MAC.";
    DhcpNoAnswer "dhcp-no-answer" Address Device Scaled(45),
        "The node asks for an address and no DHCP server answers",
        "Check that the network's DHCP server (dnsmasq) runs and knows the MAC, and that no firewall rule of the host drops its packets.";
    DhcpRefused "dhcp-refused" Address Device Scaled(45),
        "The DHCP server refuses the address that the node asks for",
        "The image carries an old lease or a fixed request: remove its leases (/var/lib/dhcp, /var/lib/NetworkManager), or the reservation that clashes.";
    AddressElsewhere "address-elsewhere" Address Device Scaled(45),
        "The node has another address than the one expected of it",
        "It is configured with a fixed address, or asks under another client identifier: let it use DHCP with its MAC (`dhcp-identifier: mac` in netplan).";
    AddressConflict "address-conflict" Address Device Scaled(45),
        "Two machines use the same address",
        "Mostly a machine-id that was cloned with the image: empty /etc/machine-id in it.";
    AddressUnreachable "address-unreachable" Address Device Scaled(60),
        "The node was given its address but does not answer to it",
        "Look for a firewall in the node, a NIC that went down again, or a second NIC that took the address.";
    NetworkWaits "network-waits" Address Complaint Never,
        "The node waits for a network that does not come up",
        "A NIC without DHCP holds it up for two minutes: make it optional (`optional: true` in netplan, RequiredForOnline=no).";

    // SSH.
    SshFiltered "ssh-filtered" SshPort Device Scaled(60),
        "The node answers on the network but not on its SSH port",
        "Look for a firewall in the node that drops port 22.";
    SshdNoHostKeys "sshd-no-host-keys" SshPort Complaint Never,
        "The SSH server has no host keys and ended",
        "Let the image make them at the first boot (ssh-keygen -A, or cloud-init's ssh_deletekeys).";
    SshdNotRunning "sshd-not-running" SshPort Device Scaled(30),
        "The node is up, and nothing listens on its SSH port",
        "Install and enable the SSH server in the image; its own line on the console or `systemctl status ssh` tells why it ended.";
    SshdSilent "sshd-silent" SshLogin Device Scaled(60),
        "The SSH port is open, but nobody speaks there",
        "The server is still starting, starved, or something else listens there.";
    SshClosed "ssh-closed" SshLogin Device Scaled(60),
        "The SSH server ends the connection before the login",
        "Look for MaxStartups, TCP wrappers, or missing host keys in the node.";
    SshKeyRefused "ssh-key-refused" SshLogin Device Never,
        "The SSH server does not take the cluster's key for this user",
        "The user or the key is missing in the node: look at the first-boot configuration, at `ssh_user`, at the owner and mode of ~/.ssh, and at PermitRootLogin.";
    SshHostKeyDiffers "ssh-host-key-differs" SshLogin Device Never,
        "The SSH server has another host key than the one that the cluster made for this node",
        "Either another machine has this address, or the first-boot configuration that installs the key was not applied: look at cloud-init or Ignition.";
    LoginNotAllowed "login-not-allowed" SshLogin Device Scaled(90),
        "The node knows the key but lets nobody in yet",
        "The boot is unfinished (/run/nologin), or the account is locked or expired.";

    // Ready command.
    ReadyCommandFailed "ready-command-failed" ReadyCommand Fatal After(0),
        "The ready command failed",
        "Its last lines tell why. Run it by `nodectl ssh` on a node that is kept (`on_failure: keep`).";
    ReadyCommandTimedOut "ready-command-timed-out" ReadyCommand Fatal After(0),
        "The ready command did not end in time",
        "Lengthen `ready.timeout`, or look at what it waits for.";

    // What no marker told.
    Hung "hung" Kernel Counters Scaled(120),
        "The node stopped moving: it prints nothing, reads nothing and gets nowhere",
        "Look at its screen and its last lines. A CPU that spins hints at a crash, one that idles at something that waits for a key.";
    SilentButRunning "silent-but-running" Userspace Absence Never,
        "The node runs, but prints nothing on its serial console",
        "Put `console=ttyS0` on the kernel's command line, so that the next time its console can be read.";
    SlowNotStuck "slow-not-stuck" Userspace Absence Never,
        "The node was still getting on when its time was over",
        "Lengthen `ready.timeout`; without KVM everything takes some ten times as long.";
    Unknown "unknown" Userspace Absence Never,
        "No cause that is known explains it",
        "Read the last lines of the console below; `on_failure: keep` and `nodectl console` show more.";
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}
