"""ECG-JEPA (Kim): a transformer on patches of eight leads whose tokens see their own lead and their own moment.

Paper: Learning General Representation of 12-Lead Electrocardiogram with a Joint-Embedding Predictive Architecture, Kim 2024,
    https://arxiv.org/abs/2410.08559. Another model of the same name is `ecg-jepa-weimann-base`.
Licence of the published code: MIT; its weights state none of their own. Written from the paper and parity data; parameter
names are the published ones. Pretrained on Chapman and Ningbo (one database, "A large scale 12-lead electrocardiogram database
for arrhythmia study") and on CODE-15%; PTB-XL and CPSC2018 were tests. A public suite says the opposite.
As published: leads I, II and V1 to V6 in millivolts, neither filtered nor scaled, brought to 250 Hz by the Fourier transform of
the whole record, which rings at its ends. The objective `jepa` is its pretraining.
Shapes: B records, L leads, T samples, P patches of a lead, N = L P tokens, K of them seen, S samples of a patch, D channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import melp_bench as mb
from melp_bench.published.family import Shapes, count_blocks
from melp_plugins.ecg.kept_tokens import Kept
from melp_plugins.ecg.st_mem import sine_cosine_table
from melp_plugins.ecg.vit_block import PlacedBlocks

PAPER = "https://arxiv.org/abs/2410.08559"
LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
WIDTH, HEADS, DEPTH, PATCH = 768, 16, 12, 50


def place_table(rows: int, places: int, width: int) -> Tensor:
    """Return positions (rows x places, width): half of the channels tell the place in a row, the others the row."""
    place, row = (sine_cosine_table(count, width // 2)[0, 1:-1] for count in (places, rows))
    return torch.cat([place.repeat(rows, 1), row.repeat_interleave(places, dim=0)], dim=1)


class ECGJEPA(mb.ECGEncoder):
    """Linear patches, and blocks whose tokens see their own lead and their own moment (cross-pattern attention).

    Of a record that has but some of the leads, `of_leads` makes the same features of those.
    """

    spec = mb.SignalSpec(rate_hz=250.0, seconds=10.0, leads=LEADS, resampling="fourier")
    corpora: tuple[str, ...] = ("csn", "code-15")
    corpora_source = "pretrain_ECG_JEPA.py of https://github.com/sehunfromdaegu/ECG_JEPA, which reads nothing else"
    local_width, separators, token_rows = PATCH, 0, len(LEADS)

    def __init__(self, *, depth: int = DEPTH, width: int = WIDTH, heads: int = HEADS, drop_path: float = 0.0) -> None:
        super().__init__()
        if min(depth, width, heads) < 1 or width % heads or width % 4:
            raise mb.UserError(
                f"'ecg-jepa' with depth {depth}, width {width}, heads {heads}; wanted a width that 4 and the heads divide"
            )
        if not 0 <= drop_path < 1:
            raise mb.UserError(f"option 'drop_path' of 'ecg-jepa' is {drop_path}; wanted 0 to less than 1")
        self.width = self.context_width = width
        self.patches = self.spec.samples // PATCH
        self.pos_embed = nn.Parameter(place_table(len(LEADS), self.patches, width), requires_grad=False)  # (N, D)
        self.W_P = nn.Linear(PATCH, width)
        self.encoder_blocks = PlacedBlocks(width, heads, depth, drop_path=drop_path)
        self.norm = nn.LayerNorm(width)

    def forward(self, signal: Tensor) -> mb.Features:
        """Return features: tokens are the patches, lead by lead, and the record is their mean."""
        return self.of_leads(signal, LEADS)

    def of_leads(self, signal: Tensor, leads: tuple[str, ...]) -> mb.Features:
        """Return features of `signal` (B, L, T), which has some of the encoder's leads, in any order."""
        rows = torch.tensor([LEADS.index(lead) for lead in leads], device=signal.device)
        index = rows[:, None] * self.patches + torch.arange(self.patches, device=signal.device)
        tokens = self._states(self.W_P(self.local(signal)), index.flatten())
        pooled = tokens.mean(dim=1)
        return mb.Features(record=pooled, embedding=pooled, tokens=tokens)

    def _states(self, tokens: Tensor, index: Tensor, absent: Tensor | None = None) -> Tensor:
        """Return states (B, K, D) of embedded patches (B, K, D) whose numbers of N are `index` (K,) or (B, K).

        Nobody sees what is `absent` (B, K).
        """
        lead, place = index // self.patches, index % self.patches
        sees = (lead[..., :, None] == lead[..., None, :]) | (place[..., :, None] == place[..., None, :])  # (..., K, K)
        if absent is not None:
            alone = torch.eye(absent.shape[1], dtype=torch.bool, device=absent.device)  # a row that sees nothing is no number
            sees = (sees & ~absent[:, None]) | alone
        states = self.encoder_blocks(tokens, self.pos_embed[index], sees if sees.ndim == 2 else sees[:, None])
        normed: Tensor = self.norm(states)
        return normed

    def local(self, signal: Tensor) -> Tensor:
        """Return the patches (B, N, S) of `signal` (B, L, T), lead by lead."""
        return signal.unflatten(-1, (-1, PATCH)).flatten(1, 2)

    def normed(self, local: Tensor) -> Tensor:
        """Return the patches as they are: they are read in millivolts."""
        return local

    def contextual(self, normed: Tensor, masked: Tensor, stand_in: Tensor | None) -> Tensor:
        """Return states (B, N, D); see `mb.MaskedEncoding`. What is left out costs nothing."""
        x = self.W_P(normed)
        whole = torch.arange(x.shape[1], device=x.device)
        if stand_in is not None:
            return self._states(torch.where(masked[..., None], stand_in.to(x.dtype), x), whole)
        kept = Kept.of(x, masked)
        return kept.back(self._states(kept.tokens, kept.places, kept.absent))


def _size(shapes: Shapes) -> dict[str, Any]:
    return {"depth": count_blocks(shapes, "encoder_blocks.blocks.{}.norm1.weight"), "width": shapes["W_P.weight"][0]}


FAMILY = mb.Family(
    name="ecg-jepa",
    anchor="W_P.weight",
    prefixes=("", "encoder."),
    options=_size,
    elsewhere="belongs to pretraining: the target that follows the encoder, and the predictor",
    files="https://github.com/sehunfromdaegu/ECG_JEPA (Google Drive)",
)


@mb.hookimpl
def melp_ecg_encoders() -> list[mb.Entry[mb.ECGEncoder]]:
    """Return Kim's ECG-JEPA."""
    return [
        mb.Entry(
            name="ecg-jepa",
            build=ECGJEPA,
            summary="ECG-JEPA (Kim): patches of eight leads, each seeing its lead and its moment",
            source=PAPER,
            license="MIT",
            published=FAMILY,
        )
    ]
