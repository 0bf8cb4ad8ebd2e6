"""The worker: its network, its containers, who uses it, and the removal of all that."""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

from . import host, network
from .container import destroy, runc_error
from .host import Broken, Refused, locked, sh
from .images import Images

STATE = Path("/var/tmp/ci-worker")  # not /tmp nor /run: disks of VMs land below it


class Worker:
    """Several harness processes may use one worker by its name; the last one to leave takes it down.

    with Worker() as w:
        build = w.build("pipeline.yml", types={"libvirt": Type("rootfs/", privileged=True)}, resources={"repo": "."})
        assert build.status == "succeeded", build.log
    """

    def __init__(self, name=None, state=STATE, nat=False):
        self.state = Path(state).resolve()
        self.name = name or f"{os.getpid():x}{os.urandom(3).hex()}"
        if not re.fullmatch(r"[a-z0-9-]{1,40}", self.name):
            raise Refused(f"worker name {self.name!r}: small letters, digits and - only")
        self._want_nat = nat
        self.images = Images(self.state / "images")
        self.directory = self.state / "workers" / self.name
        self.runc_root = self.directory / "runc"
        self.cgroup = f"ciw-{self.name}"  # where the record says "garden": ours, so that the last one can remove it
        self.containers, self.builds = [], []
        self._counter, self._counting = 0, threading.Lock()

    # joining and leaving

    def __enter__(self):
        if os.geteuid() != 0:
            raise Refused("the worker stand-in must run as root")
        self.init = shutil.which("catatonit") or missing("catatonit", "catatonit")
        for program, package in (("runc", "runc"), ("ip", "iproute2"), ("nsenter", "util-linux")):
            shutil.which(program) or missing(program, package)
        self.state.mkdir(parents=True, exist_ok=True)
        closed = [str(p) for p in (self.state, *self.state.parents) if not p.stat().st_mode & 0o001]
        if closed:
            raise Refused(f"--state {self.state}: {closed[0]} is closed to others, so to root of an unprivileged container: chmod o+x it")
        host.become_reaper()
        with self._lock():
            (self.directory / "h").mkdir(parents=True, exist_ok=True)
            if not Path(f"/run/netns/{network.namespace(self.name)}").exists():
                if self._want_nat:
                    (self.directory / "nat").touch()
                try:
                    network.up(self.name, self._want_nat)
                except Broken:
                    sweep(self)
                    raise
            elif self._want_nat and not self.nat:
                raise Refused(f"worker {self.name} is there already, made without NAT")
            self.mine = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=self.directory / "h"))
            self.mine.chmod(0o711)  # root of an unprivileged container is somebody else out here
            self._held = open(self.mine / "lock", "w")
            fcntl.flock(self._held, fcntl.LOCK_EX)
        return self

    @property
    def nat(self):
        return (self.directory / "nat").exists()

    def __exit__(self, *_):
        errors = []
        for build in list(self.builds):
            build.abort()
            build.wait()
        for container in list(self.containers):
            errors += self.end(container)
        with self._lock():
            self._held.close()
            shutil.rmtree(self.mine, ignore_errors=True)
            errors += sweep(self)
        if errors:
            raise Broken("; ".join(errors))

    def end(self, container):
        """Destroy one container; what went wrong, if anything."""
        self.containers.remove(container)
        try:
            container.destroy()
        except Broken as error:
            return [str(error)]
        return []

    def _lock(self):
        return locked(self.state / "locks" / self.name)

    # what containers and builds need of it

    def runc_argv(self, *argv, log):
        return ["runc", "--root", str(self.runc_root), "--log", str(log), "--log-format", "json", *map(str, argv)]

    def runc(self, *argv, log=None):
        log = log or self.directory / "runc.log"
        done = subprocess.run(self.runc_argv(*argv, log=log), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, start_new_session=True)
        if done.returncode != 0:
            raise Broken(f"runc {argv[0]}: {runc_error(log)}")

    def claim_address(self, handle):
        (self.directory / "ip").mkdir(exist_ok=True)
        for number in range(2, 65000):
            address = f"10.80.{number >> 8}.{number & 255}"
            try:
                (self.directory / "ip" / address).open("x").write(handle)
                return address
            except FileExistsError:
                continue
        raise Broken("the worker's network is full")

    def free_address(self, address):
        if address:
            (self.directory / "ip" / address).unlink(missing_ok=True)

    def number(self):
        with self._counting:
            self._counter += 1
            return self._counter

    # builds

    def start(self, pipeline, **options):
        """Start a build in the background; see build.Build for the options. Its `.wait()` returns it when it is over."""
        from .build import Build
        build = Build(self, pipeline, **options)
        build.start()
        return build

    def build(self, pipeline, **options):
        """Run a build to its end: its containers are destroyed on return, unless keep=True."""
        return self.start(pipeline, **options).wait()

    def exec(self, container, argv, stdin=b"", env=(), user="root", timeout=60):
        """Hijack: run a command in a container; (exit status, stdout, stderr)."""
        from .build import Scope
        errors = []
        process = container.start(argv, stdin=stdin, env=env, user=user, on_output=errors.append)
        status = process.wait(Scope(timeout=timeout))
        return status, process.stdout.decode(errors="replace"), "".join(errors)

    def ps(self, container):
        """Processes living in the container, nested PID namespaces included; also after its destruction (then: none)."""
        return container.processes()


def missing(program, package):
    raise Refused(f"{program} is not installed: apt-get install {package}")


def sweep(worker):
    """Under the worker's lock: end what dead harnesses left on it, and the worker itself when nobody is on it any more."""
    errors, alive = [], False
    for holder in sorted((worker.directory / "h").glob("*")):
        if held(holder / "lock"):
            alive = True
            continue
        for directory in sorted((holder / "c").glob("*")):
            try:
                destroy(worker, directory)
            except Broken as error:
                errors.append(str(error))
        host.unmount_below(holder)
        shutil.rmtree(holder, ignore_errors=True)
    if not alive and not errors:
        network.down(worker.name, worker.nat)
        for top in sh("find", "/sys/fs/cgroup", "-depth", "-type", "d", "-name", worker.cgroup, ok=None).split():
            host.remove_cgroup(top)
        shutil.rmtree(worker.directory, ignore_errors=True)
    return errors


def held(lock):
    """Whether a live process holds this file's lock."""
    try:
        with open(lock) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False


def gc(state=STATE):
    """Clean up after harnesses that were killed. Those that live are left alone. What could not be done, if anything."""
    errors = []
    for directory in sorted((Path(state) / "workers").glob("*")):
        worker = Worker(directory.name, state)
        with worker._lock():
            errors += sweep(worker)
    Images(Path(state) / "images").prune()
    return errors
