"""OCI specs: the recorded ones of specs/ with their placeholders filled in.

Departures from the record, all of them here: ociVersion (older runc), `-P` for the init (ours is catatonit), what
this host cannot grant (capabilities, syscalls), and CAP_SYS_RESOURCE, which the recording host lacked but a common
worker grants to privileged containers."""

import copy
import json
from pathlib import Path

from . import host

RECORDED = {role: json.loads((Path(__file__).parent / "specs" / f"{role}.json").read_text())
            for role in ("check", "get", "put", "task")}
ROOT_OUTSIDE = RECORDED["task"]["linux"]["uidMappings"][0]["hostID"]  # who root of an unprivileged container is
BUILD_VOLUMES = "/tmp/build/"


def missing():
    """What of the record this host cannot do, as sentences for the log."""
    wanted = set(RECORDED["put"]["process"]["capabilities"]["bounding"]) | {"CAP_SYS_RESOURCE"}
    lacking = sorted(wanted - host.grantable())
    names = [n for rule in RECORDED["task"]["linux"]["seccomp"]["syscalls"] for n in rule["names"]]
    unknown = sorted(host.unknown_syscalls(names))
    if lacking:
        yield f"this host cannot grant {', '.join(lacking)}: left out of privileged containers"
    if unknown:
        yield f"this host's libseccomp does not know {len(unknown)} syscalls of the tasks' profile: left out"


def environment(role, values):
    """The recorded variables in their recorded order, with this build's values; one-off builds drop job and pipeline (None)."""
    pairs = [line.split("=", 1) for line in RECORDED[role]["process"]["env"]]
    filled = [(name, values.get(name, recorded)) for name, recorded in pairs]
    return [f"{name}={value}" for name, value in filled if value is not None]


def container(role, privileged, handle, rootfs, init, cgroup, env, volumes, files):
    """The spec of one container. `volumes`: [(destination, source)] of /tmp/build; `files`: {destination: source} of the rest."""
    usual = role != "task"
    base = RECORDED[role] if privileged == usual else RECORDED["put" if privileged else "task"]
    spec = copy.deepcopy(base)
    spec["ociVersion"] = "1.0.2"
    spec["root"]["path"] = str(rootfs)
    spec["hostname"] = handle
    spec["process"]["env"] = env
    spec["process"]["args"] = [*spec["process"]["args"], "-P"]
    spec["annotations"]["user"] = RECORDED[role]["annotations"]["user"]
    mounts = []
    for mount in spec["mounts"]:
        source, destination = mount["source"], mount["destination"]
        if destination == "/etc/hosts":  # inputs and outputs stood before it
            mounts += [{"destination": d, "type": "bind", "source": str(s), "options": ["bind", "rw"]} for d, s in volumes]
        if destination.startswith(BUILD_VOLUMES):
            continue
        if source == "INIT":
            mount["source"] = str(init)
        elif source.startswith("VOLUME:"):
            mount["source"] = str(files[destination])
        mounts.append(mount)
    spec["mounts"] = mounts
    if "cgroupsPath" in spec["linux"]:
        spec["linux"]["cgroupsPath"] = f"{cgroup}/{handle}"
    can = host.grantable()
    for kind, names in spec["process"]["capabilities"].items():
        wanted = names + ["CAP_SYS_RESOURCE"] if privileged and "CAP_SYS_RESOURCE" not in names else names
        spec["process"]["capabilities"][kind] = sorted(n for n in wanted if n in can)
    for rule in spec["linux"].get("seccomp", {}).get("syscalls", []):
        unknown = host.unknown_syscalls(rule["names"])
        rule["names"] = [n for n in rule["names"] if n not in unknown]
    return spec


PATHS = {True: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", False: "/usr/local/bin:/usr/bin:/bin"}


def process(container_spec, argv, cwd, user, extra_env, terminal):
    """The spec of a process exec'd into a container: the init's, changed as the worker's runtime does it.
    `user`: (name or "", uid, gid, more gids)."""
    name, uid, gid, more = user
    spec = copy.deepcopy(container_spec["process"])
    spec["args"] = [str(a) for a in argv]
    spec["cwd"] = cwd or "/"
    spec["user"] = {"uid": uid, "gid": gid, "additionalGids": more}
    spec["env"] += extra_env
    if name:
        spec["env"].append(f"USER={name}")
    if not any(line.startswith("PATH=") for line in spec["env"]):
        spec["env"].append("PATH=" + PATHS[uid == 0])
    if terminal:
        spec["terminal"] = True
        spec["consoleSize"] = {"width": 500, "height": 500}
    return spec
