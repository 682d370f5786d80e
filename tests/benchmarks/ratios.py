"""What a benchmark run says beside the committed one: of each group, how many times as long as its fastest each member takes.

Ratios, because milliseconds are a machine's. `python tests/benchmarks/ratios.py RUN.json` prints what moved and ends with 1 if
anything did; with `--write` the run becomes the committed one. RUN.json is what `pytest --benchmark-json` writes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

COMMITTED = Path(__file__).with_name("ratios.json")
MOVED = 1.25
"""A ratio that is so many times the committed one, or its inverse, has moved; less is noise on a shared machine."""

Ratios = Mapping[str, Mapping[str, float]]


def ratios_of(run: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return group -> member -> its median as a multiple of that of the member that was fastest; groups of one have none.

    A benchmark without a group of its own is grouped by its test, whose parameters are the members.
    """
    medians: dict[str, dict[str, float]] = {}
    for one in run["benchmarks"]:
        test, _, parameters = one["name"].partition("[")
        group = one["group"] or test
        member = parameters.rstrip("]") or test
        medians.setdefault(group, {})[member] = float(one["stats"]["median"])
    return {
        group: {name: value / min(members.values()) for name, value in sorted(members.items())}
        for group, members in sorted(medians.items())
        if len(members) > 1
    }


def what_moved(now: Ratios, before: Ratios, *, moved: float = MOVED) -> list[str]:
    """Return a line for each ratio between two members that moved, and for each group that only one of both has.

    All pairs with the member that was fastest before are compared, so that another fastest is one that moved.
    """
    lines = []
    for group in sorted({*now, *before}):
        if group not in now or group not in before:
            lines.append(f"{group}: only in the {'run' if group in now else 'committed ratios'}")
            continue
        mine, theirs = now[group], before[group]
        if lone := sorted(mine.keys() ^ theirs.keys()):
            lines.append(f"{group}: {', '.join(lone)} only in one of both")
        both = sorted(mine.keys() & theirs.keys(), key=lambda name: (theirs[name], name))
        for name in both[1:]:
            old, new = theirs[name] / theirs[both[0]], mine[name] / mine[both[0]]
            if not 1 / moved <= new / old <= moved:
                lines.append(f"{group}: {name} takes {new:.2f} times as long as {both[0]}, committed {old:.2f}")
    return lines


def main(arguments: Sequence[str]) -> int:
    """Compare, or write; return what the process ends with."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--write", action="store_true", help="commit this run's ratios")
    asked = parser.parse_args(arguments)
    now = ratios_of(json.loads(asked.run.read_text(encoding="utf-8")))
    if asked.write:
        rounded = {group: {name: round(value, 3) for name, value in members.items()} for group, members in now.items()}
        COMMITTED.write_text(json.dumps(rounded, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return 0
    lines = what_moved(now, json.loads(COMMITTED.read_text(encoding="utf-8")))
    for line in lines or [f"no ratio moved by {MOVED} or more"]:
        sys.stdout.write(line + "\n")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
