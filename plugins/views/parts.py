"""Parts of a record: its halves, any other stretch of it, and the whole. They are cut before a record is conformed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import melp_bench as mb


@dataclass(frozen=True)
class Excerpt(mb.View):
    """The stretch of a record that `part` says, conformed like a record of its own: an encoder is given the length it wants."""

    part: tuple[float, float] = (0.0, 1.0)

    def __call__(self, signal: Tensor, generator: torch.Generator) -> Tensor:
        """Return `signal` (B, L, T) as it is: the loop reads the part."""
        return signal


WHOLE, FIRST_HALF, SECOND_HALF = Excerpt(), Excerpt((0.0, 0.5)), Excerpt((0.5, 1.0))


def excerpt(*, begin: float = 0.0, end: float = 1.0) -> Excerpt:
    """Return the stretch from `begin` to `end`, as shares of the record.

    Raises:
        UserError: it is empty, or reaches beyond the record.
    """
    if not 0 <= begin < end <= 1:
        raise mb.UserError(f"options of 'excerpt' are begin {begin}, end {end}; wanted 0 <= begin < end <= 1")
    return Excerpt((begin, end))


@mb.hookimpl
def melp_views() -> list[mb.Entry[mb.View]]:
    """Offer the whole, the halves, and any stretch."""
    halves, license_ = "https://arxiv.org/abs/2005.13249", "MIT"
    return [
        mb.Entry("identity", lambda: WHOLE, "the record as it is", "this project", license_),
        mb.Entry("excerpt", excerpt, "the stretch from begin to end, as shares of the record", "this project", license_),
        mb.Entry("first-half", lambda: FIRST_HALF, "the first half of the record (CLOCS)", halves, license_),
        mb.Entry("second-half", lambda: SECOND_HALF, "the second half of the record (CLOCS)", halves, license_),
    ]
