"""A forward's throughput against the way to the node's own address, both from within the put's container.

Twice: to a node, where the guest is what a stream waits for, and to a process on the host that was given the node's address and
MAC on the cluster's bridge, where the forward is."""

import json
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from .place import Failed, spread
from .raw import inside_network
from .table import Row

LIMIT = 0.7
SECONDS = 2


def measure(place, container, port, rounds, tell):
    listed = json.loads(place.run(container, ["nodectl", "list", "--json"])[1])["nodes"]
    guest, moved = listed[0], listed[1]
    place.run(container, ["nodectl", "ssh", guest["name"], "--",
                          f"(while nc -l -p {port} >/dev/null </dev/null; do :; done) >/dev/null 2>&1 </dev/null &"])
    yield compare(container, guest, port, rounds, tell, "forward / direct, to a guest")
    with taken_over(container, moved, port):
        yield compare(container, moved, port, rounds, tell, "forward / direct, to a process")


def compare(container, node, port, rounds, tell, what):
    ways = {"direct": (node["address"], port), "forward": tuple(node["forwards"][str(port)].split(":"))}
    rates = {name: [] for name in ways}
    for number in range(rounds):
        for name in sorted(ways, reverse=number % 2):
            rates[name].append(stream(container, *ways[name]))
    ratios = [f / d for f, d in zip(rates["forward"], rates["direct"])]
    ratio = statistics.median(ratios)
    shown = {name: f"{statistics.median(values) / 1e6:.0f} MB/s" for name, values in rates.items()}
    tell(f"{what}: {ratio:.2f} (forward {shown['forward']}, direct {shown['direct']})")
    return Row(what, f"≥ {LIMIT}", f"{ratio:.2f}", ratio, LIMIT, least=True,
               note=f"ratios {spread(ratios)}; forward {shown['forward']}, direct {shown['direct']}; {rounds} rounds of {SECONDS} s")


def stream(container, address, port):
    for _ in range(100):
        done = subprocess.run(["nsenter", f"--net=/proc/{container.pid}/ns/net", sys.executable, "-m", "measure.stream",
                               "source", address, str(port), str(SECONDS)], capture_output=True, text=True)
        if done.returncode == 0:
            return float(done.stdout)
        time.sleep(0.1)  # between two streams the guest's nc is away for a moment
    raise Failed(f"stream to {address}:{port}: {done.stderr.strip()}")


@contextmanager
def taken_over(container, node, port):
    """The node's address and MAC, on its bridge, for a process of ours; its own tap is down meanwhile."""
    addresses = json.loads(inside_network(container.pid, "ip", "-j", "route", "get", node["address"]))
    bridge = addresses[0]["dev"]
    neighbour = json.loads(inside_network(container.pid, "ip", "-j", "neigh", "show", node["address"], "dev", bridge))
    mac = neighbour[0]["lladdr"]
    # The bridge knows behind which port the MAC is: libvirt's taps have the same with fe in front.
    taps = [link["ifname"] for link in json.loads(inside_network(container.pid, "ip", "-j", "link", "show", "master", bridge))
            if link["address"].split(":")[1:] == mac.split(":")[1:]]
    if len(taps) != 1:
        raise Failed(f"{node['name']}: {len(taps)} taps for {mac}")
    mtu = str(json.loads(inside_network(container.pid, "ip", "-j", "link", "show", "dev", bridge))[0]["mtu"])
    inside_network(container.pid, "ip", "link", "set", taps[0], "down")
    holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
    listener = None
    try:
        wait_for_network_of_its_own(holder.pid)
        inside_network(container.pid, "ip", "link", "add", "bench0", "mtu", mtu, "type", "veth", "peer", "name", "eth0", "mtu", mtu,
                       "address", mac, "netns", str(holder.pid))
        inside_network(container.pid, "ip", "link", "set", "bench0", "master", bridge, "up")
        for line in ("link set lo up", f"addr add {node['address']}/24 dev eth0", "link set eth0 up"):
            inside_network(holder.pid, "ip", *line.split())
        listener = subprocess.Popen(["nsenter", f"--net=/proc/{holder.pid}/ns/net", sys.executable, "-m", "measure.stream", "sink",
                                     node["address"], str(port)], stdout=subprocess.PIPE, text=True)
        if listener.stdout.readline().strip() != "listening":
            raise Failed(f"no listener at {node['address']}:{port}")
        yield
    finally:
        for process in (listener, holder):
            if process:
                process.kill()
                process.wait()
        inside_network(container.pid, "ip", "link", "set", taps[0], "up")


def wait_for_network_of_its_own(pid):
    until = time.monotonic() + 10
    while Path(f"/proc/{pid}/ns/net").readlink() == Path("/proc/self/ns/net").readlink():
        if time.monotonic() > until:
            raise Failed("unshare --net did not come to its point")
        time.sleep(0.01)
