"""Containers as a worker makes them, and how long something takes in one."""

import json
import os
import shutil
import statistics
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

from standin import Type, Worker, spec
from standin.build import Scope
from standin.container import Container
from standin.images import Artifact

TOKEN = "bench-token-0123456789abcdef"
SOURCE = {"token": TOKEN}
LIMIT = 900  # seconds: what takes longer is broken, and no figure


class Failed(Exception):
    """Something that was to be measured did not work."""


class Place:
    """One worker, the image, and the tiny guest as an input."""

    def __init__(self, worker, rootfs, disks):
        self.worker, self.rootfs, self.disks = worker, rootfs, disks

    @contextmanager
    def container(self, role, label, rootfs=None):
        """A privileged container of the step's kind: a put's has the guest's disk at /tmp/build/put/os/tiny.qcow2."""
        volume = Path(tempfile.mkdtemp(dir=self.worker.mine))
        inputs = {"/tmp/build/put/os": Artifact(self.disks, True)} if role == "put" else {}
        container = Container(self.worker, [], label, role, Type(rootfs or self.rootfs, privileged=True), True,
                              spec.environment(role, {}), inputs=inputs, volumes={f"/tmp/build/{role}": volume})
        try:
            yield container
        finally:
            for error in self.worker.end(container):
                raise Failed(error)

    def run(self, container, argv, stdin=b"", on_output=None, check=True):
        """Runs a command in a container: (exit status, stdout, stderr)."""
        said = []
        process = container.start(argv, stdin=stdin, on_output=lambda text: (said.append(text), on_output and on_output(text)))
        status = process.wait(Scope(timeout=LIMIT))
        text = "".join(said)
        if check and status != 0:
            raise Failed(f"{' '.join(map(str, argv))}: exit {status}\n{process.stdout.decode(errors='replace')}{text}"[-4000:])
        return status, process.stdout.decode(errors="replace"), text

    def timed(self, container, argv, **options):
        """The same, and the seconds from the program's exec to its exit: without the runtime's own start of a process."""
        clock = 'date +%s.%N > /began; "$@"; status=$?; date +%s.%N > /ended; exit $status'
        _, out, err = self.run(container, ["sh", "-c", clock, "sh", *argv], **options)
        return moment(container, "ended") - moment(container, "began"), out, err

    def put(self, container, params, **options):
        """Runs `out`: (seconds, version, log)."""
        request = json.dumps({"source": SOURCE, "params": params}).encode()
        took, out, log = self.timed(container, ["/opt/resource/out", "/tmp/build/put"], stdin=request, **options)
        return took, json.loads(out)["version"], log


def moment(container, name):
    return float((container.rootfs / name).read_text())


def tiny(count, **more):
    """Params of a put of tiny nodes."""
    return {"image": {"file": "os/tiny.qcow2"}, "defaults": {"cpus": 1, "memory": "128MiB"}, "nodes": {"node": {"count": count}}, **more}


def cluster_directory(container):
    """Where the agent keeps a cluster, seen from outside."""
    found = list((container.directory / "scratch/libvirt-resource/clusters").glob("*/"))
    if len(found) != 1:
        raise Failed(f"{len(found)} clusters in the container")
    return found[0]


def together(works):
    """Runs them side by side; their results, or the first error."""
    results, errors = [None] * len(works), []

    def one(number, work):
        try:
            results[number] = work()
        except Exception as error:  # noqa: BLE001 - handed on below
            errors.append(error)

    threads = [threading.Thread(target=one, args=item) for item in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


def spread(values):
    """Median with the extremes, for a note."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


@contextmanager
def place(rootfs, guest):
    with tempfile.TemporaryDirectory(prefix="ciw-bench-", dir="/var/tmp") as made:
        os.chmod(made, 0o755)
        disks = Path(made) / "os"
        disks.mkdir()
        shutil.copy(guest, disks / "tiny.qcow2")
        with Worker(state=made) as worker:
            yield Place(worker, rootfs, disks)
