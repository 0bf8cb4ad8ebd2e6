"""Guests that are broken on purpose, and some that only look so: each a small change of the guest `tiny`, `debian` or `ignition`.

    python3 -m broken list
    python3 -m broken make NAME DISK
    python3 -m broken record [NAME...]

with ci/guests in PYTHONPATH, and GUEST_TINY, GUEST_DEBIAN and GUEST_IGNITION naming disk images that ci/guests/build made. `table`
(and `ignition`) says what is broken and what is to be said of it, `disk` changes disks without booting them, `boot` boots one with
plain QEMU and keeps what its console said.
"""

from .disk import Bases
from .table import BREAKAGES, Breakage, by_name

from . import ignition  # noqa: F401 E402 (adds its rows)

__all__ = ["BREAKAGES", "Bases", "Breakage", "by_name"]
