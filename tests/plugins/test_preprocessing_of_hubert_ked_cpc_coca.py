"""What HuBERT-ECG, KED, ECG-CPC and ECG-CoCa are fed with, against their authors' steps by scipy on a real record."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import wfdb
from scipy import signal

import melp_bench as mb
from melp_bench.plugins import discover
from melp_bench.signal import conform
from melp_bench.windows import conform_windows
from melp_plugins.ecg import ecg_coca, ecg_cpc, hubert_ecg, ked

REAL = os.environ.get("MELP_BENCH_REAL_ECG")
pytestmark = pytest.mark.skipif(not REAL, reason="set MELP_BENCH_REAL_ECG to the folder with ptb-xl/")
RATE = 500.0


@pytest.fixture(scope="module")
def record() -> np.ndarray:
    """Return a record of 10 s at 500 Hz, (12, 5000) in millivolt, as another reader has it."""
    read = wfdb.rdrecord(str(Path(str(REAL)) / "ptb-xl" / "records500" / "00000" / "00002_hr"))
    assert [name.upper() for name in read.sig_name] == [lead.upper() for lead in mb.LEADS]
    return read.p_signal.T.copy()


def fed(record: np.ndarray, spec: mb.SignalSpec, rate_hz: float = RATE) -> np.ndarray:
    return conform(torch.from_numpy(record)[None], rate_hz=rate_hz, leads=mb.LEADS, spec=spec)[0].double().numpy()


def finite_band(x: np.ndarray, rate_hz: float) -> np.ndarray:
    """Return HuBERT-ECG's filter of every lead: as many taps as 0.3 s have samples, one more if that is even."""
    order = int(0.3 * rate_hz)
    taps = signal.firwin(order + 1 if order % 2 == 0 else order, [0.05, 47.0], pass_zero=False, fs=rate_hz)
    return np.stack([signal.filtfilt(taps, [1.0], lead) for lead in x])


def symmetric(x: np.ndarray) -> np.ndarray:
    low, high = x.min(axis=1, keepdims=True), x.max(axis=1, keepdims=True)
    return 2 * (x - low) / (high - low + 1e-8) - 1


@pytest.mark.parametrize("seconds", [10, 14], ids=["a record of 10 s", "a longer one"])
def test_huberts_leads_are_filtered_and_scaled_whole_then_cut_strung_and_decimated(record: np.ndarray, seconds: int) -> None:
    longer = np.concatenate([record, 2 * record[:, : 500 * (seconds - 10)]], axis=1)
    cut = symmetric(finite_band(longer, RATE))[:, :2500]
    strung = signal.decimate(cut.reshape(-1), 5).reshape(12, 500)
    found = fed(longer, hubert_ecg.PUBLISHED)
    assert np.abs(found - strung).max() < 1e-4
    lead_by_lead = np.stack([signal.decimate(lead, 5) for lead in cut])
    assert np.abs(found - lead_by_lead)[1:, 0].max() > 1e-3  # across a border it is another


def test_huberts_filter_knows_the_rate_of_the_record(record: np.ndarray) -> None:
    slow = signal.resample_poly(record, 1, 2, axis=1)
    as_fast = fed(finite_band(slow, 250.0), mb.SignalSpec(seconds=10.0), 250.0)  # brought to 500 Hz
    strung = signal.decimate(symmetric(as_fast)[:, :2500].reshape(-1), 5).reshape(12, 500)
    assert np.abs(fed(slow, hubert_ecg.PUBLISHED, 250.0) - strung).max() < 1e-4


def test_a_public_suite_filters_and_scales_hubert_at_100_hz_over_the_5_s(record: np.ndarray) -> None:
    resampled = fed(record, mb.SignalSpec(rate_hz=100.0, seconds=5.0))
    found = fed(record, hubert_ecg.SUITE)
    assert np.abs(found - symmetric(finite_band(resampled, 100.0))).max() < 1e-4
    assert np.abs(found - fed(record, hubert_ecg.PUBLISHED)).max() > 1e-2


def test_ked_gets_millivolts_at_100_hz_with_leads_as_mimic_stores_them(record: np.ndarray) -> None:
    by_fourier = signal.resample(record, 1000, axis=1)  # as its authors do it
    found = fed(record, ked.PRETRAINED)
    order = [mb.LEADS.index(lead) for lead in ("I", "II", "III", "aVR", "aVF", "aVL", *mb.LEADS[6:])]
    off = (found - by_fourier[order])[:, 10:-10]
    assert np.sqrt((off**2).mean()) < 0.03 * found.std()
    tested = fed(record, ked.TESTED)
    plain = fed(record, mb.SignalSpec(rate_hz=100.0))
    assert np.abs(tested - (plain - plain.mean()) / plain.std()).max() < 1e-4
    assert np.abs(fed(record, ked.SUITE) - record).max() < 1e-6  # a public suite feeds it at 500 Hz


def test_cpc_gets_millivolts_at_240_hz_and_in_its_benchmark_by_crops(record: np.ndarray) -> None:
    by_fourier, found = signal.resample(record, 2400, axis=1), fed(record, ecg_cpc.PRETRAINED)
    assert found.shape == (12, 2400)
    assert np.sqrt(((found - by_fourier)[:, 24:-24] ** 2).mean()) < 0.03 * found.std()
    windows = conform_windows(torch.from_numpy(record)[None], rate_hz=RATE, leads=mb.LEADS, spec=ecg_cpc.BENCHMARK)
    assert windows.owners.tolist() == [0, 0, 0, 0]
    np.testing.assert_allclose(windows.signals.double().numpy(), found.reshape(12, 4, 600).swapaxes(0, 1), atol=1e-6)


def test_coca_gets_millivolts_as_they_are_and_zeros_behind_a_short_record(record: np.ndarray) -> None:
    assert np.abs(fed(record, ecg_coca.ECGCoCa.spec) - record).max() < 1e-6
    short = fed(record[:, :3000], ecg_coca.ECGCoCa.spec)
    assert np.abs(short[:, :3000] - record[:, :3000]).max() < 1e-6
    assert not short[:, 3000:].any()


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("hubert-ecg", hubert_ecg.PUBLISHED),
        ("hubert-ecg-resampled", hubert_ecg.SUITE),
        ("ked", ked.PRETRAINED),
        ("ked-as-tested", ked.TESTED),
        ("ked-500hz", ked.SUITE),
        ("ecg-cpc", ecg_cpc.PRETRAINED),
        ("ecg-cpc-2.5s", ecg_cpc.BENCHMARK),
    ],
)
def test_every_way_to_feed_a_model_has_a_name(name: str, spec: mb.SignalSpec) -> None:
    with torch.device("meta"):
        assert discover().ecg_encoders[name].build().spec == spec
