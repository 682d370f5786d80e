"""The drawing of a record: in true scale, nothing of a wave cut off, no word of the data taken for a formula."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from melp_bench.components import Signal
from melp_bench.ecg_plot import COLUMN_SECONDS, LEFT_MM, MM_PER_MILLIVOLT, MM_PER_SECOND, TALLEST_MM, plot_record
from melp_bench.signal import LEADS

RATE_HZ = 100.0


def drawn(*, seconds: float = 10.0, **leads: float) -> Figure:
    """Return the drawing of a record with one sample of so many millivolts in each named lead, amid its column."""
    x = np.zeros((12, round(seconds * RATE_HZ)), dtype=np.float32)
    for lead, millivolt in leads.items():
        row = LEADS.index(lead)
        x[row, round((row // 3 + 0.5) * COLUMN_SECONDS * RATE_HZ)] = millivolt
    return plot_record(Signal(x, RATE_HZ, LEADS))


def curves(figure: Figure) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the leads' curves in millimetres."""
    lines = [tuple(np.asarray(one) for one in line.get_data()) for line in figure.axes[0].get_lines()]
    return [(x, y) for x, y in lines if len(x) > 10]


def test_a_millivolt_is_ten_millimetres_and_a_second_twenty_five() -> None:
    x, y = curves(drawn(I=1.0))[0]
    peak = int(np.argmax(y))
    assert y[peak] - np.median(y) == pytest.approx(MM_PER_MILLIVOLT)
    assert x[peak] == pytest.approx(LEFT_MM + COLUMN_SECONDS / 2 * MM_PER_SECOND)


@pytest.mark.parametrize(("lead", "millivolt"), [("I", 3.0), ("V4", 6.5), ("V4", 1.7), ("II", -4.0)])
def test_no_wave_leaves_the_paper(lead: str, millivolt: float) -> None:
    plain = drawn(aVF=0.1)
    figure = drawn(**{lead: millivolt})
    low, high = figure.axes[0].get_ylim()
    for _, y in curves(figure):
        assert low <= y.min() <= y.max() <= high
    grown = figure.get_size_inches()[1] - plain.get_size_inches()[1]
    assert grown * 25.4 == pytest.approx((high - low) - np.diff(plain.axes[0].get_ylim())[0])


def test_an_artefact_does_not_grow_the_paper_without_end() -> None:
    assert np.diff(drawn(V4=900.0).axes[0].get_ylim())[0] == pytest.approx(
        np.diff(drawn(aVF=0.1).axes[0].get_ylim())[0] + TALLEST_MM
    )


def test_a_lead_far_from_zero_is_drawn_where_the_others_are() -> None:
    x = np.zeros((12, 1000), dtype=np.float32)
    x[7] = 40
    low, high = (figure := plot_record(Signal(x, RATE_HZ, LEADS))).axes[0].get_ylim()
    assert all(low < y.min() <= y.max() < high for _, y in curves(figure))


def test_a_part_of_a_record_is_said_to_be_one() -> None:
    def told(figure: Figure) -> str:
        return " ".join(text.get_text() for text in figure.axes[0].texts)

    assert "first 10 s of 38.4 s" in told(drawn(seconds=38.4))
    assert "first" not in told(drawn(seconds=10)) + told(drawn(seconds=4))
    assert len(curves(drawn(seconds=4))) == 3 * 2 + 1


def test_words_of_the_data_are_no_formulas(tmp_path: Path) -> None:
    signal = Signal(np.zeros((12, 1000), dtype=np.float32), RATE_HZ, LEADS)
    plot_record(signal, title=r"$\nothing{$", footer="cost $5^$ and\n$_$").savefig(tmp_path / "x.svg")
    assert (tmp_path / "x.svg").stat().st_size > 0
