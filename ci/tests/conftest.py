"""What all tests share: lanes that run side by side, words for whoever reads their output, and tiny root file systems made of the
host's static busybox, with resource scripts of a few lines."""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))

from standin import Worker  # noqa: E402


LANE = os.environ.get("PYTEST_XDIST_WORKER")
# What a lane has to say aloud, until its next report.
UNTOLD = []


def pytest_configure(config):
    config.addinivalue_line("markers", "alone: has the machine to itself, though other lanes of tests run (pytest -n)")


def pytest_collection_modifyitems(items):
    """Last the file that waits for the guest that takes longest to make: a lane takes a whole file, by its first test."""
    waiting = {item.location[0] for item in items if "kubeadm_guest" in item.fixturenames}
    items.sort(key=lambda item: item.location[0] in waiting)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    """Side by side with the tests of other lanes (pytest-xdist's workers); one that is marked `alone` with none."""
    if not LANE:
        yield
        return
    # Any two files will do that all lanes have.
    with open(__file__) as door, open(Worker.start.__code__.co_filename) as room:
        # Whoever waits for the room to be empty keeps the door shut meanwhile, or it never would be.
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield


@pytest.fixture(scope="session")
def aloud(request):
    """Prints what a person who reads the tests' output is to see, though the tests pass: at once, or, from a lane that has no
    terminal of its own, with the report of what is running."""
    if LANE:
        return UNTOLD.append
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def say(text):
        with capture.global_and_fixture_disabled():
            print(text, flush=True)
    return say


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport():
    made = yield
    made.get_result().aloud = "\n".join(UNTOLD)
    UNTOLD.clear()


def pytest_runtest_logreport(report):
    # A lane that died is reported in its stead.
    if not LANE and (text := getattr(report, "aloud", "")):
        print("\n" + text.strip("\n"), flush=True)


CHECK = 'cat > /dev/null; echo \'[{"n":"1"},{"n":"2"}]\''
IN = """cat > /tmp/build/get/request.json; echo "in $1" >&2; echo hello > /tmp/build/get/greeting
[ ! -e /seen ] || { echo "a used container" >&2; exit 1; }
echo '{"version":{"n":"2"},"metadata":[{"name":"from","value":"in"}]}'"""


def busybox():
    found = shutil.which("busybox")
    if not found or "=>" in subprocess.run(["ldd", found], capture_output=True, text=True).stdout:
        pytest.skip("needs busybox-static")
    return found


@pytest.fixture
def rootfs(tmp_path):
    """rootfs(out="…", …): a root file system with busybox and those shell scripts in /opt/resource."""
    def make(**scripts):
        root = tmp_path / f"rootfs{len(list(tmp_path.iterdir()))}"
        for folder in ("bin", "etc", "tmp", "root", "opt/resource", "proc", "sys", "dev"):
            (root / folder).mkdir(parents=True)
        shutil.copy(busybox(), root / "bin/busybox")
        for applet in subprocess.run(["busybox", "--list"], capture_output=True, text=True).stdout.split():
            if applet != "busybox":
                (root / "bin" / applet).symlink_to("busybox")
        (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
        (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
        for name, text in {"check": CHECK, "in": IN, **scripts}.items():
            script = root / "opt/resource" / name
            script.write_text(f"#!/bin/sh\n{text}\n")
            script.chmod(0o755)
        return str(root)
    return make


@pytest.fixture
def state():
    """Not below pytest's own directories: those are closed to root of an unprivileged container."""
    with tempfile.TemporaryDirectory(prefix="ciw-test-", dir="/var/tmp") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture
def worker(state):
    with Worker(state=state) as made:
        yield made
    left = leftovers(made)
    assert not left, left


def leftovers(worker):
    """What a worker that was left ought not to leave on the host."""
    run = lambda *argv: subprocess.run(argv, capture_output=True, text=True).stdout  # noqa: E731
    found = [l for l in run("cat", "/proc/self/mountinfo").splitlines() if str(worker.state) in l]
    found += [l for l in run("ip", "netns").splitlines() if worker.name in l]
    found += run("find", "/sys/fs/cgroup", "-name", f"*{worker.cgroup}*").split()
    for container in getattr(worker, "all_containers", []):
        found += [f"process {p}" for p in container.processes()]
        found += run("find", "/sys/fs/cgroup", "-name", container.handle).split()
    return found + [str(p) for p in worker.state.glob("workers/*")]


@pytest.fixture
def run(worker, rootfs):
    """run(plan, out="script", …): a job with that plan, the resource `r` of a privileged type, the task image `busybox`."""
    def go(plan, job=None, start=False, extra=None, **scripts):
        options = extra or {}
        pipeline = {"resource_types": [{"name": "t", "type": "x", "privileged": True}],
                    "resources": [{"name": "r", "type": "t", "source": {"a": 1}}, {"name": "repo", "type": "git"}],
                    "jobs": [{"name": "j", "plan": plan, **(job or {})}]}
        build = worker.start(pipeline, types={"t": rootfs(**scripts), "busybox": rootfs()}, **options)
        worker.all_containers = getattr(worker, "all_containers", []) + [build]
        worker.all_containers = [c for b in worker.all_containers for c in getattr(b, "containers", [b])]
        return build if start else build.wait()
    return go


def task(script, name="t", **more):
    config = {"platform": "linux", "image_resource": {"type": "registry-image", "source": {"repository": "busybox"}},
              "run": {"path": "sh", "args": ["-c", script]}}
    step = {k: more.pop(k) for k in list(more) if k in ("privileged", "timeout", "attempts", "ensure", "on_failure", "on_abort",
                                                        "on_success", "on_error", "input_mapping")}
    return {"task": name, "config": {**config, **more}, **step}
