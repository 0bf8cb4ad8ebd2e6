"""What the stand-in needs of its own host: commands, capabilities, syscalls, processes, mounts, cgroups."""

import ctypes
import fcntl
import os
import re
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path


class Refused(Exception):
    """The caller asked for something wrong or unsupported; nothing was run."""


class Broken(Exception):
    """The host or the container could not do what it had to: the step is errored."""


def sh(*argv, ok=(0,), **options):
    """Run a host command; its output, or Broken with what it said. Own session: Ctrl-C is ours to handle."""
    done = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, start_new_session=True, **options)
    if ok is not None and done.returncode not in ok:
        raise Broken(f"{' '.join(map(str, argv))}: exit {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def become_reaper():
    """PR_SET_CHILD_SUBREAPER: what `runc exec --detach` leaves becomes our child, as with containerd's shim, so that we learn its exit status."""
    if ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0) != 0:
        raise Broken("prctl(PR_SET_CHILD_SUBREAPER): " + os.strerror(ctypes.get_errno()))


CAPABILITIES = """CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
 NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE
 SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL
 SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE""".split()


def grantable():
    """Names of the capabilities in our bounding set: no container of ours can have more."""
    status = Path("/proc/self/status").read_text()
    bits = int(status.split("CapBnd:")[1].split()[0], 16)
    return {"CAP_" + name for number, name in enumerate(CAPABILITIES) if bits >> number & 1}


def unknown_syscalls(names):
    """Those of `names` that this host's libseccomp cannot resolve (it is older than the recorded profile)."""
    try:
        resolve = ctypes.CDLL("libseccomp.so.2").seccomp_syscall_resolve_name
    except OSError:
        return set()  # runc then drops them itself, silently
    return {name for name in names if resolve(name.encode()) == -1}  # __NR_SCMP_ERROR; others < 0 are pseudo numbers


NS_GET_PARENT = 0xB702  # ioctl_ns(2)


def pid_namespaces(pid):
    """Inode numbers of the process's PID namespace and all its ancestors that we can see."""
    inodes, fd = [], None
    try:
        fd = os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY)
        while True:
            inodes.append(os.fstat(fd).st_ino)
            parent = fcntl.ioctl(fd, NS_GET_PARENT)
            os.close(fd)
            fd = parent
    except OSError:  # the process is gone, or the parent is out of our sight
        pass
    finally:
        if fd is not None:
            os.close(fd)
    return inodes


def processes_within(pid_namespace):
    """Every process of that PID namespace and of those nested in it, however it hides in cgroups or sessions."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and pid_namespace in pid_namespaces(entry):
            try:
                state = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[0]
                comm = Path(f"/proc/{entry}/comm").read_text().strip()
                argv = Path(f"/proc/{entry}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
            except OSError:
                continue
            found.append({"pid": int(entry), "comm": comm, "argv": argv, "state": state})
    return found


def kill_namespace(pid, pid_namespace, patience=30):
    """SIGKILL init and with it, by the kernel, all its PID namespace; wait until nothing of that is left."""
    try:
        pidfd = os.pidfd_open(pid)
        try:
            if pid_namespaces(pid)[:1] == [pid_namespace]:  # the number may have gone to another process since
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        finally:
            os.close(pidfd)
    except ProcessLookupError:
        pass
    end = time.monotonic() + patience
    while time.monotonic() < end:
        left = processes_within(pid_namespace)
        for number in {pid, *(p["pid"] for p in left)}:  # those exec'd into it are children of ours, and init waits for them
            reap(number)
        if not left:
            return
        time.sleep(0.02)
    raise Broken(f"processes survived SIGKILL of container init {pid}: {processes_within(pid_namespace)}")


def beyond_guest(pid, guest_mib):
    """MiB that a QEMU occupies beside its guest's memory: PSS (each page divided by its users) of all but the mapping of that size."""
    total, own = 0, True
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if area := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            own = int(area[2], 16) - int(area[1], 16) != guest_mib << 20
        elif own and line.startswith("Pss:"):
            total += int(line.split()[1])
    return total / 1024


def reap(pid):
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass


def mounts_below(directory):
    prefix = str(directory).rstrip("/") + "/"
    points = [line.split()[4].encode().decode("unicode_escape") for line in open("/proc/self/mountinfo")]
    return [p for p in points if (p + "/").startswith(prefix)]


def unmount_below(directory):
    for point in reversed(mounts_below(directory)):
        subprocess.run(["umount", point], stderr=subprocess.DEVNULL) .returncode and sh("umount", "-l", point)


def cgroups_of(pid):
    """Directories of a process's cgroups, v1 and v2; never a root cgroup."""
    found = []
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if path != "/":
            tops = [controllers.removeprefix("name=")] if controllers else ["unified", ""]
            found += [f"/sys/fs/cgroup/{top}{path}" if top else f"/sys/fs/cgroup{path}" for top in tops]
    return [d for d in found if os.path.isdir(d)]


def remove_cgroup(directory):
    """rmdir a cgroup and what the container made in it; processes just killed may hold it for a moment."""
    for _ in range(50):
        for path, _dirs, _files in os.walk(directory, topdown=False):
            try:
                os.rmdir(path)
            except OSError:
                pass
        if not os.path.isdir(directory):
            return
        time.sleep(0.02)


@contextmanager
def locked(path):
    """Exclusive among processes and threads; the file stays, so that nobody locks a deleted one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
