"""`check`, from its start to its end, beside a program that does nothing."""

import json
import os
import statistics
import subprocess
import sys
import time

from .place import Failed
from .table import Row

LIMIT = 5.0  # milliseconds
SPAWNS = 60
REQUEST = {"source": {"token": "bench-token-0123456789abcdef"}, "version": {
    "cluster": "brisk-otter-3f9c", "endpoint": "10.80.0.2:7669", "fingerprint": "ab" * 32, "state": "ready"}}


def measure(place, rounds, tell):
    """In the image's root file system and in turns with /bin/true. A container would add the runtime's own start of a process."""
    done = subprocess.run([sys.executable, "-m", "measure.start", place.rootfs], input=json.dumps(REQUEST), capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"check: {done.stderr}")
    took = json.loads(done.stdout)
    check, true = (statistics.median(took[name]) for name in ("check", "true"))
    libraries = listed(place.rootfs, "/opt/resource/check")
    tell(f"check: {check:.2f} ms, /bin/true {true:.2f} ms, libraries: {', '.join(libraries)}")
    rows = [Row("check, whole process", f"≤ {LIMIT:.0f} ms", f"{check:.2f} ms", check, LIMIT,
                note=f"{check / true:.2f} times /bin/true ({true:.2f} ms); medians of {SPAWNS} starts in turns")]
    foreign = [name for name in libraries if name not in C_LIBRARY]
    rows.append(Row("shared libraries of check", "libc alone", str(len(libraries)), float(len(foreign)), 0.5, note=", ".join(libraries)))
    return rows


# glibc, its loader, and what every Rust program that unwinds has of GCC.
C_LIBRARY = ("libc.so.6", "libgcc_s.so.1", "libm.so.6", "ld-linux-x86-64.so.2", "linux-vdso.so.1")


def listed(rootfs, program):
    """What the loader maps, by its own account; the kernel's vDSO is no file."""
    done = subprocess.run(["chroot", rootfs, "/usr/bin/ldd", program], capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"ldd {program}: {done.stderr.strip()}")
    names = [os.path.basename(line.split()[0]) for line in done.stdout.splitlines() if line.strip()]
    return [name for name in names if not name.startswith("linux-vdso")]


def main(rootfs):
    """A process of its own, since it stays in the root file system."""
    request = sys.stdin.buffer.read()
    os.chroot(rootfs)
    os.chdir("/")
    took = {"check": [], "true": []}
    for number in range(-5, SPAWNS):  # the first are to warm the caches
        for name, path in (("check", "/opt/resource/check"), ("true", "/bin/true")):
            source, sink = os.pipe()
            os.write(sink, request)
            os.close(sink)
            out_read, out_write = os.pipe()
            begun = time.perf_counter()
            pid = os.posix_spawn(path, [path], {}, file_actions=[(os.POSIX_SPAWN_DUP2, source, 0), (os.POSIX_SPAWN_DUP2, out_write, 1)])
            _, status = os.waitpid(pid, 0)
            ended = time.perf_counter()
            os.close(source)
            os.close(out_write)
            answer = os.read(out_read, 65536)
            os.close(out_read)
            if status != 0 or (name == "check" and json.loads(answer) != [json.loads(request)["version"]]):
                sys.exit(f"{path}: status {status}, answer {answer!r}")
            if number >= 0:
                took[name].append((ended - begun) * 1000)
    json.dump(took, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
