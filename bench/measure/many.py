"""What each of many nodes costs in memory beside its guest's own."""

import statistics

from standin.host import beyond_guest

from .place import Failed, tiny
from .table import Row

NODES = 20
GUEST_MIB = 128  # the tiny nodes' memory
COUNTED_MIB = 128  # what admission counts for such a node beside it, under TCG


def measure(place, rounds, tell):
    with place.container("put", "put") as container:
        took, _, _ = place.put(container, tiny(NODES))
        tell(f"{NODES} nodes: ready after {took:.1f} s")
        each = [beyond_guest(p["pid"], GUEST_MIB) for p in place.worker.ps(container)
                if p["comm"].startswith("qemu-system") and p["state"] != "Z"]
        if len(each) != NODES:
            raise Failed(f"{len(each)} of {NODES} QEMUs run")
        most, usual = max(each), statistics.median(each)
        yield Row(f"memory beside the guest's, each of {NODES} nodes", f"≤ {COUNTED_MIB} MiB", f"{most:.0f} MiB", most, COUNTED_MIB,
                  note=f"PSS of the largest QEMU without its guest's memory, against what admission counts; median {usual:.0f} MiB, "
                       f"{usual / GUEST_MIB:.2f} times the guest's {GUEST_MIB} MiB")
