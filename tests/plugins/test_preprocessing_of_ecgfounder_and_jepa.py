"""ECGFounder and both ECG-JEPA are fed as their authors feed them: a real record, prepared by scipy step by step."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import wfdb
from numpy.typing import NDArray
from scipy import signal

from melp_bench.leads import LEADS
from melp_bench.signal import conform
from melp_bench.windows import conform_windows
from melp_plugins.ecg import ecg_jepa, ecg_jepa_weimann, ecgfounder

REAL = os.environ.get("MELP_BENCH_REAL_ECG")
pytestmark = pytest.mark.skipif(not REAL, reason="set MELP_BENCH_REAL_ECG to the folder with ptb-xl/")
Leads = NDArray[np.float64]
RATE = 500.0


@pytest.fixture(scope="module", params=["00001_hr", "00004_hr"])
def record(request: pytest.FixtureRequest) -> Leads:
    """Return a record of PTB-XL, (12, 5000) in millivolts, by another reader than ours."""
    read = wfdb.rdrecord(str(Path(REAL or "") / "ptb-xl" / "records500" / "00000" / request.param))
    assert [name.upper() for name in read.sig_name] == [lead.upper() for lead in LEADS]
    assert read.fs == RATE
    return np.asarray(read.p_signal, dtype=np.float64).T


def ours(record: Leads, spec: object) -> Leads:
    made = conform(torch.from_numpy(record[None]).float(), rate_hz=RATE, leads=LEADS, spec=spec)  # type: ignore[arg-type]
    return made[0].double().numpy()


def windows(record: Leads, spec: object) -> Leads:
    made = conform_windows(torch.from_numpy(record[None]).float(), rate_hz=RATE, leads=LEADS, spec=spec)  # type: ignore[arg-type]
    return made.signals.double().numpy()


def founders(record: Leads) -> Leads:
    """Return a record as ECGFounder's authors prepare it, lead by lead, and at last all leads together."""
    made = np.empty_like(record)
    for row, lead in zip(made, record, strict=True):
        without_mains = signal.filtfilt(*signal.iirnotch(50.0, 30.0, RATE), lead)
        band = signal.filtfilt(*signal.butter(4, [0.67, 40.0], btype="bandpass", fs=RATE), without_mains)
        row[:] = band - signal.medfilt(band, 201)  # 0.4 s, and beyond the ends there is nothing
    return (made - made.mean()) / (made.std() + 1e-8)


def test_ecgfounder_reads_what_its_authors_filter_and_scale(record: Leads) -> None:
    wanted, got = founders(record), ours(record, ecgfounder.AS_PUBLISHED)
    np.testing.assert_allclose(got, wanted, atol=2e-4)  # of a standard deviation
    np.testing.assert_allclose(ours(record, ecgfounder.ONE_LEAD), founders(record[:1]), atol=2e-4)


def test_ecgfounder_is_also_fed_as_others_feed_it(record: Leads) -> None:
    scaled = (record - record.mean()) / (record.std() + 1e-8)
    np.testing.assert_allclose(ours(record, ecgfounder.UNFILTERED), scaled, atol=1e-5)
    quarters = record.reshape(12, 4, 1250).transpose(1, 0, 2)
    np.testing.assert_allclose(windows(record, ecgfounder.RAW), quarters, atol=1e-6)


def test_kims_jepa_reads_eight_leads_in_millivolts_as_a_fourier_transform_resamples_them(record: Leads) -> None:
    rows = [LEADS.index(lead) for lead in ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")]
    wanted = signal.resample(record[rows], 2500, axis=1)
    np.testing.assert_allclose(ours(record, ecg_jepa.ECGJEPA.spec), wanted, atol=1e-5)
    longer = np.concatenate([record, record[:, ::-1]], axis=1)
    np.testing.assert_allclose(ours(longer, ecg_jepa.ECGJEPA.spec), wanted, atol=1e-5)


def test_weimanns_jepa_reads_leads_scaled_one_by_one_and_clipped_at_five_deviations(record: Leads) -> None:
    scaled = np.stack([(lead - lead.mean()) / lead.std() for lead in record])
    assert np.abs(scaled).max() > 5, "a record in which nothing is clipped tells nothing"
    np.testing.assert_allclose(ours(record, ecg_jepa_weimann.WHOLE), scaled.clip(-5, 5), atol=1e-4)
    made = windows(record, ecg_jepa_weimann.CROPS)
    starts = range(0, 5000 - 1250 + 1, 625)
    assert len(made) == len(starts) == 7
    for got, start in zip(made, starts, strict=True):
        np.testing.assert_allclose(got, scaled[:, start : start + 1250].clip(-5, 5), atol=1e-4)
