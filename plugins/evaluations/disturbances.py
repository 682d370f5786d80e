"""What goes wrong between a patient and an encoder, made on purpose: noise at a stated ratio, lost leads, exchanged electrodes.

Noise is scaled per record so that the mean power of its leads (less their means) lies `snr_db` above that of the noise, the
same in all leads. All that is random is a record's own: it comes from its id and the seed, whatever records are beside it.

Shapes: B records, L leads, T samples.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]
Noise = Callable[[np.random.Generator, int, int, float], Floats]
"""(generator, leads, samples, rate in Hz) -> (L, T), of any power."""

EXCHANGED: dict[str, dict[str, tuple[str, float]]] = {
    "arm-reversal": {"I": ("I", -1.0), "II": ("III", 1.0), "III": ("II", 1.0), "aVR": ("aVL", 1.0), "aVL": ("aVR", 1.0)},
    "left-arm-leg-reversal": {
        "I": ("II", 1.0), "II": ("I", 1.0), "III": ("III", -1.0), "aVL": ("aVF", 1.0), "aVF": ("aVL", 1.0),
    },
    "right-arm-leg-reversal": {
        "I": ("III", -1.0), "II": ("II", -1.0), "III": ("I", -1.0), "aVR": ("aVF", 1.0), "aVF": ("aVR", 1.0),
    },
}  # fmt: skip
"""Two limb electrodes exchanged: the lead, and its sign, that each lead then shows. What is not named stays."""


def mains(generator: np.random.Generator, leads: int, samples: int, rate_hz: float, *, mains_hz: float = 50.0) -> Floats:
    """Return hum of one phase in all leads, of another strength in each."""
    time = np.arange(samples) / rate_hz
    strength = generator.uniform(0.5, 1.5, size=(leads, 1))
    return np.asarray(strength * np.sin(2 * np.pi * mains_hz * time + generator.uniform(0, 2 * np.pi)))


def baseline_wander(generator: np.random.Generator, leads: int, samples: int, rate_hz: float) -> Floats:
    """Return a slow drift of each lead: five sines between 0.05 and 0.5 Hz."""
    time = np.arange(samples) / rate_hz
    frequency, phase = generator.uniform(0.05, 0.5, size=(leads, 5, 1)), generator.uniform(0, 2 * np.pi, size=(leads, 5, 1))
    strength = generator.uniform(0, 1, size=(leads, 5, 1))
    return np.asarray((strength * np.sin(2 * np.pi * frequency * time + phase)).sum(axis=1))


def muscle(generator: np.random.Generator, leads: int, samples: int, rate_hz: float) -> Floats:
    """Return noise like that of muscles: white between 20 Hz and 150 Hz (or half the rate), of each lead's own."""
    spectrum = np.fft.rfft(generator.standard_normal((leads, samples)), axis=-1)
    frequency = np.fft.rfftfreq(samples, 1 / rate_hz)
    spectrum[:, (frequency < 20.0) | (frequency > 150.0)] = 0
    return np.asarray(np.fft.irfft(spectrum, samples, axis=-1))


NOISES: dict[str, Noise] = {"mains": mains, "baseline-wander": baseline_wander, "muscle": muscle}


def add_noise(
    signals: Tensor, record_ids: Sequence[str], noise: Noise, *, snr_db: float, rate_hz: float, seed: int = 0
) -> Tensor:
    """Return `signals` (B, L, T) in millivolts with noise of each record's own; a flat record stays as it is."""
    made = [
        noise(generator_of(record, seed), signals.shape[1], signals.shape[2], rate_hz) for record in record_ids
    ]  # each (L, T)
    added = torch.from_numpy(np.stack(made)).to(signals)
    rows = [_with_noise(one, other, snr_db) for one, other in zip(signals, added, strict=True)]  # no bit depends on the batch
    return torch.stack(rows)


def _with_noise(signal: Tensor, noise: Tensor, snr_db: float) -> Tensor:
    """Return a record (L, T) with noise of a power that is so far below its own."""
    power = (signal - signal.mean(dim=-1, keepdim=True)).square().mean()
    return signal + noise * (power / noise.square().mean() / 10 ** (snr_db / 10)).sqrt()


def lose_leads(signals: Tensor, record_ids: Sequence[str], count: int, *, seed: int = 0) -> Tensor:
    """Return `signals` (B, L, T) with `count` leads of each record, drawn for it, at zero."""
    lost = signals.clone()
    for row, record in enumerate(record_ids):
        lost[row, generator_of(record, seed).permutation(signals.shape[1])[:count].tolist()] = 0.0
    return lost


def exchange_electrodes(signals: Tensor, leads: Sequence[str], which: str = "arm-reversal") -> Tensor:
    """Return `signals` (B, L, T) as they are recorded with two limb electrodes exchanged, those of `EXCHANGED[which]`."""
    shown = [EXCHANGED[which].get(lead, (lead, 1.0)) for lead in leads]
    sign = torch.tensor([factor for _, factor in shown]).to(signals)
    return signals[:, [list(leads).index(name) for name, _ in shown]] * sign[:, None]


def generator_of(record_id: str, seed: int) -> np.random.Generator:
    """Return the generator of one record."""
    content = hashlib.sha256(f"{seed}:{record_id}".encode()).digest()
    return np.random.default_rng(np.frombuffer(content, dtype=np.uint32))


def ratio_db(clean: Tensor, disturbed: Tensor) -> Tensor:
    """Return the signal-to-noise ratio of each record of `disturbed` (B, L, T) in dB, shape (B,)."""
    power = (clean - clean.mean(dim=-1, keepdim=True)).square().mean(dim=(1, 2))
    return 10 * torch.log(power / (disturbed - clean).square().mean(dim=(1, 2))) / math.log(10)
