"""pipelines/kubeadm.yml as a user copies it, with a real control plane and two real workers; and what it says when something in it
goes wrong."""

import os
import re
import time
from pathlib import Path

import pytest
import yaml
from cluster import given, image, machine  # noqa: F401
from standin import Type
from test_pipelines import FILES, IMAGE, SECRET, put_there  # noqa: F401

PIPELINE = FILES / "kubeadm.yml"
STAGES = ("init", "join", "ready", "service", "power-cut", "recovered")


@pytest.fixture
def run(machine, image, rootfs):
    def go(pipeline, resources):
        build = machine.build(pipeline, types={"libvirt": Type(image), IMAGE: image, "busybox": rootfs()}, resources=resources, vars=SECRET)
        print(build.log)
        return build
    return go


@pytest.fixture(scope="module")
def kubeadm_guest():
    """The seconds that the guest took to be made, which is then named by GUEST_KUBEADM. ci/test makes it beside everything else."""
    if "GUEST_KUBEADM" in os.environ:
        return "?"
    folder = Path(given("GUEST_KUBEADM_MAKING", "directory in which the guest's making is told of"))
    while not (folder / "done").exists():
        time.sleep(1)
    status, seconds, path = (folder / "done").read_text().rstrip("\n").split(" ", 2)
    assert status == "0", (folder / "log").read_text()
    os.environ["GUEST_KUBEADM"] = path
    return seconds


@pytest.mark.alone
def test_a_cluster_by_kubeadm(kubeadm_guest, run, put_there, aloud):
    build = run(str(PIPELINE), {"os-image": put_there(**{"disk.qcow2": "GUEST_KUBEADM"})})
    seconds = dict(re.findall(r"^stage: (\S+) (\d+) s", build.log, re.M))
    if "put nodes" in build.steps:
        seconds["put"] = round(build.steps["put nodes"].ended - build.steps["put nodes"].started)
    seconds["image"] = kubeadm_guest
    aloud("\na Kubernetes cluster, seconds: " + ", ".join(f"{stage} {seconds.get(stage, '-')}" for stage in ("image", "put", *STAGES)))
    assert build.status == "succeeded", build.log[-8000:]
    assert set(STAGES) <= set(seconds)
    said = build.log.replace("\r", "")
    moved = re.search(r"^(hello-\S+) stands on (worker-\d)$", said, re.M)
    new = re.search(r"^(hello-\S+) runs on (\S+)$", said, re.M)
    assert moved and new and moved[1] != new[1] and moved[2] != new[2], (moved, new)
    for node in ("control-1", "worker-1", "worker-2"):
        assert re.search(rf"^NodePort of {node}: {moved[1]} answers$", said, re.M), node
    assert re.search(rf'^by the Service\'s name: {{"responses":\["{moved[1]}"\]}}', said, re.M)
    assert re.search(rf'^by the Service\'s address: {{"responses":\["{moved[1]}"\]}}', said, re.M)


def pipeline(change):
    """The file with what `change` does to its job's plan."""
    value = yaml.safe_load(PIPELINE.read_text())
    plan = value["jobs"][0]["plan"]
    change(plan)
    return yaml.safe_dump(value)


def small(params):
    """For tiny guests, which take no gigabytes, and no twenty minutes to fail (the command is tried until then)."""
    for group in params["nodes"].values():
        group |= {"cpus": 1, "memory": "128MiB"}
        group["ready"]["timeout"] = "4m"


def test_an_image_without_kubeadm_is_told_by_the_put(run, put_there):
    def change(plan):
        small(plan[1]["params"])
        plan[1]["params"]["nodes"]["control"]["ready"]["timeout"] = "60s"
    build = run(pipeline(change), {"os-image": put_there(**{"disk.qcow2": "GUEST_TINY"})})
    assert build.status == "failed" and "task form" not in build.steps, build.log[-4000:]
    assert "control-1" in build.log and "kubeadm: not found" in build.log and "ready-command-failed" in build.log


# A kubeadm that does what it is told to by the files beside it: what is tested is what the pipeline says of it.
KUBEADM = """cat > /bin/kubeadm <<'END'
#!/bin/sh
case "$1 $2" in
"version -o") echo v1.37.2 ;;
"init phase") mkdir -p /etc/kubernetes; printf 'clusters: [{name: a, cluster: {server: "https://control-1:6443"}}]' > /etc/kubernetes/admin.conf ;;
"token create") echo kubeadm join control-1:6443 --token abcdef.0123456789abcdef --discovery-token-ca-cert-hash sha256:00 ;;
init*) IF_INIT ;;
join*) IF_JOIN ;;
esac
END
chmod +x /bin/kubeadm
"""
NEVER_UP = "error: could not wait for all the control plane components: kube-apiserver check failed at https://10.0.0.11:6443/livez: context deadline exceeded"
NO_TOKEN = "error: could not find a JWS signature in the cluster-info ConfigMap for token ID abcdef"


@pytest.mark.parametrize("init, join, failed, why", [
    (f'echo "{NEVER_UP}" >&2; exit 1', "true", "kubeadm init on control-1", NEVER_UP),
    ("test -s /root/init.yaml", f'test $(hostname) != worker-2 || {{ echo "{NO_TOKEN}" >&2; exit 1; }}', "kubeadm join on worker-2", NO_TOKEN),
], ids=["the API server never comes up", "a join fails"])
def test_a_step_that_fails_is_told_with_its_node(run, put_there, init, join, failed, why):
    fake = KUBEADM.replace("IF_INIT", init).replace("IF_JOIN", join)

    def change(plan):
        params = plan[1]["params"]
        small(params)
        for group in params["nodes"].values():
            group["ready"]["command"] = fake + group["ready"].get("command", "")
    build = run(pipeline(change), {"os-image": put_there(**{"disk.qcow2": "GUEST_TINY"})})
    assert build.status == "failed" and build.steps["task form"].status == "failed", build.log[-4000:]
    assert f"FAILED: {failed}" in build.log and why in build.log
    assert build.steps["task logs"].status == "succeeded" and re.search(r"worker-2 +console.log kernel.log", build.log), build.log[-4000:]
