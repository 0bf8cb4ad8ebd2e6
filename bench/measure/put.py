"""A put of N tiny nodes against the same QEMUs without it."""

import statistics

from .place import spread, tiny
from .raw import remember, start_and_wait
from .table import Row

COUNTS = (1, 2, 4)
LIMIT = 1.10


def measure(place, rounds, tell):
    """One row for each number of nodes: the median, over rounds, of each round's own ratio."""
    for count in COUNTS:
        params = tiny(count)
        with place.container("put", "put") as container:
            place.put(container, params)
            machines = remember(place, container)  # also warms the page cache
        ratios, puts, raws = [], [], []
        for number in range(rounds):
            # Whoever goes first has whatever the machine does at that moment: they take turns.
            if number % 2:
                raw = start_and_wait(place, machines)
                put = one(place, params)
            else:
                put = one(place, params)
                raw = start_and_wait(place, machines)
            tell(f"put of {count}: {put:.2f} s, raw QEMU {raw:.2f} s, ratio {put / raw:.3f}")
            ratios.append(put / raw)
            puts.append(put)
            raws.append(raw)
        ratio = statistics.median(ratios)
        nodes = "1 node" if count == 1 else f"{count} nodes"
        note = f"ratios {spread(ratios)}; put {spread(puts)} s, raw {spread(raws)} s; {rounds} rounds"
        yield Row(f"put of {nodes} / raw QEMU", f"≤ {LIMIT:.2f}", f"{ratio:.3f}", ratio, LIMIT, note=note)


def one(place, params):
    with place.container("put", "put") as container:
        return place.put(container, params)[0]
