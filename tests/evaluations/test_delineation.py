"""Delineation: waves that tokens show are found and others not, moments are where they say, peaks are matched one to one."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import melp_bench as mb
from melp_bench.errors import NotApplicable, UserError
from melp_bench.measure import measure
from melp_bench.model import Model
from melp_bench.plugins import discover
from melp_bench.records import Wave, wave_measurements, waves_of
from melp_bench.results import Interval
from melp_bench.testing.evaluations import MadeRecords, made_task
from melp_plugins.evaluations.delineation import Delineation, matched, moments_of
from melp_plugins.evaluations.token_times import at_times

AUROC = (discover().metrics["auroc"].build(),)


class Marked(MadeRecords):
    """Records whose waves are marked where they are."""

    waves: tuple[tuple[Wave, ...], ...] = ()

    def measurements(self, positions: np.ndarray) -> list[dict[str, float]]:
        return [wave_measurements(self.waves[p]) for p in positions.tolist()]


class Windowed(mb.ECGEncoder):
    """Tokens of 40 ms: what the leads show in them, by lead (`rows` = 12) or together, in time or turned around."""

    projected = True

    def __init__(self, *, rows: int = 1, backwards: bool = False, tokens: bool = True) -> None:
        super().__init__()
        self.spec, self.width = mb.SignalSpec(rate_hz=100.0, seconds=2.0), 4 if rows == 12 else 48
        self.token_rows, self.backwards, self.offers = rows, backwards, tokens

    def forward(self, signal: Tensor) -> mb.Features:
        pieces = signal.unfold(-1, 4, 4)  # (B, L, M, 4)
        tokens = pieces.flatten(1, 2) if self.token_rows == 12 else pieces.transpose(1, 2).flatten(2)
        tokens = tokens.flip(1) if self.backwards else tokens
        mean = tokens.mean(dim=1)
        return mb.Features(record=mean, embedding=mean, tokens=tokens if self.offers else None)


def waves_and_records(records: int = 60) -> tuple[mb.TaskRecords, Marked]:
    """Return records in which P and QRS are bumps in leads of their own and T is not to be seen, each where it may be."""
    task, _ = made_task("made/first", records=records)
    generator = np.random.default_rng(3)
    signals = 0.05 * generator.standard_normal((records, 12, 200))
    time, marked = np.arange(200) / 100, []
    for record in range(records):
        start = generator.uniform(0.05, 0.35)
        waves = []
        for beat in (start, start + 0.8):
            for kind, after, leads in (("P", 0.0, slice(0, 4)), ("QRS", 0.16, slice(4, 8)), ("T", 0.4, slice(0, 0))):
                at = beat + after
                signals[record, leads] += np.exp(-0.5 * ((time - at) / 0.02) ** 2)
                waves.append(Wave(kind, at - 0.05, at, at + 0.05))
        marked.append(tuple(waves))
    made = Marked(torch.tensor(signals, dtype=torch.float32), "waves")
    object.__setattr__(made, "waves", tuple(marked))
    return task, made


def context_of(task: mb.TaskRecords, records: MadeRecords, folder: Path, encoder: mb.ECGEncoder) -> mb.Context:
    return mb.Context("m", lambda: Model(encoder), {"made": records}, lambda _: task, features=folder, identity="m")


@pytest.mark.parametrize("rows", [1, 12])
def test_waves_that_tokens_show_are_found_and_others_not(tmp_path: Path, rows: int) -> None:
    task, records = waves_and_records()
    context = context_of(task, records, tmp_path, Windowed(rows=rows))
    (row,) = Delineation(seeds=(0,)).expand(["made/first"])
    with context.guarding("delineation"):
        found = Delineation(seeds=(0,)).run(context, row)
    outcome = measure(found, AUROC, Interval(resamples=20))
    score = {one.name: one.scores["auroc"].value for one in outcome.classes}
    if rows == 1:  # of rows the mean over leads is read, which cannot tell P from QRS
        assert min(score["P"], score["QRS"]) > 0.95
        assert outcome.details["r_peaks"]["f1"] > 0.95
        assert outcome.details["r_peaks"]["marked"] == 2 * len(task.scored)
    assert score["T"] < 0.85
    assert set(found.patients) == set(task.patients[task.scored])
    owner, at = found.record_ids[0].split("@")
    assert owner in task.record_ids[task.scored]
    assert at.endswith(" s")


def test_moments_are_labelled_by_the_waves_around_them() -> None:
    waves = [Wave("P", 0.10, 0.15, 0.20), Wave("QRS", 0.21, 0.25, 0.33), Wave("T", 0.30, 0.4, 0.50), Wave("QRS", 3.0, 3.1, 3.2)]
    moments = moments_of([{}, wave_measurements(waves), {"axis": 3.0}], 0.45)
    assert moments.record.tolist() == [1] * 9
    np.testing.assert_allclose(moments.seconds, np.arange(3, 12) * 0.04)
    slow = [
        [any(w.kind == k and w.onset_s <= s <= w.offset_s for w in waves) for k in ("P", "QRS", "T")] for s in moments.seconds
    ]
    assert moments.labels.tolist() == slow
    assert moments.peaks[1].tolist() == [0.25]
    assert waves_of(wave_measurements(waves)) == waves
    assert len(moments_of([{}], 1.0).record) == 0


def test_between_tokens_features_are_linear_and_at_their_middles_their_own() -> None:
    moments = torch.tensor([[0.0], [1.0], [4.0], [9.0]])
    found = at_times(moments, torch.tensor([0.0, 0.125, 0.375, 0.5, 0.875, 1.0]), 1.0)
    torch.testing.assert_close(found[:, 0], torch.tensor([0.0, 0.0, 1.0, 2.5, 9.0, 9.0]))
    assert at_times(moments[:1], torch.tensor([0.3]), 1.0).tolist() == [[0.0]]


def test_peaks_are_matched_one_to_one_as_the_best_of_all_matchings() -> None:
    generator = np.random.default_rng(0)
    for _ in range(60):
        found, marked = (np.sort(generator.uniform(0, 1.2, generator.integers(0, 6))) for _ in range(2))
        most = 0
        for size in range(min(len(found), len(marked)) + 1):
            pairs = itertools.product(itertools.permutations(found, size), itertools.combinations(marked, size))
            if any(all(abs(a - b) <= 0.15 for a, b in zip(one, two, strict=True)) for one, two in pairs):
                most = size
        assert matched(found, marked).tolist() == [most, len(marked) - most, len(found) - most]


def test_a_model_whose_tokens_are_no_moments_has_no_score(tmp_path: Path) -> None:
    task, records = waves_and_records(40)
    (row,) = Delineation().expand(["made/first"])
    for encoder, told in (
        (Windowed(backwards=True), "do not follow one another in time"),
        (Windowed(tokens=False), "needs tokens, which the model does not offer"),
    ):
        with pytest.raises(NotApplicable, match=told):
            Delineation().run(context_of(task, records, tmp_path, encoder), row)
    crops = Windowed()
    crops.spec = replace(crops.spec, crops=mb.Crops())
    with pytest.raises(NotApplicable, match="by crops"):
        Delineation().run(context_of(task, records, tmp_path, crops), row)
    object.__setattr__(records, "waves", ((),) * 40)
    with pytest.raises(NotApplicable, match="has marked waves"):
        Delineation().run(context_of(task, records, tmp_path, Windowed()), row)
    with pytest.raises(UserError, match="epochs = 0"):
        Delineation(epochs=0)
