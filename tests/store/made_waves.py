"""A dataset of made records, importable by worker processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from melp_bench.leads import LEADS, LIMB
from melp_bench.records import BadRecord, Dataset, RecordInfo, Signal, Task

RATES = (100.0, 250.0, 500.0)


class Waves(Dataset):
    """`count` records of several rates, lengths and lead orders; every seventh is bad. `odd` replaces infos or signals."""

    version = "1"
    licence = "none"
    citation = "none"
    generated = True

    def __init__(
        self, *, count: int = 60, infos: dict[int, RecordInfo] | None = None, signals: dict[int, Signal] | None = None
    ):
        self.count, self.odd_infos, self.odd_signals = count, infos or {}, signals or {}

    @property
    def tasks(self) -> Mapping[str, Task]:
        return {
            "parity": Task("parity", {"EVEN": frozenset({"even"}), "ODD": frozenset({"odd"})}, {"EVEN": ("even",)}),
            "third": Task("third", {"THIRD": frozenset({"third"})}, keep_unlabelled=True),
            "rare": Task("rare", {"THIRD": frozenset({"third"})}),
        }

    def infos(self, source: Path) -> Iterator[RecordInfo]:
        for n in range(self.count):
            statements = {"even" if n % 2 == 0 else "odd"} | ({"third"} if n % 3 == 0 else set())
            info = RecordInfo(f"r{n}", f"p{n // 2}", frozenset(statements), f"report {n}", 20.0 + n, "FM"[n % 2])
            yield self.odd_infos.get(n, info)

    def signal(self, source: Path, info: RecordInfo) -> Signal:
        n = int(info.record_id.removeprefix("r"))
        if n % 7 == 6:
            raise BadRecord("made-bad", f"record {n}")
        return self.odd_signals.get(n) or wave(n)


def wave(n: int) -> Signal:
    """Return made record number `n`."""
    rng = np.random.default_rng(n)
    rate = RATES[n % 3]
    x = rng.standard_normal((12, round(rate * (2 + n % 4)))).astype(np.float32).cumsum(axis=1) * 0.05
    order = LEADS if n % 2 else (*LEADS[:4], "aVF", "aVL", *LEADS[6:])
    return Signal(x.astype(np.float32), rate, order)


class Beats(Waves):
    """Records whose limb leads are what they are called, which takes less time to find than that they are not."""

    def signal(self, source: Path, info: RecordInfo) -> Signal:
        number = int(info.record_id.removeprefix("r"))
        if number % 7 == 6:
            raise BadRecord("made-bad", f"record {number}")
        x = np.random.default_rng(number).standard_normal((8, 300)).cumsum(axis=1) * 0.05
        limbs = np.array(list(LIMB.values())) @ x[:2]
        return Signal(np.concatenate([limbs, x[2:]]).astype(np.float32), 100.0)


def content(root: Path) -> dict[str, bytes]:
    """Return the bytes of every file of a store."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def beats(seed: int = 0) -> NDArray[np.float64]:
    """Return twelve leads (12, 5000) at 500 Hz of a beat per second with P, QRS and T, limb leads as algebra wants them."""
    rng = np.random.default_rng(seed)
    at = np.arange(5000)[None] / 500 % 1.0
    waves = [(0.20, 0.02, 0.12), (0.36, 0.008, -0.1), (0.38, 0.010, 1.0), (0.40, 0.008, -0.2), (0.65, 0.04, 0.3)]
    shapes = np.concatenate([height * np.exp(-(((at - time) / width) ** 2) / 2) for time, width, height in waves])  # (5, T)
    shapes *= 1 + 0.05 * np.sin(np.arange(5000) / 1300)
    toward = rng.uniform(0.4, 1.2, (8, 5)) * np.where(np.arange(8)[:, None] == 2, -1, 1)
    eight = toward @ shapes + 0.004 * rng.standard_normal((8, 5000))
    return np.concatenate([np.array(list(LIMB.values())) @ eight[:2], eight[2:]])
