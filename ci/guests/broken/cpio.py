"""The archives that an initial RAM disk is made of (cpio's "newc", Documentation/driver-api/early-userspace/buffer-format.rst).

The kernel unpacks archives that follow each other, a later file in an earlier one's place: a guest is changed by what is appended.
"""

import gzip
import stat

MAGIC, HEADER = b"070701", 110


def entries(archive):
    """{path: (mode, content)} of an archive, packed or not."""
    if archive[:2] == b"\x1f\x8b":
        archive = gzip.decompress(archive)
    found, at = {}, 0
    while archive[at:at + 6] == MAGIC:
        field = [int(archive[at + 6 + 8 * n:at + 14 + 8 * n], 16) for n in range(13)]
        mode, size, name_size = field[1], field[6], field[11]
        name = archive[at + HEADER:at + HEADER + name_size - 1].decode()
        start = _aligned(at + HEADER + name_size)
        if name == "TRAILER!!!":
            break
        found[name.removeprefix("./")] = mode, archive[start:start + size]
        at = _aligned(start + size)
    return found


def archive(files):
    """An archive of {path: (mode, content)}; a mode without a kind is a file's. Directories come before what is in them."""
    out = bytearray()
    for number, (name, (mode, content)) in enumerate([*files.items(), ("TRAILER!!!", (0, b""))], 1):
        mode = mode if stat.S_IFMT(mode) or name == "TRAILER!!!" else stat.S_IFREG | mode
        fields = [number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0]
        out += MAGIC + b"".join(b"%08x" % f for f in fields) + name.encode() + b"\0"
        out += bytes(-len(out) % 4) + content
        out += bytes(-len(out) % 4)
    return bytes(out)


def joined(first, second):
    """Two archives, each packed or not: the next one starts at a multiple of four, after zeros."""
    return first + bytes(-len(first) % 4) + second


def _aligned(offset):
    return (offset + 3) & ~3
