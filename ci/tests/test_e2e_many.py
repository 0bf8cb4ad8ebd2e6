"""Many nodes on one server: every one of them gets ready within the limits that hold for any put."""

import re
import time

from cluster import disks, image, machine, put, start, tiny  # noqa: F401
from standin.host import beyond_guest

NODES = 20
# What admission counts for a node of 128 MiB beside its guest's memory: 64 MiB, and 64 for translated code.
COUNTED_MIB = 128


def test_twenty_nodes_get_ready(machine, image, disks, aloud):
    begun = time.monotonic()
    build = start(machine, image, disks, [put(tiny(NODES))], keep=True).wait(3000)
    assert build.status == "succeeded", build.log
    took = time.monotonic() - begun
    plain = re.sub(r"\x1b\[[0-9;]*m", "", build.log)
    ready = re.findall(r"(node-\d+)\s+ready after ([\d.]+) s", plain)
    assert len({name for name, _ in ready}) == NODES, build.log
    container = build.steps["put nodes"].container
    beyond = sorted(beyond_guest(p["pid"], 128) for p in machine.ps(container) if p["comm"].startswith("qemu-system"))
    assert len(beyond) == NODES
    slowest = max(float(seconds) for _, seconds in ready)
    aloud(f"\n\n{NODES} nodes ready after {took:.0f} s, the slowest {slowest:.0f} s after its own power on; QEMU beyond each guest's"
          f" memory: {beyond[0]:.0f} to {beyond[-1]:.0f} MiB")
    assert beyond[-1] <= COUNTED_MIB, "admission counts too little"
    build.release()

