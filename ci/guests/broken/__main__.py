"""The command line: see the package."""

import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import BREAKAGES, Bases, by_name
from .boot import record, shortened

EVIDENCE = Path(__file__).resolve().parents[3] / "tests/evidence"


def main(command="list", *names):
    if command == "list":
        for breakage in BREAKAGES:
            print(f"{breakage.name:40} {'serial' if breakage.serial else 'silent'}  {', '.join(breakage.codes) or 'ready'}")
        return 0
    with Bases(os.environ["GUEST_TINY"], os.environ["GUEST_DEBIAN"], os.environ.get("GUEST_IGNITION")) as bases:
        if command == "make":
            name, out = names
            by_name(name).make(bases, Path(out))
            return 0
        if command == "record":
            return recorded([by_name(name) for name in names] or BREAKAGES, bases)
    print(__import__(__package__).__doc__, file=sys.stderr)
    return 2


def recorded(breakages, bases):
    """Boots each, three at a time; those whose console is not what it should be are named and not kept."""
    EVIDENCE.mkdir(parents=True, exist_ok=True)
    lock, missed = threading.Lock(), []

    def one(breakage):
        try:
            console, screen, sign = record(breakage, bases)
        except (OSError, ValueError) as error:
            missed.append(breakage.name)
            print(f"{breakage.name}: {error}", flush=True)
            return
        shown = "no sign expected" if breakage.sign is None else "SIGN MISSING" if sign is None else f"sign after {sign:.0f} s"
        print(f"{breakage.name}: {len(console)} bytes, {shown}", flush=True)
        if breakage.sign and sign is None:
            missed.append(breakage.name)
            (bases.work.parent / f"missed-{breakage.name}").write_bytes(console + (screen or "").encode())
            return
        with lock:
            keep(breakage, console, screen)

    with ThreadPoolExecutor(int(os.environ.get("AT_ONCE", "3"))) as pool:
        list(pool.map(one, breakages))
    if missed:
        print("not as it should be: " + ", ".join(missed))
    return 1 if missed else 0


def keep(breakage, console, screen):
    index = EVIDENCE / "real.json"
    known = json.loads(index.read_text()) if index.exists() else {}
    name = f"real-{breakage.name}.console.txt"
    (EVIDENCE / name).write_bytes(shortened(console))
    entry = {"codes": list(breakage.codes), "phases": list(breakage.phases), "healthy": breakage.healthy, "serial": breakage.serial,
             "early": breakage.early and not breakage.healthy, "console_decides": breakage.sign is not None and breakage.serial}
    if screen is not None:
        entry["screen"] = name.replace(".console.", ".screen.")
        (EVIDENCE / entry["screen"]).write_text(screen)
    known[name] = entry
    index.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
