"""`nodectl` as a person types it in a container: up, list, ssh, cp, down, and what goes wrong."""

import json
import re

from cluster import disks, image, machine, start, task, tiny  # noqa: F401

UP = r"""
cp os/tiny.qcow2 /tmp/tiny.qcow2; cd /tmp
cat > nodes.yml <<'X'
TOPOLOGY
X
nodectl up -f nodes.yml
nodectl list
nodectl ssh node-2 -- hostname
NODES_DIR=nodes nodectl ssh node-1 -- 'hostname; exit 9' || echo ssh $?
echo hello > hello; nodectl cp hello node-1:/tmp/there; nodectl cp node-1:/tmp/there back; cat back
mkdir deep; echo deeper > deep/er; nodectl cp -r deep node-2:/tmp/; nodectl ssh node-2 -- cat /tmp/deep/er
nodes/ssh node-2 ping -c 1 node-1 | grep -c '1 packets received'
nodectl up -f nodes.yml -o other || echo second up $?
nodectl list | head -1 >/dev/null
nodectl down; echo down $?
pidof qemu-system-x86_64 libvirtd || echo nothing runs
nodectl list
nodectl run -f nodes.yml -- true; echo run after down $?
nodectl session -- virsh list --all --name; echo session after run $?
"""


def test_up_stands_until_down(machine, image, disks):
    topology = json.dumps({**tiny(2), "image": {"file": "tiny.qcow2"}})
    build = start(machine, image, disks, [task(UP.replace("TOPOLOGY", topology), inputs=("os",), privileged=True)]).wait(300)
    print(build.log)
    assert build.status == "succeeded", build.log
    said = build.log.replace("\r", "")
    said = said[said.index("libvirt 11") :]
    for word in ["stands until", "node-2\n", "node-1\nssh 9", "hello\n", "deeper\n", "\n1\n", "already held in this container", "second up 69",
                 "down 0", "destroyed", "run after down 0", "session after run 0"]:
        assert word in said, (word, said)
    assert "nothing runs" in said


# What is typed, its exit status, and what is said. No cluster stands here.
WRONG = [
    ("nodectl list", 1, "there is no cluster in this container"),
    ("nodectl ssh worker-1", 1, "there is no cluster in this container"),
    ("nodectl cp x worker-1:/tmp", 1, "there is no cluster in this container"),
    ("nodectl console worker-1", 1, "there is no cluster in this container"),
    ("nodectl down", 1, "there is no cluster in this container"),
    ("nodectl ssh Worker_1", 2, "invalid value 'Worker_1'"),
    ("nodectl", 2, "Usage: nodectl"),
    ("nodectl lst", 2, "a similar subcommand exists: 'list'"),
    ("nodectl run -f nothing.yml -- true", 1, "nothing.yml"),
    ("nodectl run -f os -- true", 1, "os"),
    ("nodectl run -f /tmp/t.yml", 2, "required arguments were not provided"),
    ("nodectl up -f nothing.yml", 1, "nothing.yml"),
    ("nodectl up -f /tmp/t.yml -o /proc/nodes", 1, "/proc/nodes"),
    ("nodectl list --nodes-dir /nowhere", 1, "/nowhere"),
    ("NODES_DIR=/tmp nodectl list", 1, "/tmp"),
    ("nodectl session --", 2, "required arguments were not provided"),
    ("nodectl session -- /tmp", 126, "/tmp: cannot be run"),
    ("nodectl doctor --jsn", 2, "similar argument exists: '--json'"),
    ("nodectl schema | head -c1 >/dev/null", 0, ""),
    ("NODES_DIR=/tmp/stale nodectl list", 1, "does not tell of a cluster"),
    ("NODES_DIR= nodectl list", 1, "nor in ./nodes, and NODES_DIR is not set"),
    ("cd /tmp/here; nodectl list", 1, "does not tell of a cluster"),
    ("nodectl power on worker-1", 1, "there is no cluster in this container"),
    ("nodectl power status --all --json", 1, "there is no cluster in this container"),
    ("nodectl power on", 2, "required arguments were not provided"),
    ("nodectl power off --all worker-1", 2, "cannot be used with"),
    ("nodectl power of worker-1", 2, "possible values: on, off, cycle, cut, status"),
    ("nodectl power off --all --timeout 2", 2, "use a number with s, m or h"),
    ("nodectl power off --all --timeout 25h", 2, "more than a day is never waited"),
    ("nodectl pause worker-1", 1, "there is no cluster in this container"),
    ("nodectl resume --all", 1, "there is no cluster in this container"),
    ("nodectl wait", 1, "there is no cluster in this container"),
    ("nodectl logs", 1, "there is no cluster in this container"),
    ("nodectl collect", 1, "there is no cluster in this container"),
    ("nodectl collect worker-1:", 2, "there is no path after the colon"),
    ("nodectl collect Kubeconfig", 2, "or write NODE:PATH"),
    ("nodectl completions tcsh", 2, "possible values: bash, zsh, fish"),
    ("nodectl man /proc/pages", 1, "/proc/pages: cannot be written"),
    ("nodectl run -f /tmp/t.yml --cache /proc/cache -- true", 1, "image"),
    ("nodectl run -f /tmp/t.yml -o /proc/out -- true", 1, "--output /proc/out: cannot be made"),
    ("setpriv --reuid 65534 --clear-groups nodectl list", 1, "/run/libvirt-resource: cannot be read: Permission denied"),
]

STALE = """
mkdir /tmp/stale; echo x > /tmp/stale/name; echo '{"nodes": {"a": {}}, "image": {"file": "x"}}' > /tmp/t.yml
cat > /tmp/stale/nodes.json <<'X'
NODES
X
mkdir /tmp/here; cp -r /tmp/stale /tmp/here/nodes; echo 10.80.255.250:7669 > /tmp/stale/endpoint; echo 0123456789abcdef > /tmp/stale/token
"""


def test_what_goes_wrong_is_said(machine, image, disks, aloud):
    script = STALE + script_of(WRONG)
    build = start(machine, image, disks, [task(script, inputs=("os",), privileged=True)]).wait(300)
    assert build.status == "succeeded", build.log
    said = build.log.replace("\r", "")
    check_table(WRONG, said, aloud)


def script_of(table):
    return "set +e\n" + "\n".join(f"echo '== {n}'; ({line}); echo \"status $?\"" for n, (line, _, _) in enumerate(table)) + "\necho '== end'\n"


def check_table(table, said, aloud):
    """Prints what was typed and what came of it, then holds it against what is expected."""
    parts = [said.rsplit(f"\n== {number}\n", 1)[1].split("\n== ")[0] for number in range(len(table))]
    aloud(f"\n\n{'typed':70} | status | said")
    for (line, status, _), part in zip(table, parts):
        words = " ".join(re.sub("\x1b\\[[0-9;]*m", "", part.rsplit("status ", 1)[0]).split())
        aloud(f"{line:70} | {status:6} | {words[:400]}")
    for (line, status, expected), part in zip(table, parts):
        assert f"status {status}\n" in part + "\n" and expected in part, (line, part)


# The same where a cluster of one node stands.
STANDING = [
    ("nodectl power on other", 1, "the cluster has no node other: its nodes are node-1"),
    ("nodectl power cut node-1 noed-2", 1, "did you mean node-1?"),
    ("nodectl pause other", 1, "the cluster has no node other"),
    ("nodectl wait other", 1, "the cluster has no node other"),
    ("nodectl logs other", 1, "the cluster has no node other"),
    ("nodectl collect other:/etc/hostname", 1, "the cluster has no node other"),
    ("nodectl collect kubeconfig", 1, "the topology has no collect"),
    ("nodectl collect", 1, "the topology has no collect"),
    ("nodectl collect node-1:/etc/shadow -o /proc/x", 1, "/proc/x: cannot be written"),
    ("nodectl ssh other", 1, "the cluster has no node other"),
    ("nodectl cp hello other:/tmp", 1, "the cluster has no node other"),
    ("nodectl console other", 1, "the cluster has no node other"),
    ("nodectl screenshot other", 1, "the cluster has no node other"),
    ("nodectl screenshot node-1 -o /proc/x.png", 1, "/proc/x.png: cannot be written"),
    ("nodectl wait --junit /proc/x.xml", 1, "--junit /proc/x.xml: cannot be written"),
    ("nodectl logs -o /proc/logs", 1, "/proc/logs: cannot be written"),
    ("nodectl up -f nodes.yml -o other", 69, "already held in this container"),
    ("setpriv --reuid 65534 --clear-groups nodectl list", 1, "Permission denied"),
    ("nodectl list | head -c1 >/dev/null", 0, ""),
    ("nodectl console node-1 | head -c1 >/dev/null", 0, ""),
    ("nodectl power status --all | true", 0, ""),
    ("nodectl wait | true", 0, ""),
    ("timeout -s INT 1 nodectl console node-1 -f >/dev/null", 124, ""),
    ("timeout -s INT 2 nodectl ssh node-1 -- sleep 30; ls -d /tmp/.tmp* 2>/dev/null", 2, ""),
    ("nodectl pause node-1; timeout -s INT 5 nodectl wait; nodectl resume node-1", 0, "its machine is paused"),
    # The button stays pressed though nobody waits any more.
    ("timeout -s INT 1 nodectl power off node-1 --timeout 60s", 124, ""),
]

# After the agent was killed.
DEAD = [(f"nodectl {verb}", 1, "of this container is gone: its agent died")
        for verb in ("list", "ssh node-1", "cp hello node-1:/", "console node-1", "screenshot node-1", "power on node-1", "pause --all",
                     "resume --all", "wait", "logs", "collect", "down")]
DEAD += [("NODES_DIR=nodes nodectl list", 1, "cannot be reached: the connection is refused"),
         ("nodectl run -f nodes.yml -- true", 0, "ready after"),
         ("nodectl list", 1, "cannot be reached: the connection is refused"),
         ("timeout -s INT 3 nodectl run -f nodes.yml -- true; pidof qemu-system-x86_64 libvirtd || echo nothing runs", 0, "nothing runs"),
         ("timeout -s INT 30 nodectl run -f nodes.yml -- sleep 100; pidof qemu-system-x86_64 libvirtd || echo nothing runs", 0, "nothing runs"),
         ("ls -d /tmp/.tmp* /tmp/nodes-* 2>/dev/null || echo no folder is left", 0, "no folder is left")]


def test_what_goes_wrong_with_a_cluster_is_said(machine, image, disks, aloud):
    topology = json.dumps({**tiny(1), "image": {"file": "tiny.qcow2"}})
    script = f"""cp os/tiny.qcow2 /tmp/tiny.qcow2; cd /tmp; touch hello
cat > nodes.yml <<'X'
{topology}
X
nodectl up -f nodes.yml
{script_of(STANDING)}
echo '== killed'
for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline 2>/dev/null | grep -q '^[^ ]*nodectl agent serve' || continue; kill -9 ${{p#/proc/}}; done
while pidof qemu-system-x86_64 >/dev/null; do sleep 0.1; done
""" + script_of(DEAD).replace("'== ", "'== dead ")
    build = start(machine, image, disks, [task(script, inputs=("os",), privileged=True)]).wait(900)
    print(build.log)
    assert build.status == "succeeded", build.log
    said, dead = build.log.replace("\r", "").rsplit("\n== killed\n", 1)
    check_table(STANDING, said, aloud)
    check_table(DEAD, "\n" + dead.replace("== dead ", "== "), aloud)
