"""A put of a guest that is broken on purpose, watched: its sign on the console, the verdict in the log, and the seconds between."""

import os
import re
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from cluster import put, start

sys.path.insert(0, str(Path(__file__).parent.parent / "guests"))

from broken.boot import plain  # noqa: E402

# How often the console and the log are looked at: what the seconds in the table are exact to.
LOOK = 0.25


@dataclass
class Run:
    """How a put of a breakage went."""

    breakage: object
    status: str
    verdict: str | None
    log: str
    seconds: float
    to_verdict: float | None  # from the sign; None where the serial line does not show it

    @property
    def right(self):
        if self.breakage.healthy:
            return self.status == "succeeded" and self.verdict is None
        return self.status == "failed" and self.verdict in self.breakage.codes


def verdict_of(build):
    """The code of the verdict that the log gives, None without one."""
    found = re.search(r"\bverdict: ([a-z][a-z0-9-]+)", plain(build.log))
    return found and found[1]


def run(machine, image, bases, breakage):
    """Makes the disk, puts it, and waits for the end."""
    folder = bases.work / breakage.name
    folder.mkdir(mode=0o755)
    breakage.make(bases, folder / "disk.qcow2")
    params = {"image": {"file": "os/disk.qcow2"}, "nodes": {"node": {}}, **breakage.params}
    first_boot = {"user_data": breakage.user_data, "network_config": breakage.network_config, "ignition": breakage.ignition}
    for name, text in first_boot.items():
        if text:
            (folder / name).write_text(text)
            params.setdefault("first_boot", {})[name] = f"os/{name}"
    begun = time.monotonic()
    build = start(machine, image, folder, [put(params)], keep=True)
    try:
        with Throttle(machine, build, breakage.cpu_share):
            signed, judged = watch(build, breakage, begun + breakage.limit)
        # A verdict that is not followed by the end is none.
        build.wait(30 if judged else 0)
        if build.status not in ("succeeded", "failed", "errored"):
            build.abort()
            build.wait(30)
        between = judged - signed if judged and signed else None
        return Run(breakage, build.status, verdict_of(build), build.log, time.monotonic() - begun, between)
    finally:
        build.release()
        for path in folder.iterdir():
            path.unlink()


def watch(build, breakage, until):
    """When the sign came, and when the verdict: None for what did not."""
    signed = judged = None
    while build.status in ("pending", "started") and time.monotonic() < until and judged is None:
        if signed is None and breakage.sign and breakage.serial and re.search(breakage.sign, plain(console(build))):
            signed = time.monotonic()
        if verdict_of(build):
            judged = time.monotonic()
        time.sleep(LOOK)
    if judged is None and verdict_of(build):
        judged = time.monotonic()
    return signed, judged


def console(build):
    """What the node's console has said, read where the put's container keeps it."""
    step = build.steps.get("put nodes")
    if step is None or step.container is None:
        return ""
    scratch = step.container.directory / "scratch"
    return "".join(p.read_text(errors="replace") for p in scratch.glob("libvirt-resource/**/consoles/*.log"))


class Throttle:
    """Lets a put's machines run for a share of the time only."""

    PERIOD = 0.5

    def __init__(self, machine, build, share):
        self._machine, self._build, self._share = machine, build, share
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        if self._share < 1:
            self._thread.start()

    def __exit__(self, *_):
        self._end.set()
        if self._share < 1:
            self._thread.join()

    def _run(self):
        while not self._end.wait(self.PERIOD * self._share):
            step = self._build.steps.get("put nodes")
            pids = [p["pid"] for p in self._machine.ps(step.container) if "qemu-system" in " ".join(p["argv"][:1])] if step and step.container else []
            self._all(pids, signal.SIGSTOP)
            self._end.wait(self.PERIOD * (1 - self._share))
            self._all(pids, signal.SIGCONT)

    @staticmethod
    def _all(pids, number):
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
