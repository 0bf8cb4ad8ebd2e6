"""One container, from its writable layers to its end, and the processes exec'd into it."""

import codecs
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import termios
import threading
import time
import uuid
from pathlib import Path

from . import host, images, network, spec
from .host import Broken

GRACE = 10  # seconds: from SIGTERM to SIGKILL at an abort; and for stdio that a daemon still holds after its parent's end


class Container:
    """`inputs`: {destination: Artifact}, each behind a writable layer; `volumes`: {destination: directory}, used as
    they are; `known`: the build's list of its containers."""

    def __init__(self, worker, known, label, role, type_, privileged, env, inputs=None, volumes=None):
        self.worker, self.label, self.privileged = worker, label, privileged
        self.handle = str(uuid.uuid4())
        self.directory = worker.mine / "c" / self.handle
        self._children = []
        worker.containers.append(self)  # before anything is made, so that whatever happens it is destroyed
        known.append(self)
        self._make(role, type_, env, inputs or {}, volumes or {})

    def _make(self, role, type_, env, inputs, volumes):
        worker, directory = self.worker, self.directory
        directory.mkdir(parents=True)
        (directory / "step").write_text(self.label)
        address = worker.claim_address(self.handle)
        (directory / "address").write_text(address)
        self.address = address
        self.rootfs = images.overlay(worker.images.rootfs(type_, self.privileged), directory / "root", self.privileged)
        binds = {d: Path(p) for d, p in volumes.items()}
        for number, (destination, artifact) in enumerate(inputs.items()):
            binds[destination] = images.overlay(artifact.lower(self.privileged), directory / f"input{number}", self.privileged)
        self.sources = binds
        files = {"/scratch": images.make_dir(directory / "scratch", self.privileged)}
        for name, text in {"hosts": f"127.0.0.1 localhost\n{address} {self.handle}\n", "hostname": f"{self.handle}\n",
                           "resolv.conf": network.resolv_conf(worker.nat)}.items():
            path = files[f"/etc/{name}"] = directory / name
            path.write_text(text)
            path.chmod(0o644)
            os.chown(path, images.owner(self.privileged), images.owner(self.privileged))
        self.spec = spec.container(role, self.privileged, self.handle, self.rootfs, worker.init, worker.cgroup, env,
                                   sorted(binds.items(), key=lambda b: b[0].count("/")), files)
        (directory / "config.json").write_text(json.dumps(self.spec))
        worker.runc("create", "--bundle", directory, "--pid-file", directory / "pid", self.handle,
                    log=directory / "runc.log")
        self.pid = int((directory / "pid").read_text())
        self.pid_namespace = host.pid_namespaces(self.pid)[0]
        (directory / "pidns").write_text(str(self.pid_namespace))
        groups = [g for g in host.cgroups_of(self.pid) if g.endswith(self.handle)]
        (directory / "cgroups").write_text("\n".join(groups))
        network.attach(worker.name, interface(self.handle), address, self.pid)
        worker.runc("start", self.handle, log=directory / "runc.log")

    def start(self, argv, cwd="/", user="", env=(), stdin=b"", tty=False, on_output=None):
        """Exec a process. Its stdout is collected (with `tty`: given to on_output), its stderr given to on_output as it comes."""
        process = spec.process(self.spec, argv, cwd, self._user(user), list(env), tty)
        (self.rootfs / process["cwd"].lstrip("/")).exists() or self._make_cwd(process["cwd"])
        running = Process(self, process, stdin, tty, on_output or (lambda text: None))
        self._children.append(running.pid)
        return running

    def _make_cwd(self, cwd):
        inside = any(cwd == d or cwd.startswith(d + "/") for d in self.sources)
        if not inside:  # the runtime makes a missing working directory; below a volume runc does
            images.make_dir(self.rootfs / cwd.lstrip("/"), self.privileged)

    def _user(self, name):
        """Look a user up in the image's own /etc/passwd and /etc/group. No name: root, and no USER in the environment."""
        wanted = name or "root"
        groups = [l.split(":") for l in self._lines("etc/group")]
        for line in self._lines("etc/passwd"):
            fields = line.split(":")
            if fields[0] == wanted:
                more = [int(g[2]) for g in groups if len(g) > 3 and wanted in g[3].split(",")]
                return name, int(fields[2]), int(fields[3]), more
        if wanted == "root":
            return name, 0, 0, []
        raise Broken(f"user {name}: not in the image's /etc/passwd")

    def _lines(self, path):
        file = self.rootfs / path
        return file.read_text(errors="replace").splitlines() if file.is_file() else []

    def processes(self):
        """What lives in it, nested PID namespaces included, its init left out."""
        return [p for p in host.processes_within(self.pid_namespace) if p["pid"] != self.pid]

    def destroy(self):
        destroy(self.worker, self.directory)
        for pid in self._children:
            host.reap(pid)


def interface(handle):
    return "v" + handle.replace("-", "")[:12]


def destroy(worker, directory):
    """End a container, whoever made it and however far that came: network first, then SIGKILL, then what it occupied.
    An error in one part does not keep the others from being done."""
    handle, errors = directory.name, []

    def read(name):
        file = directory / name
        return file.read_text() if file.is_file() else ""

    def kill():
        if read("pid") and read("pidns"):
            host.kill_namespace(int(read("pid")), int(read("pidns")))

    def forget():
        if (worker.runc_root / handle).exists():
            worker.runc("delete", "--force", handle)
        if read("pid"):
            host.reap(int(read("pid")))

    for part in (lambda: network.detach(worker.name, interface(handle)), kill, forget,
                 lambda: [host.remove_cgroup(d) for d in read("cgroups").splitlines()],
                 lambda: host.unmount_below(directory), lambda: worker.free_address(read("address")),
                 lambda: shutil.rmtree(directory, ignore_errors=not directory.exists())):
        try:
            part()
        except (Broken, OSError) as error:
            errors.append(str(error))
    if errors:
        raise Broken(f"container {handle} is not quite gone: {'; '.join(errors)}")


class Process:
    """`runc exec --detach`: we are its subreaper and hold its stdio, as containerd's shim does on a worker."""

    def __init__(self, container, process, stdin, tty, on_output):
        self.container, self.stdout, self._on_output = container, b"", on_output
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        with tempfile.TemporaryDirectory(prefix="ciw-") as scratch:
            self._spawn(Path(scratch), process, stdin, tty)

    def _spawn(self, scratch, process, stdin, tty):
        (scratch / "process.json").write_text(json.dumps(process))
        argv = ["exec", "--detach", "--process", scratch / "process.json", "--pid-file", scratch / "pid"]
        ours, theirs = [], {}
        listener = None
        if tty:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(scratch / "tty"))
            listener.listen(1)
            argv += ["--console-socket", scratch / "tty"]
            theirs = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        else:
            pipes = [os.pipe() for _ in range(3)]
            theirs = {"stdin": pipes[0][0], "stdout": pipes[1][1], "stderr": pipes[2][1]}
            ours = [pipes[0][1], pipes[1][0], pipes[2][0]]
        try:
            done = subprocess.run(self.container.worker.runc_argv(*argv, self.container.handle, log=scratch / "log"),
                                  start_new_session=True, **theirs)
            if done.returncode == 0:
                self.pid = int((scratch / "pid").read_text())
                self._pidfd = os.pidfd_open(self.pid)
                if tty:
                    connection, _ = listener.accept()
                    _, fds, _, _ = socket.recv_fds(connection, 4096, 1)
                    connection.close()
                    fcntl.ioctl(fds[0], termios.TIOCSWINSZ, struct.pack("HHHH", 500, 500, 0, 0))
                    ours = fds
        finally:
            if listener:
                listener.close()
            for fd in (f for f in theirs.values() if isinstance(f, int) and f >= 0):
                os.close(fd)
        if done.returncode != 0:
            for fd in ours:
                os.close(fd)
            raise Broken(f"{process['args'][0]}: {runc_error(scratch / 'log')}")
        self._readers = [threading.Thread(target=self._read, args=(fd, collected), daemon=True)
                         for fd, collected in ([(ours[0], False)] if tty else [(ours[1], True), (ours[2], False)])]
        for thread in self._readers:
            thread.start()
        if not tty:
            threading.Thread(target=feed, args=(ours[0], stdin), daemon=True).start()

    def _read(self, fd, collected):
        """Until end of file, or GRACE seconds after the process ended: a daemon that holds on gets EPIPE."""
        ended_at = None
        try:
            while True:
                ready, _, _ = select.select([fd], [], [], 0.1)
                if ready:
                    data = os.read(fd, 65536)  # EIO: the terminal's last user is gone
                    if not data:
                        return
                    if collected:
                        self.stdout += data
                    else:
                        self._on_output(self._decoder.decode(data).replace("\r\n", "\n"))
                elif self._ended():
                    ended_at = ended_at or time.monotonic()
                    if time.monotonic() - ended_at > GRACE:
                        return
        except OSError:
            return
        finally:
            os.close(fd)

    def _ended(self, seconds=0):
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def signal(self, number):
        """To this process alone, never to its group, as the runtime does it."""
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            pass

    def wait(self, scope):
        """Exit status (128 + signal), after its output is read. When `scope` is cancelled: SIGTERM, GRACE, SIGKILL, then raises that."""
        stopped = None
        while not self._ended(0.05):
            stopped = scope.over()
            if stopped:
                self.signal(signal.SIGTERM)
                if not self._ended(GRACE):
                    self.signal(signal.SIGKILL)
                    self._ended(GRACE)
                break
        for thread in self._readers:
            thread.join(1 if stopped else None)
        _, status = os.waitpid(self.pid, 0)
        self.container._children.remove(self.pid)
        if stopped:
            raise stopped
        code = os.waitstatus_to_exitcode(status)
        return 128 - code if code < 0 else code


def feed(fd, data):
    try:
        with os.fdopen(fd, "wb") as pipe:
            pipe.write(data)
    except BrokenPipeError:
        pass  # a script need not read its stdin


def runc_error(log):
    lines = log.read_text().splitlines() if log.exists() else []
    errors = [json.loads(l)["msg"] for l in lines if '"level":"error"' in l]
    return errors[-1] if errors else "runc failed and said nothing"
