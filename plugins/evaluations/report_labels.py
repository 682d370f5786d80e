"""Which classes a report states, by rule: their phrases, the longest first, unless the clause denies them before.

After NegEx (Chapman et al. 2001, A simple algorithm for identifying negated findings and diseases in discharge summaries): a
cue such as "no" or "without" denies what follows it in its clause. "Incomplete right bundle branch block" is no right bundle
branch block: a phrase that lies within a longer one that was met is not met.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_CLAUSE = re.compile(r"[.;,:]|\bbut\b|\bhowever\b")
_DENIAL = re.compile(r"\b(?:no|not|without|denies|absent|absence of|negative for|free of|ruled? out|rather than)\b")


def stated_classes(report: str, phrases: Mapping[str, Sequence[str]]) -> frozenset[str]:
    """Return the classes of which `report` states a phrase."""
    owners: dict[str, set[str]] = {}
    for name, some in phrases.items():
        for phrase in some:
            if told := " ".join(phrase.casefold().split()):
                owners.setdefault(told, set()).add(name)
    found: set[str] = set()
    whole = " ".join(report.casefold().split())
    taken = [False] * len(whole)
    for phrase in sorted(owners, key=lambda one: (-len(one), one)):
        for place in re.finditer(rf"(?<!\w){re.escape(phrase)}(?!\w)", whole):
            start, end = place.span()
            if any(taken[start:end]):
                continue
            taken[start:end] = [True] * (end - start)
            clause = _CLAUSE.split(whole[:start])[-1]
            if not _DENIAL.search(clause):
                found |= owners[phrase]
    return frozenset(found)
