"""HL7 aECG and Philips Sierra files to the last unit, made from their published descriptions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from vendor_files import heart, same
from vendor_xml import aecg, aecg_series, sierra

from melp_bench.leads import LEADS
from melp_bench.records import BadRecord, Signal
from melp_bench.store.pack import pack
from melp_plugins.datasets.ecg_files import ECGFiles

pytest.importorskip("ecgdatakit", reason="pip install 'melp-bench[vendor]'")
STRIP = heart()
BEAT = STRIP[:, :300]


@pytest.mark.parametrize("p", ["", "hl7:"])
@pytest.mark.parametrize(("unit", "step"), [("uV", "5"), ("mV", "0.005"), ("nV", "5000"), ("V", "5e-6")])
def test_aecg_of_any_unit_and_prefix_gives_the_rhythm_and_not_the_derived_beat(
    p: str, unit: str, step: str, read: Callable[..., Signal]
) -> None:
    derived = aecg_series("REPRESENTATIVE_BEAT", BEAT, LEADS, step=step, unit=unit, element="derivedSeries", p=p)
    rhythm = aecg_series(
        "RHYTHM", STRIP, LEADS, step=step, unit=unit, p=p, inner=f"<{p}derivation>{derived}</{p}derivation>"
    )  # fmt: skip
    assert same(read(aecg(rhythm, p=p)), STRIP, LEADS)


@pytest.mark.parametrize(
    ("increment", "rate_hz"), [(("2", "ms"), 500), (("0.004", "s"), 250), (("2000", "us"), 500), (("0.003", "s"), 1000 / 3)]
)
def test_aecg_states_its_rate_as_an_increment_which_is_not_rounded(
    increment: tuple[str, str], rate_hz: float, read: Callable[..., Signal]
) -> None:
    signal = read(aecg(aecg_series("RHYTHM", STRIP, LEADS, increment=increment)))
    assert signal.rate_hz == pytest.approx(rate_hz, rel=1e-12)
    assert np.array_equal(pack(signal).values, STRIP)


def test_aecg_with_an_origin_is_moved_by_it(read: Callable[..., Signal]) -> None:
    signal = read(aecg(aecg_series("RHYTHM", STRIP, LEADS, origin="100")))
    assert np.allclose(signal.millivolts, STRIP * 0.005 + 0.1, atol=1e-6)


@pytest.mark.parametrize("change", [{"step": ""}, {"unit": "mmHg"}, {"unit": ""}, {"increment": ("", "s")}, {"step": "0"}])
def test_aecg_that_does_not_state_what_its_samples_mean_is_refused(
    change: dict[str, object], read: Callable[..., Signal]
) -> None:
    with pytest.raises(BadRecord) as refused:
        read(aecg(aecg_series("RHYTHM", STRIP, LEADS, **change)))  # type: ignore[arg-type]
    assert refused.value.code in ("bad-gain", "unknown-unit", "unreadable-samples")


@pytest.mark.parametrize("form", ["XLI", "Base64", "Plain"])
@pytest.mark.parametrize("version", ["1.03", "1.04", "1.04.01"])
def test_sierra_of_any_packing_gives_the_samples(form: str, version: str, read: Callable[..., Signal]) -> None:
    assert same(read(sierra(STRIP, form=form, version=version)), STRIP, LEADS)


def test_sierra_that_states_no_resolution_or_more_samples_than_it_has_is_refused(read: Callable[..., Signal]) -> None:
    for content in (sierra(STRIP, resolution=""), sierra(STRIP, seconds=9), sierra(STRIP, form="Plain", seconds=9)):
        with pytest.raises(BadRecord):
            read(content)
    with pytest.raises(BadRecord, match="order of their own"):
        read(sierra(STRIP, ("II", "I", *LEADS[2:])))


def test_a_calibration_pulse_behind_the_heart_is_cut_and_told(tmp_path: Path) -> None:
    pulse = np.zeros((12, 500), np.int16)
    pulse[:, 200:300] = 200
    (tmp_path / "a.xml").write_bytes(sierra(np.concatenate([STRIP, pulse], axis=1)))
    dataset = ECGFiles()
    signal = dataset.signal(tmp_path, next(dataset.infos(tmp_path)))
    assert signal.repairs == ("calibration-cut",)
    assert same(signal, STRIP, LEADS)
    (tmp_path / "a.xml").write_bytes(sierra(np.concatenate([STRIP, 0 * pulse], axis=1)))
    padded = dataset.signal(tmp_path, next(dataset.infos(tmp_path)))
    assert padded.millivolts.shape[1] == STRIP.shape[1] + 500, "zeros alone are no calibration"
