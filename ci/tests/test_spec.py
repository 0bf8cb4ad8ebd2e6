"""The specs that containers get are the recorded ones, save for what spec.py says."""

import copy

import pytest
from standin import host, spec


@pytest.mark.parametrize("role, volumes", [("check", []), ("get", ["/tmp/build/get"]), ("put", ["/tmp/build/put"]),
                                           ("task", ["/tmp/build/e3b98a4d", "/tmp/build/e3b98a4d/nodes"])])
def test_placeholders_filled_with_themselves_give_the_record(role, volumes, monkeypatch):
    monkeypatch.setattr(host, "grantable", lambda: {f"CAP_{n}" for n in host.CAPABILITIES} - {"CAP_SYS_RESOURCE"})
    monkeypatch.setattr(host, "unknown_syscalls", lambda names: set())
    names = [m["destination"] for m in spec.RECORDED[role]["mounts"]]
    made = spec.container(role, role != "task", "HANDLE", "ROOTFS", "INIT", "garden", spec.environment(role, {}),
                          [(v, f"VOLUME:{v}") for v in volumes], {n: f"VOLUME:{n}" for n in names})
    recorded = copy.deepcopy(spec.RECORDED[role])
    recorded["ociVersion"] = "1.0.2"
    recorded["process"]["args"].append("-P")
    assert made == recorded


def test_privilege_decides_over_the_role(monkeypatch):
    files = {m["destination"]: "x" for m in spec.RECORDED["put"]["mounts"]}
    put = spec.container("put", False, "h", "r", "i", "c", [], [], files)
    task = spec.container("task", True, "h", "r", "i", "c", [], [], files)
    assert "seccomp" in put["linux"] and "uidMappings" in put["linux"]
    assert "seccomp" not in task["linux"] and {"type": "user"} not in task["linux"]["namespaces"]


def test_what_the_host_lacks_is_left_out_and_said(monkeypatch):
    monkeypatch.setattr(host, "grantable", lambda: {"CAP_CHOWN"})
    monkeypatch.setattr(host, "unknown_syscalls", lambda names: {"openat2", "clone3"})
    made = spec.container("task", False, "h", "r", "i", "c", [], [], {m["destination"]: "x" for m in spec.RECORDED["put"]["mounts"]})
    assert made["process"]["capabilities"]["bounding"] == ["CAP_CHOWN"]
    assert "openat2" not in [n for r in made["linux"]["seccomp"]["syscalls"] for n in r["names"]]
    assert any("CAP_SYS_ADMIN" in s for s in spec.missing()) and any("2 syscalls" in s for s in spec.missing())


def test_unknown_syscalls_are_told_from_known_and_pseudo_ones():
    assert host.unknown_syscalls(["read", "socketcall", "no_such_call"]) <= {"no_such_call"}


def test_process_environment():
    base = spec.RECORDED["put"]
    plain = spec.process(base, ["/x"], "", ("", 0, 0, []), [], False)
    assert plain["cwd"] == "/" and plain["env"][-1].startswith("PATH=/usr/local/sbin") and "terminal" not in plain
    user = spec.process(base, ["/x"], "/y", ("bob", 7, 8, [9]), ["PATH=/z"], True)
    assert user["env"][-2:] == ["PATH=/z", "USER=bob"] and user["user"] == {"uid": 7, "gid": 8, "additionalGids": [9]}
    assert user["terminal"] and user["consoleSize"] == {"width": 500, "height": 500}
