"""Networks that the agent itself is the switch, router and name server of: everything that holds on bridges holds on them."""

import re
import shutil

from cluster import curl, disks, given, image, machine, put, start, task  # noqa: F401

# Bytes that cross the agent's switch each way.
MANY = 24 << 20

LOOK = r"""
for node in debian-1 tiny-1; do nodes/ssh $node 'echo "$(hostname) runs $(uname -s)"'; done
nodes/ssh debian-1 ping -c 2 tiny-1 | grep -o '2 received'
nodes/ssh debian-1 ping -c 2 tiny-1.storage | grep -o '2 received'
nodes/ssh debian-1 'hostname --fqdn; getent hosts tiny-1; ip -4 -brief address'
head -c MANY /dev/urandom > /tmp/many
rate() { expr MANY / 1024 / \( $(date +%s) - $1 + 1 \); }
at=$(date +%s); nodes/ssh debian-1 'cat > /root/many' < /tmp/many; echo "$(rate $at) KiB/s into the node by SSH"
at=$(date +%s); nodes/ssh debian-1 'cat /root/many' | cmp - /tmp/many && echo the bytes are the same; echo "$(rate $at) KiB/s out of it"
"""

AGAIN = r"""
export NODES_DIR=nodes
addresses() { nodes/ssh tiny-1 'ip -4 address' | grep -o 'inet 10[0-9./]*'; }
addresses > before
nodectl power cut tiny-1 && nodectl list && nodectl power on tiny-1 && nodectl wait
nodectl power off tiny-1 && nodectl power on --all && nodectl wait
addresses | cmp - before && cat before && echo the addresses are the same
nodes/ssh debian-1 ping -c 1 tiny-1 | grep -o '1 received'
nodes/ssh -n debian-1 'echo served > /root/name; systemd-run --quiet python3 -m http.server 8080 --directory /root; sleep 4'
"""


def test_a_distribution_on_user_mode_networks(machine, image, disks, aloud):  # noqa: F811
    shutil.copy(given("GUEST_DEBIAN", "disk image of the Debian guest"), disks / "debian.qcow2")
    params = {
        "networking": "user",
        "networks": {"default": {"nat": "auto"}, "storage": {"isolated": "auto"}},
        "defaults": {"networks": ["default", "storage"]},
        "nodes": {
            "debian": {"count": 1, "image": {"file": "os/debian.qcow2"}, "cpus": 1, "memory": "768MiB"},
            "tiny": {"count": 1, "image": {"file": "os/tiny.qcow2"}, "memory": "256MiB"},
        },
    }
    build = start(machine, image, disks, [put(params, inputs="all"), task(LOOK.replace("MANY", str(MANY))), task(AGAIN, name="again")], keep=True).wait(1200)
    print(build.log)
    assert build.status == "succeeded", build.log[-6000:]
    said = build.log.replace("\r", "")
    # Whole lines: the log shows the script as well.
    lines = said.splitlines()
    for line in ("debian-1 runs Linux", "tiny-1 runs Linux", "the bytes are the same", "the addresses are the same", "1 received"):
        assert line in lines, line
    assert lines.count("2 received") == 2, said
    aloud("\n" + "\n".join(line for line in lines if re.match(r"[0-9]+ KiB/s", line)))
    _, proxy, _ = machine.exec(build.steps["get nodes"].container, ["cat", "/tmp/build/get/proxy"])
    assert curl(machine, proxy.strip(), "http://debian-1:8080/name") == (0, "served\n")
    wrong = "socks5h://nodes:wrong@" + proxy.strip().rsplit("@", 1)[1]
    assert curl(machine, wrong, "http://debian-1:8080/name")[0] != 0
    build.release()
