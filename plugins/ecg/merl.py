"""MERL encoders: one-dimensional ResNets with an attention pool, and vision transformers on patches, with their projections.

Paper: Zero-Shot ECG Classification with Multimodal Learning and Test-time Clinical Knowledge Enhancement (Liu et al.,
    ICML 2024), https://arxiv.org/abs/2403.06659
Licence of the published code: MIT. Pretrained on MIMIC-IV-ECG.
Written from the paper; parameter names are the published ones, so a `*_ckpt.pth` fits key for key. The entries `...-encoder`
are the encoder alone, as published in `*_encoder.pth`, without a projection.
As published: records of 10 s at 500 Hz, scaled to [0, 1] by the extremes of the whole record, leads in the order of
MIMIC-IV-ECG (aVF before aVL). The probe reads the encoder's pooled output, zero-shot its projection; `probe="projected"` gives
both the projection, as MELP's authors probe MERL.
Shapes: B records, L leads, T samples, N tokens, C channels of the encoder, P shared channels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import melp_bench as mb
from melp_bench.published.family import TextTower
from melp_plugins.ecg.merl_layers import RESNETS, VITS, ResNet, ViT
from melp_plugins.layers import AttentionPool

Entries = list[mb.Entry[mb.ECGEncoder]]
FILES = "https://github.com/cheliu-computation/MERL-ICML2024"
PAPER = "https://arxiv.org/abs/2403.06659"
MIMIC_LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")
SPEC = mb.SignalSpec(rate_hz=500.0, seconds=10.0, leads=MIMIC_LEADS, scaling=mb.Scaling.MINMAX_RECORD)
CORPORA = ("mimic-iv-ecg",)
SHARED = 256  # P

# -------------------------------------------------------------------------------------------------------------------- models


class MerlEncoder(mb.ECGEncoder):
    """What both kinds share: the spec, the corpus, and two embeddings to choose from."""

    spec = SPEC
    projected = True
    corpora = ("mimic-iv-ecg",)

    def __init__(self, probe: str, width: int) -> None:
        super().__init__()
        if probe not in ("pooled", "projected"):
            raise mb.UserError(
                f"option 'probe' of MERL is {probe!r}; wanted 'pooled' (as MERL) or 'projected' (as MELP's authors)"
            )
        self.probe, self.width = probe, width

    @property
    def record_width(self) -> int:
        """Channels of the space shared with reports."""
        return SHARED

    @property
    def embedding_width(self) -> int:
        """Channels of the probe's embedding."""
        return SHARED if self.probe == "projected" else self.width

    def _features(self, pooled: Tensor, projected: Tensor, tokens: Tensor) -> mb.Features:
        return mb.Features(record=projected, embedding=projected if self.probe == "projected" else pooled, tokens=tokens)


class MerlResNet(MerlEncoder):
    """A ResNet, a convolution to the shared width and an attention pool."""

    def __init__(self, depth: int, *, probe: str = "pooled") -> None:
        encoder = ResNet(depth, len(SPEC.leads))
        super().__init__(probe, encoder.width)
        self.downconv = nn.Conv1d(encoder.width, SHARED, 1)
        self.att_pool_head = AttentionPool(-(-SPEC.samples // 16), SHARED)
        self.ecg_encoder = encoder

    def forward(self, signal: Tensor) -> mb.Features:
        """Return features: tokens are the 313 positions of the feature map."""
        feature_map = self.ecg_encoder(signal)  # (B, C, N)
        projected, _ = self.att_pool_head(self.downconv(feature_map).transpose(1, 2))
        return self._features(feature_map.mean(dim=-1), projected, feature_map.transpose(1, 2))

    def uniform_input(self, signal: Tensor) -> Tensor:
        """Return what MERL's uni-modal alignment drops out and projects twice, (B, P)."""
        out: Tensor = self.downconv(self.ecg_encoder(signal)).mean(dim=-1)
        return out


class MerlViT(MerlEncoder):
    """A vision transformer and a two-layer projection with batch normalisation."""

    def __init__(self, size: str, *, probe: str = "pooled") -> None:
        encoder = ViT(size, len(SPEC.leads), SPEC.samples)
        super().__init__(probe, encoder.width)
        self.proj_e = nn.Sequential(
            nn.Linear(encoder.width, SHARED),
            nn.BatchNorm1d(SHARED),
            nn.ReLU(),
            nn.Linear(SHARED, SHARED),
            nn.BatchNorm1d(SHARED),
        )
        self.ecg_encoder = encoder

    def forward(self, signal: Tensor) -> mb.Features:
        """Return features: tokens are the last block's 100 patches."""
        pooled, tokens = self.ecg_encoder(signal)
        return self._features(pooled, self.proj_e(pooled), tokens)

    def uniform_input(self, signal: Tensor) -> Tensor:
        """Return what MERL's uni-modal alignment drops out and projects twice, (B, C)."""
        pooled: Tensor = self.ecg_encoder(signal)[0]
        return pooled


class MerlBackbone(mb.ECGEncoder):
    """A MERL encoder alone, as `*_encoder.pth` holds it."""

    spec = SPEC
    corpora = CORPORA

    def __init__(self, encoder: Callable[[], ResNet | ViT]) -> None:
        super().__init__()
        self.ecg_encoder = encoder()
        self.width = self.ecg_encoder.width

    def forward(self, signal: Tensor) -> mb.Features:
        """Return features: `rhythm` and `embedding` are the pooled output."""
        if isinstance(self.ecg_encoder, ViT):
            pooled, tokens = self.ecg_encoder(signal)
        else:
            tokens = self.ecg_encoder(signal).transpose(1, 2)  # (B, N, C)
            pooled = tokens.mean(dim=1)
        return mb.Features(record=pooled, embedding=pooled, tokens=tokens)


class MerlVitBackbone(MerlBackbone):
    """A vision transformer alone, which offers masked encoding: a patch is of all leads."""

    token_rows, separators = 1, 0

    def __init__(self, size: str) -> None:
        super().__init__(partial(ViT, size, len(SPEC.leads), SPEC.samples))
        self.patch = self.vit().to_patch_embedding.kernel_size[0]
        self.local_width = self.patch * len(SPEC.leads)
        self.context_width = self.width

    def vit(self) -> ViT:
        """Return the transformer."""
        if not isinstance(self.ecg_encoder, ViT):
            raise TypeError("a backbone of patches is a vision transformer")
        return self.ecg_encoder

    def local(self, signal: Tensor) -> Tensor:
        """Return the patches (B, N, L S) of `signal` (B, L, T)."""
        patches: Tensor = signal.unfold(-1, self.patch, self.patch).transpose(1, 2).flatten(2)
        return patches

    def normed(self, local: Tensor) -> Tensor:
        """Return the patches as they are, which the published embedding reads so."""
        return local

    def contextual(self, normed: Tensor, masked: Tensor, stand_in: Tensor | None) -> Tensor:
        """Return normalised states (B, N, C); see `mb.MaskedEncoding`.

        Raises:
            UserError: patches are left out, not equally many of every record.
        """
        vit = self.vit()
        x = F.linear(normed, vit.to_patch_embedding.weight.flatten(1))  # the convolution, patch by patch
        if stand_in is not None:
            x = torch.where(masked[..., None], stand_in.to(x.dtype), x)
            states: Tensor = vit.norm(vit.through(x + vit.pos_embedding))
            return states
        kept = int((~masked[0]).sum())
        if not bool(((~masked).sum(dim=1) == kept).all()):
            raise mb.UserError("MERL's vision transformer leaves out equally many patches of every record; these masks differ")
        places = masked.int().argsort(dim=1, stable=True)[:, :kept, None].expand(-1, -1, self.width)  # in time's order
        seen = vit.norm(vit.through((x + vit.pos_embedding).gather(1, places)))
        placed: Tensor = seen.new_zeros(x.shape).scatter(1, places, seen)
        return placed


class MerlHeads(nn.Module):
    """The heads beside the encoder: two projections for uni-modal alignment, and the reports' projection."""

    def __init__(self, width: int, text_width: int = 768) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, SHARED, bias=False)
        self.linear2 = nn.Linear(width, SHARED, bias=False)
        self.proj_t = nn.Sequential(nn.Linear(text_width, SHARED), nn.GELU(), nn.Linear(SHARED, SHARED))

    def forward(self, uniform_input: Tensor, drop: float = 0.1) -> tuple[Tensor, Tensor]:
        """Return two views (B, P) of every record: two dropouts in training, and two projections."""
        first = F.dropout(uniform_input, drop, self.training)
        second = F.dropout(uniform_input, drop, self.training)
        return self.linear1(first), self.linear2(second)


# ------------------------------------------------------------------------------------------------- published files and hook

CLASSIFIER = "a classifier of ten classes that the published model never applies"
LOSS_HEADS = "projections of uni-modal alignment, which belong to the objective"
TEXT = TextTower(
    component="hf",
    options={"pooler": True, "max_tokens": 256},
    model="hf:ncbi/MedCPT-Query-Encoder",
    heads="merl",
    head_options={"width": SHARED},
    keys=mb.Family(
        name="merl-text",
        anchor="lm_model.embeddings.word_embeddings.weight",
        renames=(("lm_model.*", "text_encoder.body.*"), ("proj_t.*", "heads.report.*")),
        unused=(
            ("lm_model.embeddings.position_ids", "a table that follows from the configuration"),
            ("linear{}.weight", LOSS_HEADS),
            ("logit_scale", "the contrast's temperature; objectives have their own"),
            ("ecg_encoder.linear.*", CLASSIFIER),
        ),
    ),
)
UNUSED = (
    ("linear{}.weight", LOSS_HEADS),
    ("proj_t.*", "the projection of reports"),
    ("lm_model.*", "the text model"),
    ("logit_scale", "the contrast's temperature; objectives have their own"),
    ("ecg_encoder.linear.*", CLASSIFIER),
)


def _entries(
    name: str, first_key: str, build: Callable[..., MerlEncoder], backbone: Callable[..., MerlBackbone], what: str
) -> Entries:
    """Return two entries: with the projection, and the encoder alone."""
    whole = mb.Family(name=name, anchor=f"ecg_encoder.{first_key}", unused=UNUSED, files=FILES, text=TEXT)
    alone = mb.Family(
        name=f"{name}-encoder",
        anchor=first_key,
        renames=(("*", "ecg_encoder.*"),),
        unused=(("linear.*", CLASSIFIER),),
        files=FILES,
    )
    return [
        mb.Entry(name, build, f"MERL's {what} with its projection", PAPER, "MIT", published=whole),
        mb.Entry(f"{name}-encoder", backbone, f"MERL's {what} alone", PAPER, "MIT", published=alone),
    ]


@mb.hookimpl
def melp_ecg_encoders() -> Entries:
    """Return MERL's encoders at their published sizes."""
    leads, entries = len(SPEC.leads), []
    for depth in RESNETS:
        build, backbone = partial(MerlResNet, depth), partial(MerlBackbone, partial(ResNet, depth, leads))
        entries += _entries(f"merl-resnet{depth}", "layer1.0.conv1.weight", build, backbone, f"{depth}-layer 1-D ResNet")
    for size in VITS:
        vit, patches = partial(MerlViT, size), partial(MerlVitBackbone, size)
        entries += _entries(
            f"merl-vit-{size}", "to_patch_embedding.weight", vit, patches, f"ViT-{size} on patches of 50 samples"
        )
    return entries
