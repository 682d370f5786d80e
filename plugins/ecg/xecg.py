"""xECG: patches of all leads at once through nine blocks of xLSTM that read them forwards and backwards in turn.

Paper: BenchECG and xECG: a benchmark and baseline for ECG foundation models (Lunelli et al., npj Digital Medicine 2026),
    https://arxiv.org/abs/2509.10151
Code: https://github.com/dlaskalab/bench-xecg (MIT); weights: https://huggingface.co/riccardolunelli/xECG_base_model_v1 (MIT).
Written from the papers; sizes, wiring and parameter names are those of the published class and of its configuration. Not
verified against published outputs: no weights were at hand. Blocks give the numbers of the package that the class is built of
(xlstm 2.0.4, its PyTorch path); on a GPU that package runs sLSTM in bfloat16, and here it is run in the precision of the input.
Pretrained by SimDINOv2 on CODE, Chapman-Shaoxing-Ningbo and INCART (`configs/pretrain/pretrain_run_config.yaml`).
As published: 100 Hz by the Fourier transform, in millivolt, neither filtered nor scaled; leads that lack are zero, records
are read whole where they have ten seconds and by their first ten seconds where they are longer (PTB-XL, CPSC2018). Patches
that begin with a zero in every lead count as padding: they are read, but a record is the mean over the others.
Shapes: B records, L leads, T samples, N = T / 25 tokens, D = 1024 channels.
"""

from __future__ import annotations

from torch import Tensor, nn

import melp_bench as mb
from melp_plugins.ecg.xlstm import XLSTMBlock

PATCH = 25  # samples
WIDTH, HEADS, BLOCKS = 1024, 4, "ssmmssmms"


class LinearPatches(nn.Module):
    """A linear map of each patch of all leads, without a bias."""

    def __init__(self, leads: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(leads, width, PATCH, PATCH, bias=False)

    def forward(self, signal: Tensor) -> Tensor:
        """Return tokens (B, N, D) of signal (B, L, T)."""
        out: Tensor = self.conv(signal)
        return out.transpose(1, 2)


class XECG(mb.ECGEncoder):
    """Blocks of xLSTM, of which every second one reads from the end; a record is the mean over the tokens of real patches.

    Args:
        blocks: what the blocks are, in order: "s" for sLSTM, "m" for mLSTM.
    """

    spec = mb.SignalSpec(rate_hz=100.0, seconds=10.0, resampling="fourier", missing_leads="zero")
    corpora = ("code", "csn", "incart")
    corpora_source = "configs/pretrain/pretrain_run_config.yaml of https://github.com/dlaskalab/bench-xecg; code is all of CODE"

    def __init__(self, *, width: int = WIDTH, heads: int = HEADS, blocks: str = BLOCKS) -> None:
        super().__init__()
        if not blocks or set(blocks) - {"s", "m"}:
            raise mb.UserError(f"blocks are {blocks!r}; wanted a letter for each: 's' for sLSTM, 'm' for mLSTM")
        if width % heads:
            raise mb.UserError(f"a width of {width} cannot be shared by {heads} heads; wanted a multiple of them")
        self.width = width
        self.patch_embedding = LinearPatches(len(self.spec.leads), width)
        last = max(1, len(blocks) - 1)
        self.blocks = nn.ModuleList(
            XLSTMBlock(kind, width, heads, place / last, len(blocks)) for place, kind in enumerate(blocks)
        )

    def forward(self, signal: Tensor) -> mb.Features:
        """Return features of signal (B, L, T)."""
        tokens = self.patch_embedding(signal)
        for place, block in enumerate(self.blocks):
            tokens = block(tokens if place == 0 else tokens.flip(1))
        if len(self.blocks) % 2 == 0:  # the last block read from the end
            tokens = tokens.flip(1)
        real = (signal[..., ::PATCH] != 0).any(dim=1)[..., None]  # (B, N, 1)
        record = (tokens * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)
        return mb.Features(record=record, embedding=record, tokens=tokens)


PUBLISHED = "core.model.blocks.{}."
PRETRAINING = "belongs to pretraining alone: the teacher, the pool of its loss, or the map back to samples"
FAMILY = mb.Family(
    name="xecg",
    anchor=f"{PUBLISHED.format(0)}xlstm.slstm_cell._recurrent_kernel_",
    renames=(
        (f"{PUBLISHED}xlstm.slstm_cell._recurrent_kernel_", "blocks.{}.xlstm.recurrent"),
        (f"{PUBLISHED}xlstm.slstm_cell._bias_", "blocks.{}.xlstm.bias"),
        (f"{PUBLISHED}*", "blocks.{}.*"),
    ),
    unused=(
        ("mask_token", "stands for patches that pretraining hides"),
        ("_teacher.*", PRETRAINING),
        ("attn_pool.*", PRETRAINING),
        ("reconstruction.*", PRETRAINING),
        ("head.*", "belongs to a task that the model was fine-tuned for"),
    ),
    files="hf:riccardolunelli/xECG_base_model_v1/model.safetensors",
)


@mb.hookimpl
def melp_ecg_encoders() -> list[mb.Entry[mb.ECGEncoder]]:
    """Return xECG."""
    return [
        mb.Entry(
            name="xecg",
            build=XECG,
            summary="xECG: 9 blocks of xLSTM, pretrained by SimDINOv2; not verified against published outputs",
            source="https://arxiv.org/abs/2509.10151",
            license="MIT",
            published=FAMILY,
        )
    ]
