"""Disturbances have the strength, the band and the geometry they claim, and a probe meets them on test records alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import melp_bench as mb
from melp_bench.errors import UserError
from melp_bench.leads import LEADS
from melp_bench.measure import measure
from melp_bench.plugins import discover
from melp_bench.results import Interval
from melp_bench.testing.evaluations import MadeRecords, made_model, made_task
from melp_plugins.evaluations.disturbances import EXCHANGED, NOISES, add_noise, exchange_electrodes, lose_leads, ratio_db
from melp_plugins.evaluations.linear_probe import LinearProbe
from melp_plugins.evaluations.robustness import Robustness

AUROC = (discover().metrics["auroc"].build(),)
IDS = [f"r{i}" for i in range(5)]
SIGNALS = torch.tensor(np.random.default_rng(0).standard_normal((5, 12, 5000)) + 3.0, dtype=torch.float32)


@pytest.mark.parametrize("name", NOISES)
@pytest.mark.parametrize("snr_db", [20.0, 0.0, -6.0])
def test_noise_has_the_ratio_that_is_asked_for(name: str, snr_db: float) -> None:
    noisy = add_noise(SIGNALS, IDS, NOISES[name], snr_db=snr_db, rate_hz=500.0)
    torch.testing.assert_close(ratio_db(SIGNALS, noisy), torch.full((5,), snr_db), atol=0.01, rtol=0)


@pytest.mark.parametrize("name", NOISES)
def test_a_records_noise_is_its_own_whatever_lies_beside_it(name: str) -> None:
    together = add_noise(SIGNALS, IDS, NOISES[name], snr_db=3.0, rate_hz=500.0)
    alone = add_noise(SIGNALS[3:4], IDS[3:4], NOISES[name], snr_db=3.0, rate_hz=500.0)
    assert torch.equal(alone[0], together[3])
    other = add_noise(SIGNALS[3:4], ["another"], NOISES[name], snr_db=3.0, rate_hz=500.0)
    assert not torch.equal(alone, other)
    flat = torch.zeros(1, 12, 100)
    assert torch.equal(add_noise(flat, ["flat"], NOISES[name], snr_db=3.0, rate_hz=500.0), flat)


@pytest.mark.parametrize(
    ("name", "low", "high"), [("mains", 49.9, 50.1), ("baseline-wander", 0.0, 1.0), ("muscle", 20.0, 150.0)]
)
def test_noise_lies_in_its_band(name: str, low: float, high: float) -> None:
    added = NOISES[name](np.random.default_rng(0), 12, 5000, 500.0)
    power = np.abs(np.fft.rfft(added - added.mean(axis=-1, keepdims=True), axis=-1)) ** 2
    frequency = np.fft.rfftfreq(5000, 1 / 500.0)
    inside = (frequency >= low) & (frequency <= high)
    assert power[:, inside].sum() / power.sum() > 0.99


def test_as_many_leads_are_lost_as_are_asked_for_and_the_others_stay() -> None:
    for count in (1, 6, 12):
        lost = lose_leads(SIGNALS, IDS, count)
        gone = (lost == 0).all(dim=-1)
        assert gone.sum(dim=1).tolist() == [count] * 5
        assert torch.equal(lost[~gone], SIGNALS[~gone])
    assert len({tuple(row.tolist()) for row in (lose_leads(SIGNALS, IDS, 3) == 0).all(dim=-1)}) > 1


@pytest.mark.parametrize(
    ("which", "order"),
    [("arm-reversal", [1, 0, 2]), ("left-arm-leg-reversal", [0, 2, 1]), ("right-arm-leg-reversal", [2, 1, 0])],
)
def test_exchanged_electrodes_show_what_the_electrodes_see(which: str, order: list[int]) -> None:
    """Leads are made of electrodes; with two of them exchanged the same formulas read the other one."""
    body = torch.tensor(np.random.default_rng(1).standard_normal((2, 9, 50)), dtype=torch.float32)  # RA LA LL V1..V6

    def leads_of(electrodes: torch.Tensor) -> torch.Tensor:
        right, left, leg = electrodes[:, 0], electrodes[:, 1], electrodes[:, 2]
        centre = (right + left + leg) / 3
        limbs = [left - right, leg - right, leg - left]
        limbs += [right - (left + leg) / 2, left - (right + leg) / 2, leg - (right + left) / 2]
        return torch.stack([*limbs, *(electrodes[:, k] - centre for k in range(3, 9))], dim=1)

    exchanged = leads_of(body[:, [*order, *range(3, 9)]])
    torch.testing.assert_close(exchange_electrodes(leads_of(body), LEADS, which), exchanged)
    torch.testing.assert_close(exchange_electrodes(exchanged, LEADS, which), leads_of(body))
    assert len(EXCHANGED) == 3


# ----------------------------------------------------------------------------------------------------------- evaluation


def context(folder: Path, split: str = "holdout") -> mb.Context:
    task, signals = made_task("made/first", records=200, split=split)
    model = made_model(text=False)
    return mb.Context("m", lambda: model, {"made": MadeRecords(signals, "f")}, lambda _: task, features=folder, identity="m")


def auroc(evaluation: mb.Evaluation, given: mb.Context) -> list[float]:
    rows = [evaluation.run(given, row) for row in evaluation.expand(["made/first"])]
    return [measure(row, AUROC, Interval(resamples=10)).scores["auroc"].value for row in rows]


@pytest.mark.parametrize("split", ["holdout", "cross-validate"])
def test_without_disturbance_it_is_the_linear_probe_and_with_more_it_falls(tmp_path: Path, split: str) -> None:
    given = context(tmp_path, split)
    (clean,) = auroc(LinearProbe(fractions=(1.0,)), given)
    quiet, loud = auroc(Robustness(disturbances=("muscle",), snr_db=(80.0, -20.0)), given)
    assert quiet == pytest.approx(clean, abs=0.01)
    assert clean > 0.9
    assert loud < clean - 0.05


def test_with_all_leads_lost_there_is_nothing_left_to_tell_records_by(tmp_path: Path) -> None:
    assert auroc(Robustness(disturbances=("missing-leads",), missing_leads=(12,)), context(tmp_path)) == [0.5]


def test_at_the_encoders_own_rate_and_length_nothing_is_lost_and_below_them_it_is(tmp_path: Path) -> None:
    """The small encoder asks for 2 s at 100 Hz, where its records lie: of 7 Hz nothing is left at 10 Hz, the rest after 1 s."""
    given = context(tmp_path)
    (clean,) = auroc(LinearProbe(fractions=(1.0,)), given)
    poorer = Robustness(disturbances=("low-rate", "short-record"), rates_hz=(100.0, 5.0), seconds=(5.0, 0.1))
    same_rate, low_rate, same_length, short = auroc(poorer, given)
    assert same_rate == pytest.approx(clean, abs=1e-6)
    assert same_length == pytest.approx(clean, abs=0.01)
    assert max(low_rate, short) < clean - 0.05


def test_a_short_record_is_its_beginning(tmp_path: Path) -> None:
    given = context(tmp_path)
    task, evaluation = given.task("made/first"), Robustness()
    positions = task.scored[:3]
    found = evaluation._embed(given, task, positions, "short-record", 1.0)
    raw = given.signals(task, positions, mb.SignalSpec(rate_hz=500.0, seconds=2.0))
    expected = given.embed_native(raw[..., :500], rate_hz=500.0, leads=LEADS)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def test_validation_is_clean(tmp_path: Path) -> None:
    given = context(tmp_path)
    rows = [Robustness(disturbances=("mains",), snr_db=(level,)) for level in (20.0, -20.0)]
    calm, wild = (one.run(given, next(iter(one.expand(["made/first"])))) for one in rows)
    assert calm.validation is not None
    assert wild.validation is not None
    np.testing.assert_array_equal(calm.validation[0], wild.validation[0])
    assert not np.array_equal(calm.scores, wild.scores)


def test_there_is_a_row_per_disturbance_and_level() -> None:
    rows = list(Robustness(snr_db=(10.0,), missing_leads=(3,)).expand(["s/x"]))
    assert [row.setting for row in rows] == [
        "mains 10 dB",
        "baseline-wander 10 dB",
        "muscle 10 dB",
        "missing-leads 3 of 12",
        "arm-reversal",
        "left-arm-leg-reversal",
        "right-arm-leg-reversal",
        "low-rate 250 Hz",
        "low-rate 100 Hz",
        "short-record 5 s",
        "short-record 2.5 s",
    ]
    assert "mains_hz" not in rows[1].options
    with pytest.raises(UserError, match="knows no 'muscel'; did you mean 'muscle'"):
        Robustness(disturbances=("muscel",))
    with pytest.raises(UserError, match="missing_leads"):
        Robustness(missing_leads=(13,))
    for wrong in ({"rates_hz": (1000.0,)}, {"seconds": (0.0,)}):
        with pytest.raises(UserError, match="wanted more than 0 and at most"):
            Robustness(**wrong)  # type: ignore[arg-type]
