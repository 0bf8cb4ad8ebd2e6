"""The worker's network: a namespace with the bridge 10.80.0.1/16, one veth a container, and on demand NAT to the host's network."""

import os
import zlib
from pathlib import Path

from .host import Broken, sh

GATEWAY, SIZE = "10.80.0.1", 16


def uplink_mtu():
    """MTU of the host's outbound interface, which a worker gives to its containers."""
    for line in sh("ip", "-o", "route", "show", "default").splitlines():
        device = line.split(" dev ")[1].split()[0]
        return int(Path(f"/sys/class/net/{device}/mtu").read_text())
    return 1500


def namespace(worker):
    return f"ciw-{worker}"


def up(worker, nat):
    ns = namespace(worker)
    sh("ip", "netns", "add", ns)
    mtu = uplink_mtu()
    for line in ("link set lo up", f"link add concourse0 mtu {mtu} type bridge", f"addr add {GATEWAY}/{SIZE} dev concourse0",
                 "link set concourse0 up"):
        sh("ip", "-n", ns, *line.split())
    if nat:
        _nat_up(worker, ns, mtu)


def down(worker, nat):
    """Idempotent: also after a harness that died halfway."""
    if nat:
        _rules("-D", worker)
        sh("ip", "link", "del", _uplink(worker)[0], ok=None)  # at once: the namespace's own devices go later, in the background
    if os.path.exists(f"/run/netns/{namespace(worker)}"):
        sh("ip", "netns", "del", namespace(worker))


def attach(worker, interface, address, pid):
    """eth0 for the container whose init is `pid`; its other end, `interface`, on the bridge."""
    ns = namespace(worker)
    mtu = sh("ip", "-n", ns, "-o", "link", "show", "concourse0").split(" mtu ")[1].split()[0]
    sh("ip", "-n", ns, "link", "add", interface, "mtu", mtu, "type", "veth", "peer", "name", "eth0", "mtu", mtu, "netns", pid)
    sh("ip", "-n", ns, "link", "set", interface, "master", "concourse0", "up")
    inside = ("nsenter", f"--net=/proc/{pid}/ns/net", "ip")
    for line in ("link set lo up", f"addr add {address}/{SIZE} dev eth0", "link set eth0 up", f"route add default via {GATEWAY}"):
        sh(*inside, *line.split())


def detach(worker, interface):
    sh("ip", "-n", namespace(worker), "link", "del", interface, ok=None)


def resolv_conf(nat):
    """The host's resolver where there is a way to it; without NAT there is none to name."""
    if not nat:
        return ""
    lines = Path("/etc/resolv.conf").read_text().splitlines()
    return "".join(f"{l}\n" for l in lines if not l.startswith(("nameserver 127.", "nameserver ::1")))


def _uplink(worker):
    """(device on the host, its address, the worker's): from 100.64/10, by the worker's name."""
    number = zlib.crc32(worker.encode())
    base = (number % (1 << 20)) * 4
    third = f"100.{64 + (base >> 16)}.{base >> 8 & 255}"
    return f"ciw{number:08x}", f"{third}.{(base & 255) + 1}", f"{third}.{(base & 255) + 2}"


def _nat_up(worker, ns, mtu):
    device, outside, inside = _uplink(worker)
    if Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() != "1":
        raise Broken("NAT needs forwarding on this host: sysctl -w net.ipv4.ip_forward=1 (not changed unasked)")
    sh("ip", "link", "add", device, "mtu", mtu, "type", "veth", "peer", "name", "uplink", "mtu", mtu, "netns", ns)
    sh("ip", "addr", "add", f"{outside}/30", "dev", device)
    sh("ip", "link", "set", device, "up")
    for line in (f"addr add {inside}/30 dev uplink", "link set uplink up", f"route add default via {outside}"):
        sh("ip", "-n", ns, *line.split())
    inside_ns = ("nsenter", f"--net=/run/netns/{ns}")
    sh(*inside_ns, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    sh(*inside_ns, "iptables", "-w", "-t", "nat", "-A", "POSTROUTING", "-o", "uplink", "-j", "MASQUERADE")
    _rules("-I", worker)


def _rules(verb, worker):
    """Host rules: masquerade and forward the worker's traffic; container to worker host is rejected, as on a worker."""
    device, _, inside = _uplink(worker)
    for rule in (["-t", "nat", verb, "POSTROUTING", "-s", inside, "!", "-o", device, "-j", "MASQUERADE"],
                 [verb, "FORWARD", "-i", device, "-j", "ACCEPT"], [verb, "FORWARD", "-o", device, "-j", "ACCEPT"],
                 [verb, "INPUT", "-i", device, "-j", "REJECT"]):
        argv = ["iptables", "-w", *rule]
        if verb == "-D":
            sh(*argv, ok=None)
        else:
            sh(*argv)
