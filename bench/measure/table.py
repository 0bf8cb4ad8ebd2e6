"""What is printed: one row a figure, ratio first."""

from dataclasses import asdict, dataclass


@dataclass
class Row:
    """`figure` over `limit` is the ratio to the goal; `least` turns it round for a figure that must not be too small."""
    what: str
    goal: str
    said: str
    figure: float | None = None
    limit: float | None = None
    least: bool = False
    note: str = ""

    @property
    def ratio(self):
        if self.figure is None or self.limit is None:
            return None
        if self.least:
            return self.limit / self.figure if self.figure else float("inf")
        return self.figure / self.limit

    @property
    def verdict(self):
        if self.figure is None:
            return "skipped"
        if self.limit is None:
            return "no goal"
        return "met" if self.ratio <= 1 else "MISSED"


def show(rows):
    head = ("what", "goal", "figure", "of goal", "verdict")
    lines = [head] + [(r.what, r.goal, r.said, "" if r.ratio is None else f"{r.ratio:.2f}", r.verdict) for r in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    out = []
    for number, line in enumerate(lines):
        out.append("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
        if number == 0:
            out.append("  ".join("-" * width for width in widths))
        elif rows[number - 1].note:
            out.append(f"    {rows[number - 1].note}")
    return "\n".join(out)


def as_json(rows):
    return [{**asdict(r), "ratio": r.ratio, "verdict": r.verdict} for r in rows]
