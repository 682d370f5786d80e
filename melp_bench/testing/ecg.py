"""What is asked of every ECG encoder.

Shapes: B records, L leads, T samples, N tokens, Q segments, D channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from melp_bench.components import ECGEncoder
from melp_bench.features import Features
from melp_bench.signal import LEADS, Crops, Filter, Scaling, SignalSpec, conform
from melp_bench.testing.compare import (
    demand_all_used,
    demand_equal,
    demand_finite,
    demand_masks,
    demand_same,
    demand_widths,
    projected_sum,
    round_trip,
    under_two_seeds,
)
from melp_bench.testing.masked_encoding import masks_are_kept
from melp_bench.testing.verdict import demand


@dataclass(frozen=True)
class ECGSubject:
    """An encoder in `eval()`, a way to build it again, and three records as it wants them."""

    encoder: ECGEncoder
    rebuild: Callable[[], ECGEncoder]
    signal: Tensor  # (3, L, T)

    def forward(self, signal: Tensor) -> Features:
        """Return features without a graph."""
        with torch.no_grad():
            features = self.encoder(signal)
        if not isinstance(features, Features):
            raise TypeError(f"forward returned {type(features).__name__!r}; wanted melp_bench.Features")
        return features


def ecg_subject(rebuild: Callable[[], ECGEncoder]) -> ECGSubject:
    """Return the subject of an encoder's checks."""
    encoder = rebuild()
    if not isinstance(encoder, ECGEncoder):
        raise TypeError(f"build returned {type(encoder).__name__!r}; wanted a melp_bench.ECGEncoder")
    if not isinstance(getattr(encoder, "spec", None), SignalSpec):
        raise TypeError(f"spec is {getattr(encoder, 'spec', None)!r}; wanted a melp_bench.SignalSpec")
    return ECGSubject(encoder.eval(), rebuild, beating_signal(encoder.spec, 3))


def beating_signal(spec: SignalSpec, records: int, seed: int = 0) -> Tensor:
    """Return records (B, L, T) of narrow and broad bumps at a steady rate, each record and lead with its own rate and gain."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(spec.samples) / spec.rate_hz  # seconds
    beats_per_second = 0.8 + torch.rand(records, 1, 1, generator=generator)
    phase = (time * beats_per_second + torch.rand(records, 1, 1, generator=generator)) % 1 - 0.4
    gain_r, gain_t = torch.randn(2, records, len(spec.leads), 1, generator=generator)
    wave: Tensor = gain_r * torch.exp(-((phase / 0.015) ** 2) / 2) + 0.3 * gain_t * torch.exp(
        -(((phase - 0.3) / 0.05) ** 2) / 2
    )
    wave += 0.02 * torch.randn(records, len(spec.leads), spec.samples, generator=generator)
    return wave


def _sane(subject: ECGSubject) -> str:
    encoder, spec = subject.encoder, subject.encoder.spec
    demand(50 <= spec.rate_hz <= 2000, f"rate_hz is {spec.rate_hz!r}; wanted 50 to 2000")
    demand(0.5 <= spec.seconds <= 120, f"seconds is {spec.seconds!r}; wanted 0.5 to 120")
    exact = spec.rate_hz * spec.seconds
    demand(
        math.isclose(exact, spec.samples, abs_tol=1e-6),
        f"{spec.seconds} s at {spec.rate_hz} Hz is {exact} samples, no whole number",
    )
    unknown = [lead for lead in spec.leads if lead not in LEADS]
    demand(not unknown, f"leads {unknown} are unknown; known are {list(LEADS)}")
    demand(0 < len(set(spec.leads)) == len(spec.leads), f"leads {list(spec.leads)} are empty or repeat")
    demand(isinstance(spec.scaling, Scaling), f"scaling is {spec.scaling!r}; wanted a melp_bench.Scaling")
    demand(spec.filter is None or isinstance(spec.filter, Filter), f"filter is {spec.filter!r}; wanted a melp_bench.Filter")
    demand(spec.crops is None or isinstance(spec.crops, Crops), f"crops is {spec.crops!r}; wanted a melp_bench.Crops")
    demand(spec.missing_leads in ("derive", "zero"), f"missing_leads is {spec.missing_leads!r}; wanted 'derive' or 'zero'")
    for name in ("width", "record_width", "embedding_width"):
        width = getattr(encoder, name)
        demand(isinstance(width, int) and width > 0, f"{name} is {width!r}; wanted a positive int")
    demand(isinstance(encoder.corpora, tuple), f"corpora is {encoder.corpora!r}; wanted a tuple of dataset names")
    return str(spec)


def _declared(subject: ECGSubject) -> str:
    encoder, before = subject.encoder, subject.signal.clone()
    features = subject.forward(subject.signal)
    demand(torch.equal(before, subject.signal), "forward changes its input in place")
    count = len(before)
    wanted = {
        "record": (count, encoder.record_width),
        "embedding": (count, encoder.embedding_width),
        "tokens": (count, -1, encoder.width),
    }
    if features.segments is not None:
        wanted["segments"] = (count, -1, encoder.record_width)
    shapes = demand_widths(features, wanted)
    demand_masks(features, at_least_one=True)
    demand_finite(features, "three ordinary records")
    return shapes


def _tells_apart(subject: ECGSubject) -> str:
    features = subject.forward(subject.signal)
    for name in ("record", "embedding"):
        value = getattr(features, name)
        apart = (value[0] - value[1]).abs().max().item()
        demand(apart > 1e-6, f"{name} of two different records differs by {apart:.2g} only")
    return ""


def _alone(subject: ECGSubject) -> str:
    batch = subject.forward(subject.signal)
    worst = 0.0
    for row in range(len(subject.signal)):
        one = subject.forward(subject.signal[row : row + 1])
        demand(len(one.record) == 1, f"a batch of one gives rhythm {tuple(one.record.shape)}")
        worst = max(worst, demand_equal(batch, row, one, 0, f"record {row} alone and in a batch"))
    return f"largest difference {worst:.1g}"


def _neighbours(subject: ECGSubject) -> str:
    alone = subject.forward(subject.signal[:2])
    strange = torch.cat([30 * subject.signal[1:2].flip(-1), subject.signal[:1], -subject.signal[2:]])
    return f"largest difference {demand_equal(alone, 0, subject.forward(strange), 1, 'a record among other neighbours'):.1g}"


def _padding(subject: ECGSubject) -> str:
    """Compare a record of 40 % of the length: conformed alone, and in a buffer it shares with longer records.

    There it is followed by what a reader may leave in a buffer, which `conform` is told of by `lengths`; one neighbour is
    whole and one is empty.
    """
    spec, rate_hz = subject.encoder.spec, 500.0
    whole = beating_signal(SignalSpec(rate_hz=rate_hz, seconds=spec.seconds), 3, seed=1)
    lengths = torch.tensor([whole.shape[-1], 2 * whole.shape[-1] // 5, whole.shape[-1]])
    alone = conform(whole[1:2, :, : int(lengths[1])], rate_hz=rate_hz, leads=LEADS, spec=spec)
    whole[1, :, int(lengths[1]) :] = 1000.0
    whole[2] = 0.0
    among = conform(whole, rate_hz=rate_hz, leads=LEADS, spec=spec, lengths=lengths)
    worst = demand_equal(subject.forward(alone), 0, subject.forward(among), 1, "a short record alone and in a padded batch")
    return f"largest difference {worst:.1g}"


def _deterministic(subject: ECGSubject) -> str:
    state = {n: t.clone() for n, t in subject.encoder.state_dict().items()}
    worst = demand_same(*under_two_seeds(lambda: subject.forward(subject.signal)), "the same records twice")
    moved = [n for n, t in subject.encoder.state_dict().items() if not torch.equal(t, state[n])]
    demand(not moved, f"a forward pass in eval() changes {', '.join(moved[:4])}")
    return f"largest difference {worst:.1g}"


def _extremes(subject: ECGSubject) -> str:
    spec = subject.encoder.spec
    shape = (1, len(spec.leads), spec.samples)
    spike = torch.zeros(shape)
    spike[..., spec.samples // 2] = 100.0
    one_lead = torch.zeros(shape)
    one_lead[:, 0] = subject.signal[0, 0]
    cases = {
        "an all-zero record": torch.zeros(shape),
        "a constant record": torch.ones(shape),
        "a record with one live lead": one_lead,
        "a single spike of 100": spike,
        "amplitudes of 1000": 1000 * subject.signal[:1],
        "amplitudes of a millionth": 1e-6 * subject.signal[:1],
    }
    for when, signal in cases.items():
        demand_finite(subject.forward(signal), when)
    return f"{len(cases)} cases"


def _round_trip(subject: ECGSubject) -> str:
    other = replace(subject, encoder=round_trip(subject.encoder, subject.rebuild))
    worst = demand_same(subject.forward(subject.signal), other.forward(subject.signal), "before and after the round trip")
    return f"{len(subject.encoder.state_dict())} tensors, largest difference {worst:.1g}"


def _gradient(subject: ECGSubject) -> str:
    signal = subject.signal[:2].clone().requires_grad_()
    subject.encoder.zero_grad(set_to_none=True)
    torch.autograd.backward(projected_sum(subject.encoder(signal)))
    gradient = signal.grad
    demand(gradient is not None, "no gradient reaches the input")
    if gradient is not None:
        demand(bool(torch.isfinite(gradient).all()), "the gradient at the input is not finite")
        deaf = [subject.encoder.spec.leads[i] for i in (gradient.abs().amax(dim=(0, 2)) == 0).nonzero().flatten().tolist()]
        demand(not deaf, f"the leads {deaf} do not move the features")
    reached = demand_all_used(subject.encoder)
    subject.encoder.zero_grad(set_to_none=True)
    return reached


ECG_CHECKS: dict[str, Callable[[ECGSubject], str]] = {
    "its spec is sane": _sane,
    "features have the declared widths": _declared,
    "two records have different features": _tells_apart,
    "a batch of one is a batch": _alone,
    "neighbours do not matter": _neighbours,
    "padding does not matter": _padding,
    "eval() is deterministic and changes no state": _deterministic,
    "flat and extreme records give finite features": _extremes,
    "weights survive a strict round trip": _round_trip,
    "gradient reaches every lead and parameter": _gradient,
    "what is masked is not seen": lambda subject: masks_are_kept(subject.encoder, subject.signal),
}
