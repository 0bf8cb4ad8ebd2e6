//! What the judge makes of consoles and of what is seen from outside; the longer consoles are in `tests/evidence`.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::boot::evidence::{
    DhcpMessage, Firmware, FirstBoot, Life, Nic, ReadyCommand, Ssh, StopReason, VirtioKind,
};
use crate::boot::recording::{Diagnosis, diagnose};

const KERNEL: &str = "[    0.000000] Linux version 6.1.0-18-amd64 (builder@host) (gcc-12) #1 SMP\n";
const PID1: &str = "[    1.900000] Run /init as init process\n";

fn of(text: &str) -> Diagnosis {
    diagnose("console", text.as_bytes()).unwrap()
}

fn code(text: &str) -> (Cause, bool) {
    let verdict = of(text).verdict.unwrap();
    (verdict.code, verdict.sure)
}

#[test]
fn consoles_that_tell() {
    let sector = "SeaBIOS (version 1.16.3-debian-1.16.3-2)\nMachine UUID x\nBooting from Hard Disk...\n";
    let kernel = KERNEL.to_owned() + PID1;
    let systemd = kernel.clone()
        + "[    2.1] x\nLoading, please wait...\nBegin: Mounting root file system ... done.\n\nWelcome to Debian GNU/Linux 12 (bookworm)!\n\n";
    let dracut = kernel.clone()
        + "[    2.100000] systemd[1]: Running in initrd.\n\nWelcome to Fedora Linux 39 (Cloud Edition) dracut-059-16.fc39 (Initramfs)!\n\n[  OK  ] Reached target Initrd Root Device... x\n";
    for (text, expected) in [
        // Firmware.
        (sector.to_owned() + "Boot failed: not a bootable disk\n\nNo bootable device.\n", Cause::NoBootableDevice),
        (sector.to_owned() + "Boot failed: could not read the boot disk\n\n", Cause::BootDiskUnreadable),
        ("BdsDxe: failed to load Boot0001 \"UEFI Misc Device\" from PciRoot(0x0)/Pci(0x4,0x0): Not Found\nBdsDxe: No bootable option or device was found.\nBdsDxe: Press any key to enter the Boot Manager Menu.\n".to_owned(), Cause::NoBootableDevice),
        ("BdsDxe: failed to load Boot0001 \"UEFI QEMU HARDDISK\" from PciRoot(0x0): Access Denied\nBdsDxe: No bootable option or device was found.\n".to_owned(), Cause::SecureBootRefused),
        ("BdsDxe: loading Boot0001 \"UEFI\"\nBdsDxe: failed to start Boot0001 \"UEFI\": Not Found\nUEFI Interactive Shell v2.2\nEDK II\nMapping table\nPress ESC in 5 seconds to skip startup.nsh or any other key to continue.\nShell> ".to_owned(), Cause::UefiShell),
        (sector.to_owned() + "Missing operating system", Cause::NoOperatingSystem),
        // Network boot.
        ("SeaBIOS (version 1.16)\niPXE initialising devices...ok\niPXE 1.21.1 -- Open Source Network Boot Firmware\nnet0: 52:54:00:12:34:56 using virtio-net\nConfiguring (net0 52:54:00:12:34:56)...... Nothing (https://ipxe.org/040ee119)\n".to_owned(), Cause::NetbootNoDhcp),
        ("iPXE initialising devices...ok\nNext server: 10.0.0.1\nFilename: http://10.0.0.1/boot.ipxe\nhttp://10.0.0.1/boot.ipxe... No such file or directory (https://ipxe.org/2d0c613b)\n".to_owned(), Cause::NetbootFileNotFound),
        (">>Start PXE over IPv4.\n  PXE-E16: No valid offer received.\n".to_owned(), Cause::NetbootNoDhcp),
        // Bootloader.
        (sector.to_owned() + "GRUB loading.\nWelcome to GRUB!\n\nerror: no such device: 8a1e.\nEntering rescue mode...\ngrub rescue> ", Cause::BootloaderRescue),
        ("Welcome to GRUB!\n\n\x1b[H\x1b[J  GNU GRUB  version 2.06\n\n   Minimal BASH-like line editing is supported.\n\ngrub> ".to_owned(), Cause::BootloaderPrompt),
        ("Welcome to GRUB!\n  Booting `Fedora Linux (6.5)'\n\nerror: ../../grub-core/fs/fshelp.c:257:file `/vmlinuz-6.5' not found.\nerror: ../../grub-core/loader/i386/pc/linux.c:421:you need to load the kernel first.\n\nPress any key to continue...".to_owned(), Cause::BootloaderKernelMissing),
        ("Welcome to GRUB!\nerror: bad shim signature.\nerror: you need to load the kernel first.\n".to_owned(), Cause::SecureBootRefused),
        ("Welcome to GRUB!\nLoading Linux 6.1 ...\nerror: out of memory.\n\nPress any key to continue...".to_owned(), Cause::BootloaderOutOfMemory),
        // Kernel.
        (kernel.clone() + "[    2.5] x\n[    2.500000] VFS: Cannot open root device \"UUID=1\" or unknown-block(0,0): error -6\n[    2.600000] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n[    2.700000] CPU: 0 PID: 1 Comm: swapper/0 Not tainted\n[    2.800000] ---[ end Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0) ]---\n", Cause::RootNotFound),
        ("[    0.900000] Initramfs unpacking failed: invalid magic at start of compressed archive\n[    2.600000] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n".to_owned(), Cause::InitramfsBroken),
        (KERNEL.to_owned() + "[    1.600000] Kernel panic - not syncing: System is deadlocked on memory\n[    1.700000] ---[ end Kernel panic - not syncing: System is deadlocked on memory ]---\n", Cause::OutOfMemory),
        (KERNEL.to_owned() + "[    1.600000] Kernel panic - not syncing: No working init found.  Try passing init= option to kernel.\n", Cause::NoInit),
        (kernel.clone() + "Fatal glibc error: CPU does not support x86-64-v2\n[    2.600000] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00007f00\n", Cause::CpuTooOld),
        (systemd.clone() + "[    9.600000] Kernel panic - not syncing: Fatal exception in interrupt\n[    9.700000] ---[ end Kernel panic - not syncing: Fatal exception in interrupt ]---\n", Cause::KernelPanic),
        // Initial RAM disks.
        (kernel.clone() + "Loading, please wait...\nBegin: Mounting root file system ... Begin: Waiting for root file system ... done.\nGave up waiting for root file system device.  Common problems:\n - Boot args (cat /proc/cmdline)\nALERT!  UUID=0000 does not exist.  Dropping to a shell!\n\n\nBusyBox v1.35.0\n\n(initramfs) ", Cause::RootNotFound),
        (dracut.clone() + "[  130.100000] dracut-initqueue[432]: Warning: dracut-initqueue: timeout, still waiting for following initqueue hooks:\n[  131.000000] dracut-initqueue[432]: Warning: Could not boot.\n[  131.100000] dracut-initqueue[432]: Warning: /dev/disk/by-uuid/1234 does not exist\n\nGenerating \"/run/initramfs/rdsosreport.txt\"\n\nEntering emergency mode. Exit the shell to continue.\n", Cause::RootNotFound),
        (kernel.clone() + "Alpine Init 3.9.0-r0\nLoading boot drivers...\nMounting root...\nmount: mounting /dev/vda3 on /sysroot failed: No such file or directory\nMounting root: failed.\ninitramfs emergency recovery shell launched. Type 'exit' to continue boot\nsh: can't access tty; job control turned off\n~ # ", Cause::RootNotFound),
        (kernel.clone() + ":: running early hook [udev]\n:: running hook [udev]\n:: Triggering uevents...\nWaiting 10 seconds for device /dev/disk/by-uuid/6f3c ...\nERROR: device 'UUID=6f3c' not found. Skipping fsck.\n:: mounting 'UUID=6f3c' on real root\nmount: /new_root: can't find UUID=6f3c.\nERROR: Failed to mount 'UUID=6f3c' on real root\nYou are now being dropped into an emergency shell.\nsh: can't access tty; job control turned off\n[rootfs ~]# ", Cause::RootNotFound),
        (kernel.clone() + "\n<<< NixOS Stage 1 >>>\n\nloading module virtio_blk...\nwaiting for device /dev/disk/by-label/nixos to appear...............\nTimed out waiting for device /dev/disk/by-label/nixos, trying to mount anyway.\nmounting /dev/disk/by-label/nixos on /...\nmount: mounting /dev/disk/by-label/nixos on /mnt-root/ failed: No such file or directory\n\nAn error occurred in stage 1 of the boot process, which must mount the\nroot filesystem on `/mnt-root' and then start stage 2.  Press one\n", Cause::RootNotFound),
        (kernel.clone() + "Loading, please wait...\nfsck: /dev/vda1: UNEXPECTED INCONSISTENCY; RUN fsck MANUALLY.\nThe root filesystem on /dev/vda1 requires a manual fsck\n\n(initramfs) ", Cause::FilesystemCorrupt),
        (kernel.clone() + "Loading, please wait...\nPlease unlock disk vda3_crypt: ", Cause::PassphraseWanted),
        // systemd.
        (systemd.clone() + "[ TIME ] Timed out waiting for device dev-vdb.device - /dev/vdb.\n[DEPEND] Dependency failed for data.mount - /data.\n[DEPEND] Dependency failed for local-fs.target - Local File Systems.\n[  OK  ] Started emergency.service - Emergency Shell.\n[  OK  ] Reached target emergency.target - Emergency Mode.\nYou are in emergency mode. After logging in, type \"journalctl -xb\" to view\nsystem logs.\n\nCannot open access to console, the root account is locked.\n", Cause::DeviceMissing),
        (systemd.clone() + "[FAILED] Failed to start Load Kernel Modules.\n[FAILED] Failed to mount /data.\nSee 'systemctl status data.mount' for details.\n[DEPEND] Dependency failed for Local File Systems.\n[  OK  ] Started Emergency Shell.\nYou are in emergency mode. After logging in, type\n", Cause::MountFailed),
        (systemd.clone() + "[!!!!!!] Failed to mount API filesystems, freezing.\n", Cause::InitFrozen),
        (systemd.clone() + "You are in rescue mode. After logging in, type \"journalctl -xb\"\n", Cause::RescueMode),
        // Ignition.
        (dracut + "[    5.100000] ignition[702]: Ignition 2.17.0\n[    5.200000] ignition[702]: failed to fetch config: not a config (found empty)\n[    5.300000] ignition[702]: Ignition failed: not a config (found empty)\n[FAILED] Failed to start Ignition (fetch).\n[DEPEND] Dependency failed for Ignition Complete.\nEntering emergency mode.\n", Cause::IgnitionFailed),
        // Talos.
        (KERNEL.to_owned() + "[    9.851478] [talos] entering maintenance service {\"component\": \"controller-runtime\"}\n", Cause::WaitsForConfig),
    ] {
        let (told, sure) = code(&text);
        assert_eq!(told, expected, "{text}\n{:#?}", of(&text).verdict);
        assert!(sure, "{told} {text}");
    }
}

/// Where no line tells, it must not be said with certainty, nor a cause be named that only a quotation names.
#[test]
fn quotations_tell_nothing() {
    let up = KERNEL.to_owned()
        + PID1
        + "Loading, please wait...\n[   20.000000] systemd[1]: Started x\nDebian GNU/Linux 12 node ttyS0\n\nnode login: ";
    for text in [
        up.clone() + "\nKernel panic - not syncing: this is what we saw last week\n[  OK  ] Started Foo.\n",
        up.clone()
            + "\n[    2.600000] Kernel panic - not syncing: VFS: Unable to mount root fs\n[    2.700000] ---[ end Kernel panic - not syncing: VFS ]---\n",
        up.clone() + "\ngrub rescue> is what you see when the disk is bad\n",
        up.clone() + "\n(initramfs) is no place to be\n",
        up.clone() + "\nYou are in emergency mode. Just kidding.\n",
        up.clone() + "\n[   25.000000] app[99]: Kernel panic - not syncing: quoted\n",
        up.clone()
            + "\n[   25.000000] systemd[1]: Starting kernel-panic.service - Kernel panic - not syncing handler...\n",
        KERNEL.to_owned() + "+ echo 'Kernel panic - not syncing: VFS'\n[    1.000000] all is well\n",
        KERNEL.to_owned() + "[    1.000000] audit: cmd=\"echo Kernel panic - not syncing\"\n",
        up.clone() + "\nNo bootable device.\nBoot failed: not a bootable disk\n",
        up.clone() + "\nMay 12 10:00:00 node app[7]: Ignition failed: GET error\n",
        up.clone()
            + "\nMay 12 10:00:00 node sudo[7]: Failed loading yaml blob. Invalid format at line 3 column 1\n",
        up.clone() + "\nLast login: Mon May 12 10:00:00 from 10.0.0.1\n",
    ] {
        let verdict = of(&text).verdict.unwrap();
        assert!(
            !verdict.sure && verdict.code.weight() < crate::boot::cause::Weight::Fatal,
            "{text}\n{verdict:#?}"
        );
    }
}

/// A node as most tests have it: KVM, one NIC, a login.
fn context() -> Context {
    Context {
        node: "worker-1".to_owned(),
        accelerator: Accelerator::Kvm,
        cpus: 2,
        memory: 2 << 30,
        firmware: Firmware::Bios,
        first_boot: FirstBoot::None,
        nics: vec![Nic {
            mac: "52:54:00:00:00:01".to_owned(),
            network: "default".to_owned(),
            address: Some("10.0.0.5".parse().unwrap()),
        }],
        ssh_user: "root".to_owned(),
        dhcp_watched: true,
        ..Context::default()
    }
}

struct Live {
    judge: Judge,
    changes: Vec<Change>,
}

impl Live {
    fn of(context: Context) -> Self {
        let mut live = Self {
            judge: Judge::new(),
            changes: Vec::new(),
        };
        live.see(0.0, Evidence::Context(Box::new(context)));
        live
    }

    fn see(&mut self, at: f64, what: Evidence) -> &mut Self {
        let changes = self.judge.see(Seen::new(Duration::from_secs_f64(at), what));
        self.changes.extend(changes);
        self
    }

    fn print(&mut self, at: f64, text: &str) -> &mut Self {
        self.see(
            at,
            Evidence::Console {
                bytes: text.as_bytes().to_vec(),
            },
        )
    }

    fn ssh(&mut self, at: f64, ssh: Ssh) -> &mut Self {
        self.see(at, Evidence::Ssh(ssh))
    }

    /// Lets time pass, second by second, until a verdict ends the wait.
    fn wait(&mut self, until: u64) -> Option<(u64, Cause)> {
        let from = self.judge.now().as_secs();
        for second in from..=until {
            let changes = self.judge.at(Duration::from_secs(second));
            self.changes.extend(changes);
            if let Some(cause) = self.verdict() {
                return Some((second, cause));
            }
        }
        None
    }

    fn verdict(&self) -> Option<Cause> {
        self.changes.iter().rev().find_map(|change| match change {
            Change::Verdict(verdict) => Some(Some(verdict.code)),
            Change::Withdrawn => Some(None),
            _ => None,
        })?
    }

    /// Up to the login prompt.
    fn boot(&mut self) -> &mut Self {
        self.print(1.0, "SeaBIOS (version 1.16)\r\nBooting from Hard Disk...\r\nGRUB loading.\r\n")
            .print(3.0, &(KERNEL.to_owned() + PID1))
            .print(4.0, "Loading, please wait...\r\n")
            .print(6.0, "\r\nWelcome to Debian GNU/Linux 12 (bookworm)!\r\n\r\n")
            .print(9.0, "[  OK  ] Reached target multi-user.target - Multi-User System.\r\nDebian GNU/Linux 12 n ttyS0\r\n\r\nn login: ")
    }
}

fn dhcp(message: DhcpMessage, address: Option<&str>) -> Evidence {
    Evidence::Dhcp {
        mac: "52:54:00:00:00:01".to_owned(),
        message,
        address: address.map(|address| address.parse().unwrap()),
    }
}

fn denied() -> Ssh {
    Ssh::Denied {
        text: "root@10.0.0.5: Permission denied (publickey).".to_owned(),
    }
}

#[test]
fn a_node_that_gets_ready_has_its_phases_and_no_verdict() {
    let mut live = Live::of(context());
    live.boot();
    live.see(10.0, dhcp(DhcpMessage::Ack, Some("10.0.0.5")));
    live.ssh(10.5, Ssh::Refused);
    live.ssh(
        11.0,
        Ssh::Banner {
            text: "SSH-2.0-OpenSSH_9.2".to_owned(),
        },
    );
    live.ssh(12.0, Ssh::LoggedIn);
    assert_eq!(live.judge.verdict(), None);
    assert_eq!(live.judge.ready(), Some(Duration::from_secs(12)));
    let phases: Vec<Phase> = live.judge.timeline().iter().map(|step| step.phase).collect();
    assert_eq!(
        phases,
        [
            Phase::Firmware,
            Phase::Bootloader,
            Phase::Kernel,
            Phase::Initramfs,
            Phase::Userspace,
            Phase::Address,
            Phase::SshPort,
            Phase::SshLogin
        ]
    );
    assert!(live.judge.timeline().iter().all(|step| step.done));
    assert_eq!(live.judge.slowest().unwrap().phase, Phase::Userspace);
    assert!(matches!(live.changes.last(), Some(Change::Ready { .. })));
}

#[test]
fn what_cannot_recover_ends_within_seconds() {
    for (text, cause) in [
        ("No bootable device.\r\n", Cause::NoBootableDevice),
        (
            "GRUB loading.\r\nerror: no such partition.\r\ngrub rescue> ",
            Cause::BootloaderRescue,
        ),
        (
            "[    0.000000] Linux version 6.1 x\r\n[    1.0] x\r\n[    1.600000] Kernel panic - not syncing: No working init found.\r\n[    1.700000] ---[ end Kernel panic - not syncing: No working init found. ]---\r\n",
            Cause::NoInit,
        ),
        (
            "Loading, please wait...\r\nALERT!  /dev/sda1 does not exist.  Dropping to a shell!\r\n(initramfs) ",
            Cause::RootNotFound,
        ),
    ] {
        let mut live = Live::of(context());
        live.print(1.0, "SeaBIOS (version 1.16)\r\n").print(10.0, text);
        let (second, told) = live.wait(100).unwrap();
        assert_eq!(told, cause);
        assert!(second <= 16, "{cause} after {second}");
    }
}

#[test]
fn a_panic_that_a_program_quoted_is_withdrawn_by_what_follows() {
    let mut live = Live::of(context());
    live.print(1.0, KERNEL);
    live.print(5.0, "[    4.000000] Kernel panic - not syncing: test\r\n[    4.100000] ---[ end Kernel panic - not syncing: test ]---\r\n");
    live.print(5.2, "[  OK  ] Started Something.\r\n");
    assert_eq!(live.wait(60), None);
    // Even where the verdict was given already.
    live.print(70.0, "[   64.000000] Kernel panic - not syncing: test\r\n");
    assert!(live.wait(80).is_some());
    live.ssh(81.0, Ssh::LoggedIn);
    assert_eq!(live.judge.verdict(), None);
}

#[test]
fn a_panic_that_reboots_may_not_come_again_but_twice_is_enough() {
    let boot = |live: &mut Live, at: f64| {
        live.print(at, "SeaBIOS (version 1.16)\r\n");
        live.print(at + 3.0, KERNEL);
        live.print(at + 5.0, "[    4.000000] Kernel panic - not syncing: Fatal exception\r\n[    4.000100] Rebooting in 5 seconds..\r\n");
    };
    let mut live = Live::of(context());
    boot(&mut live, 1.0);
    assert_eq!(live.wait(11), None);
    boot(&mut live, 12.0);
    assert_eq!(live.wait(30).unwrap().1, Cause::KernelPanic);
    assert_eq!(live.judge.boots(), 2);
}

#[test]
fn a_node_that_resets_over_and_over_is_a_loop() {
    let mut live = Live::of(context());
    for boot in 0..2 {
        let at = f64::from(boot) * 20.0;
        live.print(at + 1.0, "SeaBIOS (version 1.16)\r\n");
        live.print(at + 5.0, KERNEL);
        live.see(at + 19.0, Evidence::Life(Life::Rebooted));
        live.see(at + 19.1, Evidence::Life(Life::Rebooted));
        assert_eq!(live.verdict(), None);
    }
    live.print(41.0, "SeaBIOS (version 1.16)\r\n");
    assert_eq!(live.wait(60), Some((43, Cause::ResetLoop)));
}

#[test]
fn one_reboot_on_purpose_is_none() {
    let mut live = Live::of(context());
    live.boot();
    live.print(20.0, "[   20.000000] reboot: Restarting system\r\n");
    live.see(20.1, Evidence::Life(Life::Rebooted));
    live.print(22.0, "SeaBIOS (version 1.16)\r\n");
    live.print(24.0, KERNEL);
    assert_eq!(live.judge.boots(), 2);
    assert_eq!(live.judge.phase(), Phase::Kernel);
    live.ssh(30.0, Ssh::LoggedIn);
    assert!(live.judge.ready().is_some());
}

#[test]
fn logs_shown_again_are_no_new_boot() {
    let mut live = Live::of(context());
    live.boot();
    live.print(20.0, &format!("\r\n{KERNEL}{PID1}"));
    assert_eq!(live.judge.boots(), 1);
}

#[test]
fn what_is_missing_on_the_network_is_told_once_the_system_has_settled() {
    // No request.
    let mut live = Live::of(context());
    live.boot();
    assert_eq!(live.wait(400).unwrap().1, Cause::NoDhcpRequest);
    // Requests without an answer.
    let mut live = Live::of(context());
    live.boot();
    for at in [10, 13, 18, 26, 40] {
        live.see(f64::from(at), dhcp(DhcpMessage::Discover, None));
    }
    assert_eq!(live.wait(400).unwrap().1, Cause::DhcpNoAnswer);
    // Another address.
    let mut live = Live::of(context());
    live.boot();
    live.see(
        12.0,
        Evidence::Neighbour {
            mac: "52:54:00:00:00:01".to_owned(),
            address: "10.0.0.77".parse().unwrap(),
        },
    );
    assert_eq!(live.wait(400).unwrap().1, Cause::AddressElsewhere);
    // The server does not run.
    let mut live = Live::of(context());
    live.boot();
    live.see(10.0, dhcp(DhcpMessage::Ack, Some("10.0.0.5")));
    for at in 11..30 {
        live.ssh(f64::from(at), Ssh::Refused);
    }
    assert_eq!(live.wait(400).unwrap().1, Cause::SshdNotRunning);
}

#[test]
fn a_refused_key_is_certain_only_when_the_first_boot_is_done() {
    let seeded = || Context {
        first_boot: FirstBoot::CloudInit,
        ..context()
    };
    let running =
        "\r\n[   10.000000] cloud-init[300]: Cloud-init v. 24.1 running 'init' at x. Up 10 seconds.\r\n";
    let done = "\r\n[   60.000000] cloud-init[300]: Cloud-init v. 24.1 finished at x. Datasource DataSourceNoCloud [seed=/dev/vdb].  Up 60 seconds\r\n";
    let yaml = "\r\n[   11.000000] cloud-init[300]: 2024-05-01 10:00:00,123 - util.py[WARNING]: Failed loading yaml blob. Invalid format at line 3 column 7: \"mapping\"\r\n";
    let mut live = Live::of(seeded());
    live.boot().print(10.0, running);
    for at in 20..50 {
        live.ssh(f64::from(at), denied());
    }
    assert_eq!(live.verdict(), None);
    live.print(60.0, done).ssh(61.0, denied()).ssh(62.0, denied());
    assert_eq!(live.verdict(), Some(Cause::SshKeyRefused));

    let mut live = Live::of(seeded());
    live.boot()
        .print(10.0, running)
        .print(11.0, yaml)
        .print(60.0, done);
    live.ssh(61.0, denied()).ssh(62.0, denied());
    assert_eq!(live.verdict(), Some(Cause::UserDataInvalid));
    let verdict = live.judge.verdict().unwrap();
    assert!(
        verdict.sure && verdict.sentence.contains("line 3 column 7"),
        "{verdict:?}"
    );
    // A key that comes in time.
    let mut live = Live::of(seeded());
    live.boot()
        .print(10.0, running)
        .ssh(20.0, denied())
        .ssh(30.0, Ssh::LoggedIn);
    assert!(live.judge.ready().is_some());
}

#[test]
fn healthy_but_slow_is_not_broken() {
    let slow = |accelerator| Context {
        accelerator,
        limit: Some(Duration::from_secs(3000)),
        ..context()
    };
    // A unit that sleeps for a minute.
    let mut live = Live::of(slow(Accelerator::Kvm));
    live.print(1.0, KERNEL)
        .print(4.0, "\r\nWelcome to Debian GNU/Linux 12 (bookworm)!\r\n");
    assert_eq!(live.wait(70), None);
    live.print(71.0, "[  OK  ] Finished sleep.service.\r\n").boot();
    live.ssh(80.0, Ssh::LoggedIn);
    assert!(live.judge.ready().is_some());
    // A job with a limit of its own.
    let mut live = Live::of(slow(Accelerator::Kvm));
    live.print(1.0, KERNEL)
        .print(4.0, "\r\nWelcome to Debian GNU/Linux 12 (bookworm)!\r\n");
    for at in (10..400).step_by(2) {
        live.print(
            f64::from(at),
            &format!("\r[ ***  ] A start job is running for Wait for x ({at}s / 15min)"),
        );
    }
    assert_eq!(live.wait(500), None);
    // A kernel that inflates itself for minutes, silently: nothing but CPU time moves.
    let mut live = Live::of(slow(Accelerator::Tcg));
    live.print(
        1.0,
        "SeaBIOS (version 1.16)\r\nBooting from Hard Disk...\r\nGRUB loading.\r\n",
    );
    for at in 2..300 {
        let counters = Counters {
            cpu_time_seconds: f64::from(at),
            disk_read_requests: 900,
            disk_read_bytes: 40 << 20,
            ..Counters::default()
        };
        live.see(f64::from(at), Evidence::Counters(counters));
    }
    assert_eq!(live.verdict(), None);
    // Services that complain, and a system that comes up all the same.
    let mut live = Live::of(slow(Accelerator::Kvm));
    live.print(1.0, KERNEL).print(4.0, "\r\nWelcome to Debian GNU/Linux 12 (bookworm)!\r\n[FAILED] Failed to start foo.service - Foo.\r\n[   5.000000] kernel: Out of memory: Killed process 9 (x)\r\n");
    live.wait(30);
    live.ssh(31.0, Ssh::LoggedIn);
    assert!(live.judge.ready().is_some());
    // Cut off by the limit while it was getting on.
    let mut live = Live::of(Context {
        limit: Some(Duration::from_secs(60)),
        ..context()
    });
    live.print(1.0, KERNEL)
        .print(4.0, "\r\nWelcome to Debian GNU/Linux 12 (bookworm)!\r\n");
    for at in 5..59 {
        live.print(f64::from(at), &format!("[  OK  ] Started unit-{at}.service.\r\n"));
    }
    assert_eq!(live.wait(100), Some((60, Cause::SlowNotStuck)));
    assert!(!live.judge.verdict().unwrap().sure);
}

#[test]
fn a_silent_machine_is_judged_from_outside() {
    let mut live = Live::of(context());
    let device = |device, features| VirtioDevice {
        device,
        index: 0,
        acknowledge: true,
        driver: true,
        features_ok: true,
        driver_ok: true,
        failed: false,
        guest_features: features,
    };
    live.see(
        2.0,
        Evidence::Virtio {
            devices: vec![device(VirtioKind::Block, 3)],
        },
    );
    assert_eq!(live.judge.phase(), Phase::Firmware);
    live.see(
        4.0,
        Evidence::Virtio {
            devices: vec![device(VirtioKind::Block, 12)],
        },
    );
    assert_eq!(live.judge.phase(), Phase::Kernel);
    live.see(
        5.0,
        Evidence::Registers {
            mode: CpuMode::User,
            halted: false,
        },
    );
    assert_eq!(live.judge.phase(), Phase::Initramfs);
    live.see(8.0, dhcp(DhcpMessage::Discover, None));
    assert_eq!(live.judge.phase(), Phase::Address);
    live.ssh(12.0, Ssh::Banner { text: String::new() });
    assert_eq!(live.judge.phase(), Phase::SshLogin);

    let driven = || Evidence::Virtio {
        devices: vec![device(VirtioKind::Block, 12), device(VirtioKind::Console, 12)],
    };
    // A panic on the screen alone.
    let mut live = Live::of(context());
    live.see(4.0, Evidence::Screen {
        lines: vec![
            "[    2.600000] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)".to_owned(),
            "[    2.700000] ---[ end Kernel panic - not syncing: VFS: Unable to mount root fs ]---".to_owned(),
        ],
    });
    // It had driven its devices before.
    live.see(4.0, driven());
    assert_eq!(live.wait(60).unwrap().1, Cause::RootNotFound);

    // One whose lines are longer than the screen is wide.
    let mut live = Live::of(context());
    live.see(
        4.0,
        Evidence::Screen {
            lines: vec![
                "[    2.600000] Kernel panic - not syncing: VFS: Unable to mount root fs on unkno".to_owned(),
                "wn-block(0,0)".to_owned(),
                "[    2.700000] ---[ end Kernel panic - not syncing: VFS: Unable to mount root fs".to_owned(),
                " on unknown-block(0,0) ]---".to_owned(),
            ],
        },
    );
    let told = live.judge.verdict().unwrap();
    assert!(told.sentence.contains("unknown-block(0,0)"), "{told:?}");

    // An initial RAM disk that drives all devices and has an address, of which nothing is seen but the screen.
    let initrd = [
        "[    5.380791] Run /init as init process",
        "Booting initrd of dracut.",
        "[  OK  ] Reached target initrd-usr-fs.target - Initrd /usr File System.",
    ];
    let gives_up = [
        "[ TIME ] Timed out waiting for device dev-sda1.device - /dev/sda1.",
        "[DEPEND] Dependency failed for initrd-root-fs.target - Initrd Root File System.",
        "[  OK  ] Started emergency.service - Emergency Shell.",
        "Generating \"/run/initramfs/rdsosreport.txt\"",
        "Entering emergency mode. Exit the shell to continue.",
        "Cannot open access to console, the root account is locked.",
    ];
    let screen = |lines: &[&str]| Evidence::Screen {
        lines: lines.iter().map(|line| (*line).to_owned()).collect(),
    };
    for screen_first in [true, false] {
        let mut live = Live::of(context());
        for first in [screen_first, !screen_first] {
            live.see(8.0, if first { screen(&initrd) } else { driven() });
        }
        assert_eq!(live.judge.phase(), Phase::Initramfs);
        live.see(11.0, dhcp(DhcpMessage::Discover, None));
        live.ssh(12.0, Ssh::Refused);
        assert_eq!(live.judge.phase(), Phase::Initramfs);
        let steps: Vec<Phase> = live.judge.timeline().iter().map(|step| step.phase).collect();
        assert!(!steps.contains(&Phase::Userspace), "{steps:?}");
        live.see(30.0, screen(&[&initrd[..], &gives_up[..]].concat()));
        let (at, cause) = live.wait(60).unwrap();
        assert_eq!((at < 40, cause), (true, Cause::RootNotFound));
        // It has not come as far as an SSH server.
        assert_eq!(live.judge.verdict().unwrap().others, []);
    }
    // Of its end alone.
    let mut live = Live::of(context());
    live.see(8.0, driven());
    live.ssh(12.0, Ssh::Refused);
    assert_eq!(live.judge.phase(), Phase::SshPort);
    live.see(30.0, screen(&gives_up[2..]));
    assert_eq!(live.wait(60).unwrap().1, Cause::InitramfsShell);
    // It was left: nothing is taken back.
    let mut live = Live::of(context());
    live.see(8.0, driven());
    live.see(
        30.0,
        screen(&[&initrd[..], &["Welcome to Debian GNU/Linux 13 (trixie)!"]].concat()),
    );
    live.ssh(31.0, Ssh::Refused);
    assert_eq!(live.judge.phase(), Phase::SshPort);

    // A boot sector that leads nowhere.
    let mut live = Live::of(context());
    live.print(1.0, "SeaBIOS (version 1.16)\r\nBooting from Hard Disk...\r\n");
    for at in 2..60 {
        live.see(
            f64::from(at),
            Evidence::Registers {
                mode: CpuMode::Real,
                halted: false,
            },
        );
        let counters = Counters {
            cpu_time_seconds: f64::from(at),
            disk_read_requests: 1,
            disk_read_bytes: 512,
            ..Counters::default()
        };
        live.see(f64::from(at), Evidence::Counters(counters));
    }
    assert_eq!(live.verdict(), Some(Cause::BootSectorStuck));
}

#[test]
fn the_host_tells() {
    for (life, cause) in [
        (
            Life::Stopped {
                reason: StopReason::Shutdown,
            },
            Cause::PoweredOff,
        ),
        (
            Life::Stopped {
                reason: StopReason::Crashed,
            },
            Cause::QemuFailed,
        ),
        (
            Life::Stopped {
                reason: StopReason::Destroyed,
            },
            Cause::StoppedFromOutside,
        ),
        (
            Life::Paused {
                reason: crate::boot::evidence::PauseReason::InternalError,
            },
            Cause::InternalError,
        ),
        (
            Life::DiskFailed {
                path: "/d".to_owned(),
                reason: "enospc".to_owned(),
            },
            Cause::HostDiskFull,
        ),
    ] {
        let mut live = Live::of(context());
        live.print(1.0, KERNEL).see(5.0, Evidence::Life(life));
        assert_eq!(live.wait(40).map(|(_, told)| told), Some(cause));
    }
    // An initial RAM disk that gives up by switching off.
    let mut live = Live::of(context());
    live.print(1.0, &(KERNEL.to_owned() + PID1));
    live.print(
        5.0,
        "[    4.000000] dracut-initqueue[9]: Warning: /dev/disk/by-uuid/12 does not exist\r\n",
    );
    live.see(
        6.0,
        Evidence::Life(Life::Stopped {
            reason: StopReason::Shutdown,
        }),
    );
    assert_eq!(live.verdict(), Some(Cause::RootNotFound));
}

#[test]
fn a_ready_command_that_fails_says_why() {
    let mut live = Live::of(Context {
        ready_command: Some("test".to_owned()),
        ..context()
    });
    live.boot().ssh(10.0, Ssh::LoggedIn);
    assert!(live.judge.ready().is_none());
    let failed = |will_retry| {
        Evidence::ReadyCommand(ReadyCommand {
            exit_status: Some(3),
            will_retry,
            stderr: "kubelet: not yet\n".to_owned(),
            ..ReadyCommand::default()
        })
    };
    live.see(11.0, failed(true));
    assert_eq!(live.verdict(), None);
    live.see(12.0, failed(false));
    let verdict = live.judge.verdict().unwrap();
    assert_eq!(
        (verdict.code, verdict.phase),
        (Cause::ReadyCommandFailed, Phase::ReadyCommand)
    );
    assert!(
        verdict.fatal && verdict.evidence.contains(&"kubelet: not yet".to_owned()),
        "{verdict:?}"
    );
}

/// One second of a node whose first CPU halts, or does not.
fn a_second(live: &mut Live, at: u64, halted: bool) {
    let mode = CpuMode::Kernel;
    live.see(at as f64, Evidence::Registers { mode, halted });
}

#[test]
fn translation_makes_nobody_wait_for_an_idle_node() {
    let tcg = || Context {
        accelerator: Accelerator::Tcg,
        first_boot: FirstBoot::CloudInit,
        ..context()
    };
    let told = |contact: fn() -> Ssh, halted: bool| {
        let mut live = Live::of(tcg());
        live.boot();
        live.see(9.0, dhcp(DhcpMessage::Ack, Some("10.0.0.5")));
        for at in 10..1000 {
            a_second(&mut live, at, halted);
            if at % 5 == 0 {
                live.ssh(at as f64, contact());
            }
            if let Some((at, cause)) = live.wait(at) {
                return Some((cause, at));
            }
        }
        None
    };
    let no_banner: fn() -> Ssh = || Ssh::NoBanner;
    let refused: fn() -> Ssh = || Ssh::Refused;
    for (contact, cause, least, most) in [
        (no_banner, Cause::SshdSilent, 60, 120),
        (denied, Cause::SshKeyRefused, 20, 45),
        // A unit that sleeps for a minute may stand before the server.
        (refused, Cause::SshdNotRunning, 75, 120),
    ] {
        let (idle, at) = told(contact, true).unwrap();
        assert_eq!(idle, cause);
        assert!((least..=most).contains(&at), "{cause} {at}");
        // One that works is waited for.
        let (_, later) = told(contact, false).unwrap();
        assert!(later > at + 30, "{cause} {later}");
    }
}

#[test]
fn a_server_behind_a_unit_that_is_still_starting_is_waited_for() {
    let mut live = Live::of(context());
    live.boot();
    live.see(9.0, dhcp(DhcpMessage::Ack, Some("10.0.0.5")));
    for at in 10..400u64 {
        a_second(&mut live, at, true);
        live.ssh(at as f64, Ssh::Refused);
        let job = format!("\r[ ***  ] Job slow.service/start running ({at}s / no limit)");
        live.print(at as f64, &job);
    }
    assert_eq!(live.wait(401), None);
}

#[test]
fn a_boot_sector_that_computes_for_seconds_holds_no_loader() {
    let computing = |text: &str| {
        let mut live = Live::of(Context {
            accelerator: Accelerator::Tcg,
            ..context()
        });
        live.print(1.0, text);
        for at in 2..300 {
            live.see(
                f64::from(at),
                Evidence::Registers {
                    mode: CpuMode::Real,
                    halted: false,
                },
            );
            let counters = Counters {
                cpu_time_seconds: f64::from(at),
                disk_read_requests: 1,
                disk_read_bytes: 512,
                ..Counters::default()
            };
            live.see(f64::from(at), Evidence::Counters(counters));
            if let Some(told) = live.wait(at as u64) {
                return Some(told);
            }
        }
        None
    };
    let (at, cause) = computing("SeaBIOS (version 1.16)\r\nBooting from Hard Disk...\r\n").unwrap();
    assert_eq!(cause, Cause::BootSectorStuck);
    assert!(at <= 20, "{at}");
    // Code that prints something may wait for a key.
    let (at, _) =
        computing("SeaBIOS (version 1.16)\r\nBooting from Hard Disk...\r\nF1  Windows, F2  Linux\r\n")
            .unwrap();
    assert!(at > 100, "{at}");
}

#[test]
fn a_journal_explains_but_ends_nothing() {
    let mut live = Live::of(Context {
        ready_command: Some("test".to_owned()),
        ..context()
    });
    live.boot().ssh(10.0, Ssh::LoggedIn);
    let text = "May 12 10:00:00 n systemd[1]: Failed to start kubelet.service - kubelet.\nMay 12 10:00:01 n kernel: Kernel panic - not syncing: quoted\n";
    live.see(
        11.0,
        Evidence::Journal {
            text: text.to_owned(),
        },
    );
    assert_eq!(live.verdict(), None);
    let failed = ReadyCommand {
        exit_status: Some(1),
        ..ReadyCommand::default()
    };
    live.see(12.0, Evidence::ReadyCommand(failed));
    let verdict = live.judge.verdict().unwrap();
    assert_eq!(verdict.code, Cause::ReadyCommandFailed);
    let others: Vec<Cause> = verdict.others.iter().map(|other| other.code).collect();
    assert_eq!(others, [Cause::UnitFailed]);
}

fn words() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(KERNEL.to_owned()),
        Just(PID1.to_owned()),
        Just("SeaBIOS (version 1.16)\r\n".to_owned()),
        Just("[    4.000000] Kernel panic - not syncing: x\r\n".to_owned()),
        Just("(initramfs) ".to_owned()),
        Just("n login: ".to_owned()),
        Just("\r\nWelcome to Arch Linux!\r\n".to_owned()),
        Just("[FAILED] Failed to mount /data.\n".to_owned()),
        Just("[DEPEND] Dependency failed for Local File Systems.\r\n".to_owned()),
        Just("You are in emergency mode. After\n".to_owned()),
        Just("\x1b[2J\x1b[1;1H".to_owned()),
        Just("grub rescue> ".to_owned()),
        Just("[   31.1] cloud-init[5]: Cloud-init v. 24 running 'init'\n".to_owned()),
        "[ -~\u{e9}…\r\n\u{1b}]{0,30}",
    ]
}

proptest! {
    #[test]
    fn how_a_console_is_cut_changes_nothing(
        text in proptest::collection::vec(words(), 0..25),
        cuts in proptest::collection::vec(any::<usize>(), 0..10),
    ) {
        let bytes = text.concat().into_bytes();
        let run = |pieces: &[&[u8]]| {
            let mut judge = Judge::new();
            for piece in pieces {
                judge.see(Seen::new(Duration::from_secs(1), Evidence::Console { bytes: piece.to_vec() }));
            }
            judge.see(Seen::new(Duration::from_secs(9), Evidence::End { outcome: Outcome::Unknown }));
            (judge.verdict(), judge.timeline(), judge.boots())
        };
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
        prop_assert_eq!(run(&pieces), run(&[&bytes]));
    }

    #[test]
    fn no_bytes_are_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let told = diagnose("bytes", &bytes[..]);
        if let Ok(told) = told {
            prop_assert!(told.timeline.len() <= 130 && told.last_lines.len() <= RECENT);
        }
    }
}

#[test]
fn memory_is_bounded_on_an_endless_console() {
    let mut judge = Judge::new();
    for round in 0..3000u32 {
        let text = format!(
            "SeaBIOS (version {round})\r\n{KERNEL}[FAILED] Failed to start {round}.\r\n[    1.000000] Kernel panic - not syncing: {round}\r\n"
        );
        judge.see(Seen::new(
            Duration::from_secs(u64::from(round) * 10),
            Evidence::Console {
                bytes: text.into_bytes(),
            },
        ));
    }
    assert!(judge.timeline().len() <= 121);
    assert!(
        judge.boot.failures.len() <= 24
            && judge.recent.len() <= RECENT
            && judge.suspects.len() <= Cause::ALL.len()
    );
    assert!(judge.changes.is_empty());
}
