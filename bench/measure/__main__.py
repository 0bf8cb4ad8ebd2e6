"""bench/run's Python part."""

import argparse
import json
import os
import sys

from standin import Broken, Refused

from . import image, put, start, ten
from .place import Failed, place
from .table import as_json, show

PARTS = {"put": put, "check": start, "ten": ten, "image": image}


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
    rows = []
    try:
        with place(os.environ["RESOURCE_ROOTFS"], os.environ["GUEST_TINY"]) as where:
            for name in names:
                tell(f"== {name}")
                rows += PARTS[name].measure(where, chosen.rounds, tell)
    except (Failed, Broken, Refused) as error:
        sys.exit(f"error: {error}")
    print(show(rows))
    if chosen.json:
        with open(chosen.json, "w") as file:
            json.dump(as_json(rows), file, indent=1)


def tell(text):
    print(text, file=sys.stderr, flush=True)


main()
