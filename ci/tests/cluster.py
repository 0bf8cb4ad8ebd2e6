"""What the end-to-end tests share: the image's root file system, the guests, pipelines of a few lines."""

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from standin import Type, Worker, network

TOKEN = "end-to-end-token-0123456789abcdef"
SOURCE = {"token": TOKEN}
# What a cluster is made of: none of these may be left when it has ended.
PARTS = ("qemu-system", "libvirtd", "virtlogd", "dnsmasq")
# The longest that a cluster without its launcher, agent or libvirtd may go on (a promise to users).
PROMISED = 12


def given(name, what):
    path = os.environ.get(name)
    if not path:
        pytest.skip(f"{name} names no {what}: run ci/test")
    return path


@pytest.fixture(scope="session")
def image():
    return given("RESOURCE_ROOTFS", "root file system of the image")


@pytest.fixture(scope="session")
def disks():
    """A directory open to every container, with tiny.qcow2 in it."""
    with tempfile.TemporaryDirectory(prefix="ciw-disks-", dir="/var/tmp") as made:
        Path(made).chmod(0o755)
        shutil.copy(given("GUEST_TINY", "disk image of the tiny guest"), f"{made}/tiny.qcow2")
        yield Path(made)


@pytest.fixture(scope="module")
def machine(image):
    """A worker of this module's own."""
    with tempfile.TemporaryDirectory(prefix="ciw-e2e-", dir="/var/tmp") as made:
        Path(made).chmod(0o755)
        with Worker(state=made) as worker:
            yield worker


def tiny(count=1, **more):
    """Params of a put of tiny nodes."""
    return {"image": {"file": "os/tiny.qcow2"}, "defaults": {"cpus": 1, "memory": "128MiB"}, "nodes": {"node": {"count": count}}, **more}


def put(params, **more):
    return {"put": "nodes", "params": params, **more}


def task(script, name="look", inputs=("nodes",), **more):
    config = {
        "platform": "linux",
        "image_resource": {"type": "libvirt", "source": {}},
        "inputs": [{"name": i} for i in inputs],
        "run": {"path": "sh", "args": ["-ec", script]},
    }
    return {"task": name, "config": config, **more}


def start(worker, image, disks, plan, hooks=None, resources=None, **options):
    """Starts a build: get os (the disks), then `plan`."""
    local = {"os": str(disks), **(resources or {})}
    pipeline = {
        "resource_types": [{"name": "libvirt", "type": "registry-image", "privileged": True, "source": {"repository": "x"}}],
        "resources": [{"name": "nodes", "type": "libvirt", "check_every": "never", "source": SOURCE}]
        + [{"name": name, "type": "local", "source": {}} for name in local],
        "jobs": [{"name": "job", "plan": [{"get": name} for name in local] + plan, **(hooks or {})}],
    }
    return worker.start(pipeline, types={"libvirt": Type(image, privileged=True)}, resources=local, **options)


def parts(worker, container):
    """The processes of a cluster that run in a container."""
    return [p for p in worker.ps(container) if any(part in " ".join(p["argv"][:1]) for part in PARTS) and p["state"] != "Z"]


def left_after_promise(worker, container):
    """What is left of a cluster once it has had the time that users are promised."""
    until = time.monotonic() + PROMISED
    while (left := parts(worker, container)) and time.monotonic() < until:
        time.sleep(0.2)
    return left


def processes(worker, container, *words):
    """The PIDs of the processes of a container in whose command line all the words stand."""
    return [p["pid"] for p in worker.ps(container) if all(w in " ".join(p["argv"]) for w in words)]


def call_in(worker, container, version, source=None):
    """Runs `in` once more in a get's container: (exit status, stdout, stderr)."""
    request = json.dumps({"source": source or SOURCE, "version": version})
    return worker.exec(container, ["/opt/resource/in", "/tmp/build/get"], stdin=request.encode())


def curl(machine, proxy, url):
    """By this machine's own curl from the worker's network, since the image has none: (exit status, what was got)."""
    argv = ["nsenter", f"--net=/run/netns/{network.namespace(machine.name)}", "curl", "-s", "-m", "30", "-x", proxy, url]
    done = subprocess.run(argv, capture_output=True, text=True)
    return done.returncode, done.stdout


def last_words(text):
    """The error of a log, without colours, as one line."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    at = max((found.start() for found in re.finditer(r"^error: ", plain, re.M)), default=-1)
    return " ".join(plain[at:].split()) if at >= 0 else " ".join(plain.split())[-200:]
