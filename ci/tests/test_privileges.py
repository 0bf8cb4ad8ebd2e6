"""How little a container may be given: each way with the nodes that boot in it, or the exact error. By real `docker run`, under the
restrictions that Docker makes itself, and in a task that is not privileged."""

import json
import re
import shutil
import subprocess
import time
import uuid
from pathlib import Path

import pytest
from cluster import PROMISED, disks, image, last_words, machine, start, task, tiny  # noqa: F401

ROWS = []
NAT = "--cap-add NET_ADMIN --security-opt systempaths=unconfined"
# What this machine cannot grant, a machine that runs containers on metal can.
PRIVILEGED = ("--cap-add=ALL --cap-drop=SYS_RESOURCE --security-opt seccomp=unconfined --security-opt apparmor=unconfined"
              " --security-opt systempaths=unconfined")
# The talk's own list, as far as this machine has the devices.
TALK = ("--device /dev/net/tun --cap-add NET_ADMIN --cap-add SYS_ADMIN --security-opt apparmor=unconfined --cgroupns host"
        " -v /sys/fs/cgroup:/sys/fs/cgroup:rw")

LOOK = """
set -e
$NODES_DIR/ssh node-1 ping -c 1 node-2 | grep '1 packets received'
$NODES_DIR/ssh node-2 hostname
$NODES_DIR/ssh node-1 'nslookup node-2 | tail -2'
$NODES_DIR/ssh node-1 'echo through the forward | nc -l -p 8080' &
at=$($NODES_DIR/forward node-1 8080)
n=0; until bash -c "cat < /dev/tcp/${at%:*}/${at#*:}" | grep 'through the forward'; do sleep 1; n=$(expr $n + 1); [ $n -lt 60 ]; done
NODES_DIR=$NODES_DIR nodectl list --json >/dev/null && echo LISTED
"""


@pytest.fixture(scope="module", autouse=True)
def table(aloud):
    yield
    aloud("\n\nway                                       | two nodes | networking | seconds | flags, or what is said\n"
          + "\n".join(f"{way:41} | {boots:9} | {networking:10} | {seconds:7} | {said}" for way, boots, networking, seconds, said in ROWS))


@pytest.fixture(scope="module")
def docker():
    if not shutil.which("docker") or subprocess.run(["docker", "image", "inspect", "libvirt-resource"], capture_output=True).returncode:
        pytest.skip("no Docker daemon with the image libvirt-resource: run ci/test")


@pytest.fixture
def work(disks, tmp_path):
    """A directory for the container's /work: a topology of two tiny nodes beside their image."""
    shutil.copy(disks / "tiny.qcow2", tmp_path / "tiny.qcow2")
    write(tmp_path, {})
    (tmp_path / "look").write_text(LOOK)
    return tmp_path


def write(folder, more):
    params = {**tiny(2, nodes={"node": {"count": 2, "forward": [8080]}}), "image": {"file": "tiny.qcow2"}, **more}
    (folder / "nodes.yml").write_text(json.dumps(params))


def argv(image, folder, flags, name):
    nodectl = Path(image, "usr/local/bin/nodectl")
    return ["docker", "run", "--rm", "--name", name, *flags.split(), "-v", f"{nodectl}:/usr/local/bin/nodectl:ro",
            "-v", f"{folder}:/work", "-w", "/work", "libvirt-resource"]


def run(image, folder, flags, *command, limit=600):
    """`docker run`: (exit status, everything that was printed, seconds)."""
    name = f"privileges-{uuid.uuid4().hex[:12]}"
    begun = time.monotonic()
    try:
        done = subprocess.run([*argv(image, folder, flags, name), *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=limit)
    finally:
        subprocess.run(["docker", "rm", "-f", name], capture_output=True)
    return done.returncode, done.stdout, time.monotonic() - begun


def networking(said):
    found = re.search(r"networking (\S+):", said)
    return found[1] if found else "-"


BOOTS = {
    "docker run": ("", "user-mode"),
    "docker run, NAT with the least flags": (NAT, "bridges"),
    "docker run, namespaces too": ("--cap-add NET_ADMIN --cap-add SYS_ADMIN --security-opt apparmor=unconfined", "bridges"),
    "docker run, the talk's list": (TALK, "bridges"),
    "docker run --privileged (no SYS_RESOURCE)": (PRIVILEGED, "bridges"),
    "docker run, no MKNOD and no tun": ("--cap-add NET_ADMIN --cap-drop MKNOD --security-opt systempaths=unconfined", "user-mode"),
    "docker run, no NET_RAW": (f"{NAT} --cap-drop NET_RAW", "user-mode"),
    "docker run, no NET_BIND_SERVICE": (f"{NAT} --cap-drop NET_BIND_SERVICE", "user-mode"),
    "docker run, NET_ADMIN alone": ("--cap-add NET_ADMIN", "user-mode"),
    "docker run --read-only with SYS_ADMIN": ("--read-only --tmpfs /tmp:exec --tmpfs /run --tmpfs /var/lib/libvirt-resource:exec --cap-add SYS_ADMIN --security-opt apparmor=unconfined", "user-mode"),
}


@pytest.mark.parametrize("way", BOOTS)
def test_two_nodes_boot(docker, image, work, way):
    flags, expected = BOOTS[way]
    status, said, seconds = run(image, work, flags, "nodectl", "run", "-f", "nodes.yml", "--", "sh", "/work/look")
    ROWS.append((way, "boot" if status == 0 else "no", networking(said), f"{seconds:.0f}", flags if status == 0 else last_words(said)))
    assert status == 0, said
    assert networking(said) == expected, said
    for word in ("1 packets received", "\nnode-2\n", "\nthrough the forward\n", "LISTED"):
        assert word in said, (word, said)
    if expected == "user-mode":
        # A tun's cure begins with Concourse's word for it; each names Docker's flag.
        assert "no bridges here" in said and re.search(r"to get bridges: .*--", said), "the fallback is loud"


# What is demanded, or essential, and cannot be had: flags, topology, what is said.
REFUSED = {
    "networking: bridges without NET_ADMIN": ("", {"networking": "bridges"}, ["networking: bridges was asked for", "CAP_NET_ADMIN is missing", "--cap-add NET_ADMIN", "/proc/sys", "systempaths=unconfined"]),
    "networking: bridges without a tun": ("--cap-add NET_ADMIN --cap-drop MKNOD --security-opt systempaths=unconfined", {"networking": "bridges"}, ["/dev/net/tun", "--device /dev/net/tun"]),
    "accelerator: kvm without the device": ("", {"accelerator": "kvm"}, ["accelerator: kvm was asked for", "--device /dev/kvm"]),
    "--cap-drop SETUID": ("--cap-drop SETUID", {}, ["this container lacks CAP_SETUID", "--cap-add SETUID"]),
    "--cap-drop ALL": ("--cap-drop ALL", {}, ["this container lacks", "--cap-add"]),
    "--read-only": ("--read-only --tmpfs /tmp --tmpfs /run --tmpfs /var/lib/libvirt-resource", {}, ["this container lacks a writable root file system", "--cap-add SYS_ADMIN"]),
}


@pytest.mark.parametrize("way", REFUSED)
def test_what_cannot_be_had_is_refused_with_its_flag(docker, image, work, way):
    flags, topology, words = REFUSED[way]
    write(work, topology)
    status, said, seconds = run(image, work, flags, "nodectl", "run", "-f", "nodes.yml", "--", "true", limit=120)
    ROWS.append((way, "refused", "-", f"{seconds:.0f}", last_words(said)))
    assert status == 69, said
    for word in words:
        assert word in said, (word, said)


def test_a_session_says_what_it_needs(docker, image, work):
    status, said, seconds = run(image, work, "", "nodectl", "session", "--", "true", limit=60)
    ROWS.append(("nodectl session without SYS_ADMIN", "refused", "-", f"{seconds:.0f}", last_words(said)))
    assert status != 0 and "PID namespace" in said and "--cap-add SYS_ADMIN" in said, said


@pytest.mark.parametrize("flags, missing", [("", ["net_admin", "proc_sys", "sys_admin"]), (NAT, ["sys_admin"]), (PRIVILEGED, [])])
def test_the_doctor_names_what_is_missing(docker, image, work, flags, missing):
    """The same words as docs/privileges.md, of the container that it is in."""
    status, said, _ = run(image, work, flags, "sh", "-c", "nodectl doctor --json 2>/dev/null", limit=300)
    report = json.loads(said)
    found = {check["id"]: check for check in report["checks"]}
    assert status == 0 and report["able"], said
    named = {"net_admin", "proc_sys", "dev_tun", "net_raw", "net_bind_service", "sys_admin", "directories", "mknod", "setuid"} & set(found)
    assert named == set(missing), said
    document = (Path(__file__).parents[2] / "docs/privileges.md").read_text().replace("`", "")
    for name in named:
        assert found[name]["cure"].removeprefix("docker run: ") in document
    # Whatever else is the case: a guest ran.
    ran = [found[i] for i in ("kvm", "tcg") if i in found and found[i]["verdict"] == "ok"]
    assert ran and "a guest ran" in ran[0]["found"], said
    flags_line = subprocess.run(["grep", "-cE", "vmx|svm", "/proc/cpuinfo"], capture_output=True, text=True).stdout.strip()
    assert found["cpu_flags"]["found"].startswith(f"{flags_line} lines"), found["cpu_flags"]


def test_a_task_that_is_not_privileged(machine, image, disks):
    """User namespace, seccomp, few capabilities: nodes boot, and nothing is left."""
    topology = json.dumps({**tiny(2), "image": {"file": "tiny.qcow2"}})
    script = f"cp os/tiny.qcow2 /tmp; cd /tmp; echo '{topology}' > nodes.yml\n" \
             "nodectl run -f nodes.yml -- sh -ec '$NODES_DIR/ssh node-1 ping -c 1 node-2'"
    begun = time.monotonic()
    build = start(machine, image, disks, [task(script, inputs=("os",))]).wait(600)
    ROWS.append(("Concourse task, not privileged", "boot" if build.status == "succeeded" else "no", networking(build.log), f"{time.monotonic() - begun:.0f}",
                 "none" if build.status == "succeeded" else last_words(build.log)))
    assert build.status == "succeeded", build.log
    assert "1 packets received" in build.log and networking(build.log) == "user-mode", build.log


# How their command lines begin.
VICTIMS = {
    "guard": "/usr/local/bin/nodectl agent guard ",
    "init": "/usr/local/bin/nodectl agent guarded-init ",
    "agent": "/usr/local/bin/nodectl agent serve ",
    "libvirtd": "/usr/sbin/libvirtd ",
    "virtlogd": "/usr/sbin/virtlogd ",
    "nodectl": "nodectl run ",
}
# A process list without ps: PID and command line of everything that is not a zombie.
LIST = r"""for p in /proc/[0-9]*; do [ "$(sed 's/.*) \(.\) .*/\1/' $p/stat 2>/dev/null)" = Z ] || echo "${p#/proc/} $(tr '\0' ' ' < $p/cmdline 2>/dev/null)"; done"""
PARTS = ("qemu-system", "/usr/sbin/libvirtd", "/usr/sbin/virtlogd", "nodectl agent", "dnsmasq")


@pytest.mark.parametrize("at", ["are up, accelerator", "powered on", "SSH BY"])
@pytest.mark.parametrize("who", VICTIMS)
def test_kill_without_namespaces(docker, image, work, who, at):
    """Where no PID namespace can be had, everything dies together all the same."""
    name = f"privileges-{uuid.uuid4().hex[:12]}"
    command = ["sh", "-c", "nodectl run -f nodes.yml -- sleep 1000 & echo begun; sleep 1000"]
    process = subprocess.Popen([*argv(image, work, "", name), *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        said = ""
        for line in process.stdout:
            said += line
            if at in line:
                break
        assert at in said, said
        listed = inside(name)
        victims = [line.split()[0] for line in listed if line.partition(" ")[2].startswith(VICTIMS[who])]
        assert victims, (who, listed)
        subprocess.run(["docker", "exec", name, "sh", "-c", f"kill -9 {victims[0]}"], check=True)
        # Of a cluster that is lost once it stood, its agent stays to tell the next caller what happened.
        tells = who in ("libvirtd", "virtlogd") and at == "SSH BY"
        until = time.monotonic() + PROMISED
        while (left := [part for part in parts(name) if not (tells and "nodectl agent" in part)]) and time.monotonic() < until:
            time.sleep(0.2)
        ROWS.append((f"kill -9 {who}", "-", "user-mode", "-", f"at: {at}; left after {PROMISED} s: {', '.join(left) or 'nothing'}"))
        assert not left, left
    finally:
        subprocess.run(["docker", "rm", "-f", name], capture_output=True)
        process.kill()
        process.wait()


def parts(name):
    """What is left of a cluster: PID, program and its first argument."""
    return [" ".join(line.split()[:3]) for line in inside(name) if any(part in line for part in PARTS) and "sh -c" not in line]


def inside(name):
    return subprocess.run(["docker", "exec", name, "sh", "-c", LIST], capture_output=True, text=True).stdout.splitlines()
