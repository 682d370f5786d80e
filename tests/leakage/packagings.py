"""Made hearts, and what packagings do to a recording."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, resample_poly, sosfiltfilt

from melp_bench.leakage.check import compare
from melp_bench.leakage.codes import codes
from melp_bench.leakage.search import candidates
from melp_bench.leakage.table import FingerprintTable
from melp_bench.leakage.waves import RATE_HZ, Beats, beats
from melp_bench.records import Dataset, RecordInfo, Signal, Task
from melp_plugins.datasets.synthetic import draw, simulate

Values = NDArray[np.float32]
Packaging = Callable[[Signal, np.random.Generator], Signal]


def heart(index: int, *, seconds: float = 10.0, rate_hz: float = 250.0) -> Signal:
    """Return a made recording; each index is another one, of some patient."""
    return simulate(draw(77, index, seconds), rate_hz=rate_hz, seconds=seconds)


def changed(signal: Signal, millivolts: NDArray[np.floating], rate_hz: float | None = None) -> Signal:
    return Signal(np.asarray(millivolts, dtype=np.float32), rate_hz or signal.rate_hz, signal.leads)


def at_100_hz(s: Signal, rng: np.random.Generator) -> Signal:
    return changed(s, resample_poly(s.millivolts, 100, int(s.rate_hz), axis=1, padtype="line"), 100.0)


def other_gains(s: Signal, rng: np.random.Generator) -> Signal:
    return changed(s, s.millivolts * rng.uniform(0.5, 2.0, (12, 1)) * rng.choice([-1, 1], (12, 1)))


def coarse_steps(s: Signal, rng: np.random.Generator) -> Signal:
    return changed(s, np.rint(s.millivolts / 0.005) * 0.005)


def first_half_then_zeros(s: Signal, rng: np.random.Generator) -> Signal:
    kept = s.millivolts.copy()
    kept[:, int(5 * s.rate_hz) :] = 0
    return changed(s, kept)


def five_seconds_of_it(s: Signal, rng: np.random.Generator) -> Signal:
    begin = int(rng.integers(s.millivolts.shape[1] - int(5 * s.rate_hz)))
    return changed(s, s.millivolts[:, begin : begin + int(5 * s.rate_hz)])


def three_flat_leads(s: Signal, rng: np.random.Generator) -> Signal:
    kept = s.millivolts.copy()
    kept[rng.choice(12, 3, replace=False)] = 0
    return changed(s, kept)


def leads_in_another_order(s: Signal, rng: np.random.Generator) -> Signal:
    return changed(s, s.millivolts[rng.permutation(12)])


def without_baseline(s: Signal, rng: np.random.Generator) -> Signal:
    return changed(s, sosfiltfilt(butter(5, 0.5, "high", fs=s.rate_hz, output="sos"), s.millivolts, axis=1))


def without_noise(s: Signal, rng: np.random.Generator) -> Signal:
    return changed(s, sosfiltfilt(butter(4, 40, "low", fs=s.rate_hz, output="sos"), s.millivolts, axis=1))


def all_of_it(s: Signal, rng: np.random.Generator) -> Signal:
    for change in (without_baseline, other_gains, leads_in_another_order, first_half_then_zeros, coarse_steps, at_100_hz):
        s = change(s, rng)
    return s


HARMLESS: dict[str, Packaging] = {
    change.__name__: change
    for change in (at_100_hz, other_gains, coarse_steps, leads_in_another_order, without_baseline, without_noise)
}
HARD: dict[str, Packaging] = {
    change.__name__: change for change in (first_half_then_zeros, five_seconds_of_it, three_flat_leads, all_of_it)
}


def table_of(records: Sequence[Beats]) -> FingerprintTable:
    found = [codes(record) for record in records]
    return FingerprintTable(
        np.concatenate([code for code, _ in found]),
        np.concatenate([seconds for _, seconds in found]).astype(np.float32),
        np.array([len(code) for code, _ in found], dtype=np.int32),
    )


def found(first: Sequence[Beats], second: Sequence[Beats]) -> set[tuple[int, int]]:
    """Return the pairs that are found to be one recording, as between two stores."""
    suspected = candidates(table_of(first), table_of(second))
    same = set()
    for a, b, lag_s in zip(suspected.first.tolist(), suspected.second.tolist(), suspected.lag_s.tolist(), strict=True):
        if compare(first[a], second[b], (lag_s + second[b].begin_s - first[a].begin_s) * RATE_HZ).same:
            same.add((a, b))
    return same


def packed(signals: Sequence[Signal], change: Packaging | None = None) -> list[Beats]:
    rng = np.random.default_rng(5)
    return [beats(signal if change is None else change(signal, rng)) for signal in signals]


class Given(Dataset):
    """The signals that it is given, one patient each; `folds` are official."""

    version = "1"
    licence = "none"
    citation = "none"

    def __init__(
        self, signals: Mapping[str, Signal], folds: Mapping[str, int] | None = None, *, generated: bool = False
    ) -> None:
        self.signals, self.folds, self.generated = signals, folds or {}, generated
        self.has_official_folds = bool(folds)

    @property
    def tasks(self) -> Mapping[str, Task]:
        return {"all": Task("all", {"A": frozenset({"a"})}, keep_unlabelled=True)}

    def infos(self, source: Path) -> Iterator[RecordInfo]:
        for name in self.signals:
            yield RecordInfo(name, f"p-{name.rpartition('/')[2]}", frozenset({"a"}), fold=self.folds.get(name))

    def signal(self, source: Path, info: RecordInfo) -> Signal:
        return self.signals[info.record_id]
