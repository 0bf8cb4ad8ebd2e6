"""nested: true gives a node KVM of its own, on a worker with KVM and without."""

import shutil
from pathlib import Path

from cluster import disks, given, image, machine, put, start, task  # noqa: F401

LOOK = r"""
for node in hypervisor-1 plain-1; do echo "$node has $(nodes/ssh $node 'grep -c -E "svm|vmx" /proc/cpuinfo') lines of them"; done
nodes/ssh hypervisor-1 'modprobe kvm_amd 2>/dev/null || modprobe kvm_intel; stat -c "%n is a %F" /dev/kvm'
nodes/ssh hypervisor-1 python3 - < os/kvm_guest.py
"""


def test_a_nested_node_boots_a_guest_of_its_own_and_another_cannot(machine, image, disks):  # noqa: F811
    shutil.copy(given("GUEST_DEBIAN", "disk image of the Debian guest"), disks / "debian.qcow2")
    shutil.copy(Path(__file__).parent / "kvm_guest.py", disks)
    params = {"image": {"file": "os/debian.qcow2"}, "defaults": {"cpus": 1},
              "nodes": {"hypervisor": {"nested": True, "memory": "768MiB"}, "plain": {"image": {"file": "os/tiny.qcow2"}, "memory": "128MiB"}}}
    build = start(machine, image, disks, [put(params), task(LOOK, inputs=("nodes", "os"))]).wait(1800)
    (disks / "debian.qcow2").unlink()
    assert build.status == "succeeded", build.log[-6000:]
    assert "hypervisor-1 has 0 lines" not in build.log and "plain-1 has 0 lines of them" in build.log, build.log
    assert "/dev/kvm is a character special file" in build.log, build.log
    assert "KVM 12 ran a guest, which says 4" in build.log, build.log
