"""ECG-CPC: four convolutions and four causal layers of S4, trained by contrastive predictive coding.

Papers: Benchmarking ECG FMs: A Reality Check Across Clinical Tasks (Al-Masud, Lopez Alcaraz and Strodthoff, ICLR 2026),
    https://arxiv.org/abs/2509.25095; Efficiently Modeling Long Sequences with Structured State Spaces (Gu, Goel and Re, ICLR
    2022), https://arxiv.org/abs/2111.00396, whose kernel (normal plus low rank, bilinear discretisation) stands here in torch.
Code: https://github.com/AI4HealthUOL/ecg-fm-benchmarking, which states no licence; weights: figshare 30192604. Written from the
papers and parity data. Trained on HEEDB (the paper, section 3), which holds none of the datasets here.
As published: 240 Hz in millivolt, 10 s in pretraining; the same authors' benchmark reads crops of 2.5 s, as `ecg-cpc-2.5s`
does, with the pretraining's kernel cut to their length.
Shapes: B records, L leads, T samples, N = T / 2 tokens, D = 512 channels, S = 4 conjugate pairs of states, K frequencies.
"""

from __future__ import annotations

import cmath
import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import melp_bench as mb

WIDTH, PAIRS, DEPTH = 512, 4, 4
STEPS = 1200  # of the kernel: the tokens of pretraining's 10 s
DT = (1e-3, 1e-1)  # steps of time are drawn between these, evenly in their logarithm
PRETRAINED = mb.SignalSpec(rate_hz=240.0, seconds=10.0, scaling=mb.Scaling.MILLIVOLT)
BENCHMARK = mb.SignalSpec(rate_hz=240.0, seconds=2.5, scaling=mb.Scaling.MILLIVOLT, crops=mb.Crops(pool="mean"))


def legs_states(pairs: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return eigenvalues w, input B and correction P (each S, complex) of HiPPO-LegS, in the basis where A = diag(w) - P P*.

    A is that of Gu et al., section 2.2 and appendix C; of each conjugate pair the half with a positive imaginary part is kept.
    """
    order = torch.arange(2 * pairs, dtype=torch.float64)
    root = (2 * order + 1).sqrt()
    hippo = -torch.tril(root[:, None] * root, -1) - torch.diag(order + 1)
    low = (order + 0.5).sqrt()
    normal = hippo + low[:, None] * low  # its real part is -1/2 times the identity, the rest is skew
    skew = (normal + 0.5 * torch.eye(2 * pairs, dtype=torch.float64)).to(torch.complex128)
    imaginary, basis = torch.linalg.eigh(-1j * skew)
    kept = basis[:, pairs:].conj().T  # (S, 2 S), of the positive ones
    w = torch.complex(torch.full_like(imaginary[pairs:], -0.5), imaginary[pairs:])
    return w, kept @ root.to(kept.dtype), kept @ low.to(kept.dtype)


def as_pairs(complex_: Tensor) -> Tensor:
    """Return real and imaginary parts as a last axis, float32."""
    return torch.view_as_real(complex_.to(torch.complex64)).clone()


def unit_roots() -> Tensor:
    """Return the roots of unity (K,) at which the kernel is made, those below the real axis: the others are their conjugates.

    As published, they are powers of the first in single precision.
    """
    first = torch.tensor(cmath.exp(-2j * cmath.pi / STEPS), dtype=torch.complex64)
    return first ** torch.arange(STEPS // 2 + 1)


class S4Kernel(nn.Module):
    """The state space's impulse response, made at the roots of unity; C holds the factor 1 - A^L already, as published.

    Only C is trained, as published; the state space itself stays where HiPPO puts it.
    """

    def __init__(self, width: int, pairs: int) -> None:
        super().__init__()
        w, b, p = legs_states(pairs)
        self.C = nn.Parameter(as_pairs(torch.randn(1, width, pairs, dtype=torch.complex64)))
        low, high = (math.log(step) for step in DT)
        self.register_buffer("log_dt", low + (high - low) * torch.rand(width))
        self.register_buffer("B", as_pairs(b.expand(1, width, -1)))
        self.register_buffer("P", as_pairs(p.expand(1, width, -1)))
        self.register_buffer("w", as_pairs(w.expand(width, -1)))
        self.register_buffer("Q", as_pairs(p.conj().expand(1, width, -1)))
        self.register_buffer("roots", as_pairs(unit_roots()), persistent=False)

    def forward(self) -> Tensor:
        """Return the kernel (D, STEPS), real."""
        b, c, p, q = (torch.view_as_complex(getattr(self, name).squeeze(0)) for name in ("B", "C", "P", "Q"))  # (D, S)
        dt = self.log_dt.exp()[:, None]  # (D, 1)
        w = torch.view_as_complex(self.w) * dt
        unit = torch.view_as_complex(self.roots)  # (K,)
        here, there = 1 + unit, 2 * (1 - unit)  # dividing by the first, as the bilinear rule is often written, fails at -1
        over, over_conj = there - here * w[..., None], there - here * w.conj()[..., None]  # (D, S, K)

        def read(residue: Tensor) -> Tensor:
            """Return the sum over pairs of states, (D, K), of what has this residue (D, S) at w."""
            return dt * (residue[..., None] / over + residue.conj()[..., None] / over_conj).sum(dim=1)

        low_rank = here * read(b * q) * read(p * c) / (1 + here * read(p * q))  # by Woodbury's identity
        return torch.fft.irfft(2 * (read(b * c) - low_rank), n=STEPS)


class S4Layer(nn.Module):
    """A causal convolution with the kernel, a GELU, and a gated linear layer over channels."""

    def __init__(self, width: int, pairs: int) -> None:
        super().__init__()
        self.D = nn.Parameter(torch.randn(1, width))
        self.kernel = S4Kernel(width, pairs)
        self.weight = nn.Parameter(torch.empty(2 * width, width))
        self.bias = nn.Parameter(torch.zeros(2 * width, 1))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, D, N) of x (B, D, N); a token sees itself and those before it."""
        steps = x.shape[-1]
        kernel = self.kernel()[:, :steps]  # (D, N)
        spectrum = torch.fft.rfft(kernel, n=2 * steps) * torch.fft.rfft(x, n=2 * steps)
        y = torch.fft.irfft(spectrum, n=2 * steps)[..., :steps] + self.D[0, :, None] * x
        return F.glu(self.weight @ F.gelu(y) + self.bias, dim=1)


class HalvingConvolutions(nn.Module):
    """A halving convolution and three over single tokens, each with batch norm and ReLU; padding is the first one's."""

    def __init__(self, leads: int, width: int) -> None:
        super().__init__()
        first = nn.Conv1d(leads, width, 3, 2, 1, bias=False)
        rest = [nn.Conv1d(width, width, 1, bias=False) for _ in range(3)]
        self.layers = nn.ModuleList(nn.Sequential(conv, nn.BatchNorm1d(width), nn.ReLU()) for conv in (first, *rest))

    def forward(self, signal: Tensor) -> Tensor:
        """Return (B, D, N) of signal (B, L, T)."""
        for layer in self.layers:
            signal = layer(signal)
        return signal


class ECGCPC(mb.ECGEncoder):
    """Convolutions and S4; tokens are the states after the last layer, and a record is their mean."""

    width = WIDTH
    corpora = ("heedb",)
    corpora_source = "the paper, which names it as the only pretraining data; about 10 million records"

    def __init__(self, spec: mb.SignalSpec = PRETRAINED) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = HalvingConvolutions(len(spec.leads), WIDTH)
        self.s4_layers = nn.ModuleList(S4Layer(WIDTH, PAIRS) for _ in range(DEPTH))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(DEPTH))

    def forward(self, signal: Tensor) -> mb.Features:
        """Return features of signal (B, L, T), of at most 10 s."""
        x = self.encoder(signal)  # (B, D, N)
        for layer, norm in zip(self.s4_layers, self.norms, strict=True):
            x = norm((x + layer(x)).transpose(1, 2)).transpose(1, 2)
        tokens = x.transpose(1, 2)  # (B, N, D)
        record = tokens.mean(dim=1)
        return mb.Features(record=record, embedding=record, tokens=tokens)


S4 = "predictor.predictor.s4_layers.{}."
FOLLOWS = "a table that follows from the kernel's length"
FAMILY = mb.Family(
    name="ecg-cpc",
    anchor="predictor.predictor.s4_layers.0.kernel.kernel.C",
    prefixes=("ts_encoder.models.0.", ""),
    renames=(
        (f"{S4}kernel.kernel.*", "s4_layers.{}.kernel.*"),
        (f"{S4}D", "s4_layers.{}.D"),
        (f"{S4}output_linear.0.*", "s4_layers.{}.*"),
        ("predictor.predictor.norms.*", "norms.*"),
    ),
    unused=((f"{S4}kernel.kernel.omega", FOLLOWS), (f"{S4}kernel.kernel.z", FOLLOWS)),
    elsewhere="belongs to pretraining's head, not to the encoder",
    files="figshare 30192604; code: https://github.com/AI4HealthUOL/ecg-fm-benchmarking",
)


@mb.hookimpl
def melp_ecg_encoders() -> list[mb.Entry[mb.ECGEncoder]]:
    """Return ECG-CPC on 10 s, as it was pretrained, and on crops of 2.5 s, as its authors' benchmark reads records."""
    paper, what = "https://arxiv.org/abs/2509.25095", "ECG-CPC: convolutions and 4 layers of S4"
    return [
        mb.Entry("ecg-cpc", ECGCPC, f"{what}, 10 s", paper, "none stated", FAMILY),
        mb.Entry("ecg-cpc-2.5s", partial(ECGCPC, BENCHMARK), f"{what}, mean over crops of 2.5 s", paper, "none stated", FAMILY),
    ]
