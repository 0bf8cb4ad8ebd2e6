"""What is in the image, and what is not."""

import subprocess
from pathlib import Path

from cluster import image  # noqa: F401


def libraries(program):
    """The shared libraries that a program asks its loader for."""
    said = subprocess.run(["objdump", "-p", str(program)], capture_output=True, text=True, check=True).stdout
    return [line.split()[1] for line in said.splitlines() if line.split()[:1] == ["NEEDED"]]


def test_the_programs_are_where_concourse_looks(image):
    for path in ("opt/resource/check", "opt/resource/in", "opt/resource/out", "usr/local/bin/nodectl"):
        found = Path(image, path).stat()
        assert (found.st_uid, found.st_mode & 0o7777) == (0, 0o755), path


def test_check_and_in_do_without_libvirt(image):
    """Its loader would have some 50 libraries to map, for nothing: a check takes ten times as long with them."""
    assert not [name for name in libraries(Path(image, "opt/resource/check")) if "virt" in name]
    assert not [name for name in libraries(Path(image, "opt/resource/in")) if "virt" in name]
    assert [name for name in libraries(Path(image, "usr/local/bin/nodectl")) if "virt" in name], "can this test fail?"


def test_no_identity_is_baked_in(image):
    """What one container has, every container would have."""
    for path in ("etc/ssh/ssh_host_ed25519_key", "var/lib/dbus/machine-id"):
        assert not Path(image, path).exists(), path
    machine_id = Path(image, "etc/machine-id")
    assert not machine_id.exists() or machine_id.read_text().strip() in ("", "uninitialized")
    assert not list(Path(image, "etc/libvirt/qemu/networks/autostart").glob("*")), "libvirtd would start networks of its own"
