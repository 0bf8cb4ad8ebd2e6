"""What is broken, how, and what is to be said of it.

A verdict's code is judged right when it is one of `codes`, the first being the best. `sign` is what the console (or, with the serial
port silent, the screen) says when the verdict is certain; without one, the sign is not on the console. `early`: whether the wait
must end by the sign rather than by the time limit.
"""

import gzip
import re
from dataclasses import dataclass, field

from .cpio import joined
from .disk import Debian, TINY_CMDLINE, copy, entry, partition, tiny
from .disk import run as run_program

TINY = {"defaults": {"cpus": 1, "memory": "128MiB"}}
DEBIAN = {"defaults": {"cpus": 1, "memory": "512MiB"}}


@dataclass(frozen=True)
class Breakage:
    """One row. `make(bases, path)` makes the disk; `params` is laid over those of a put."""

    name: str
    make: object = field(repr=False)
    codes: tuple
    phases: tuple
    sign: str | None = None
    early: bool = True
    params: dict = field(default_factory=dict)
    serial: bool = True
    user_data: str | None = None
    network_config: str | None = None
    ignition: str | None = None
    guest: str = "tiny or debian"  # or ignition, which not every run has
    limit: int = 240  # seconds that a put may take before the test gives up
    record: int = 480  # seconds that are recorded, less when the sign comes earlier
    cpu_share: float = 1.0
    needs: str | None = None  # a program that the recipe takes and not every host has

    @property
    def healthy(self):
        return not self.codes


BREAKAGES = []


def row(name, codes=(), phases=(), sign=None, **more):
    """Puts the decorated function into the table: it makes the disk."""
    def take(make):
        known = TINY if more.get("tiny", True) else DEBIAN
        params = {**known, **more.pop("params", {})}
        more.pop("tiny", None)
        codes_, phases_ = ((codes,) if isinstance(codes, str) else codes), ((phases,) if isinstance(phases, str) else phases)
        BREAKAGES.append(Breakage(name, make, codes_, phases_, sign, params=params, **more))
        return make
    return take


def by_name(name):
    return next(b for b in BREAKAGES if b.name == name)


def in_tiny(**how):
    return lambda bases, out: tiny(bases, out, **how)


def in_debian(how):
    def make(bases, out):
        with Debian(bases, out) as disk:
            how(disk)
    return make


def raw(out, content, size=16 << 20):
    path = f"{out}.raw"
    with open(path, "wb") as disk:
        disk.write(content)
        disk.truncate(size)
    run_program("qemu-img", "convert", "-f", "raw", "-O", "qcow2", path, out)
    run_program("rm", path)


def before(text, new):
    """A change: new lines before those that start with a text."""
    return lambda old: re.sub(rf"^(?={re.escape(text)})", new + "\n", old, flags=re.M)


def instead(text, new):
    """A change: a line that starts with a text becomes another."""
    return lambda old: re.sub(rf"^{re.escape(text)}.*", lambda _: new, old, flags=re.M)


def packed_end(bases):
    """A change of an initial RAM disk: what was laid over that of tiny is packed too."""
    return lambda initrd: joined(bases.initrd, gzip.compress(initrd[len(bases.initrd):].lstrip(b"\0"), 1))


SERVE_SSH = "dropbear -s -r"
ASK_DHCP = "\tudhcpc -b"


# Firmware

@row("blank-disk", "no-bootable-device", "firmware", "No bootable device")
def _(bases, out):
    raw(out, b"")


@row("file-system-instead-of-disk", "no-bootable-device", "firmware", "No bootable device")
def _(bases, out):
    with open(bases.tiny, "rb") as disk:
        disk.seek(1 << 20)
        raw(out, disk.read(), 47 << 20)


@row("boot-sector-without-code", "boot-sector-stuck", ("bootloader", "firmware"), "Booting from Hard Disk", limit=300)
def _(bases, out):
    raw(out, bytes(446) + partition(2048, 30000) + bytes(48) + b"\x55\xaa")


@row("data-disk", ("no-operating-system", "no-bootable-device"), ("bootloader", "firmware"), "not a bootable disk")
def _(bases, out):
    """mkfs.fat writes a boot sector of its own, which only says that it is none."""
    raw(out, b"")
    run_program("qemu-img", "convert", "-O", "raw", out, f"{out}.raw")
    run_program("mkfs.vfat", "-I", f"{out}.raw")
    run_program("qemu-img", "convert", "-f", "raw", "-O", "qcow2", f"{out}.raw", out)
    run_program("rm", f"{out}.raw")


# Boot loader

@row("disk-cut-short", ("bootloader-kernel-missing", "bootloader-rescue", "bootloader-prompt", "boot-disk-unreadable"), "bootloader", "grub> ?$")
def _(bases, out):
    with open(bases.tiny, "rb") as disk:
        raw(out, disk.read(6 << 20), 6 << 20)


@row("grub-unknown-file-system", ("bootloader-kernel-missing", "bootloader-rescue", "bootloader-prompt"), "bootloader", "grub> ?$")
def _(bases, out):
    with open(bases.tiny, "rb") as disk:
        raw(out, disk.read(1 << 20), 48 << 20)


@row("grub-without-core", ("boot-sector-stuck", "boot-loop", "bootloader-rescue", "no-operating-system"), ("bootloader", "firmware"), "(GRUB ){4}", limit=300)
def _(bases, out):
    """GRUB's boot sector, and nothing behind it: what a partition tool leaves that moved the first partition."""
    with open(bases.tiny, "rb") as disk:
        head = disk.read(512)
        disk.seek(1 << 20)
        raw(out, head + bytes((1 << 20) - 512) + disk.read(), 48 << 20)


@row("grub-without-configuration", "bootloader-prompt", "bootloader", "grub> ?$")
def _(bases, out):
    tiny(bases, out, menu="# nothing\n")


@row("grub-without-modules", ("bootloader-rescue",), "bootloader", "grub rescue> ?$", needs="grub-mkimage")
def _(bases, out):
    """As grub-install leaves it: normal.mod is read from /boot/grub, and that is not there."""
    with open(bases.tiny, "rb") as disk:
        content = bytearray(disk.read())
    core = f"{out}.core"
    run_program("grub-mkimage", "-O", "i386-pc", "-p", "(hd0,msdos1)/boot/grub", "-o", core, "biosdisk", "part_msdos", "ext2")
    with open(core, "rb") as file:
        built = file.read()
    run_program("rm", core)
    content[512:1 << 20] = built.ljust((1 << 20) - 512, b"\0")
    raw(out, content, len(content))


@row("kernel-missing", "bootloader-kernel-missing", "bootloader", "you need to load the kernel first")
def _(bases, out):
    tiny(bases, out, kernel=lambda _: None)


@row("grub-waits-at-its-menu", "bootloader-waits", "bootloader", "Use the .* keys to select", limit=420)
def _(bases, out):
    tiny(bases, out, menu=entry(TINY_CMDLINE, timeout=-1))


@row("kernel-is-no-kernel", ("bootloader-kernel-missing", "kernel-corrupt"), "bootloader", "invalid magic number|you need to load the kernel first")
def _(bases, out):
    tiny(bases, out, kernel=lambda kernel: b"<!DOCTYPE html><title>404</title>".ljust(len(kernel), b"\n"))


# Kernel

NO_INITRD = {"initrd": lambda _: None}


@row("no-initrd", ("root-not-found", "kernel-panic"), ("kernel", "initramfs"), "end Kernel panic")
def _(bases, out):
    tiny(bases, out, **NO_INITRD, cmdline=TINY_CMDLINE.replace("panic=5", "root=/dev/vda1"))


@row("no-initrd-silent", ("root-not-found", "kernel-panic"), ("kernel", "initramfs"), "end Kernel panic", serial=False)
def _(bases, out):
    tiny(bases, out, **NO_INITRD, serial=False, cmdline=TINY_CMDLINE.replace("panic=5", "root=/dev/vda1"))


@row("panic-again-and-again", ("boot-loop", "root-not-found"), ("kernel", "initramfs"), "(?s)(Kernel panic.*){3}", limit=300)
def _(bases, out):
    tiny(bases, out, **NO_INITRD, cmdline=TINY_CMDLINE.replace("panic=5", "panic=1 root=/dev/vda1"))


@row("initrd-cut-short", ("initramfs-broken", "root-not-found"), ("kernel", "initramfs"), "end Kernel panic")
def _(bases, out):
    tiny(bases, out, initrd=lambda initrd: initrd[:len(initrd) // 2], cmdline=TINY_CMDLINE.replace("panic=5 ", ""))


@row("no-such-init", ("no-init", "kernel-panic"), ("initramfs", "kernel"), "end Kernel panic")
def _(bases, out):
    tiny(bases, out, cmdline=TINY_CMDLINE.replace("rdinit=/sbin/init", "rdinit=/etc/passwd init=/nonexistent").replace("panic=5 ", ""))


@row("init-ends", ("init-died", "kernel-panic"), ("userspace", "initramfs", "kernel"), "end Kernel panic")
def _(bases, out):
    tiny(bases, out, cmdline=TINY_CMDLINE.replace("rdinit=/sbin/init", "rdinit=/bin/false").replace("panic=5 ", ""))


@row("kernel-crashes", ("kernel-panic", "kernel-oops"), ("kernel", "userspace"), "end Kernel panic")
def _(bases, out):
    tiny(bases, out, change={"etc/rc": before("/etc/seed", "echo c > /proc/sysrq-trigger")}, cmdline=TINY_CMDLINE.replace("panic=5 ", ""))


@row("too-little-memory", ("out-of-memory", "init-died", "kernel-panic", "initramfs-broken"), ("kernel", "initramfs", "userspace"), "end Kernel panic", params={"defaults": {"cpus": 1, "memory": "72MiB"}})
def _(bases, out):
    tiny(bases, out, cmdline=TINY_CMDLINE.replace("panic=5 ", ""))


@row("too-little-memory-for-the-initrd", ("initramfs-broken", "out-of-memory", "no-dhcp-request", "nic-not-driven"), ("kernel", "initramfs", "userspace", "address"),
     "Initramfs unpacking failed: write error", limit=300, params={"defaults": {"cpus": 1, "memory": "96MiB"}})
def _(bases, out):
    """An initial RAM disk that grows beyond the memory when it is unpacked."""
    tiny(bases, out, files={f"ballast{n}": (0o644, bytes(8 << 20)) for n in range(10)}, initrd=packed_end(bases), size=64,
         cmdline=TINY_CMDLINE.replace("panic=5 ", ""))


@row("resets-before-the-kernel", ("boot-loop", "out-of-memory"), ("bootloader", "kernel", "firmware"), "(?s)(SeaBIOS.*){4}", params={"defaults": {"cpus": 1, "memory": "48MiB"}})
def _(bases, out):
    """The memory is too little to unpack the kernel in, which then resets the machine without a word."""
    tiny(bases, out, cmdline=TINY_CMDLINE.replace("panic=5 ", ""))


# Userspace of the tiny guest

@row("powers-itself-off", "powered-off", "userspace", "reboot: Power down|Power down")
def _(bases, out):
    tiny(bases, out, change={"etc/rc": before("/etc/seed", "modprobe button 2>/dev/null; poweroff -f")})


@row("reboots-for-ever", "boot-loop", ("kernel", "userspace"), "(?s)(Restarting system.*){3}", limit=300)
def _(bases, out):
    tiny(bases, out, change={"etc/rc": before("/etc/seed", "reboot -f")})


@row("memory-eaten", ("oom-killed", "out-of-memory"), ("userspace", "address", "ssh-port"), "Out of memory: Killed", early=False,
     params={"ready": {"timeout": "60s"}})
def _(bases, out):
    tiny(bases, out, change={"etc/rc": before("/etc/seed", "while :; do tail /dev/zero; done")})


@row("spins-before-the-network", ("hung", "no-dhcp-request", "silent-but-running", "slow-not-stuck", "unknown"), ("userspace", "kernel", "address"), "tiny: counting", early=False,
     params={"ready": {"timeout": "90s"}})
def _(bases, out):
    tiny(bases, out, change={"etc/rc": before("/etc/seed", "echo tiny: counting; while :; do :; done")})


# Network

@row("no-dhcp-client", "no-dhcp-request", "address", "tiny: ready", limit=300)
def _(bases, out):
    tiny(bases, out, change={"etc/rc": instead(ASK_DHCP, "\t: \\")})


@row("no-dhcp-client-silent", "no-dhcp-request", "address", "tiny: ready", serial=False, limit=300)
def _(bases, out):
    tiny(bases, out, serial=False, change={"etc/rc": instead(ASK_DHCP, "\t: \\")})


@row("no-driver-for-the-nic", ("nic-not-driven", "no-dhcp-request"), "address", "tiny: ready", limit=300)
def _(bases, out):
    tiny(bases, out, change={"etc/modules": lambda old: re.sub(r"^virtio_net.*\n", "", old, flags=re.M)})


@row("static-address-elsewhere", ("address-elsewhere", "no-dhcp-request"), "address", "tiny: ready", limit=300)
def _(bases, out):
    tiny(bases, out, change={"etc/rc": instead(ASK_DHCP, '\tip addr add 192.0.2.7/24 dev "${nic##*/}"; ip route add default via 192.0.2.1; '
                                                          'ping -c 3 192.0.2.1 & : \\')})


@row("answers-no-arp", ("address-unreachable", "no-dhcp-request", "ssh-filtered"), ("address", "ssh-port"), "tiny: ready", limit=300)
def _(bases, out):
    tiny(bases, out, change={"etc/rc": before(SERVE_SSH, "sleep 8; ip link set eth0 arp off; ip neigh flush all")})


# SSH

@row("no-sshd", "sshd-not-running", "ssh-port", "tiny: ready", limit=300)
def _(bases, out):
    tiny(bases, out, change={"etc/rc": instead(SERVE_SSH, "")})


@row("no-sshd-silent", "sshd-not-running", "ssh-port", "tiny: ready", serial=False, limit=300)
def _(bases, out):
    tiny(bases, out, serial=False, change={"etc/rc": instead(SERVE_SSH, "")})


@row("sshd-on-another-port", "sshd-not-running", "ssh-port", "tiny: ready", limit=300)
def _(bases, out):
    tiny(bases, out, change={"etc/rc": lambda old: old.replace(SERVE_SSH, "dropbear -p 2222 -s -r")})


@row("sshd-without-host-keys", ("sshd-no-host-keys", "sshd-not-running"), "ssh-port", "tiny: ready", limit=300)
def _(bases, out):
    tiny(bases, out, change={"etc/rc": before(SERVE_SSH, "rm -f /etc/dropbear/*")})


@row("sshd-says-nothing", "sshd-silent", ("ssh-login", "ssh-port"), "tiny: ready", limit=300)
def _(bases, out):
    tiny(bases, out, change={"etc/rc": instead(SERVE_SSH, "nc -ll -p 22 -e /bin/sleep 600 >/dev/null 2>&1 &")})


@row("sshd-hangs-up", ("ssh-closed", "sshd-silent", "sshd-not-running"), ("ssh-login", "ssh-port"), "tiny: ready", limit=300)
def _(bases, out):
    tiny(bases, out, change={"etc/rc": instead(SERVE_SSH, "nc -ll -p 22 -e /bin/true >/dev/null 2>&1 &")})


@row("no-authorized-keys", "ssh-key-refused", "ssh-login", "tiny: ready", limit=300)
def _(bases, out):
    tiny(bases, out, change={"etc/rc": before(SERVE_SSH, "rm -f /root/.ssh/authorized_keys")})


@row("authorized-keys-open-to-all", "ssh-key-refused", "ssh-login", "tiny: ready", limit=300)
def _(bases, out):
    tiny(bases, out, change={"etc/rc": before(SERVE_SSH, "chmod 777 /root/.ssh /root/.ssh/authorized_keys")})


@row("key-refused-silent", "ssh-key-refused", "ssh-login", "tiny: ready", serial=False, limit=300)
def _(bases, out):
    tiny(bases, out, serial=False, change={"etc/rc": before(SERVE_SSH, "rm -f /root/.ssh/authorized_keys")})


@row("another-user", "ssh-key-refused", "ssh-login", "tiny: ready", params={"ssh_user": "admin"}, limit=300)
def _(bases, out):
    copy(bases, "tiny", out)


# The ready command

@row("ready-command-fails", "ready-command-failed", "ready-command", "tiny: ready",
     params={"ready": {"command": "echo the kubelet is missing >&2; exit 3", "timeout": "90s"}}, early=False)
def _(bases, out):
    copy(bases, "tiny", out)


@row("ready-command-hangs", "ready-command-timed-out", "ready-command", "tiny: ready",
     params={"ready": {"command": "sleep 600", "timeout": "60s"}}, early=False)
def _(bases, out):
    copy(bases, "tiny", out)


# Debian: initial RAM disk

@row("root-elsewhere", "root-not-found", "initramfs", r"\(initramfs\)", tiny=False)
@in_debian
def _(disk):
    disk.cmdline("root=LABEL=root", "root=UUID=0b6c2b8e-3d5f-4d0c-9b53-1f6a0f1f7e11 rootdelay=5")


@row("root-elsewhere-silent", "root-not-found", "initramfs", r"\(initramfs\)", serial=False, tiny=False)
@in_debian
def _(disk):
    disk.cmdline("root=LABEL=root", "root=/dev/sda1 rootdelay=5")
    disk.silence()


@row("no-systemd", ("no-init", "initramfs-shell"), ("initramfs", "userspace"), "can't access tty", tiny=False)
@in_debian
def _(disk):
    disk.remove("/usr/lib/systemd/systemd")


@row("systemd-lacks-a-library", ("init-died", "kernel-panic"), ("userspace", "initramfs", "kernel"), "end Kernel panic", tiny=False)
@in_debian
def _(disk):
    disk.remove(library(disk, "/usr/lib/x86_64-linux-gnu/systemd", "libsystemd-core-"))


@row("file-system-damaged", ("filesystem-corrupt", "init-died", "kernel-panic"), ("userspace", "initramfs", "kernel"), "end Kernel panic", tiny=False)
@in_debian
def _(disk):
    disk.debugfs("clri /usr/lib/x86_64-linux-gnu/systemd", "ssv state 2")


# Debian: systemd

@row("fstab-names-an-absent-disk", ("device-missing", "emergency-mode"), "userspace", "emergency mode|root account is locked", tiny=False)
@in_debian
def _(disk):
    disk.write("/etc/fstab", disk.read("/etc/fstab") + "LABEL=data /srv ext4 defaults,x-systemd.device-timeout=8s 0 2\n")


@row("fstab-names-an-absent-disk-silent", ("device-missing", "emergency-mode"), "userspace", "emergency mode|root account is locked", serial=False, tiny=False)
@in_debian
def _(disk):
    disk.write("/etc/fstab", disk.read("/etc/fstab") + "/dev/vdz1 /srv ext4 defaults,x-systemd.device-timeout=8s 0 2\n")
    disk.silence()


@row("mount-fails", ("mount-failed", "emergency-mode"), "userspace", "emergency mode|for maintenance", tiny=False)
@in_debian
def _(disk):
    disk.write("/etc/fstab", disk.read("/etc/fstab") + "/dev/vda1 /srv vfat defaults 0 0\n")
    disk.change("/etc/shadow", "root:*:", "root::", 0o640)


@row("rescue-mode", "rescue-mode", "userspace", "rescue mode|root account is locked", tiny=False)
@in_debian
def _(disk):
    disk.cmdline(" rw ", " rw systemd.unit=rescue.target ")


@row("job-without-limit", "job-waiting", ("userspace", "address"), r"no limit\)", early=False, tiny=False, params={"ready": {"timeout": "120s"}})
@in_debian
def _(disk):
    disk.unit("prepare-data.service", "[Unit]\nDescription=Prepare the data disk\nDefaultDependencies=no\nBefore=sysinit.target\n"
              "[Service]\nType=oneshot\nTimeoutStartSec=infinity\nExecStart=sleep infinity\n", "sysinit.target")


@row("root-is-full", ("disk-full", "cloud-init-failed"), ("userspace", "first-boot", "ssh-port", "ssh-login", "address"), "(?s)No space left on device.*(login:|Freezing|emergency mode)", early=False, tiny=False,
     params={"ready": {"timeout": "180s"}})
@in_debian
def _(disk):
    disk.write("/var/ballast", "")
    disk.fill("/var/ballast", but=40)


@row("root-read-only", ("cloud-init-failed", "no-dhcp-request", "unit-failed", "sshd-no-host-keys"), ("userspace", "first-boot", "ssh-port", "ssh-login", "address"), "Failed to start .*(ssh.service|cloud-config)", early=False, tiny=False,
     params={"ready": {"timeout": "180s"}})
@in_debian
def _(disk):
    disk.cmdline(" rw ", " ro ")
    disk.write("/etc/fstab", "LABEL=root / ext4 ro 0 1\n")


# Debian: cloud-init

@row("cloud-init-switched-off", ("cloud-init-absent", "seed-not-found", "no-dhcp-request"), ("first-boot", "address", "ssh-port"), "login:", tiny=False, limit=400)
@in_debian
def _(disk):
    disk.write("/etc/cloud/cloud-init.disabled", "")


@row("cloud-init-without-its-datasource", ("seed-not-found", "cloud-init-failed"), ("first-boot", "ssh-login", "ssh-port", "address"), "DataSourceNone", early=False, tiny=False,
     params={"ready": {"timeout": "180s"}})
@in_debian
def _(disk):
    disk.change("/etc/cloud/cloud.cfg.d/90-datasource.cfg", "[NoCloud, ConfigDrive, None]", "[ConfigDrive, None]")


@row("user-data-broken", ("user-data-invalid", "cloud-init-failed"), ("first-boot", "ready-command"), "(?i)failed loading yaml|Failed at merging|Failed to render", tiny=False,
     user_data="## template: jinja\n#cloud-config\nwrite_files:\n- path: /etc/from-the-user\n   content: {{ v1.local_hostname }}\n",
     params={"ready": {"command": "cloud-init status --wait --long >&2 && test -e /etc/from-the-user", "timeout": "180s"}}, early=False)
def _(bases, out):
    copy(bases, "debian", out)


@row("runcmd-fails", ("cloud-init-failed", "ready-command-failed"), ("first-boot", "ready-command"), "(?i)failed to run module scripts.user|runparts", tiny=False,
     user_data="#cloud-config\nruncmd:\n- [kubeadm, init]\n- exit 1\n",
     params={"ready": {"command": "cloud-init status --wait", "timeout": "180s"}}, early=False)
def _(bases, out):
    copy(bases, "debian", out)


# Debian: network, SSH

@row("nic-of-another-name", "no-dhcp-request", "address", "login:", tiny=False, limit=400,
     network_config="version: 2\nethernets:\n  eth7:\n    dhcp4: true\n")
def _(bases, out):
    copy(bases, "debian", out)


@row("firewall-drops-ssh", ("ssh-filtered", "address-unreachable"), "ssh-port", "login:", tiny=False, limit=400)
@in_debian
def _(disk):
    disk.unit("firewall.service", "[Unit]\nDescription=Firewall\nDefaultDependencies=no\nBefore=network-pre.target\n[Service]\nType=oneshot\nExecStart=/bin/sh -c '"
              # The NIC's driver may not be loaded yet, and the NIC is given another name while this runs.
              "until cd /sys/class/net && tc qdisc replace dev e* clsact && tc filter add dev e* ingress protocol ip u32 "
              "match ip protocol 6 0xff match ip dport 22 0xffff action drop; do sleep 0.2; done'\n", "sysinit.target")


@row("logins-not-allowed", ("login-not-allowed",), "ssh-login", "login:", tiny=False, limit=400, params={"ssh_user": "tester"})
@in_debian
def _(disk):
    disk.write("/etc/nologin", "The system is being maintained.\n")


# Healthy, though it may not look so

@row("fine", sign="tiny: ready")
def _(bases, out):
    copy(bases, "tiny", out)


@row("fine-silent", sign="tiny: ready", serial=False)
def _(bases, out):
    tiny(bases, out, serial=False)


@row("fine-with-a-slow-dhcp", sign="tiny: ready", limit=300)
def _(bases, out):
    tiny(bases, out, change={"etc/rc": lambda old: before("for nic in /sys/class/net/*; do\n\t[ -e \"$nic/device\" ] || continue", "sleep 70")(
        before("dropbear -s -r", "")(old))})


@row("fine-with-words-of-horror", sign="tiny: ready")
def _(bases, out):
    tiny(bases, out, files={"etc/horror": (0o644, HORROR)},
         change={"etc/rc": before("/etc/seed", "cat /etc/horror >/dev/console"), "etc/console": before("echo 'tiny: ready'", "cat /etc/horror")})


@row("fine-after-one-reboot", sign="tiny: ready", limit=300)
def _(bases, out):
    """What an update at first boot does: a block behind the partition remembers it."""
    once = ("if [ \"$(dd if=/dev/vda bs=512 skip=2040 count=1 2>/dev/null | head -c 4)\" != done ]; then\n"
            "echo done | dd of=/dev/vda bs=512 seek=2040 conv=notrunc,sync 2>/dev/null; sync; echo 'tiny: rebooting into the new kernel' >/dev/console; reboot -f\nfi")
    tiny(bases, out, change={"etc/rc": before("/etc/seed", once)})


@row("fine-though-something-was-killed", sign="tiny: ready")
def _(bases, out):
    tiny(bases, out, change={"etc/rc": before("/etc/seed", "tail /dev/zero")})


@row("fine-on-a-third-of-a-cpu", sign="tiny: ready", limit=400, cpu_share=0.3)
def _(bases, out):
    copy(bases, "tiny", out)


@row("fine-with-a-slow-unit", sign="login:", tiny=False, limit=500)
@in_debian
def _(disk):
    disk.unit("slow.service", "[Unit]\nDescription=Index the documents\nBefore=ssh.service\n[Service]\nType=oneshot\nExecStart=sleep 60\n", "ssh.service")
    disk.unit("broken.service", "[Unit]\nDescription=Nobody needs it\n[Service]\nType=oneshot\nExecStart=false\n")


@row("fine-with-a-long-cloud-init", sign="finished at", tiny=False, limit=500,
     user_data="#cloud-config\nbootcmd:\n- echo 'Kernel panic - not syncing? no, only a very long first boot'\n- sleep 50\nruncmd:\n- echo 'emergency mode is not what this is'\n",
     params={"ready": {"command": "cloud-init status --wait"}})
def _(bases, out):
    copy(bases, "debian", out)


HORROR = """Welcome! What to do when this machine shows one of these:
 - Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)
 - "You are in emergency mode": log in as root
 - Gave up waiting for root file system device, (initramfs) prompts: wait for the disk
 - No bootable device; grub rescue>; error: you need to load the kernel first
 - Ignition failed: ask the network team. reboot: Power down means that it is off.
[   99.000000] demo: Kernel panic - not syncing: this is a line of a test's log
ERROR: 0 errors, 0 failures, Out of memory: no, there is plenty
"""


def library(disk, folder, prefix):
    """A file by the beginning of its name."""
    listed = run_program("debugfs", "-R", f"ls -p {folder}", f"{disk._disk}?offset={1 << 20}")
    return next(f"{folder}/{name}" for name in (line.split("/")[5] for line in listed.splitlines() if "/" in line) if name.startswith(prefix))
