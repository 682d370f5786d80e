"""OpenECG's codec, whose weights come with its package, as an encoder: a model that nobody here wrote or trained.

Package: https://pypi.org/project/openecg (Apache-2.0), 1.16 M parameters. A convolution makes tokens of 20 ms of one lead at
500 Hz, a transformer reads 10 s of them, and per-sample heads say wave, beat and rhythm. Here the heads are taken off, with
what refines tokens to samples for them. The package's own loader unpickles; here the same file is read as tensors only.
Shapes: B records, L leads, T samples, N tokens, D channels.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

import melp_bench as mb

VERSIONS = ("v1", "v3", "v4", "v5", "v6")
ARCHITECTURE = "vit_transformer_sample_res_convtok_mh_1ch"
OPTIONS = (
    *("patch_size", "n_leads", "d_model", "n_heads", "n_layers", "ff", "n_classes", "dropout", "use_lead_emb", "pos_type"),
    *("conv_stem", "mid_split", "lower_kernel", "beat_n_classes", "rhythm_n_classes"),
)
HEADS = ("head", "head_sample", "beat_sample", "rhythm_sample")
SEEN = (
    *("ludb", "qtdb", "isp", "but-pdb"),  # waves
    *("mit-bih-arrhythmia", "incart", "mit-bih-ltdb", "mit-bih-svdb", "vitaldb-arrhythmia"),  # beats
    *("mit-bih-afdb", "vfdb", "cudb", "mvedb", "sddb", "nsrdb", "ptb-xl", "lydus"),  # rhythms
    "csn",  # the cards count Chapman among the validated sources and list it in no table: it cannot be ruled out
)
CLAIM = "model cards of codec_v1, v3, v4 and v6 in the package openecg 0.11.0; v6 is trained on from v1"


class OpenECGCodec(mb.ECGEncoder):
    """Each of `leads` is read by itself; tokens are averaged over the leads, and embeddings stand one after the other."""

    corpora, corpora_source = SEEN, CLAIM

    def __init__(self, *, leads: tuple[str, ...] = ("II",), version: str = "v6") -> None:
        super().__init__()
        self.spec = mb.SignalSpec(rate_hz=500.0, seconds=10.0, leads=leads)
        self.codec = codec(version)
        self.patch, self.width = int(self.codec.patch_size), int(self.codec.head_sample.in_features)  # type: ignore[arg-type, union-attr]
        for name in HEADS:
            setattr(self.codec, name, nn.Identity())
        self.codec.refine = Nothing()

    @property
    def embedding_width(self) -> int:
        return self.width * len(self.spec.leads)

    def forward(self, signal: Tensor) -> mb.Features:
        ranked = ranks(signal).flatten(0, 1)  # (B L, T)
        states, *_ = self.codec(ranked, torch.zeros(len(ranked), dtype=torch.long, device=signal.device))  # (B L, T, D)
        tokens = states[:, :: self.patch].unflatten(0, signal.shape[:2])  # (B, L, N, D); all samples of a token are the token
        leads = tokens.mean(dim=2)  # (B, L, D)
        return mb.Features(record=leads.mean(dim=1), embedding=leads.flatten(1), tokens=tokens.mean(dim=1))


class Nothing(nn.Module):
    """What adds nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def ranks(signal: Tensor) -> Tensor:
    """Return the midrank of each sample within its lead, from -1 to 1: what the codec was trained on.

    Equal samples share the mean of their ranks. A rank has no slope; the gradient is passed through as it is.
    """
    ordered = signal.detach().sort(dim=-1).values.contiguous()
    values = signal.detach().contiguous()
    below, upto = (torch.searchsorted(ordered, values, right=right) for right in (False, True))
    middle = (below + upto - 1).to(signal.dtype) / 2  # counted from 0
    return 2 * middle / (signal.shape[-1] - 1) - 1 + (signal - signal.detach())


def weights_file(version: str) -> Path:
    if version not in VERSIONS:
        raise mb.UserError(f"option 'version' of the OpenECG codec is {version!r}; wanted one of {', '.join(VERSIONS)}")
    return Path(str(resources.files("openecg") / "models" / f"codec_{version}.pt"))


def codec(version: str) -> nn.Module:
    """Return the codec with the weights of the package."""
    from openecg.stage2.model_variants import FrameClassifierTransformerSampleResConvTokMH1Ch

    blob = torch.load(weights_file(version), map_location="cpu", weights_only=True)
    config = blob["model_config"]
    if config["arch"] != ARCHITECTURE:
        raise mb.UserError(f"codec {version!r} of openecg is of another architecture than {ARCHITECTURE!r}")
    options = {name: config[name] for name in OPTIONS if name in config}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of layers that are not nested, and of a build without memory
        made: nn.Module = FrameClassifierTransformerSampleResConvTokMH1Ch(**options)
        made.load_state_dict(blob["model_state"], strict=True)
    return made


def files_read(*, version: str, **_options: object) -> Mapping[str, str]:
    return {f"codec_{version}.pt": hashlib.sha256(weights_file(version).read_bytes()).hexdigest()}


@mb.hookimpl
def melp_ecg_encoders() -> list[mb.Entry[mb.ECGEncoder]]:
    if find_spec("openecg") is None:  # it is an optional dependency of this package
        return []
    return [
        mb.Entry(
            "openecg-codec",
            OpenECGCodec,
            "OpenECG's codec on lead II (or on each of several leads), with the weights of its package",
            "https://pypi.org/project/openecg",
            "Apache-2.0",
            reads=files_read,
        )
    ]
