"""A verdict on one property of one component, and the loop that collects them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from melp_bench.errors import NotApplicable, UserError

S = TypeVar("S")


@dataclass(frozen=True)
class Verdict:
    """Whether a property holds; None where it could not be asked, and `detail` says why. Else `detail` holds the numbers."""

    property: str
    ok: bool | None
    detail: str = ""


class Broken(Exception):
    """A property does not hold; the message holds the numbers that show it."""


def demand(holds: bool, detail: str) -> None:
    """Go on if the property holds.

    Raises:
        Broken: it does not.
    """
    if not holds:
        raise Broken(detail)


def examine(subject: S, checks: Mapping[str, Callable[[S], str]]) -> list[Verdict]:
    """Return a verdict per check; a check returns its detail, raises `Broken`, or raises `NotApplicable` to be skipped."""
    return [_examine_one(name, subject, check) for name, check in checks.items()]


def _examine_one(name: str, subject: S, check: Callable[[S], str]) -> Verdict:
    try:
        return Verdict(name, True, check(subject))
    except NotApplicable as reason:
        return Verdict(name, None, f"skipped: {reason}")
    except (Broken, UserError) as broken:
        return Verdict(name, False, str(broken))
    except Exception as error:  # a stranger's code: whatever it raises breaks this property and no other
        return Verdict(name, False, f"{type(error).__name__}: {error}")
