"""Every file of pipelines/ as a user copies it: run on the worker stand-in with small guests. Only what comes from outside (the
disk images, the vars) is given; no line of a file is changed."""

import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest
from cluster import TOKEN, given, image, machine, parts  # noqa: F401
from standin import Type
from standin.pipeline import Pipeline

FILES = Path(__file__).parent.parent.parent / "pipelines"
IMAGE = "ghcr.io/you/libvirt-resource"
SECRET = {"nodes": {"token": TOKEN}}


@pytest.fixture
def put_there(tmp_path):
    """put_there(NAME=guest variable): a directory with these guests, for a get to copy."""
    def make(**files):
        for name, variable in files.items():
            path = given(variable, "disk image")
            try:
                os.link(path, tmp_path / name)
            except OSError:  # another file system
                shutil.copy(path, tmp_path / name)
        return str(tmp_path)
    return make


def run(machine, image, name, job=None, resources=None, vars=None, keep=False):
    build = machine.build(str(FILES / f"{name}.yml"), job=job, types={"libvirt": Type(image), IMAGE: image}, resources=resources,
                          vars={**SECRET, **(vars or {})}, keep=keep)
    print(build.log)
    return build


TESTED = {"three-nodes", "ignition", "vagrant-box", "matrix", "debug", "destroy", "kubeadm"}  # the last by test_e2e_kubeadm


def test_every_pipeline_is_tested_and_says_what_to_change():
    assert {p.stem for p in FILES.glob("*.yml")} == TESTED
    for path in FILES.glob("*.yml"):
        head = [l for l in path.read_text().splitlines()[:20] if l.startswith("#")]
        assert head and any("To change" in line for line in head), path.name


def test_ignition(machine, image, put_there):
    build = run(machine, image, "ignition", "test", {"os-image": put_there(**{"disk.qcow2": "GUEST_IGNITION"})})
    assert build.status == "succeeded", build.log[-6000:]
    for said in ("configured by Ignition", "node-1 runs Debian", "sudo works"):
        assert said in build.log, said


def test_vagrant_box(machine, image, tmp_path):
    (tmp_path / "metadata.json").write_text(json.dumps({"provider": "libvirt", "format": "qcow2", "virtual_size": 2}))
    (tmp_path / "boxes").mkdir()
    with tarfile.open(tmp_path / "boxes/libvirt.box", "w:gz", compresslevel=1) as box:
        box.add(tmp_path / "metadata.json", "metadata.json")
        box.add(given("GUEST_DEBIAN", "disk image of the Debian guest"), "box.img")
    build = run(machine, image, "vagrant-box", resources={"box": str(tmp_path / "boxes")})
    assert build.status == "succeeded", build.log[-6000:]
    assert "vagrant on box-1" in build.log and "sudo works" in build.log


def test_matrix(machine, image, put_there):
    images = put_there(**{"debian-12.qcow2": "GUEST_TINY", "debian-13.qcow2": "GUEST_TINY"})
    build = run(machine, image, "matrix", resources={"os-images": images}, keep=True)
    try:
        assert build.status == "succeeded", build.log[-6000:]
        for os_, workers in (("debian-12", 1), ("debian-12", 2), ("debian-13", 1), ("debian-13", 2)):
            for number in range(1, workers + 1):
                assert f"{os_} with {workers}: worker-{number}" in build.log
        creates = [s for n, s in build.steps.items() if n.startswith("put nodes") and s.version["state"] != "destroyed"]
        destroys = [s for n, s in build.steps.items() if n.startswith("put nodes") and s.version["state"] == "destroyed"]
        assert len(creates) == len(destroys) == 4 and len({s.version["cluster"] for s in creates}) == 4
        assert all(ended.ended <= following.started for ended, following in zip(destroys, creates[1:])), "one after the other"
        assert not any(parts(machine, s.container) for s in creates), "each ended with its test"
    finally:
        build.release()


def test_debug_keeps_what_failed(machine, image, put_there):
    build = run(machine, image, "debug", resources={"os-image": put_there(**{"disk.qcow2": "GUEST_TINY"})}, vars={"patience": "100s"}, keep=True)
    try:
        assert build.status == "failed", build.log[-6000:]
        container = build.steps["put nodes"].container
        status, out, err = machine.exec(container, ["nodectl", "list", "--json"])
        assert status == 0 and [n["name"] for n in json.loads(out)["nodes"]] == ["worker-1", "worker-2"], err
        assert machine.exec(container, ["nodectl", "console", "worker-1", "--tail", "5"])[0] == 0
        assert machine.exec(container, ["nodectl", "ssh", "worker-2", "--", "hostname"])[1] == "worker-2\n"
        assert machine.exec(container, ["nodectl", "down"])[0] == 0
        assert parts(machine, container) == []
    finally:
        build.release()


@pytest.mark.parametrize("command, status", [("hostname", "succeeded"), ("exit 3", "failed")])
def test_destroy_whether_the_test_failed_or_not(machine, image, put_there, command, status):
    build = run(machine, image, "destroy", resources={"os-image": put_there(**{"disk.qcow2": "GUEST_TINY"})}, vars={"command": command}, keep=True)
    try:
        assert build.status == status, build.log[-6000:]
        assert build.steps["put nodes (2)"].version["state"] == "destroyed"
        assert parts(machine, build.steps["put nodes"].container) == []
    finally:
        build.release()


def test_three_nodes(machine, image, put_there):
    build = run(machine, image, "three-nodes", resources={"os-image": put_there(**{"disk.qcow2": "GUEST_TINY"})})
    assert build.status == "succeeded", build.log[-6000:]
    assert "0% packet loss" in build.log


def test_jobs_that_need_the_internet_are_at_least_read():
    """Of those that are not run, every step is one that a worker knows."""
    assert set(Pipeline(str(FILES / "ignition.yml"), SECRET).jobs) == {"fetch-flatcar", "test"}
