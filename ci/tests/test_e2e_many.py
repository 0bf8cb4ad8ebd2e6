"""Many nodes on one server: every one of them gets ready within the limits that hold for any put."""

import re
import time
from pathlib import Path

from cluster import disks, image, machine, put, start, tiny  # noqa: F401

NODES = 20
# Each node's QEMU beyond its guest's memory, counted by what the pages really cost (PSS). What is let in (admission) is
# counted with more: a promise that the sum of all nodes fits.
COUNTED_MIB = 224


def test_twenty_nodes_get_ready(machine, image, disks, capsys):
    begun = time.monotonic()
    build = start(machine, image, disks, [put(tiny(NODES))], keep=True).wait(3000)
    assert build.status == "succeeded", build.log
    took = time.monotonic() - begun
    ready = re.findall(r"(node-\d+)\s+ready after ([\d.]+) s", build.log)
    assert len({name for name, _ in ready}) == NODES, build.log
    container = build.steps["put nodes"].container
    beyond = sorted(beyond_guest(p["pid"], 128) for p in machine.ps(container) if p["comm"].startswith("qemu-system"))
    assert len(beyond) == NODES
    with capsys.disabled():
        slowest = max(float(seconds) for _, seconds in ready)
        print(f"\n\n{NODES} nodes ready after {took:.0f} s, the slowest {slowest:.0f} s after its own power on; QEMU beyond each guest's"
              f" memory: {beyond[0]:.0f} to {beyond[-1]:.0f} MiB")
    assert beyond[-1] <= COUNTED_MIB, "admission counts too little"
    build.release()


def beyond_guest(pid, guest_mib):
    """MiB of PSS outside of the mapping that is the guest's memory."""
    total = 0
    own = True
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if area := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            own = int(area[2], 16) - int(area[1], 16) != guest_mib << 20
        elif own and line.startswith("Pss:"):
            total += int(line.split()[1])
    return total / 1024
