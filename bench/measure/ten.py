"""What ten nodes cost: their disks before they boot, `in`, the agent while they idle, forwards, their end."""

import json
import os
import re
import statistics
import time
from pathlib import Path

from . import forward
from .place import SOURCE, Failed, cluster_directory, spread, tiny
from .table import Row

NODES = 10
IDLE = 20  # seconds over which the agent is watched
MIB = 1 << 20
PORT = 9000  # forwarded, for streams


def measure(place, rounds, tell):
    with place.container("put", "put") as container:
        written = Written(container)
        params = tiny(NODES)
        params["nodes"]["node"]["forward"] = [PORT]
        took, version, log = place.put(container, params, on_output=written.look)
        tell(f"{NODES} nodes: ready after {took:.1f} s")
        if written.powered != NODES:
            raise Failed(f"{written.powered} of {NODES} nodes were said to be powered on:\n{log}")
        yield Row(f"disk written by {NODES} nodes before boot", "≤ 10 MiB", f"{written.bytes / MIB:.1f} MiB", written.bytes / MIB, 10,
                  note="all blocks in the container when the last is powered on; some boot by then, so this is an upper bound")
        yield from idle(place, container, tell)
        yield get(place, version, tell)
        yield from forward.measure(place, container, PORT, rounds, tell)
        yield down(place, container, tell)


class Written:
    """Looks, at every machine's start, at what the container occupies on disk."""

    def __init__(self, container):
        self.container, self.powered, self.bytes, self.tail = container, 0, 0, ""

    def look(self, text):
        self.tail += text
        *lines, self.tail = self.tail.split("\n")
        for line in lines:
            if re.search(r"powered on, \d", line):
                self.powered += 1
                self.bytes = sum(allocated(self.container.directory / part) for part in ("scratch", "root/upper", "input0/upper"))


def allocated(top):
    seen, total = set(), 0
    for folder, _, files in os.walk(top):
        for name in files:
            try:
                info = os.lstat(os.path.join(folder, name))
            except FileNotFoundError:
                continue
            if info.st_ino not in seen:
                seen.add(info.st_ino)
                total += info.st_blocks * 512
    return total


def idle(place, container, tell):
    """Memory and CPU of the agent's own processes. RSS counts what they share with each other twice, and what libvirtd shares
    with them at all; PSS divides each page by its users, and so sums up to what is really occupied."""
    pids = [p["pid"] for p in place.worker.ps(container) if p["comm"] == "nodectl" and p["argv"][1:2] == ["agent"]]
    if len(pids) != 2:
        raise Failed(f"{len(pids)} processes of an agent")
    time.sleep(5)
    before = sum(map(cpu, pids))
    time.sleep(IDLE)
    share = (sum(map(cpu, pids)) - before) / IDLE * 100
    kinds = {kind: [memory(pid, kind) / MIB for pid in pids] for kind in ("Rss", "Pss")}
    rows = [Row(f"agent's {kind.upper()}, {NODES} idle nodes", "≤ 25 MiB", f"{sum(each):.1f} MiB", sum(each), 25,
                note=" + ".join(f"{one:.1f}" for one in each) + " MiB, init and serve") for kind, each in kinds.items()]
    rows.append(Row(f"agent's CPU, {NODES} idle nodes", "≤ 0.5 %", f"{share:.2f} %", share, 0.5, note=f"of a core, over {IDLE} s"))
    for row in rows:
        tell(f"{row.what}: {row.said}")
    return rows


def memory(pid, field):
    return int(re.search(rf"^{field}:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M).group(1)) * 1024


def cpu(pid):
    """Seconds of user and system time (proc(5): fields 14 and 15, of 100ths)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


GETS = 15
GET = r"""cat > /request; i=0
while [ $i -lt %d ]; do
  i=$((i + 1)); mkdir /tmp/build/get/$i; began=$(date +%%s%%N)
  /opt/resource/in /tmp/build/get/$i < /request > /answer || exit 1
  ended=$(date +%%s%%N); /bin/true; true=$(date +%%s%%N)
  echo $((ended - began)) $((true - ended))
done""" % GETS


def get(place, version, tell):
    """`in` in a get's container, over and over; the clock's own start of `date` is in it, and so is kind to nobody."""
    request = json.dumps({"source": SOURCE, "version": version}).encode()
    with place.container("get", "get") as container:
        _, out, _ = place.run(container, ["sh", "-c", GET], stdin=request)
    took = [[int(word) / 1e6 for word in line.split()] for line in out.splitlines()]
    gets, nothing = [t[0] for t in took], [t[1] for t in took]
    figure = statistics.median(gets)
    tell(f"in: {figure:.1f} ms")
    return Row(f"in, {NODES} nodes", "≤ 150 ms", f"{figure:.1f} ms", figure, 150,
               note=f"ms {spread(gets)} of {len(gets)}; /bin/true in the same loop {statistics.median(nothing):.1f} ms")


def down(place, container, tell):
    """`nodectl down`, which a put with `action: destroy` asks of the agent in the same words. Answered when all is gone."""
    took, _, _ = place.timed(container, ["nodectl", "down"])
    left = [p["comm"] for p in place.worker.ps(container) if p["state"] != "Z" and p["comm"] != "nodectl"]
    if any(name.startswith(("qemu", "libvirtd", "virtlogd", "dnsmasq")) for name in left):
        raise Failed(f"left after nodectl down: {left}")
    if list((cluster_directory(container) / "disks").glob("*")):
        raise Failed("disks are left after nodectl down")
    tell(f"destroy of {NODES}: {took:.2f} s")
    return Row(f"destroy of {NODES} nodes", "≤ 2 s", f"{took:.2f} s", took, 2, note="nodectl down, to its exit; no process and no disk was left")
