"""bench/run's Python part."""

import argparse
import json
import os
import signal
import sys

from standin import Broken, Refused

from . import image, put, start, ten, vagrant
from .place import Failed, place
from .table import as_json, show

PARTS = {"put": put, "check": start, "ten": ten, "image": image, "vagrant": vagrant}


def main():
    options = argparse.ArgumentParser(prog="bench/run", description="Prints goal, figure and verdict.")
    options.add_argument("--rounds", type=int, default=7, help="side-by-side rounds of a comparison (default: 7)")
    options.add_argument("--only", metavar="NAME,…", help=f"some of {', '.join(PARTS)}")
    options.add_argument("--json", metavar="FILE", help="the rows, for programs")
    chosen = options.parse_args()
    names = chosen.only.split(",") if chosen.only else list(PARTS)
    for name in names:
        if name not in PARTS:
            options.error(f"--only {name}: there are {', '.join(PARTS)}")
    # As Ctrl-C does: the containers are removed on the way out, and what was measured so far is printed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rows, broken = [], "interrupted"
    try:
        with place(os.environ["RESOURCE_ROOTFS"], os.environ["GUEST_TINY"]) as where:
            for name in names:
                tell(f"== {name}")
                for row in PARTS[name].measure(where, chosen.rounds, tell):
                    rows.append(row)
        broken = None
    except (Failed, Broken, Refused) as error:
        broken = str(error)
    finally:
        print(show(rows))
        if chosen.json:
            with open(chosen.json, "w") as file:
                json.dump(as_json(rows), file, indent=1)
        if broken:
            tell(f"error: {broken}: not everything was measured")
    sys.exit(1 if broken else 0)


def tell(text):
    print(text, file=sys.stderr, flush=True)


main()
