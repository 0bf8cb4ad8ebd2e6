//! The words by which the programs of a boot give themselves away, and where they must stand to count.
//!
//! A word alone proves nothing: a greeting may quote a panic, a unit may be called after one. So each mark says where in
//! the line it must begin, which programs may say it, and up to which phase it can be meant; what the judge makes of it
//! depends further on what comes after.

use std::sync::LazyLock;

use aho_corasick::automaton::Automaton as _;
use aho_corasick::dfa::DFA;
use aho_corasick::{Anchored, Input, MatchKind};

use super::cause::Cause;
use super::line::{Line, Status, clock};
use super::phase::Phase;

/// Where a mark must stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// At the start of what is said, by one of the programs of a boot or by none that names itself.
    Start,
    /// At the start, by the kernel.
    Kernel,
    /// Anywhere in a message of the kernel.
    InKernel,
    /// Anywhere in what is said by one of the programs of a boot.
    Inside,
    /// Anywhere in what this program says (its tag begins so), or at the start where no program names itself.
    Of(&'static str),
    /// At the start, after a line of systemd's or openrc's own status or none.
    Unit,
}

/// What of the line is worth telling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tell {
    Nothing,
    After,
    All,
}

/// What a mark means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    Firmware,
    Reach(Phase),
    Initrd,
    RealRoot,
    KernelStart,
    Cause(Cause, Tell),
    Hint(Hint, Tell),
    Panic,
    PanicEnd,
    RebootSoon,
    RebootNow,
    PowerDown,
    Emergency,
    EmergencyPrompt,
    BareShell,
    Welcome,
    Target,
    Frozen,
    Loads,
    Failed,
    DeviceTimeout,
    Job,
    CloudInit,
    ModuleFailed,
    CiInfo,
    Ignition,
    IgnitionDone,
    IgnitionFailed,
    IgnitionAttempt,
    Ipxe,
    Fetched,
    Login,
    RunInit,
    Address,
    NoLease,
    Grub,
    GrubError,
    Talos,
}

/// What explains a failure that is told later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hint {
    /// The root device did not come.
    RootMissing,
    /// A file system is damaged.
    Damaged,
    /// No init.
    NoInit,
    /// The initial RAM disk could not be unpacked.
    BadInitramfs,
    /// The C library refuses the CPU.
    OldCpu,
    /// Ran out of memory.
    NoMemory,
    /// What the bootloader complained about.
    Bootloader,
    /// Ignition.
    Ignition,
    /// The firmware could not use a disk.
    Disk,
}

/// What a line tells the judge.
#[derive(Clone, Debug, PartialEq)]
pub enum Sign {
    /// A firmware's first words: the machine was switched on or reset.
    Firmware,
    /// A firmware loads something; it may do so several times.
    Loads,
    /// The node has come so far.
    Reach(Phase),
    /// What follows happens in the initial RAM disk.
    Initrd,
    /// What follows happens in the installed system.
    RealRoot,
    /// A kernel starts.
    KernelStart,
    /// A cause, and what it is about.
    Cause(Cause, String),
    /// An explanation of a later failure.
    Hint(Hint, String),
    /// The first line of a panic.
    Panic(String),
    /// The last line of a panic.
    PanicEnd(String),
    /// The kernel will reboot after its panic.
    RebootSoon,
    /// The guest reboots in an orderly way.
    RebootNow,
    /// The guest powers off in an orderly way.
    PowerDown,
    /// The init system has begun to shut down.
    Shutdown,
    /// The init system gave up.
    Emergency,
    /// Somebody is to type something in emergency mode.
    EmergencyPrompt,
    /// A shell without a terminal of its own.
    BareShell,
    /// The greeting of systemd.
    Welcome {
        /// It says itself that it greets from the initial RAM disk.
        initrd: bool,
    },
    /// A unit or service failed.
    Failed {
        /// It never ran, because something that it needs failed.
        dependency: bool,
        /// `Failed to mount /data.`
        what: String,
    },
    /// A device did not come in time.
    DeviceTimeout(String),
    /// Something is being waited for.
    Job {
        /// What.
        what: String,
        /// Whether it ends by itself.
        limited: bool,
    },
    /// cloud-init runs.
    CloudInit,
    /// cloud-init has finished, with this data source.
    CloudInitDone(String),
    /// An address that a NIC of the guest has or was given.
    Address {
        /// `10.0.0.5`.
        address: std::net::IpAddr,
        /// `52:54:00:…`, where the line tells it.
        mac: Option<String>,
    },
    /// Ignition runs, or ran.
    Ignition {
        /// A stage has finished.
        done: bool,
    },
    /// Ignition failed.
    IgnitionFailed(String),
    /// Ignition fetches something for the nth time.
    IgnitionAttempt(u32, String),
    /// The network boot got something: that another of its tries failed does not matter.
    Fetched,
    /// A login prompt.
    Login,
    /// No DHCP server answered, as the guest's client says.
    NoLease(String),
}

/// What the judge knows when it reads a line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// The phase reached.
    pub phase: Phase,
}

struct Mark(&'static str, At, Phase, Means);

use At::{InKernel, Inside, Kernel, Of, Start, Unit};
use Hint::*;
use Means::{Hint as H, Reach};
use Phase::{Bootloader, Firmware, Initramfs, Netboot, Ready, Userspace};
use Tell::{After, All, Nothing};

/// Behind the name of a unit, which stands at the start.
const JOB_WORDS: &str = "start running (";

/// The latest phase in which early programs are taken at their word.
const EARLY: Phase = Bootloader;

/// `Mark(words, where, up to which phase, what it means)`. The kernel's phase is [`Phase::Kernel`], since its name is
/// taken by [`At::Kernel`] here.
const MARKS: &[Mark] = &[
    // Firmware: SeaBIOS src/boot.c, edk2 OvmfPkg PlatformBmPrintScLib and MdeModulePkg BdsDxe.
    Mark("SeaBIOS (version", Start, Ready, Means::Firmware),
    Mark("UEFI firmware (version", Start, Ready, Means::Firmware),
    Mark("BdsDxe: loading Boot", Start, Ready, Means::Loads),
    Mark("BdsDxe: starting Boot", Start, EARLY, Reach(Firmware)),
    Mark("Booting from Hard Disk...", Start, EARLY, Reach(Bootloader)),
    Mark("Booting from DVD/CD...", Start, EARLY, Reach(Bootloader)),
    Mark("Booting from Floppy...", Start, EARLY, Reach(Bootloader)),
    Mark("Booting from ROM...", Start, EARLY, Reach(Firmware)),
    Mark("Boot failed: not a bootable disk", Start, EARLY, H(Disk, All)),
    Mark(
        "Boot failed: could not read the boot disk",
        Start,
        EARLY,
        Means::Cause(Cause::BootDiskUnreadable, Nothing),
    ),
    Mark(
        "No bootable device.",
        Start,
        EARLY,
        Means::Cause(Cause::NoBootableDevice, Nothing),
    ),
    Mark(
        "BdsDxe: No bootable option or device was found",
        Start,
        EARLY,
        Means::Cause(Cause::NoBootableDevice, Nothing),
    ),
    Mark(
        "rejected probably by Secure Boot",
        Inside,
        EARLY,
        Means::Cause(Cause::SecureBootRefused, All),
    ),
    Mark(": Access Denied", Of("BdsDxe"), EARLY, H(Disk, All)),
    Mark("BdsDxe: failed to load Boot", Start, EARLY, H(Disk, All)),
    Mark("BdsDxe: failed to start Boot", Start, EARLY, H(Disk, All)),
    Mark(
        "Security Violation",
        Inside,
        EARLY,
        Means::Cause(Cause::SecureBootRefused, All),
    ),
    Mark(
        "Security Policy Violation",
        Inside,
        EARLY,
        Means::Cause(Cause::SecureBootRefused, All),
    ),
    Mark("Shell>", Start, EARLY, Means::Cause(Cause::UefiShell, Nothing)),
    Mark("UEFI Interactive Shell v", Start, EARLY, Reach(Firmware)),
    // Network boot: iPXE, edk2 NetworkPkg/UefiPxeBcDxe.
    Mark("iPXE initialising", Start, EARLY, Reach(Netboot)),
    Mark(">>Start PXE over IP", Start, EARLY, Reach(Netboot)),
    Mark(">>Start HTTP Boot over IP", Start, EARLY, Reach(Netboot)),
    Mark("Booting PXE over IP", Start, EARLY, Reach(Netboot)),
    Mark("Configuring (net", Start, EARLY, Reach(Netboot)),
    Mark("ipxe.org/", Inside, EARLY, Means::Ipxe),
    // A script tries several files, the node's own first.
    Mark("... ok", Inside, EARLY, Means::Fetched),
    Mark("PXE-E16", Inside, EARLY, Means::Cause(Cause::NetbootNoDhcp, All)),
    Mark("PXE-E51", Inside, EARLY, Means::Cause(Cause::NetbootNoDhcp, All)),
    Mark(
        "PXE-E53",
        Inside,
        EARLY,
        Means::Cause(Cause::NetbootNoFileName, All),
    ),
    Mark(
        "PXE-E23",
        Inside,
        EARLY,
        Means::Cause(Cause::NetbootFileNotFound, All),
    ),
    Mark(
        "PXE-T01",
        Inside,
        EARLY,
        Means::Cause(Cause::NetbootFileNotFound, All),
    ),
    Mark(
        "PXE-E18",
        Inside,
        EARLY,
        Means::Cause(Cause::NetbootUnreachable, All),
    ),
    Mark(
        "PXE-E32",
        Inside,
        EARLY,
        Means::Cause(Cause::NetbootUnreachable, All),
    ),
    Mark(
        "PXE-E21",
        Inside,
        EARLY,
        Means::Cause(Cause::NetbootUnreachable, All),
    ),
    Mark(
        "PXE-E12",
        Inside,
        EARLY,
        Means::Cause(Cause::NetbootLinkDown, All),
    ),
    Mark(
        "PXE-E61",
        Inside,
        EARLY,
        Means::Cause(Cause::NetbootLinkDown, All),
    ),
    Mark(
        "PXE-E79",
        Inside,
        EARLY,
        Means::Cause(Cause::NetbootBadImage, All),
    ),
    // Boot sectors that find nothing behind themselves.
    Mark(
        "Missing operating system",
        Start,
        EARLY,
        Means::Cause(Cause::NoOperatingSystem, All),
    ),
    Mark(
        "Operating system not found",
        Start,
        EARLY,
        Means::Cause(Cause::NoOperatingSystem, All),
    ),
    Mark(
        "Operating System not found",
        Start,
        EARLY,
        Means::Cause(Cause::NoOperatingSystem, All),
    ),
    Mark(
        "Error loading operating system",
        Start,
        EARLY,
        Means::Cause(Cause::NoOperatingSystem, All),
    ),
    Mark(
        "Invalid partition table",
        Start,
        EARLY,
        Means::Cause(Cause::NoOperatingSystem, All),
    ),
    Mark(
        "BOOTMGR is missing",
        Start,
        EARLY,
        Means::Cause(Cause::NoOperatingSystem, All),
    ),
    Mark(
        "This is not a bootable disk",
        Start,
        EARLY,
        Means::Cause(Cause::NoOperatingSystem, All),
    ),
    Mark(
        "Non-System disk",
        Start,
        EARLY,
        Means::Cause(Cause::NoOperatingSystem, All),
    ),
    Mark(
        "No active partition",
        Start,
        EARLY,
        Means::Cause(Cause::NoOperatingSystem, All),
    ),
    // GRUB: grub-core/kern, grub-core/normal, boot/i386/pc/{boot,diskboot}.S.
    Mark("GRUB loading", Start, EARLY, Means::Grub),
    Mark("Welcome to GRUB!", Start, EARLY, Means::Grub),
    Mark("GNU GRUB ", Start, EARLY, Means::Grub),
    Mark(
        "Hard Disk Error",
        Inside,
        EARLY,
        Means::Cause(Cause::BootloaderRescue, All),
    ),
    Mark(
        "GRUB Geom Error",
        Inside,
        EARLY,
        Means::Cause(Cause::BootloaderRescue, All),
    ),
    Mark(
        "GRUB Read Error",
        Inside,
        EARLY,
        Means::Cause(Cause::BootloaderRescue, All),
    ),
    Mark(
        "grub rescue>",
        Start,
        EARLY,
        Means::Cause(Cause::BootloaderRescue, Nothing),
    ),
    Mark(
        "grub>",
        Start,
        EARLY,
        Means::Cause(Cause::BootloaderPrompt, Nothing),
    ),
    Mark("error: ", Start, EARLY, Means::GrubError),
    Mark("Booting `", Start, EARLY, Reach(Bootloader)),
    Mark("Booting a command list", Start, EARLY, Reach(Bootloader)),
    Mark(
        "The highlighted entry will be executed automatically",
        Start,
        EARLY,
        Reach(Bootloader),
    ),
    Mark("Loading Linux", Start, EARLY, Reach(Bootloader)),
    Mark("Loading initial ramdisk", Start, EARLY, Reach(Bootloader)),
    Mark(
        "keys to select which entry is highlighted",
        Inside,
        EARLY,
        Means::Cause(Cause::BootloaderWaits, Nothing),
    ),
    // syslinux, systemd-boot.
    Mark("SYSLINUX ", Start, EARLY, Reach(Bootloader)),
    Mark("ISOLINUX ", Start, EARLY, Reach(Bootloader)),
    Mark("EXTLINUX ", Start, EARLY, Reach(Bootloader)),
    Mark("PXELINUX ", Start, EARLY, Reach(Bootloader)),
    Mark(
        "Failed to load ldlinux",
        Start,
        EARLY,
        Means::Cause(Cause::BootloaderKernelMissing, All),
    ),
    Mark(
        "Could not find kernel image:",
        Start,
        EARLY,
        Means::Cause(Cause::BootloaderKernelMissing, After),
    ),
    Mark(
        "No DEFAULT or UI configuration directive found!",
        Start,
        EARLY,
        Means::Cause(Cause::BootloaderPrompt, All),
    ),
    Mark(
        "boot: ",
        Start,
        EARLY,
        Means::Cause(Cause::BootloaderWaits, Nothing),
    ),
    Mark(
        "Error loading \\",
        Start,
        EARLY,
        Means::Cause(Cause::BootloaderKernelMissing, All),
    ),
    // Since systemd 250 behind the place in its source.
    Mark(
        "Error loading EFI binary",
        Inside,
        EARLY,
        Means::Cause(Cause::BootloaderKernelMissing, All),
    ),
    Mark(
        "No loader found. Configuration files in",
        Inside,
        EARLY,
        Means::Cause(Cause::BootloaderKernelMissing, All),
    ),
    Mark("EFI stub: ", Start, EARLY, Reach(Phase::Kernel)),
    Mark("Decompressing Linux...", Start, EARLY, Reach(Phase::Kernel)),
    Mark(
        "-- System halted",
        Start,
        Phase::Kernel,
        Means::Cause(Cause::KernelCorrupt, Nothing),
    ),
    // The kernel.
    Mark("Linux version ", Kernel, Ready, Means::KernelStart),
    Mark(
        "This kernel requires an x86-64 CPU",
        Start,
        Phase::Kernel,
        Means::Cause(Cause::CpuTooOld, All),
    ),
    Mark(
        "This kernel requires the following features not present",
        Start,
        Phase::Kernel,
        Means::Cause(Cause::CpuTooOld, All),
    ),
    Mark(
        "Fatal glibc error: CPU does not support",
        Inside,
        Ready,
        Means::Hint(OldCpu, All),
    ),
    Mark(
        "CPU ISA level is lower than required",
        Inside,
        Ready,
        Means::Hint(OldCpu, All),
    ),
    Mark("Kernel panic - not syncing", Kernel, Ready, Means::Panic),
    Mark(
        "---[ end Kernel panic - not syncing",
        Kernel,
        Ready,
        Means::PanicEnd,
    ),
    Mark("Rebooting in ", Kernel, Ready, Means::RebootSoon),
    Mark("reboot: Restarting system", Kernel, Ready, Means::RebootNow),
    Mark("reboot: machine restart", Kernel, Ready, Means::RebootNow),
    Mark("reboot: Power down", Kernel, Ready, Means::PowerDown),
    Mark("reboot: System halted", Kernel, Ready, Means::PowerDown),
    Mark(
        "Initramfs unpacking failed",
        Kernel,
        Initramfs,
        H(BadInitramfs, All),
    ),
    Mark("Run /", Kernel, Initramfs, Means::RunInit),
    Mark("Failed to execute /", Kernel, Initramfs, H(NoInit, All)),
    Mark("Freeing unused kernel", Kernel, Initramfs, Reach(Phase::Kernel)),
    Mark(
        "invoked oom-killer:",
        InKernel,
        Ready,
        Means::Cause(Cause::OomKilled, All),
    ),
    Mark(
        "Out of memory: Kill",
        Kernel,
        Ready,
        Means::Cause(Cause::OomKilled, All),
    ),
    Mark("Oops: ", InKernel, Ready, Means::Cause(Cause::KernelOops, All)),
    Mark(
        "soft lockup - CPU#",
        InKernel,
        Ready,
        Means::Cause(Cause::CpuStall, All),
    ),
    Mark(
        "stalls on CPUs",
        InKernel,
        Ready,
        Means::Cause(Cause::CpuStall, All),
    ),
    Mark(
        "self-detected stall on CPU",
        InKernel,
        Ready,
        Means::Cause(Cause::CpuStall, All),
    ),
    Mark(
        "detected hard LOCKUP on cpu",
        InKernel,
        Ready,
        Means::Cause(Cause::CpuStall, All),
    ),
    Mark(
        "BUG: workqueue lockup",
        Kernel,
        Ready,
        Means::Cause(Cause::CpuStall, All),
    ),
    // What is none of these stalls: bad pointers, KASAN's and KFENCE's finds, locks, pages.
    Mark("BUG: ", Kernel, Ready, Means::Cause(Cause::KernelOops, All)),
    Mark(
        "kernel BUG at ",
        Kernel,
        Ready,
        Means::Cause(Cause::KernelOops, All),
    ),
    Mark(
        "general protection fault",
        Kernel,
        Ready,
        Means::Cause(Cause::KernelOops, All),
    ),
    Mark(
        "Unable to handle kernel",
        Kernel,
        Ready,
        Means::Cause(Cause::KernelOops, All),
    ),
    Mark(
        "blocked for more than",
        InKernel,
        Ready,
        Means::Cause(Cause::TaskStuck, All),
    ),
    Mark(
        "Buffer I/O error on dev",
        Kernel,
        Ready,
        Means::Cause(Cause::DiskErrors, All),
    ),
    Mark(
        "I/O error, dev ",
        InKernel,
        Ready,
        Means::Cause(Cause::DiskErrors, All),
    ),
    Mark(
        "attempt to access beyond end of device",
        Kernel,
        Ready,
        Means::Cause(Cause::DiskErrors, All),
    ),
    Mark("bad geometry: block count", InKernel, Ready, H(Damaged, All)),
    Mark("EXT4-fs error (device", InKernel, Ready, H(Damaged, All)),
    Mark(
        "VFS: Can't find ext4 filesystem",
        InKernel,
        Userspace,
        H(Damaged, All),
    ),
    Mark("Corruption detected", InKernel, Ready, H(Damaged, All)),
    Mark("Corruption of in-memory data", InKernel, Ready, H(Damaged, All)),
    Mark("Metadata corruption detected", InKernel, Ready, H(Damaged, All)),
    Mark("Metadata CRC error detected", InKernel, Ready, H(Damaged, All)),
    Mark("device-mapper: verity: ", Kernel, Ready, H(Damaged, All)),
    Mark("log mount/recovery failed", InKernel, Ready, H(Damaged, All)),
    Mark("unable to read superblock", InKernel, Ready, H(Damaged, All)),
    Mark("bad tree block start", InKernel, Ready, H(Damaged, All)),
    Mark("failed to read chunk root", InKernel, Ready, H(Damaged, All)),
    Mark("parent transid verify failed", InKernel, Ready, H(Damaged, All)),
    Mark("SQUASHFS error: ", Kernel, Ready, H(Damaged, All)),
    Mark(
        "VFS: Cannot open root device",
        Kernel,
        Initramfs,
        H(RootMissing, All),
    ),
    Mark("Waiting for root device ", Kernel, Initramfs, H(RootMissing, All)),
    // Every initial RAM disk.
    Mark("Loading, please wait...", Start, Initramfs, Means::Initrd),
    Mark("Begin: ", Start, Initramfs, Means::Initrd),
    Mark("Gave up waiting for root", Start, Initramfs, H(RootMissing, All)),
    Mark("ALERT!", Start, Initramfs, H(RootMissing, After)),
    Mark(
        "Rebooting automatically due to panic= boot argument",
        Start,
        Initramfs,
        Means::Cause(Cause::InitramfsShell, Nothing),
    ),
    Mark(
        "(initramfs)",
        Start,
        Initramfs,
        Means::Cause(Cause::InitramfsShell, Nothing),
    ),
    Mark(
        "No init found. Try passing init=",
        Start,
        Initramfs,
        H(NoInit, All),
    ),
    Mark(
        "Target filesystem doesn't have requested",
        Start,
        Initramfs,
        H(NoInit, All),
    ),
    Mark("requires a manual fsck", Inside, Phase::SshPort, H(Damaged, All)),
    Mark(
        "UNEXPECTED INCONSISTENCY; RUN fsck MANUALLY",
        Inside,
        Phase::SshPort,
        H(Damaged, All),
    ),
    Mark("Alpine Init ", Start, Initramfs, Means::Initrd),
    Mark("Mounting root: failed", Start, Initramfs, H(RootMissing, All)),
    Mark("Mounting root failed", Start, Initramfs, H(RootMissing, All)),
    Mark(
        "Mounting boot media: failed",
        Start,
        Initramfs,
        H(RootMissing, All),
    ),
    Mark(
        "Mounting boot media failed",
        Start,
        Initramfs,
        H(RootMissing, All),
    ),
    Mark(
        "initramfs emergency recovery shell launched",
        Inside,
        Initramfs,
        Means::Cause(Cause::InitramfsShell, Nothing),
    ),
    Mark(
        "Unable to find a medium containing a live file system",
        Start,
        Initramfs,
        H(RootMissing, All),
    ),
    Mark(
        "can't access tty; job control turned off",
        Inside,
        Initramfs,
        Means::BareShell,
    ),
    Mark("mount: mounting ", Start, Initramfs, H(RootMissing, All)),
    Mark("mount: /", Start, Initramfs, H(RootMissing, All)),
    // ZFS.
    Mark("cannot import '", Inside, Initramfs, H(RootMissing, All)),
    Mark("No pool imported", Start, Initramfs, H(RootMissing, All)),
    Mark(
        " as root file system",
        Inside,
        Initramfs,
        Means::Cause(Cause::MountFailed, All),
    ),
    Mark("switch_root: can't execute ", Start, Initramfs, H(NoInit, All)),
    Mark(
        "Dropping to debug shell.",
        Start,
        Initramfs,
        Means::Cause(Cause::InitramfsShell, Nothing),
    ),
    // Gentoo's genkernel, FreeBSD's loader.
    Mark(">> Determining root device", Start, Initramfs, Means::Initrd),
    Mark(
        "!! Could not find the root",
        Start,
        Initramfs,
        H(RootMissing, All),
    ),
    Mark("!! Block device ", Start, Initramfs, H(RootMissing, All)),
    Mark(
        "root block device() ::",
        Start,
        Initramfs,
        Means::Cause(Cause::InitramfsShell, Nothing),
    ),
    Mark(
        "mountroot>",
        Start,
        Initramfs,
        Means::Cause(Cause::RootNotFound, Nothing),
    ),
    // The BSDs' kernels; once they are up, the words are anybody's.
    Mark(
        "Manual root filesystem specification:",
        Start,
        Initramfs,
        Means::Cause(Cause::RootNotFound, Nothing),
    ),
    Mark(
        "cannot mount root",
        Start,
        Initramfs,
        Means::Cause(Cause::RootNotFound, All),
    ),
    Mark(
        "KDB: enter: panic",
        Start,
        Initramfs,
        Means::Cause(Cause::KernelPanic, Nothing),
    ),
    Mark(
        "Automatic reboot in ",
        Start,
        Initramfs,
        Means::Cause(Cause::KernelPanic, Nothing),
    ),
    Mark(
        "ddb{",
        Start,
        Initramfs,
        Means::Cause(Cause::KernelPanic, Nothing),
    ),
    Mark(
        "ddb>",
        Start,
        Initramfs,
        Means::Cause(Cause::KernelPanic, Nothing),
    ),
    Mark(":: running early hook", Start, Initramfs, Means::Initrd),
    Mark(":: running hook", Start, Initramfs, Means::Initrd),
    Mark(":: Triggering uevents", Start, Initramfs, Means::Initrd),
    Mark("ERROR: device '", Start, Initramfs, H(RootMissing, All)),
    Mark("ERROR: Failed to mount '", Start, Initramfs, H(RootMissing, All)),
    Mark(
        "ERROR: Root device mounted successfully, but",
        Start,
        Initramfs,
        H(NoInit, All),
    ),
    Mark("ERROR: Unable to mount ", Start, Initramfs, H(RootMissing, All)),
    Mark(
        "ERROR: Unable to find root ",
        Start,
        Initramfs,
        H(RootMissing, All),
    ),
    Mark("<<< NixOS Stage 1 >>>", Start, Initramfs, Means::Initrd),
    Mark("stage 2 init script (", Start, Initramfs, H(NoInit, All)),
    Mark("<<< NixOS Stage 2 >>>", Start, Userspace, Means::RealRoot),
    Mark(
        "Timed out waiting for device ",
        Unit,
        Phase::SshPort,
        Means::DeviceTimeout,
    ),
    Mark(", trying to mount anyway", Inside, Initramfs, H(RootMissing, All)),
    Mark(
        "in stage 1 of the boot process",
        Start,
        Initramfs,
        Means::Cause(Cause::InitramfsShell, Nothing),
    ),
    Mark(
        "An error occurred in stage 1",
        Start,
        Initramfs,
        Means::Cause(Cause::InitramfsShell, Nothing),
    ),
    Mark(
        "An error occured in stage 1",
        Start,
        Initramfs,
        Means::Cause(Cause::InitramfsShell, Nothing),
    ),
    // Initial RAM disks of nobody's kind: those who write one mostly end so.
    Mark(
        "ropping to a shell",
        Inside,
        Initramfs,
        Means::Cause(Cause::InitramfsShell, All),
    ),
    Mark(
        "being dropped to ",
        Inside,
        Initramfs,
        Means::Cause(Cause::InitramfsShell, Nothing),
    ),
    Mark(
        "being dropped into ",
        Inside,
        Initramfs,
        Means::Cause(Cause::InitramfsShell, Nothing),
    ),
    Mark("dracut: ", Start, Initramfs, Means::Initrd),
    Mark(
        "still waiting for following initqueue hooks",
        Inside,
        Initramfs,
        H(RootMissing, Nothing),
    ),
    Mark("does not exist", Of("dracut"), Initramfs, H(RootMissing, All)),
    Mark("Warning: /dev/", Start, Initramfs, H(RootMissing, All)),
    Mark("Could not boot.", Inside, Initramfs, H(RootMissing, Nothing)),
    Mark(
        "FATAL: Initial SELinux policy load failed",
        Inside,
        Initramfs,
        Means::Cause(Cause::InitFrozen, All),
    ),
    Mark("FATAL: ", Of("dracut"), Initramfs, H(RootMissing, All)),
    Mark(
        "Refusing to continue",
        Of("dracut"),
        Initramfs,
        Means::Cause(Cause::InitramfsShell, Nothing),
    ),
    Mark(
        "Generating \"/run/initramfs/rdsosreport.txt\"",
        Start,
        Phase::SshPort,
        Means::Cause(Cause::InitramfsShell, Nothing),
    ),
    Mark(
        "Entering emergency mode.",
        Start,
        Phase::SshPort,
        Means::Emergency,
    ),
    Mark(
        "Please enter passphrase for disk",
        Inside,
        Userspace,
        Means::Cause(Cause::PassphraseWanted, All),
    ),
    Mark(
        "Please unlock disk",
        Inside,
        Userspace,
        Means::Cause(Cause::PassphraseWanted, All),
    ),
    Mark(
        "Enter passphrase for /",
        Start,
        Userspace,
        Means::Cause(Cause::PassphraseWanted, All),
    ),
    Mark(
        "Passphrase for /",
        Start,
        Userspace,
        Means::Cause(Cause::PassphraseWanted, All),
    ),
    Mark(
        "A password is required to access the",
        Start,
        Userspace,
        Means::Cause(Cause::PassphraseWanted, All),
    ),
    // systemd.
    Mark("Running in initrd", Of("systemd"), Initramfs, Means::Initrd),
    Mark(
        "Running in initial RAM disk",
        Of("systemd"),
        Initramfs,
        Means::Initrd,
    ),
    // Since systemd 256; before, it is a welcome like the system's own.
    Mark("Booting initrd of ", Start, Phase::SshPort, Means::Initrd),
    Mark("Welcome to ", Start, Userspace, Means::Welcome),
    Mark("Switching root", Inside, Userspace, Means::RealRoot),
    Mark(
        "Failed to switch root",
        Inside,
        Userspace,
        Means::Cause(Cause::NoInit, All),
    ),
    Mark("Starting Switch Root", Unit, Userspace, Means::RealRoot),
    Mark("Failed to ", Unit, Ready, Means::Failed),
    Mark("Dependency failed for ", Unit, Ready, Means::Failed),
    Mark("A start job is running for ", Unit, Ready, Means::Job),
    Mark(JOB_WORDS, Unit, Ready, Means::Job),
    Mark("start jobs are running", Inside, Ready, Means::Job),
    Mark(
        "You are in emergency mode",
        Start,
        Phase::SshPort,
        Means::EmergencyPrompt,
    ),
    Mark(
        "Welcome to emergency mode!",
        Start,
        Phase::SshPort,
        Means::EmergencyPrompt,
    ),
    Mark(
        "Press Enter for maintenance",
        Start,
        Phase::SshPort,
        Means::EmergencyPrompt,
    ),
    Mark(
        "Press Enter for system maintenance",
        Start,
        Phase::SshPort,
        Means::EmergencyPrompt,
    ),
    Mark(
        "Press Enter for emergency shell",
        Start,
        Phase::SshPort,
        Means::EmergencyPrompt,
    ),
    Mark(
        "Give root password for maintenance",
        Start,
        Phase::SshPort,
        Means::EmergencyPrompt,
    ),
    Mark(
        "Give root password for system maintenance",
        Start,
        Phase::SshPort,
        Means::EmergencyPrompt,
    ),
    Mark(
        "Cannot open access to console, the root account is locked",
        Start,
        Phase::SshPort,
        Means::EmergencyPrompt,
    ),
    Mark("Started Emergency Shell", Unit, Phase::SshPort, Means::Emergency),
    Mark(
        "Started emergency.service",
        Unit,
        Phase::SshPort,
        Means::Emergency,
    ),
    Mark("Reached target ", Unit, Ready, Means::Target),
    Mark(
        "You are in rescue mode",
        Start,
        Phase::SshPort,
        Means::Cause(Cause::RescueMode, Nothing),
    ),
    Mark(
        "Welcome to rescue mode!",
        Start,
        Phase::SshPort,
        Means::Cause(Cause::RescueMode, Nothing),
    ),
    Mark(
        "Freezing execution",
        Of("systemd"),
        Ready,
        Means::Cause(Cause::InitFrozen, Nothing),
    ),
    Mark("[!!!!!!] ", Inside, Ready, Means::Frozen),
    Mark(
        "No space left on device",
        Inside,
        Ready,
        Means::Cause(Cause::DiskFull, All),
    ),
    // openrc, busybox init, sysvinit, runit.
    Mark("is starting up Linux", Inside, Userspace, Means::RealRoot),
    Mark("INIT: version", Start, Userspace, Means::RealRoot),
    Mark(
        "INIT: no more processes left in this runlevel",
        Start,
        Ready,
        Means::Cause(Cause::InitFrozen, Nothing),
    ),
    Mark("init started: BusyBox", Start, Userspace, Means::RealRoot),
    // Buildroot's, whose system may be an initial RAM disk as a whole.
    Mark("Starting syslogd: OK", Start, Userspace, Means::RealRoot),
    Mark("Starting network: OK", Start, Userspace, Means::RealRoot),
    Mark("Starting sshd: OK", Start, Userspace, Means::RealRoot),
    Mark("Starting dropbear sshd: OK", Start, Userspace, Means::RealRoot),
    Mark("- runit: ", Start, Userspace, Means::RealRoot),
    Mark("* ERROR: ", Start, Ready, Means::Failed),
    Mark("[ !! ]", Inside, Ready, Means::Failed),
    // cloud-init: cloudinit/cmd/main.py, util.py, handlers, netinfo.py.
    Mark("Cloud-init v. ", Of("cloud-init"), Ready, Means::CloudInit),
    Mark(
        "Failed loading yaml blob",
        Inside,
        Ready,
        Means::Cause(Cause::UserDataInvalid, All),
    ),
    Mark(
        "Invalid cloud-config provided",
        Inside,
        Ready,
        Means::Cause(Cause::UserDataInvalid, All),
    ),
    Mark(
        "cloud-config failed schema validation",
        Inside,
        Ready,
        Means::ModuleFailed,
    ),
    Mark(
        "Unhandled non-multipart",
        Inside,
        Ready,
        Means::Cause(Cause::UserDataInvalid, All),
    ),
    Mark(
        "Used fallback datasource",
        Inside,
        Ready,
        Means::Cause(Cause::SeedNotFound, All),
    ),
    Mark(
        "No instance datasource found",
        Inside,
        Ready,
        Means::Cause(Cause::SeedNotFound, All),
    ),
    Mark("Running module ", Inside, Ready, Means::ModuleFailed),
    Mark("Failed to run module scripts", Inside, Ready, Means::ModuleFailed),
    Mark("ci-info: |", Of("cloud-init"), Ready, Means::CiInfo),
    Mark("failed run of stage", Inside, Ready, Means::ModuleFailed),
    // Ignition and its friends.
    Mark("Ignition 2.", Of("ignition"), Initramfs, Means::Ignition),
    Mark(
        "Ignition finished successfully",
        Of("ignition"),
        Initramfs,
        Means::IgnitionDone,
    ),
    Mark("Ignition: ran on", Start, Ready, Means::IgnitionDone),
    Mark(
        "Ignition failed: ",
        Of("ignition"),
        Initramfs,
        Means::IgnitionFailed,
    ),
    Mark("Ignition has failed", Start, Initramfs, Means::IgnitionFailed),
    Mark(
        "no config provided by user",
        Inside,
        Ready,
        Means::Cause(Cause::IgnitionNoConfig, Nothing),
    ),
    Mark(
        "No user-provided config was applied",
        Inside,
        Ready,
        Means::Cause(Cause::IgnitionNoConfig, Nothing),
    ),
    Mark(
        "no configs provided",
        Of("ignition"),
        Ready,
        Means::Cause(Cause::IgnitionNoConfig, Nothing),
    ),
    Mark(
        "provider config was empty",
        Of("ignition"),
        Ready,
        Means::Cause(Cause::IgnitionNoConfig, Nothing),
    ),
    Mark(": attempt #", Of("ignition"), Initramfs, Means::IgnitionAttempt),
    Mark("[talos] ", Inside, Ready, Means::Talos),
    // Addresses, as the clients tell them.
    Mark("lease of ", Of("udhcpc"), Ready, Means::Address),
    Mark("udhcpc: lease of ", Start, Ready, Means::Address),
    Mark("DHCPACK of ", Of("dhclient"), Ready, Means::Address),
    Mark("bound to ", Of("dhclient"), Ready, Means::Address),
    Mark(": leased ", Inside, Ready, Means::Address),
    Mark("No DHCPOFFERS received", Of("dhclient"), Ready, Means::NoLease),
    Mark("udhcpc: no lease", Start, Ready, Means::NoLease),
    Mark("no lease, failing", Of("udhcpc"), Ready, Means::NoLease),
    // sshd.
    Mark(
        "no hostkeys available -- exiting",
        Inside,
        Ready,
        Means::Cause(Cause::SshdNoHostKeys, All),
    ),
    // Who waits for a person.
    Mark(" login:", Inside, Ready, Means::Login),
    Mark("login:", Start, Ready, Means::Login),
    Mark(
        "Please choose the preferred language",
        Inside,
        Userspace,
        Means::Cause(Cause::InstallerWaits, All),
    ),
    Mark(
        "Select a language",
        Inside,
        Userspace,
        Means::Cause(Cause::InstallerWaits, All),
    ),
    Mark(
        "Use a serial console to interact with the installer",
        Inside,
        Userspace,
        Means::Cause(Cause::InstallerWaits, All),
    ),
    Mark(
        "Continue with autoinstall? (yes|no)",
        Start,
        Userspace,
        Means::Cause(Cause::InstallerWaits, All),
    ),
    Mark(
        "Please make a selection from the above",
        Start,
        Userspace,
        Means::Cause(Cause::InstallerWaits, All),
    ),
];

static FINDER: LazyLock<Option<DFA>> = LazyLock::new(|| {
    DFA::builder()
        .match_kind(MatchKind::Standard)
        .prefilter(false)
        .build(MARKS.iter().map(|mark| mark.0))
        .ok()
});

/// Whether a line holds any of the words; most do not, and cost no more than this: it decides how many bytes of console a
/// second are judged.
pub fn worth_reading(text: &str) -> bool {
    let Some(finder) = FINDER.as_ref() else {
        return true;
    };
    let Ok(mut state) = finder.start_state(Anchored::No) else {
        return true;
    };
    // The crate's own search tells where as well, and is slower for it.
    text.bytes().any(|byte| {
        state = finder.next_state(Anchored::No, state, byte);
        finder.is_special(state) && finder.is_match(state)
    })
}

/// What a line tells, if it tells anything. Of several marks, the one that stands first in the table speaks.
pub fn read(line: &Line<'_>, place: Place) -> Option<Sign> {
    let finder = FINDER.as_ref()?;
    let mut best: Option<((bool, usize), Sign)> = None;
    for hit in finder.try_find_overlapping_iter(Input::new(line.body)).ok()? {
        let index = hit.pattern().as_usize();
        let Some(mark) = MARKS.get(index) else {
            continue;
        };
        // How far it has come is said by many words of a line that tells of a failure.
        let order = (matches!(mark.3, Means::Reach(_) | Means::Initrd), index);
        let better = best.as_ref().is_none_or(|(found, _)| order < *found);
        if better && mark.2 >= place.phase && stands(mark, line, hit.start()) {
            let after = line.body.get(hit.end()..).unwrap_or_default().trim();
            if let Some(sign) = sign(mark, line, after, place) {
                best = Some((order, sign));
            }
        }
    }
    best.map(|(_, sign)| sign)
}

/// The programs whose words count where a mark does not name one.
const PROGRAMS: &[&str] = &[
    "kernel",
    "systemd",
    "systemctl",
    "dracut",
    "ignition",
    "coreos",
    "flatcar",
    "cloud-init",
    "sshd",
    "mount",
    "fsck",
    "init",
    "udev",
    "(udev",
    "dhclient",
    "dhcpcd",
    "udhcpc",
    "NetworkManager",
];

/// Whether a program is one of those.
pub fn speaks(tag: &str) -> bool {
    PROGRAMS.iter().any(|program| tag.starts_with(program))
}

fn stands(mark: &Mark, line: &Line<'_>, at: usize) -> bool {
    let known = line.tag.is_none_or(speaks);
    let kernel = line.tag.is_none_or(|tag| tag == "kernel");
    match mark.1 {
        At::Start => at == 0 && known,
        At::Kernel => at == 0 && kernel && line.status.is_none(),
        At::InKernel => kernel && (line.stamp.is_some() || line.tag.is_some()),
        At::Inside => known && !quoted(line.body, at),
        At::Of(program) => match line.tag {
            Some(tag) => tag.starts_with(program),
            None => at == 0 || line.body.starts_with(program),
        },
        At::Unit => match line.status {
            Some(_) => at == 0 || mark.0 == JOB_WORDS,
            None => line.tag == Some("systemd") && (at == 0 || mark.0 == JOB_WORDS),
        },
    }
}

/// Whether something stands in quotation marks, or is an argument of a command that is shown.
fn quoted(body: &str, at: usize) -> bool {
    let before = body.get(..at).unwrap_or_default();
    let odd = |mark: char| before.chars().filter(|c| *c == mark).count() % 2 == 1;
    odd('"') || odd('`') || before.starts_with("+ ") || before.contains("echo ") || before.contains("grep ")
}

fn sign(mark: &Mark, line: &Line<'_>, after: &str, place: Place) -> Option<Sign> {
    let tell = |tell: Tell| match tell {
        Tell::Nothing => String::new(),
        Tell::After => neat(after),
        Tell::All => neat(line.body),
    };
    Some(match mark.3 {
        Means::Firmware => Sign::Firmware,
        Means::Loads => Sign::Loads,
        Means::Reach(phase) => Sign::Reach(phase),
        Means::Initrd => Sign::Initrd,
        Means::RealRoot => Sign::RealRoot,
        Means::KernelStart => {
            // The first message of all; and a version begins with a number.
            let first = line.stamp.is_none_or(|stamp| stamp < 5.0);
            return (first && after.starts_with(|c: char| c.is_ascii_digit())).then_some(Sign::KernelStart);
        }
        Means::Cause(Cause::DiskErrors, what) => {
            // Drives without a medium, which every PC of QEMU has: nobody boots from them.
            let empty = ["dev fd0", "dev sr0", "dev sr1"]
                .iter()
                .any(|drive| line.body.contains(drive));
            return (!empty).then(|| Sign::Cause(Cause::DiskErrors, tell(what)));
        }
        Means::Cause(Cause::MountFailed, what) => {
            let failed = line.body.starts_with("Failed to mount ");
            return failed.then(|| Sign::Cause(Cause::MountFailed, tell(what)));
        }
        Means::Cause(cause, what) => Sign::Cause(cause, tell(what)),
        Means::Hint(hint, what) => {
            if hint == Hint::RootMissing
                && mark.0 == "Warning: /dev/"
                && !line.body.contains("does not exist")
            {
                return None;
            }
            if mark.0.starts_with("mount: ") && !misses_device(after) {
                return None;
            }
            Sign::Hint(hint, tell(what))
        }
        Means::Panic => Sign::Panic(neat(after.trim_start_matches(':'))),
        Means::PanicEnd => Sign::PanicEnd(neat(after.trim_start_matches(':').trim_end_matches("]---"))),
        Means::RebootSoon => {
            return (after.contains("second")).then_some(Sign::RebootSoon);
        }
        Means::RebootNow => Sign::RebootNow,
        Means::PowerDown => Sign::PowerDown,
        Means::Emergency => Sign::Emergency,
        Means::EmergencyPrompt => Sign::EmergencyPrompt,
        Means::BareShell => Sign::BareShell,
        Means::Welcome => return welcome(line, after),
        Means::Target => return target(line, after),
        Means::Frozen => {
            let frozen = after.contains("reezing") || after.contains("halting");
            return frozen.then(|| Sign::Cause(Cause::InitFrozen, neat(after)));
        }
        Means::Failed => return failed(line),
        Means::DeviceTimeout => {
            let unit = line.status.is_some() || line.tag.is_some();
            if unit {
                Sign::DeviceTimeout(device(after))
            } else {
                Sign::Hint(Hint::RootMissing, neat(line.body))
            }
        }
        Means::Job => return job(line.body),
        Means::CloudInit => {
            if after.contains(" finished at ") {
                let source = after.split_once("Datasource ").map_or("", |(_, source)| source);
                let source = source.split("  Up ").next().unwrap_or_default();
                Sign::CloudInitDone(neat(source.trim_end_matches('.')))
            } else {
                Sign::CloudInit
            }
        }
        Means::ModuleFailed => {
            let failed = after.contains("failed") || !mark.0.starts_with("Running module");
            return failed.then(|| Sign::Cause(Cause::CloudInitFailed, neat(line.body)));
        }
        Means::CiInfo => return ci_info(after),
        Means::Ignition => Sign::Ignition { done: false },
        Means::IgnitionDone => Sign::Ignition { done: true },
        Means::IgnitionFailed => Sign::IgnitionFailed(neat(after.trim_start_matches('.'))),
        Means::IgnitionAttempt => {
            let count = after.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
            let what = line.body.split(": attempt #").next().unwrap_or_default();
            Sign::IgnitionAttempt(count, neat(what))
        }
        Means::Ipxe => return ipxe(line.body, after),
        Means::Fetched => {
            return (place.phase == Phase::Netboot && after.is_empty()).then_some(Sign::Fetched);
        }
        Means::Login => return login(line.text).then_some(Sign::Login),
        Means::RunInit => {
            let program = line.body.strip_prefix("Run ")?.strip_suffix(" as init process")?;
            if program == "/init" {
                Sign::Reach(Phase::Initramfs)
            } else {
                Sign::RealRoot
            }
        }
        Means::Address => return address(after),
        Means::NoLease => Sign::NoLease(neat(line.body)),
        Means::Grub => Sign::Reach(Phase::Bootloader),
        Means::GrubError => return grub(after, place),
        Means::Talos => {
            let after = undated(after);
            let waits = after.starts_with("entering maintenance service");
            if after.starts_with("error running phase ") {
                return Some(Sign::Failed {
                    dependency: false,
                    what: neat(after),
                });
            }
            if waits {
                Sign::Cause(
                    Cause::WaitsForConfig,
                    neat(after.split(" {").next().unwrap_or_default()),
                )
            } else {
                Sign::RealRoot
            }
        }
    })
}

/// What follows `2024/12/15 14:45:57 `, as Go's programs put it before what they say.
fn undated(said: &str) -> &str {
    let rest = said.split_once(' ').and_then(|(date, rest)| {
        let time = rest.get(..8).filter(|time| clock(time))?;
        (date.len() == 10 && date.contains('/'))
            .then(|| rest.get(time.len()..))
            .flatten()
    });
    rest.map_or(said, str::trim_start)
}

/// Whether mount says that a device is not there: util-linux's of one by its name, busybox's of its file. Of /proc and /dev
/// below an empty root file system it complains, too.
fn misses_device(said: &str) -> bool {
    let device = |text: &str| {
        ["/dev/", "UUID=", "LABEL=", "PARTUUID="]
            .iter()
            .any(|start| text.starts_with(start))
    };
    match said.split_once(": can't find ") {
        Some((_, what)) => device(what),
        None => device(said) && said.contains(" failed: No such "),
    }
}

/// One line that a person reads: no longer than fits, without trailing dots.
fn neat(text: &str) -> String {
    let text = text.trim().trim_end_matches(['.', ' ']);
    match text.char_indices().nth(200) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn welcome(line: &Line<'_>, after: &str) -> Option<Sign> {
    // An own line with nothing but the name of the system; a person who is welcomed reads on.
    let name = after.strip_suffix('!')?;
    if line.tag.is_some_and(|tag| tag != "systemd") || name.len() > 100 || name.contains("! ") {
        return None;
    }
    let initrd = name.contains("dracut") || name.contains("nitramfs") || name.contains("nitrd");
    Some(Sign::Welcome { initrd })
}

fn target(line: &Line<'_>, after: &str) -> Option<Sign> {
    if line.status.is_some_and(|status| status != Status::Good) {
        return None;
    }
    // `multi-user.target - Multi-User System.`
    let described = after.split_once(" - ").map(|(_, text)| text);
    let any = |names: &[&str]| {
        names
            .iter()
            .any(|name| after.starts_with(name) || described.is_some_and(|text| text.starts_with(name)))
    };
    if any(&["Emergency Mode", "emergency.target"]) {
        Some(Sign::Emergency)
    } else if any(&["Initrd ", "initrd"]) {
        Some(Sign::Initrd)
    } else if any(&[
        "Multi-User",
        "multi-user.target",
        "Login Prompts",
        "getty.target",
        "Graphical Interface",
    ]) {
        Some(Sign::RealRoot)
    } else if any(&["Cloud-init target", "cloud-init.target"]) {
        Some(Sign::CloudInitDone(String::new()))
    } else if any(&[
        "Shutdown",
        "System Shutdown",
        "shutdown.target",
        "System Reboot",
        "System Power Off",
    ]) {
        Some(Sign::Shutdown)
    } else {
        None
    }
}

fn failed(line: &Line<'_>) -> Option<Sign> {
    let what = match (line.body.strip_prefix("* ERROR: "), line.failed_at_its_end()) {
        (Some(what), _) => what.to_owned(),
        (None, true) => line
            .body
            .trim_start_matches("* ")
            .trim_end_matches("[ !! ]")
            .to_owned(),
        (None, false) if line.body.starts_with("* ") => return None,
        (None, false) => {
            // Without one of these words it is a remark of systemd's: nothing that a boot depends on.
            let unit = matches!(
                line.status,
                Some(Status::Failed | Status::Dependency | Status::Timeout)
            ) || (line.tag == Some("systemd")
                && [
                    "Failed to start ",
                    "Failed to mount ",
                    "Failed to activate ",
                    "Failed to listen ",
                    "Dependency failed",
                ]
                .iter()
                .any(|start| line.body.starts_with(start)));
            if !unit {
                return None;
            }
            line.body.to_owned()
        }
    };
    Some(Sign::Failed {
        dependency: line.status == Some(Status::Dependency) || what.starts_with("Dependency failed"),
        what: neat(&what),
    })
}

/// systemd tells a unit as `dev-vdb.device - /dev/vdb`, or by one of the two, shortened by `…`.
fn device(text: &str) -> String {
    let text = text.trim_end_matches('.');
    neat(text.split_once(" - ").map_or(text, |(_, name)| name))
}

fn job(body: &str) -> Option<Sign> {
    // With several at a time, each is shown as the nth of so many.
    let body = match body.strip_prefix('(').and_then(|rest| rest.split_once(") ")) {
        Some((count, rest)) if count.contains(" of ") => rest,
        _ => body,
    };
    let (what, rest) = body.rsplit_once('(')?;
    let (_, limit) = rest.strip_suffix(')')?.split_once(" / ")?;
    let what = what
        .trim()
        .trim_end_matches("/start running")
        .replacen("A start job is running for ", "", 1);
    Some(Sign::Job {
        what: neat(what.trim_start_matches("Job ")),
        limited: limit != "no limit",
    })
}

/// `ci-info: |  ens3  | True | 10.0.0.5 | 255.255.255.0 | global | 52:54:00:00:00:01 |`
fn ci_info(after: &str) -> Option<Sign> {
    let cells: Vec<&str> = after.split('|').map(str::trim).collect();
    let [_, "True", address, _, scope, mac, ..] = cells.as_slice() else {
        return None;
    };
    let address: std::net::Ipv4Addr = address.parse().ok()?;
    let usable = !address.is_loopback() && !address.is_link_local() && *scope != "host";
    usable.then(|| Sign::Address {
        address: address.into(),
        mac: Some(mac.to_ascii_lowercase()),
    })
}

fn address(after: &str) -> Option<Sign> {
    let address: std::net::Ipv4Addr = after
        .split(|c: char| !c.is_ascii_digit() && c != '.')
        .next()?
        .trim_end_matches('.')
        .parse()
        .ok()?;
    Some(Sign::Address {
        address: address.into(),
        mac: None,
    })
}

/// iPXE's errors are numbers, whose first byte is the class (src/include/errno.h). The text before them may be wrapped.
fn ipxe(body: &str, after: &str) -> Option<Sign> {
    let code = after.get(..8)?;
    if !code.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let code = code.to_ascii_lowercase();
    let cause = match (code.as_str(), code.get(..2)?) {
        ("040ee119", _) => Cause::NetbootNoDhcp,
        ("2d03e13b", _) => Cause::NetbootNoFileName,
        (_, "2d" | "02") => Cause::NetbootFileNotFound,
        (_, "2e" | "3c" | "7f" | "08") => Cause::NetbootBadImage,
        (_, "0e" | "0f" | "17" | "28" | "4c") => Cause::NetbootUnreachable,
        (_, "26") => Cause::NetbootLinkDown,
        // A name that no server knows (EADDRNOTAVAIL, 3e: its resolver).
        (_, "3e") => Cause::NetbootUnreachable,
        _ => Cause::NetbootFailed,
    };
    Some(Sign::Cause(cause, neat(body)))
}

/// `host login: `: at the end of a line, or with something that was printed over it behind.
fn login(text: &str) -> bool {
    // The BSDs' getty tells the host's name before.
    if text.trim_end() == "login:" {
        return true;
    }
    let Some((before, _)) = text.split_once(" login:") else {
        return false;
    };
    let host = before.rsplit(' ').next().unwrap_or_default();
    let name = !host.is_empty()
        && host.len() <= 64
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._()".contains(&byte));
    // `Last login:`, `Failed login:` are sentences.
    let sentence = matches!(
        host,
        "Last" | "last" | "Failed" | "failed" | "console" | "at" | "the" | "for" | "first" | "user"
    );
    name && !sentence && (before == host || text.trim_end().ends_with(" login:"))
}

fn grub(after: &str, place: Place) -> Option<Sign> {
    // Newer ones tell where in their source: `../../grub-core/kern/fs.c:123:unknown filesystem.`
    let after = match after.split_once(".c:") {
        Some((_, rest)) => rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':'),
        None => after,
    };
    let told = neat(after);
    let has = |words: &[&str]| words.iter().any(|word| after.contains(word));
    if has(&[
        "bad shim signature",
        "invalid signature",
        "secure boot policy",
        "verification requested but nobody cares",
    ]) {
        Some(Sign::Cause(Cause::SecureBootRefused, told))
    } else if has(&["out of memory"]) {
        Some(Sign::Cause(Cause::BootloaderOutOfMemory, told))
    } else if has(&[
        "load the kernel first",
        "invalid magic number",
        "premature end of file",
    ]) || (has(&["not found", "no such"]) && has(&["vmlinu", "initr", "Image", "kernel", "linux"]))
    {
        Some(Sign::Cause(Cause::BootloaderKernelMissing, told))
    } else if place.phase <= Phase::Bootloader {
        Some(Sign::Hint(Hint::Bootloader, told))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_a_mark_is_worth_reading_and_an_ordinary_one_is_not() {
        for mark in MARKS {
            assert!(worth_reading(mark.0), "{}", mark.0);
            assert!(worth_reading(&format!("é {}{}", mark.0, mark.0)), "{}", mark.0);
        }
        for text in [
            "",
            " ",
            "a",
            "nothing at all",
            "[    0.000000] BIOS-e820: [mem 0x0-0x1] usable",
        ] {
            assert!(!worth_reading(text), "{text}");
        }
    }
}
