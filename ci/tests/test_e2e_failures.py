"""Puts that cannot succeed: what a user reads, and that nothing is left. Real images, real guests, the real `out`."""

import hashlib
import json
import lzma
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from cluster import (  # noqa: F401
    SOURCE, call_in, disks, image, last_words, machine, parts, put, start, task, tiny,
)

BAD_IMAGES = []


def bad(name, expected, source=None):
    """A row: a function that makes a bad image, what `out` is to say of it, and the image source that names it."""
    def take(make):
        BAD_IMAGES.append((name, make, expected, source or {"file": f"os/{name}"}))
        return make
    return take


def qemu_img(*argv):
    subprocess.run(["qemu-img", *map(str, argv)], check=True, stdout=subprocess.DEVNULL)


@bad("page.html", "HTML")
def page(path, _):
    path.write_text("<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head></html>\n")


@bad("empty.qcow2", "empty")
def empty(path, _):
    path.write_bytes(b"")


@bad("backing.qcow2", "backing file")
def backing(path, disk):
    qemu_img("create", "-q", "-f", "qcow2", "-b", disk, "-F", "qcow2", path)


@bad("external.qcow2", "external file")
def external(path, _):
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={path}.raw", path, "10M")


@bad("cut.qcow2", "truncated")
def cut(path, disk):
    path.write_bytes(disk.read_bytes()[: disk.stat().st_size // 2])


@bad("header.qcow2", "ends within its own header")
def header_only(path, disk):
    path.write_bytes(disk.read_bytes()[:60])


@bad("huge.qcow2", "TiB")
def huge(path, _):
    qemu_img("create", "-q", "-f", "qcow2", path, "100T")


@bad("encrypted.qcow2", "encrypted")
def encrypted(path, _):
    # LUKS tunes its key derivation by the processor time that it takes. Where that is told too coarsely QEMU gives up, now and then:
    # "Unable to get accurate CPU usage".
    for left in reversed(range(10)):
        try:
            return qemu_img("create", "-q", "--object", "secret,id=s,data=x", "-f", "qcow2", "-o", "encrypt.format=luks,encrypt.key-secret=s",
                            path, "8M")
        except subprocess.CalledProcessError:
            if not left:
                raise


@bad("disk.vmdk", "vmdk")
def vmdk(path, _):
    qemu_img("create", "-q", "-f", "vmdk", path, "8M")


@bad("disk.iso", "ISO")
def iso(path, _):
    path.write_bytes(bytes(0x8000) + b"\x01CD001\x01" + bytes(4096 - 7))


@bad("cut.xz", "truncated")
def cut_xz(path, disk):
    packed = lzma.compress(disk.read_bytes(), preset=0)
    path.write_bytes(packed[: len(packed) // 2])


@bad("notes.txt", "text")
def text(path, _):
    path.write_text("the image is on the share\n" * 100)


@bad("empty.box", "box")
def empty_box(path, _):
    with tempfile.TemporaryDirectory() as made, tarfile.open(path, "w:gz") as box:
        Path(made, "metadata.json").write_text('{"provider": "libvirt", "format": "qcow2", "virtual_size": 1}')
        box.add(f"{made}/metadata.json", "metadata.json")


EMPTY_BOX = ("empty.box as a box", None, "box.img", {"box": "os/empty.box"})


@bad("wrong-provider.box", "virtualbox", {"box": "os/wrong-provider.box"})
def wrong_provider(path, _):
    with tempfile.TemporaryDirectory() as made, tarfile.open(path, "w:gz") as box:
        Path(made, "metadata.json").write_text('{"provider": "virtualbox"}')
        Path(made, "box.ovf").write_text("<x/>")
        for name in ("metadata.json", "box.ovf"):
            box.add(f"{made}/{name}", name)


@bad("good.qcow2", "goes with url alone", {"file": "os/good.qcow2", "sha256": "0" * 64})
def wrong_hash(path, disk):
    path.write_bytes(disk.read_bytes())


@pytest.fixture(scope="module")
def bad_images(disks):
    for name, make, *_ in BAD_IMAGES:
        make(disks / name, disks / "tiny.qcow2")
    yield
    for name, *_ in BAD_IMAGES:
        for path in disks.glob(f"{name}*"):
            path.unlink()


def call_out(machine, container, params, source=None):
    request = json.dumps({"source": source or SOURCE, "params": params})
    return machine.exec(container, ["/opt/resource/out", "/tmp/build/put"], stdin=request.encode(), timeout=120)


def clusters(machine, container):
    """The directories of clusters in a put's container."""
    return machine.exec(container, ["sh", "-c", "ls -d /scratch/libvirt-resource/clusters/* /var/lib/libvirt-resource/clusters/* 2>/dev/null"])[1].split()


@pytest.fixture(scope="module")
def failed(machine, image, disks, bad_images):
    """The container of a put that failed early, which is kept."""
    build = start(machine, image, disks, [put(tiny(count=0))], keep=True).wait()
    assert build.status == "failed"
    yield build.steps["put nodes"].container
    build.release()


def test_images_that_are_none(machine, failed, aloud):
    rows = []
    for name, _, expected, source in [*BAD_IMAGES, EMPTY_BOX]:
        # An image that is taken by mistake is not to be waited for until the usual limit.
        status, out, err = call_out(machine, failed, {**tiny(), "image": source, "ready": {"timeout": "20s"}})
        rows.append((name, expected, status, out, last_words(err)))
        assert parts(machine, failed) == [] and clusters(machine, failed) == [], name
    aloud("\n\nimage                  | what the put says")
    aloud("\n".join(f"{name:22} | {said}" for name, _, _, _, said in rows))
    for name, expected, status, out, said in rows:
        assert (status, out) == (1, ""), name
        assert expected.lower() in said.lower() and "/tmp/build" not in said, (name, expected, said)


def served(machine, folder):
    """A file server beside the worker's bridge, as a mirror in a company's network is."""
    from standin import network
    address = "10.80.0.1"
    argv = ["nsenter", f"--net=/run/netns/{network.namespace(machine.name)}", "/usr/bin/python3", "-m", "http.server", "--bind", address, "8099", "--directory", folder]
    server = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    assert b"Serving" in server.stdout.readline()
    return server, f"http://{address}:8099"


def test_an_image_by_url(machine, image, disks, failed, aloud):
    server, address = served(machine, disks)
    digest = hashlib.sha256((disks / "tiny.qcow2").read_bytes()).hexdigest()
    try:
        rows = []
        for what, source, expected in [
            ("not found", {"url": f"{address}/nothing.qcow2", "sha256": digest}, "404"),
            ("wrong hash", {"url": f"{address}/tiny.qcow2", "sha256": "ab" * 32}, "SHA-256"),
            ("a page", {"url": f"{address}/", "sha256": digest}, "HTML"),
            ("no listener", {"url": "http://10.80.0.1:9/tiny.qcow2", "sha256": digest}, "refused"),
        ]:
            status, out, err = call_out(machine, failed, {**tiny(), "image": source})
            rows.append((what, last_words(err)))
            assert (status, out) == (1, "") and expected in err, (what, err)
            assert clusters(machine, failed) == [], what
        aloud("\n\nurl                    | what the put says")
        aloud("\n".join(f"{what:22} | {said}" for what, said in rows))
        right = {"url": f"{address}/tiny.qcow2", "sha256": digest}
        build = start(machine, image, disks, [put({**tiny(), "image": right}), task("nodes/ssh node-1 hostname")]).wait()
        assert build.status == "succeeded", build.log
    finally:
        server.kill()
        server.wait()


FAILURES = {
    "guest that switches itself off": ({"ready": {"command": "poweroff; sleep 60"}}, "verdict: powered-off"),
    "ready command that fails": ({"ready": {"command": "echo the kubelet is missing >&2; exit 3", "timeout": "40s"}}, "verdict: ready-command-failed"),
    "ready command that hangs": ({"ready": {"command": "sleep 600", "timeout": "40s"}}, "verdict: ready-command-timed-out"),
    "user whom the guest lacks": ({"ssh_user": "nobody-here", "ready": {"timeout": "40s"}}, "verdict: ssh-key-refused"),
    "file to collect that is not there": ({"collect": {"config": {"node": "node-1", "path": "/etc/nothing"}}}, "/etc/nothing"),
    "more memory than there is": ({"defaults": {"cpus": 1, "memory": "900GiB"}}, "900GiB"),
    "more nodes than memory": ({"nodes": {"node": {"count": 60}}, "defaults": {"memory": "32GiB"}}, "GiB"),
}


@pytest.mark.parametrize("what", FAILURES)
def test_a_put_that_fails_says_why_and_leaves_nothing(machine, image, disks, what, aloud):
    more, expected = FAILURES[what]
    build = start(machine, image, disks, [put(tiny(**more))], keep=True).wait(240)
    aloud(f"\n\n{what}: {last_words(build.log)}")
    assert build.status == "failed" and expected in build.log, build.log
    container = build.steps["put nodes"].container
    assert parts(machine, container) == [] and clusters(machine, container) == []
    if "verdict: " in expected:
        # The evidence is there when all else is gone.
        assert machine.exec(container, ["nodectl", "report", "-o", "/tmp"])[0] == 0
    build.release()


@pytest.mark.skipif(os.path.exists("/dev/kvm") and "RESOURCE_KVM_WORKS" in os.environ, reason="KVM works here, so it is not refused")
def test_kvm_that_is_demanded_and_not_there(machine, image, disks):
    build = start(machine, image, disks, [put(tiny(accelerator="kvm"))], keep=True).wait(60)
    assert build.status == "failed", build.log
    said = last_words(build.log)
    assert "kvm" in said.lower() and "help:" in said, said
    assert parts(machine, build.steps["put nodes"].container) == []
    build.release()


def test_a_failed_cluster_can_be_kept_and_looked_into(machine, image, disks):
    params = tiny(on_failure="keep", ready={"command": "exit 3", "timeout": "30s"})
    build = start(machine, image, disks, [put(params)], keep=True).wait(240)
    assert build.status == "failed" and "fly hijack" in build.log, build.log
    container = build.steps["put nodes"].container
    status, out, _ = machine.exec(container, ["nodectl", "list", "--json"])
    assert status == 0 and "kept" in out, out
    assert machine.exec(container, ["nodectl", "ssh", "node-1", "--", "hostname"])[:2] == (0, "node-1\n")
    assert "tiny: ready" in machine.exec(container, ["nodectl", "console", "node-1"])[1]
    assert machine.exec(container, ["nodectl", "report", "-o", "/tmp/report"])[0] == 0
    status, out, _ = machine.exec(container, ["cat", "/tmp/report/report.json"])
    report = json.loads(out)
    assert report["nodes"][0]["diagnosis"]["verdict"]["code"] == "ready-command-failed" and report["nodes"][0]["screenshot"]
    status, out, _ = machine.exec(container, ["sh", "-c", "nodectl screenshot node-1 -o - | head -c 8 | od -An -c"])
    assert "P   N   G" in out, out
    assert machine.exec(container, ["nodectl", "down"])[0] == 0
    assert parts(machine, container) == []
    build.release()


def test_nodectl_run_in_a_privileged_task(machine, image, disks):
    """Task mode: what `fly execute -p` and `docker run` do."""
    topology = json.dumps({**tiny(2), "image": {"file": "tiny.qcow2"}})
    script = f"""cd os; cat > /tmp/nodes.yml <<'X'
{topology}
X
mkdir /tmp/work; cp tiny.qcow2 /tmp/work; cp /tmp/nodes.yml /tmp/work; cd /tmp/work
set +e
nodectl run -f nodes.yml -- sh -c 'for n in node-1 node-2; do $NODES_DIR/ssh $n hostname; done; exit 7'
test $? = 7 && echo its exit status comes through
test -z "$(pidof qemu-system-x86_64 libvirtd dnsmasq)" && echo nothing is left
nodectl run -f nodes.yml -- no-such-command; test $? = 127 && echo 127
nodectl doctor; echo doctor says $?
nodectl doctor --json | head -c 200
"""
    build = start(machine, image, disks, [task(script, inputs=("os",), privileged=True)]).wait(300)
    print(build.log)
    assert build.status == "succeeded", build.log
    for said in ("node-1\n", "node-2\n", "its exit status comes through", "nothing is left", "\n127", "doctor says"):
        assert said in build.log, (said, build.log)
