"""Disks made from those of the guests `tiny`, `debian` and `ignition`, without booting, mounting or loop devices."""

import functools
import os
import shutil
import struct
import subprocess
import tempfile
import threading
from pathlib import Path

from . import cpio

MIB = 1 << 20
PARTITION = MIB  # where the guests have theirs

TINY_CMDLINE = "rdinit=/sbin/init console=ttyS0,115200 panic=5 mitigations=off tsc=reliable no_timer_check random.trust_cpu=on"


class Bases:
    """The guests, unpacked once into a directory of its own; `ignition` when it is first asked for, None where it was not made."""

    def __init__(self, tiny, debian, ignition=None, work=None):
        self._made = tempfile.TemporaryDirectory(prefix="broken-", dir=work or "/var/tmp")
        self.work = Path(self._made.name)
        self.tiny, self.debian = self.work / "tiny.raw", self.work / "debian.raw"
        run("qemu-img", "convert", "-O", "raw", tiny, self.tiny)
        run("qemu-img", "convert", "-O", "raw", debian, self.debian)
        self._ignition, self._lock = ignition, threading.Lock()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._made.cleanup()

    @property
    def ignition(self):
        unpacked = self.work / "ignition.raw"
        with self._lock:
            if not unpacked.exists():
                run("qemu-img", "convert", "-O", "raw", self._ignition, unpacked)
        return unpacked

    @functools.cached_property
    def kernel(self):
        return read(self.tiny, "/boot/vmlinuz")

    @functools.cached_property
    def initrd(self):
        return read(self.tiny, "/boot/initrd")

    @functools.cached_property
    def files(self):
        """What is in tiny's initial RAM disk."""
        return cpio.entries(self.initrd)

    @functools.cached_property
    def loader(self):
        """The boot sector and GRUB with its normal.mod: it reads (hd0,msdos1)/boot/grub/grub.cfg."""
        with open(self.debian, "rb") as disk:
            return disk.read(PARTITION)


def tiny(bases, out, files=None, change=None, cmdline=TINY_CMDLINE, serial=True, kernel=None, initrd=None, menu=None, boot=True,
         size=64):
    """The tiny guest with a grub.cfg.

    files: {path: (mode, text)} laid over its initial RAM disk; change: {path: function of the text}; menu: a whole grub.cfg;
    serial: whether boot loader, kernel and system speak to the serial port; kernel, initrd: functions of the bytes, None of them
    leaves the file out; boot: whether there is a /boot at all.
    """
    over = {path: (mode, text.encode() if isinstance(text, str) else text) for path, (mode, text) in (files or {}).items()}
    for path, function in (change or {}).items():
        mode, content = over.get(path) or bases.files[path]
        changed = function(content.decode())
        if changed == content.decode():
            raise ValueError(f"the change of {path} changes nothing")
        over[path] = mode, changed.encode()
    if not serial:
        cmdline = cmdline.replace("console=ttyS0,115200 ", "")
        mode, content = over.get("etc/inittab") or bases.files["etc/inittab"]
        over["etc/inittab"] = mode, content.replace(b"ttyS0", b"tty1")
    with tempfile.TemporaryDirectory(dir=bases.work) as made:
        root = Path(made, "root")
        (root / "boot/grub").mkdir(parents=True)
        if boot:
            vmlinuz = kernel(bases.kernel) if kernel else bases.kernel
            ramdisk = cpio.joined(bases.initrd, cpio.archive(over)) if over else bases.initrd
            ramdisk = initrd(ramdisk) if initrd else ramdisk
            for name, content in ("vmlinuz", vmlinuz), ("initrd", ramdisk):
                if content is not None:
                    (root / "boot" / name).write_bytes(content)
            (root / "boot/grub/grub.cfg").write_text(menu or entry(cmdline, with_initrd=boot and ramdisk is not None))
        raw = Path(made, "raw")
        run("mke2fs", "-q", "-t", "ext4", "-b", "4096", "-L", "root", "-O", "^metadata_csum_seed,^orphan_file", "-d", root, raw, f"{size - 1}M")
        disk = Path(made, "disk")
        head = bytearray(bases.loader)
        head[446:462] = partition(2048, (size - 1) * MIB // 512)
        disk.write_bytes(head)
        run("dd", f"if={raw}", f"of={disk}", "bs=1M", "seek=1", "conv=notrunc,sparse", "status=none")
        os.truncate(disk, size * MIB)
        pack(disk, out)


def entry(cmdline, with_initrd=True, timeout=0):
    """A grub.cfg that starts tiny."""
    initrd = "\tinitrd16 /boot/initrd\n" if with_initrd else ""
    return f"terminal_output console\nset timeout={timeout}\nmenuentry 'Tiny' {{\n\tlinux16 /boot/vmlinuz {cmdline}\n{initrd}}}\n"


def partition(start, sectors, kind=0x83, active=True):
    """An MBR's entry of a partition; its cylinders, heads and sectors are those that tell a reader to use LBA."""
    return struct.pack("<B3sB3sII", 0x80 if active else 0, b"\xfe\xff\xff", kind, b"\xfe\xff\xff", start, sectors)


class Debian:
    """A copy of a Debian guest's disk that is being changed."""

    def __init__(self, bases, out, base="debian"):
        self._out, self._disk = out, Path(f"{out}.raw")
        run("cp", "--sparse=always", getattr(bases, base), self._disk)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            pack(self._disk, self._out)
        self._disk.unlink()

    def read(self, path):
        return read(self._disk, path).decode()

    def write(self, path, text, mode=0o644):
        self.debugfs(f"rm {path}")
        with tempfile.NamedTemporaryFile(dir=self._disk.parent) as file:
            file.write(text.encode())
            file.flush()
            os.chmod(file.name, mode)
            self.debugfs(f"write {file.name} {path}")
        self.debugfs(f"sif {path} mode 0{0o100000 | mode:o}")
        if self.read(path) != text:
            raise OSError(f"{path} could not be written")

    def change(self, path, old, new, mode=0o644):
        before = self.read(path)
        if old not in before:
            raise ValueError(f"{path} has no {old!r}")
        self.write(path, before.replace(old, new), mode)

    def remove(self, path):
        self.debugfs(f"rm {path}")

    def make_dir(self, path):
        self.debugfs(f"mkdir {path}")

    def link(self, path, target):
        self.debugfs(f"symlink {path} {target}")

    def unit(self, name, text, wanted_by="multi-user.target"):
        """A unit of systemd, wanted by a target."""
        self.write(f"/etc/systemd/system/{name}", text)
        wants = f"/etc/systemd/system/{wanted_by}.wants"
        self.make_dir(wants)
        self.link(f"{wants}/{name}", f"/etc/systemd/system/{name}")

    def drop_in(self, unit, text):
        self.make_dir(f"/etc/systemd/system/{unit}.d")
        self.write(f"/etc/systemd/system/{unit}.d/broken.conf", text)

    def cmdline(self, old, new):
        self.change("/boot/grub/grub.cfg", old, new)

    def fill(self, path, but):
        """Takes all free blocks but a few of 4 KiB, root's reserve among them."""
        free = next(line for line in self.debugfs("stats").splitlines() if line.startswith("Free blocks:"))
        self.debugfs(f"fallocate {path} 0 {int(free.split(':')[1]) - but - 1}")

    def silence(self):
        """Nothing speaks to the serial port but the firmware."""
        config = self.read("/boot/grub/grub.cfg").replace(" console=ttyS0,115200", "").replace("serial --unit=0 --speed=115200\n", "")
        self.write("/boot/grub/grub.cfg", config.replace(" serial\n", "\n"))
        self.remove("/etc/systemd/system/getty.target.wants/serial-getty@ttyS0.service")

    def debugfs(self, *requests):
        for request in requests:
            answer = run("debugfs", "-w", "-R", request, f"{self._disk}?offset={PARTITION}")
        return answer


def read(disk, path):
    """A file of the partition."""
    with tempfile.NamedTemporaryFile(dir=Path(disk).parent) as file:
        run("debugfs", "-R", f"dump {path} {file.name}", f"{disk}?offset={PARTITION}")
        return Path(file.name).read_bytes()


def pack(raw, out):
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, out)


def copy(bases, name, out):
    """A guest as it is."""
    pack(getattr(bases, name), out)


def run(*argv):
    if not shutil.which(str(argv[0])):
        raise FileNotFoundError(f"{argv[0]} is not installed")
    done = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(map(str, argv))}: {done.stderr.strip()}")
    return done.stdout
