"""Root file systems and artifacts, and who owns the files in them.

Root of an unprivileged container is another user outside (spec.ROOT_OUTSIDE), so root's files must be too: such a tree
is copied once, chowned, and kept (images by identity, artifacts for the build)."""

import hashlib
import os
import shutil
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from .host import Broken, Refused, locked, sh
from .spec import ROOT_OUTSIDE


@dataclass(frozen=True)
class Type:
    """A resource type or task image: `rootfs` is a directory (or one that holds `rootfs/`), a tar of one, or `docker:TAG`."""
    rootfs: str
    privileged: bool = False


def owner(privileged):
    return 0 if privileged else ROOT_OUTSIDE


def make_dir(path, privileged, mode=0o755):
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)
    os.chown(path, owner(privileged), owner(privileged))
    return path


def copy_tree(source, target, keep_owner=True):
    Path(target).mkdir(parents=True)
    sh("cp", "-a", "--reflink=auto", "--sparse=auto", *([] if keep_owner else ["--no-preserve=ownership"]),
       f"{source}/.", f"{target}/")


def copy_tracked(source, target, **_):
    """Of a git work tree, what fly execute would send: tracked or not ignored, without .git."""
    Path(target).mkdir(parents=True)
    listed = sh("git", "-c", "safe.directory=*", "-C", source, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    names = [n for n in listed.split("\0") if n and os.path.lexists(os.path.join(source, n))]
    for start in range(0, len(names), 500):
        sh("cp", "-a", "--no-preserve=ownership", "--parents", "--", *names[start:start + 500], os.path.abspath(target), cwd=source)


def shift(tree, privileged):
    """Give root's files to the root of the other kind of container. Like a worker, this loses file capabilities."""
    old, new = owner(not privileged), owner(privileged)
    for folder, dirs, files in os.walk(tree):
        for path in [folder] + [os.path.join(folder, n) for n in files + [d for d in dirs if os.path.islink(os.path.join(folder, d))]]:
            info = os.lstat(path)
            if old in (info.st_uid, info.st_gid):
                os.lchown(path, new if info.st_uid == old else -1, new if info.st_gid == old else -1)
                if stat.S_ISREG(info.st_mode) and info.st_mode & 0o6000:
                    os.chmod(path, stat.S_IMODE(info.st_mode))  # chown cleared setuid


class Images:
    """Unpacked and shifted root file systems, kept between runs below `directory`."""

    def __init__(self, directory):
        self.directory = directory

    def rootfs(self, type_, privileged):
        """A directory to use as the lower layer of such a container."""
        plain = self._plain(type_.rootfs)
        if privileged:
            return plain
        return self._once(f"{identity(plain)}-shifted", lambda target: (copy_tree(plain, target), shift(target, False)))

    def _plain(self, source):
        if source.startswith("docker:"):
            image = sh("docker", "image", "inspect", "-f", "{{.Id}}", source[7:]).strip().removeprefix("sha256:")
            return self._once(f"docker-{image}", lambda target: docker_export(image, target))
        path = Path(source).resolve()
        if path.is_file():
            return self._once(identity(path), lambda target: (target.mkdir(), sh("tar", "--numeric-owner", "-xpf", path, "-C", target)))
        if not path.is_dir():
            raise Refused(f"image {source}: neither a directory, nor a tar, nor docker:TAG")
        return path / "rootfs" if (path / "rootfs").is_dir() and (path / "metadata.json").is_file() else path

    def _once(self, key, make):
        target = self.directory / key
        with locked(self.directory / f"{key}.lock"):
            if not target.is_dir():
                part = self.directory / f"{key}.part"
                shutil.rmtree(part, ignore_errors=True)
                make(part)
                part.rename(target)
        return target

    def prune(self, days=7):
        """Remove what no run has used for that long."""
        for lock in list(self.directory.glob("*.lock")):
            if lock.stat().st_mtime < time.time() - days * 86400:  # taking the lock renews it
                for path in (lock.with_suffix(""), lock.with_suffix(".part")):
                    shutil.rmtree(path, ignore_errors=True)
                lock.unlink()


def identity(path):
    """Names a file or tree by path, inode, size and time of everything in it: cheap, and changes when the content does."""
    digest = hashlib.sha256(str(path).encode())
    paths = [path] if path.is_file() else (os.path.join(f, n) for f, d, files in os.walk(path) for n in sorted([*files, *d, "."]))
    for item in paths:
        s = os.lstat(item)
        digest.update(f"{item}\0{s.st_ino} {s.st_size} {s.st_mtime_ns} {s.st_ctime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]


def docker_export(image, target):
    target.mkdir()
    container = sh("docker", "create", image, "/none").strip()
    try:
        sh("sh", "-c", 'docker export "$1" | tar --numeric-owner -xpf - -C "$2"', "sh", container, target)
    finally:
        sh("docker", "rm", "-f", container)
    if not os.listdir(target):
        raise Broken(f"docker export of {image} gave nothing")


class Artifact:
    """A tree that one step made and later ones read, in the ownership of the kind of container that made it."""

    def __init__(self, path, privileged):
        self.path, self.privileged = Path(path), privileged

    def lower(self, privileged):
        """The tree, owned for such a container."""
        if privileged == self.privileged:
            return self.path
        other = self.path.with_name(self.path.name + ("-root" if privileged else "-shifted"))
        with locked(self.path.with_name(self.path.name + ".lock")):
            if not other.is_dir():
                part = other.with_name(other.name + ".part")
                copy_tree(self.path, part)
                shift(part, privileged)
                part.rename(other)
        return other


def overlay(lower, directory, privileged):
    """A writable layer of its own over `lower`, mounted at directory/merged."""
    upper, work, merged = (make_dir(Path(directory) / n, privileged) for n in ("upper", "work", "merged"))
    info = os.stat(lower)
    upper.chmod(stat.S_IMODE(info.st_mode))  # the merged root shows the upper's mode and owner
    os.chown(upper, info.st_uid, info.st_gid)
    sh("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={lower},upperdir={upper},workdir={work}", merged)
    return merged
