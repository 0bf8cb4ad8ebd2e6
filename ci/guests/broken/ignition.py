"""What goes wrong with dracut and Ignition, on the guest `ignition`: an addition to `table`."""

import json

from .disk import Debian
from .disk import copy as copied
from .table import row

SPEC = {"ignition": {"version": "3.3.0"}}
NODE = {"defaults": {"cpus": 1, "memory": "768MiB"}}
# Fifteen seconds of retries instead of three minutes.
PATIENCE = " rd.retry=15 rd.timeout=20"


def ignition(name, codes=(), phases=(), sign=None, config=None, **more):
    """A row of this guest."""
    text = config if config is None or isinstance(config, str) else json.dumps(config)
    params = {**NODE, **more.pop("params", {})}
    return row(name, codes, phases, sign, guest="ignition", ignition=text, params=params, **{"limit": 400, "record": 300, **more})


def changed(how):
    def make(bases, out):
        with Debian(bases, out, "ignition") as disk:
            how(disk)
    return make


def as_it_is(bases, out):
    copied(bases, "ignition", out)


def merged(url):
    return {"ignition": {"version": "3.3.0", "config": {"merge": [{"source": url}]}}}


# Ignition

ignition("ignition-config-invalid", "ignition-failed", "first-boot", "Ignition failed: config is not valid",
         {**SPEC, "storage": {"files": [{"path": "etc/relative", "contents": {"source": "data:,x"}}]}})(as_it_is)

ignition("ignition-url-unreachable", "ignition-fetching", "first-boot", r"GET http\S+: attempt #[3-9]", merged("http://127.0.0.1:9/base.ign"))(as_it_is)

ignition("ignition-hash-wrong", "ignition-failed", "first-boot", "Ignition failed: ",
         {**SPEC, "storage": {"files": [{"path": "/etc/motd", "overwrite": True,
                                         "contents": {"source": "data:,hello", "verification": {"hash": "sha256-" + "0" * 64}}}]}})(as_it_is)

ignition("ignition-disk-absent", ("ignition-failed", "job-waiting"), ("first-boot", "initramfs"), "Ignition failed: ",
         {**SPEC, "storage": {"filesystems": [{"device": "/dev/disk/by-id/virtio-data0", "format": "ext4", "path": "/srv"}]}})(as_it_is)

ignition("ignition-without-config", ("ignition-no-config", "ssh-key-refused"), ("first-boot", "ssh-login"), "no config provided by user", None)(as_it_is)


@ignition("ignition-failed-silent", "ignition-failed", "first-boot", "Ignition failed: ", serial=False,
          config={**SPEC, "passwd": {"users": [{"name": "no such user", "uid": 7}]}})
@changed
def _(disk):
    disk.silence()


# dracut

@ignition("dracut-root-elsewhere", ("root-not-found", "initramfs-shell"), "initramfs", "Entering emergency mode|initqueue timeout", SPEC)
@changed
def _(disk):
    disk.cmdline("root=LABEL=root", "root=/dev/sda1" + PATIENCE)


@ignition("dracut-root-elsewhere-silent", ("root-not-found", "initramfs-shell"), "initramfs", "Entering emergency mode|initqueue timeout", SPEC, serial=False)
@changed
def _(disk):
    disk.cmdline("root=LABEL=root", "root=/dev/sda1" + PATIENCE)
    disk.silence()


@ignition("dracut-gives-up-without-a-shell", ("root-not-found", "powered-off", "initramfs-shell"), "initramfs", "Not dropping to emergency shell|System halted|Power down", SPEC)
@changed
def _(disk):
    disk.cmdline("root=LABEL=root", "root=UUID=0b6c2b8e-3d5f-4d0c-9b53-1f6a0f1f7e11 rd.shell=0 rd.emergency=poweroff" + PATIENCE)


@ignition("dracut-finds-no-init", ("no-init", "initramfs-shell", "emergency-mode", "init-frozen"), ("initramfs", "userspace"), "Entering emergency mode|Failed to switch root|Freezing execution|end Kernel panic", SPEC)
@changed
def _(disk):
    disk.remove("/usr/lib/systemd/systemd")
    disk.remove("/usr/sbin/init")


# Healthy

ignition("fine-with-ignition", sign="Mark the first boot|ssh.service|login:", config=SPEC)(as_it_is)
