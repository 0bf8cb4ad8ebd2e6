"""`nodectl` as a person types it in a container: up, list, ssh, cp, down, and what goes wrong."""

import json

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
]

STALE = """
mkdir /tmp/stale; echo x > /tmp/stale/name; echo '{"nodes": {"a": {}}, "image": {"file": "x"}}' > /tmp/t.yml
cat > /tmp/stale/nodes.json <<'X'
NODES
X
echo 10.80.255.250:7669 > /tmp/stale/endpoint; echo 0123456789abcdef > /tmp/stale/token
"""


def test_what_goes_wrong_is_said(machine, image, disks, capsys):
    script = STALE + "set +e\n" + "\n".join(f"echo '== {n}'; {line}; echo \"status $?\"" for n, (line, _, _) in enumerate(WRONG)) + "\necho '== end'"
    build = start(machine, image, disks, [task(script, inputs=("os",), privileged=True)]).wait(120)
    assert build.status == "succeeded", build.log
    said = build.log.replace("\r", "")
    with capsys.disabled():
        print("\n\ntyped                                              | status | said")
        for number, (line, status, expected) in enumerate(WRONG):
            part = said.rsplit(f"\n== {number}\n", 1)[1].split("\n== ")[0]
            words = " ".join(part.rsplit("status ", 1)[0].split())
            print(f"{line:50} | {status:6} | {words[:300]}")
    for number, (line, status, expected) in enumerate(WRONG):
        part = said.rsplit(f"\n== {number}\n", 1)[1].split("\n== ")[0]
        assert f"status {status}\n" in part + "\n" and expected in part, (line, part)
