"""The main job: nodes from one put, reached from an unprivileged task, gone with the build."""

import json
import shutil
import threading

import pytest
from cluster import TOKEN, call_in, curl, disks, given, image, last_words, machine, parts, put, start, task, tiny  # noqa: F401

USER_DATA = """#cloud-config
write_files:
- {path: /etc/from-the-user, content: "hello from user data"}
"""

TOPOLOGY = """
image: {file: os/debian.qcow2}
defaults: {cpus: 1, memory: 768MiB}
networks:
  default: {nat: auto}
  storage: {isolated: auto, mtu: 9000}
nodes:
  control: {forward: [6443]}
  worker:
    count: 2
    networks: [default, storage]
    extra_disks: [{size: 64MiB, serial: data0}]
first_boot: {user_data: repo/user-data.yml}
ready: {command: cloud-init status --wait, timeout: 20m}
collect:
  machine: {node: worker-1, path: /etc/from-the-user}
"""

LOOK = r"""
test "$(id -u)" = 0 && ! mknod /tmp/x c 10 232 2>/dev/null && echo the task is unprivileged
for node in control-1 worker-1 worker-2; do nodes/ssh $node 'echo "$(hostname) runs $(uname -sr)"'; done
nodes/ssh control-1 ping -c 2 worker-2
nodes/ssh worker-1 ping -c 2 -M do -s 8900 worker-2.storage
nodes/ssh worker-1 'cat /etc/from-the-user; test -b /dev/disk/by-id/virtio-data0 && echo; echo the extra disk is there'
cat nodes/collected/machine; echo
echo one > /tmp/one; nodes/scp /tmp/one worker-2:/tmp/two; nodes/ssh worker-2 cat /tmp/two
nodes/ssh -n worker-1 'systemd-run --quiet python3 -m http.server 8080 --directory /etc; sleep 4'
nodes/ssh worker-2 ping -c 2 OUTSIDE && echo out through NAT
! grep -rqF "$PWD" nodes && echo no absolute path
. nodes/env; test "$NODES_DIR" = "$PWD/nodes"; ssh -F nodes/ssh_config control-1 true && echo ssh_config works
"""


def test_three_debian_nodes_from_one_put(machine, image, disks, tmp_path):
    shutil.copy(given("GUEST_DEBIAN", "disk image of the Debian guest"), disks / "debian.qcow2")
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo/user-data.yml").write_text(USER_DATA)
    (tmp_path / "repo/nodes.yml").write_text(TOPOLOGY)
    # The worker's own end of the bridge is an address beyond the nodes' NAT.
    plan = [put({"topology": "repo/nodes.yml"}, inputs="all"), task(LOOK.replace("OUTSIDE", "$(sed 's/:.*//' nodes/endpoint)"))]
    build = start(machine, image, disks, plan, resources={"repo": str(tmp_path / "repo")}, keep=True).wait()
    (disks / "debian.qcow2").unlink()
    print(build.log)
    assert build.status == "succeeded", build.log[-6000:]
    for said in ["the task is unprivileged", "control-1 runs Linux", "worker-2 runs Linux", "hello from user data",
                 "the extra disk is there", "out through NAT", "no absolute path", "ssh_config works"]:
        assert said in build.log, said
    assert build.log.count("hello from user data") == 2, "on the node, and collected"
    # The build page shows the metadata of the step that saved a version last: the get's.
    assert build.steps["get nodes"].metadata == build.steps["put nodes"].metadata
    metadata = {m["name"]: m["value"] for m in build.steps["put nodes"].metadata}
    assert metadata["accelerator"] in ("tcg", "kvm") and "control-1, worker-1, worker-2" == metadata["nodes"]
    # Through the proxy, by this machine's curl from the worker's network: the image has none.
    _, proxy, _ = machine.exec(build.steps["get nodes"].container, ["cat", "/tmp/build/get/proxy"])
    assert curl(machine, proxy.strip(), "http://worker-1:8080/hostname") == (0, "worker-1\n")
    wrong = "socks5h://nodes:wrong@" + proxy.strip().rsplit("@", 1)[1]
    assert curl(machine, wrong, "http://worker-1:8080/hostname")[0] != 0
    container = build.steps["put nodes"].container
    assert len([p for p in parts(machine, container) if "qemu" in p["comm"]]) == 3
    build.release()
    assert parts(machine, container) == []


def test_two_builds_side_by_side_do_not_collide(machine, image, disks):
    script = "nodes/ssh node-1 'hostname; cat /etc/dropbear/*.pub 2>/dev/null; ip route' >&2; nodes/ssh node-1 ping -c1 node-2; cat nodes/name"
    builds = [None, None]

    def one(number):
        builds[number] = start(machine, image, disks, [put(tiny(2)), task(script)]).wait()

    both = [threading.Thread(target=one, args=(n,)) for n in (0, 1)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    for build in builds:
        assert build.status == "succeeded", build.log
    versions = [b.steps["put nodes"].version for b in builds]
    for key in ("cluster", "endpoint", "fingerprint"):
        assert versions[0][key] != versions[1][key], key


@pytest.fixture(scope="module")
def standing(machine, image, disks):
    """A put of two tiny nodes whose containers are kept."""
    build = start(machine, image, disks, [put(tiny(2))], keep=True).wait()
    assert build.status == "succeeded", build.log
    yield build
    build.release()


def test_out_run_again_in_its_container_finds_its_cluster(machine, standing):
    container = standing.steps["put nodes"].container
    machines = sorted(p["pid"] for p in parts(machine, container))
    request = json.dumps({"source": {"token": TOKEN}, "params": tiny(2)})
    # The stand-in's own request, as it was sent: the same bytes.
    status, out, err = machine.exec(container, ["/opt/resource/out", "/tmp/build/put"], stdin=request.encode())
    if status == 0:
        assert json.loads(out)["version"] == standing.steps["put nodes"].version
        assert "ready already" in err
    else:
        assert "already holds the cluster" in err, err
    assert sorted(p["pid"] for p in parts(machine, container)) == machines


def test_hijack_lists_reaches_and_shows(machine, standing):
    container = standing.steps["put nodes"].container
    status, out, _ = machine.exec(container, ["nodectl", "list", "--json"])
    listed = json.loads(out)
    assert status == 0 and [n["state"] for n in listed["nodes"]] == ["ready", "ready"] and "key" not in out
    assert machine.exec(container, ["nodectl", "ssh", "node-2", "--", "hostname; exit 7"])[:2] == (7, "node-2\n")
    status, out, _ = machine.exec(container, ["nodectl", "console", "node-1", "--tail", "5"])
    assert status == 0 and out.count("\n") <= 6
    status, _, err = machine.exec(container, ["nodectl", "ssh", "nod-1"])
    assert status == 1 and "did you mean node-1" in err


def test_get_names_what_is_wrong(machine, standing, aloud):
    """Each way in which a get can miss its cluster has its own error. Printed as a table."""
    version = standing.steps["put nodes"].version
    container = standing.steps["get nodes"].container
    rows = []

    def asks(what, expected, version=version, source=None):
        status, out, err = call_in(machine, container, version, source)
        rows.append((what, last_words(err)))
        assert status == 1 and out == "" and expected in err, (what, err)
        assert "end-to-end-token" not in err

    status, out, _ = call_in(machine, container, version)
    assert status == 0 and json.loads(out)["version"] == version
    asks("wrong token", "refuses the token", source={"token": "another-token-0123456789"})
    asks("another certificate", "another agent", version={**version, "fingerprint": "ab" * 32})
    asks("refused port", "connection is refused", version={**version, "endpoint": version["endpoint"].split(":")[0] + ":9"})
    asks("address that nobody has", "cannot be reached", version={**version, "endpoint": "10.80.255.254:7669"})
    asks("no version of ours", "version.endpoint", version={**version, "endpoint": "somewhere"})
    status, out, err = call_in(machine, container, {**version, "state": "destroyed"})
    assert status == 0 and json.loads(out)["version"]["state"] == "destroyed", err
    # Last, since it ends the cluster: destroyed through the API, as a put with action: destroy does it.
    put_container = standing.steps["put nodes"].container
    assert machine.exec(put_container, ["nodectl", "down"])[0] == 0
    assert parts(machine, put_container) == []
    asks("destroyed", "was destroyed")
    aloud("\nwhat a get misses          | what it says\n" + "\n".join(f"{what:26} | {said}" for what, said in rows))


def test_destroy_by_a_put_and_expiry(machine, image, disks):
    plan = [put(tiny()), {"put": "nodes", "params": {"action": "destroy", "cluster": "nodes"}}, task("ls -a nodes; test ! -e nodes/ssh")]
    build = start(machine, image, disks, plan, keep=True).wait()
    assert build.status == "succeeded", build.log
    assert parts(machine, build.steps["put nodes"].container) == []
    assert build.steps["put nodes (2)"].version["state"] == "destroyed"
    build.release()
    build = start(machine, image, disks, [put(tiny(lifetime="1m")), task("sleep 75")], keep=True).wait()
    assert build.status == "succeeded", build.log
    assert parts(machine, build.steps["put nodes"].container) == []
    status, _, err = call_in(machine, build.steps["get nodes"].container, build.steps["put nodes"].version)
    assert status == 1 and "has expired: its lifetime of 60 s" in err, err
    build.release()
