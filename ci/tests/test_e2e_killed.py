"""Whatever is killed, whenever: nothing of the cluster goes on running, and the log or the next caller is told."""

import os
import signal
import subprocess

import pytest
from cluster import call_in, disks, image, last_words, left_after_promise, machine, parts, processes, put, start, task, tiny  # noqa: F401

ROWS = []

# What the log says when a put has come to that step.
STEPS = {"image unpacked": "unpack", "libvirt up": "are up, accelerator", "machine on": "powered on"}

# In whose command line these words stand.
VICTIMS = {
    "out": ("/opt/resource/out",),
    "agent (init)": ("agent", "init"),
    "agent": ("agent", "serve"),
    "libvirtd": ("/usr/sbin/libvirtd",),
    "virtlogd": ("/usr/sbin/virtlogd",),
}


@pytest.fixture(scope="module", autouse=True)
def table(aloud):
    yield
    aloud("\n\nkilled                | at             | left after 12 s | what is said\n"
          + "\n".join(f"{who:21} | {at:14} | {left:15} | {said}" for who, at, left, said in ROWS))


@pytest.fixture(scope="module")
def packed(disks):
    """The tiny guest once more, compressed, so that there is something to unpack."""
    subprocess.run(["xz", "-1", "-k", "-T1", str(disks / "tiny.qcow2")], check=True)


def ends(build, machine, who, at):
    container = build.steps["put nodes"].container
    left = left_after_promise(machine, container)
    build.wait(30)
    ROWS.append((who, at, ", ".join(p["comm"] for p in left) or "nothing", last_words(build.log)))
    assert left == [], build.log
    assert not machine.exec(container, ["sh", "-c", "ls /sys/class/net"])[1].count("vnet")


def params():
    return {**tiny(), "image": {"file": "os/tiny.qcow2.xz"}}


@pytest.mark.parametrize("at", STEPS)
@pytest.mark.parametrize("who", VICTIMS)
def test_sigkill_during_a_put(machine, image, disks, packed, who, at):
    build = start(machine, image, disks, [put(params())], keep=True)
    assert build.wait_for_log(STEPS[at], 120), build.log
    container = build.steps["put nodes"].container
    victims = processes(machine, container, *VICTIMS[who])
    if not victims:
        assert who in ("libvirtd", "virtlogd"), "the others run from the start"
        pytest.skip(f"{who} has not been started yet at: {at}")
    os.kill(victims[0], signal.SIGKILL)
    ends(build, machine, who, at)
    assert build.status == "failed"
    if who != "out":
        assert any(word in build.log for word in ("died", "ended without a word", "ended, or was killed", "libvirtd ended while it worked")), build.log
    build.release()


@pytest.mark.parametrize("at", STEPS)
def test_abort_during_a_put(machine, image, disks, packed, at):
    build = start(machine, image, disks, [put(params())], keep=True)
    assert build.wait_for_log(STEPS[at], 120), build.log
    build.abort()
    ends(build, machine, "abort (SIGTERM)", at)
    assert build.status == "aborted"
    build.release()


def test_timeout_of_a_put(machine, image, disks):
    build = start(machine, image, disks, [put(tiny(), timeout="6s")], keep=True)
    build.wait(60)
    ends(build, machine, "timeout (SIGTERM)", "machine on")
    assert build.status == "failed"
    build.release()


@pytest.mark.parametrize("who", ["agent (init)", "agent", "libvirtd", "virtlogd"])
def test_sigkill_after_a_put(machine, image, disks, who):
    build = start(machine, image, disks, [put(tiny())], keep=True).wait()
    assert build.status == "succeeded", build.log
    container, version = build.steps["put nodes"].container, build.steps["put nodes"].version
    os.kill(processes(machine, container, *VICTIMS[who])[0], signal.SIGKILL)
    left = left_after_promise(machine, container)
    _, listed, error = machine.exec(container, ["nodectl", "list"])
    status, _, said = call_in(machine, build.steps["get nodes"].container, version)
    ROWS.append((who, "after commit", ", ".join(p["comm"] for p in left) or "nothing", last_words(said)))
    assert left == []
    assert status == 1 and ("connection is refused" in said if "agent" in who else f"is lost: {who}" in said), said
    assert "its agent died" in error or "lost:" in listed, (listed, error)
    build.release()
