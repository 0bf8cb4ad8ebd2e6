"""Nodes that are switched off and on, cut, paused and waited for, and what is gathered from them; as a person types it in a task."""

import json
import re
import shutil

from cluster import TOKEN, disks, given, image, machine, put, start, task, tiny  # noqa: F401

HEAD = r"""
cp os/tiny.qcow2 /tmp/tiny.qcow2; cd /tmp
cat > nodes.yml <<'X'
TOPOLOGY
X
nodectl up -f nodes.yml
step() { echo "== $1"; }
says() { step "$1"; shift; "$@" 2>&1 && echo "status 0" || echo "status $?"; }
same() { nodectl list --json | tr -d ' \n' | sed 's/.*"nodes"//' | grep -o '"address":"[^"]*"\|"forwards":{[^}]*}'; }
power() { nodectl list --json | grep -o '"power": "[a-z]*"' | cut -d'"' -f4 | tr '\n' ' '; }
"""

POWER = HEAD + r"""
same > before
nodectl ssh node-1 -- 'echo kept > /root/kept; cat /proc/sys/kernel/random/boot_id' > boot
nodectl console node-1 | grep -c 'tiny: ready' > readies
says cut nodectl power cut node-1
says listed power
says console-of-off nodectl console node-1 --tail 1
says ssh-off nodectl ssh node-1 -- true
says screenshot-off nodectl screenshot node-1
says wait-off nodectl wait node-1 --junit off.xml
cat off.xml
says pause-off nodectl pause node-1
says logs-off nodectl logs -o partial; ls -1 partial partial/*
says on nodectl power on node-1
says wait nodectl wait --junit on.xml --json
cat on.xml
says listed power
nodectl ssh node-1 -- cat /proc/sys/kernel/random/boot_id > boot2
cmp -s boot boot2 || echo it is another boot
same > after; cmp before after && echo addresses and forwards are the same
nodes/ssh node-2 ping -c 1 node-1 | grep -c '1 packets received'
nodectl console node-1 | grep -c 'tiny: ready'; cat readies
says pause nodectl pause --all
says listed power
says off-paused nodectl power off node-1
says resume nodectl resume --all --json
says wait nodectl wait node-2 node-2
says off nodectl power off node-2
says listed power
says cycle nodectl power cycle --all
says wait nodectl wait --timeout 5m
says listed power
step itself; nodectl ssh node-2 -- poweroff || true
n=0; until [ "$(power)" = 'running off ' ]; do sleep 1; n=$(expr $n + 1); [ $n -lt 120 ]; done; power; echo
nodectl list
says on nodectl power on node-2
says wait nodectl wait
step deaf; nodectl ssh node-1 -- 'killall head; sleep 1; pidof head || echo nobody at the button'
says ignored nodectl power off node-1 --timeout 3s
says status nodectl power status --all --json
step killed
for p in /proc/[0-9]*; do tr '\0' ' ' < $p/cmdline 2>/dev/null | grep -q '^[^ ]*qemu-system[^ ]* -name guest=[^ ]*node-2,' || continue; kill -9 ${p#/proc/}; done
n=0; until power | grep -q crashed; do sleep 1; n=$(expr $n + 1); [ $n -lt 120 ]; done; power; echo
says on-killed nodectl power on node-2
says wait nodectl wait node-2
step report; nodectl report -o rep; ls -1 rep
nodectl down
says after-down nodectl power on node-1
"""


def parts(log):
    """What each step said, by the order of the steps."""
    found = re.split(r"^== ", log.replace("\r", ""), flags=re.M)[1:]
    return [(part.split("\n", 1) + [""])[:2] for part in found]


def test_power(machine, image, disks):
    topology = json.dumps({**tiny(2), "image": {"file": "tiny.qcow2"}})
    build = start(machine, image, disks, [task(POWER.replace("TOPOLOGY", topology), inputs=("os",), privileged=True)]).wait(900)
    print(build.log)
    assert build.status == "succeeded", build.log
    said = parts(build.log)
    expected = [
        ("cut", ["node-1  off", "status 0"]),
        ("listed", ["off running"]),
        ("console-of-off", ["status 0"]),
        ("ssh-off", ["status 255"]),
        ("screenshot-off", ["the machine of node node-1 is not running", "nodectl power on", "status 1"]),
        ("wait-off", ["node node-1 is not ready", "its machine is off", "status 69", 'failures="1"', 'name="node-1"']),
        ("pause-off", ["the machine of node node-1 is not running", "status 1"]),
        ("logs-off", ["node-2  console.log kernel.log", "node node-1: its machine is off: only its console was written", "status 1",
                      "report.json", "node-1:\nconsole.log\n", "node-2:\nconsole.log\nkernel.log\n"]),
        ("on", ["node-1  running", "status 0"]),
        ("wait", ['"ready": true', "status 0", 'tests="2" failures="0" errors="0"']),
        ("listed", ["running running", "it is another boot", "addresses and forwards are the same", "\n1\n2\n1\n"]),
        ("pause", ["node-1  paused\nnode-2  paused", "status 0"]),
        ("listed", ["paused paused"]),
        ("off-paused", ["node node-1 is paused", "nodectl resume", "status 1"]),
        ("resume", ['"power": "running"', "status 0"]),
        ("wait", ["node-2  ready, waited", "status 0"]),
        ("off", ["node-2  off", "status 0"]),
        ("listed", ["running off"]),
        ("cycle", ["node-1  running\nnode-2  running", "status 0"]),
        ("wait", ["node-1  ready", "node-2  ready", "status 0"]),
        ("listed", ["running running"]),
        ("itself", ["running off", "off       off"]),
        ("on", ["node-2  running", "status 0"]),
        ("wait", ["status 0"]),
        ("deaf", ["nobody at the button"]),
        ("ignored", ["node node-1 is still on: the guest has not switched its machine off within 3 s", "power cut", "status 1"]),
        ("status", ['"power": "running"', "status 0"]),
        ("killed", ["running crashed"]),
        ("on-killed", ["node-2  running", "status 0"]),
        ("wait", ["status 0"]),
        ("report", ["report.html", "report.json"]),
        ("after-down", ["destroyed", "status 1"]),
    ]
    assert [name for name, _ in said] == [name for name, _ in expected], build.log
    for (name, text), (_, words) in zip(said, expected):
        for word in words:
            assert word in text, (name, word, text)


FROM_OUTSIDE = r"""
export NODES_DIR=nodes
nodectl power cut --all; nodectl power on --all; nodectl wait --timeout 10m --junit ready.xml
grep -c '<testcase' ready.xml
nodectl ssh node-1 -- 'mkdir -p /var/log/pods/a/b; echo from a pod > /var/log/pods/a/b/0.log'
nodectl logs -o logs; ls -1 logs logs/node-1; cat logs/node-1/pods.log
nodectl ssh node-1 -- 'mkdir -p /tmp/deep; echo deep > /tmp/deep/er'
nodectl collect; nodectl collect hostname node-1:/tmp/deep node-2:/etc/hostname -o more --json | grep -c '"problem": null'
cat collected/hostname more/hostname more/node-1/deep/er more/node-2/hostname
nodectl collect node-1:/nowhere || echo status $?
nodectl collect nothing || echo status $?
nodes/ssh node-2 hostname
"""


def test_from_an_unprivileged_task_by_the_api(machine, image, disks):
    params = tiny(2, collect={"hostname": {"node": "node-2", "path": "/etc/hostname"}})
    build = start(machine, image, disks, [put(params, inputs="all"), task(FROM_OUTSIDE)]).wait(600)
    print(build.log)
    assert build.status == "succeeded", build.log
    said = build.log.replace("\r", "")
    said = said[said.rindex("node-1  off") :]
    for word in ["\n2\n", "logs/node-1:\nconsole.log\nkernel.log\npods.log\n", "==> /var/log/pods/a/b/0.log <==\nfrom a pod\n", "collected/hostname\n", "\n3\nnode-2\nnode-2\ndeep\nnode-2\n",
                 "node-1:/nowhere: ", "status 1", "the topology's collect has no nothing: it has hostname", "\nnode-2\n"]:
        assert word in said, (word, said)
    assert TOKEN not in build.log


TWICE = r"""
export NODES_DIR=nodes
nodectl ssh debian-1 -- 'echo kept > /root/kept; sync'
nodectl power cut debian-1; nodectl power on debian-1; nodectl wait --junit ready.xml; cat ready.xml
nodectl ssh debian-1 -- cat /root/kept
nodectl logs; ls -1 logs/debian-1; grep -q 'Linux version' logs/debian-1/journal.log && echo the journal is there
nodectl power off debian-1; nodectl list
nodectl power on debian-1; nodectl wait
nodectl ssh debian-1 -- 'modprobe pvpanic-mmio pvpanic-pci 2>/dev/null; modprobe pvpanic 2>/dev/null; (sleep 1; echo c > /proc/sysrq-trigger) >/dev/null 2>&1 &'
n=0; until nodectl power status debian-1 | grep -q crashed; do sleep 1; n=$(expr $n + 1); [ $n -lt 240 ]; done
nodectl list
nodectl power on debian-1 || echo "status $?"
nodectl wait --junit crashed.xml || echo "status $?"
nodectl power cycle debian-1; nodectl wait; nodectl ssh debian-1 -- cat /root/kept
"""


def test_a_distribution_is_cut_and_switched_off_in_order(machine, image, disks):
    shutil.copy(given("GUEST_DEBIAN", "disk image of the Debian guest"), disks / "debian.qcow2")
    params = {"image": {"file": "os/debian.qcow2"}, "defaults": {"cpus": 1, "memory": "512MiB"}, "nodes": {"debian": {"count": 1}}}
    build = start(machine, image, disks, [put(params, inputs="all"), task(TWICE)]).wait(1500)
    print(build.log)
    assert build.status == "succeeded", build.log
    said = build.log.replace("\r", "")
    for word in ["kept\n", "cloud-init-output.log\ncloud-init.log\nconsole.log\njournal.log\nkernel.log\n", "\nthe journal is there\n", "off       off", "crashed", "has panicked, its machine stands still",
                 "its machine has crashed"]:
        assert word in said, (word, said)
