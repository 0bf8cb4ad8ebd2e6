"""The floor: the very QEMUs that a put ran, started by nobody.

What is kept of a put's machines: libvirt's argv (machine, CPU, accelerator, every device, the sandbox), seed disks, login key,
addresses, bridge and DHCP server. What is dropped is what only libvirt can talk to: its monitor, its secret, the file
descriptors that it hands over (log, tap, sockets), and `-S`, since nobody would say `cont`.

The clock is kind to QEMU: network, DHCP server, seeds and empty overlays stand before it starts, and what it waits for is asked
for 20 times a second. So the floor holds no work that somebody without this resource would have to do too."""

import json
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .place import Failed, cluster_directory, moment

CLUSTERS = "/scratch/libvirt-resource/clusters"
SSH = ["-F", "/dev/null", "-T", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none",
       "-o", "PreferredAuthentications=publickey", "-o", "StrictHostKeyChecking=yes", "-o", "GlobalKnownHostsFile=/dev/null",
       "-o", "ConnectTimeout=10", "-o", "LogLevel=ERROR"]


@dataclass
class Machines:
    """All that is needed to start a put's machines again."""
    cluster: str
    nodes: list  # {name, address, argv}
    bridge: str
    bridge_address: str
    mtu: str
    dnsmasq: dict  # file name: text
    configuration: str  # of dnsmasq
    files: dict  # path below the cluster's directory: bytes


def remember(place, container):
    """Reads a ready put's machines."""
    directory = cluster_directory(container)
    cluster = directory.name
    processes = place.worker.ps(container)
    listed = {n["name"]: n for n in json.loads(place.run(container, ["nodectl", "list", "--json"])[1])["nodes"]}
    nodes = []
    for process in processes:
        if process["comm"].startswith("qemu-system") and process["state"] != "Z":
            name = re.search(rf"guest={re.escape(cluster)}-([^,]+)", " ".join(process["argv"])).group(1)
            nodes.append({"name": name, "address": listed[name]["address"], "argv": process["argv"]})
    server = next(p for p in processes if p["comm"] == "dnsmasq")
    inside = Path(f"/proc/{server['pid']}/root/var/lib/libvirt/dnsmasq")
    text = {f.name: f.read_text() for f in inside.iterdir() if f.is_file()}
    configuration = next(name for name in text if name.endswith(".conf"))
    bridge = re.search(r"^interface=(\S+)", text[configuration], re.M).group(1)
    link = json.loads(inside_network(container.pid, "ip", "-j", "addr", "show", "dev", bridge))[0]
    address = next(a for a in link["addr_info"] if a["family"] == "inet")
    files = {f"{kind}/{f.name}": f.read_bytes() for kind in ("seeds", "keys") for f in (directory / kind).iterdir()}
    return Machines(cluster, nodes, bridge, f"{address['local']}/{address['prefixlen']}", str(link["mtu"]), text, configuration, files)


def inside_network(pid, *argv):
    done = subprocess.run(["nsenter", f"--net=/proc/{pid}/ns/net", *argv], capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout


def alone(argv, tap):
    """A QEMU's argv as libvirt made it, without libvirt."""
    kept, words = [], iter(argv)
    for word in words:
        if word == "-S":
            continue
        if not word.startswith("-") or word in ("-no-user-config", "-nodefaults", "-no-shutdown"):
            kept.append(word)
            continue
        value = next(words)
        if word == "-add-fd" or (word == "-object" and '"secret"' in value) or (word == "-mon") or "id=charmonitor" in value:
            continue
        if word == "-netdev":
            net = json.loads(value)
            for key in ("fd", "vhostfd"):
                net.pop(key, None)
            value = json.dumps(net | {"ifname": tap, "script": "no", "downscript": "no"})
        if word == "-chardev":
            value = re.sub(r"logfile=[^,]*", f"logfile=/run/{tap}.console", value)
            value = re.sub(r"^(socket,id=[^,]*),fd=\d+", rf"\1,path=/run/{tap}.socket", value)
        kept += [word, value]
    return kept


def start_and_wait(place, machines):
    """Starts the machines in a container of a put's kind: seconds from the first QEMU's exec to the last login."""
    with place.container("put", "raw") as container:
        directory = container.directory / f"scratch/libvirt-resource/clusters/{machines.cluster}"
        for path, content in machines.files.items():
            file = directory / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            file.chmod(0o600)
        prepare(place, container, machines)
        start = "".join(f"{shlex.join(alone(n['argv'], f'tap{i}'))} </dev/null >/run/tap{i}.log 2>&1 &\n" for i, n in enumerate(machines.nodes))
        (container.rootfs / "start").write_text(f"date +%s.%N > /began\n{start}")
        keys = f"{CLUSTERS}/{machines.cluster}/keys"
        order = {"nodes": [{"name": n["name"], "address": n["address"]} for n in machines.nodes],
                 "ssh": ["nsenter", f"--mount=/proc/{container.pid}/ns/mnt", "ssh", "-i", f"{keys}/id_ed25519",
                         "-o", f"UserKnownHostsFile={keys}/known_hosts", "-l", "root", *SSH]}
        poll = subprocess.Popen(["nsenter", f"--net=/proc/{container.pid}/ns/net", "/usr/bin/python3", "-m", "measure.poll"],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        place.run(container, ["sh", "/start"])
        answer, _ = poll.communicate(json.dumps(order))
        if poll.returncode != 0:
            said = "".join(f.read_text(errors="replace")[-500:] for f in sorted((container.rootfs / "run").glob("tap*.[lc]o*")))
            raise Failed(f"raw QEMU: no login within the time limit: {said}")
        return max(json.loads(answer).values()) - moment(container, "began")


def prepare(place, container, machines):
    """Bridge, taps, DHCP server, overlays: as the put had them, before the clock starts."""
    lines = [f"link add {machines.bridge} mtu {machines.mtu} type bridge forward_delay 0 stp_state 0",
             f"addr add {machines.bridge_address} dev {machines.bridge}", f"link set {machines.bridge} up"]
    for number in range(len(machines.nodes)):
        lines += [f"tuntap add dev tap{number} mode tap vnet_hdr", f"link set tap{number} mtu {machines.mtu} master {machines.bridge} up"]
    for line in lines:
        inside_network(container.pid, "ip", *line.split())
    # A node that has taken its address is found at once, and not at the next second.
    inside_network(container.pid, "sh", "-c", f"echo 100 > /proc/sys/net/ipv4/neigh/{machines.bridge}/retrans_time_ms")
    home = container.rootfs / "var/lib/libvirt/dnsmasq"
    home.mkdir(parents=True, exist_ok=True)
    for name, text in machines.dnsmasq.items():
        (home / name).write_text(text)
    overlays = "".join(f"qemu-img create -q -f qcow2 -F qcow2 -b /tmp/build/put/os/tiny.qcow2 {CLUSTERS}/{machines.cluster}/disks/{n['name']}.qcow2\n"
                       for n in machines.nodes)
    devices = "".join(f"[ -e {path} ] || {{ mkdir -p {Path(path).parent}; mknod {path} c {numbers}; }}\n"
                      for path, numbers in (("/dev/net/tun", "10 200"), ("/dev/kvm", "10 232"), ("/dev/vhost-net", "10 238")))
    script = (f"mkdir -p /run/libvirt/network {CLUSTERS}/{machines.cluster}/disks\n{devices}{overlays}"
              f"dnsmasq --conf-file=/var/lib/libvirt/dnsmasq/{machines.configuration} --leasefile-ro\n")
    place.run(container, ["sh", "-ec", script])
