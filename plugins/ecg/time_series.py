"""Models of any time series, as baselines that were not made for ECGs: Chronos, Chronos-Bolt, Chronos-2, and MOMENT.

Papers: Chronos: Learning the Language of Time Series (Ansari et al. 2024, arXiv 2403.07815); Chronos-2 (arXiv 2510.15821);
MOMENT: A Family of Open Time-series Foundation Models (Goswami et al. 2024, arXiv 2402.03885).
Chronos is read from a local folder by the package chronos-forecasting; of its parts only the encoder is kept. MOMENT's package
asks for versions of transformers and numpy of 2023, so that its encoder is written here: each series to mean 0 and deviation 1,
patches of 8 samples through one linear map, sinusoidal positions, the encoder of T5 as transformers has it.
Each lead is a series, and states are averaged over the leads. A record is ten seconds at the rate that fills the model's
window: 51.2 Hz where that is 512 samples.
Shapes: B records, L leads, T samples, N tokens, D channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import melp_bench as mb
from melp_bench.published.family import Family, Shapes, count_blocks
from melp_bench.published.hub import loading, model_files

SECONDS = 10.0
MOST_HZ = 500.0
WHAT = "time-series model"
Encode = Callable[[Tensor], Tensor]
"""Series (B, L, T) to tokens (B, L, N, D)."""


class SeriesEncoder(mb.ECGEncoder):
    """A time-series model on each lead; tokens are averaged over the leads, and the record is their mean over time."""

    def encode(self, signal: Tensor) -> Tensor:
        """Return the tokens (B, L, N, D) of each lead of `signal` (B, L, T)."""
        raise NotImplementedError

    def forward(self, signal: Tensor) -> mb.Features:
        """Return features."""
        tokens = self.encode(signal).mean(dim=1)  # (B, N, D)
        return mb.Features(record=tokens.mean(dim=1), embedding=tokens.mean(dim=1), tokens=tokens)


# ----------------------------------------------------------------------------------------------------------- Chronos


class ChronosEncoder(SeriesEncoder):
    """The encoder of a Chronos model; what stands behind the series (end, register, masked future) is left out."""

    def __init__(self, pipeline: Any, rate_hz: float, leads: tuple[str, ...]) -> None:
        super().__init__()
        kind, samples = type(pipeline).__name__, int(pipeline.model_context_length)
        rate = rate_hz or min(samples / SECONDS, MOST_HZ)
        self.spec = mb.SignalSpec(rate_hz=rate, seconds=min(SECONDS, samples / rate), leads=leads)
        if kind == "ChronosPipeline":
            if pipeline.model.config.model_type != "seq2seq":
                raise mb.UserError("this Chronos model has no encoder (a decoder alone); take one that is built on T5")
            self.body: Any = pipeline.model.model.encoder
            self._encode: Encode = partial(_bins, self.body, pipeline.tokenizer)
        elif kind in ("ChronosBoltPipeline", "Chronos2Pipeline"):
            self.body = pipeline.model
            for part in ("decoder", "output_patch_embedding"):  # which forecast
                if hasattr(self.body, part):
                    delattr(self.body, part)
            self._encode = partial(_patches if kind == "ChronosBoltPipeline" else _grouped, self.body)
        else:
            raise mb.UserError(
                f"Chronos model of the kind {kind!r} is not known here; wanted Chronos, Chronos-Bolt or Chronos-2"
            )
        self.width = int(self.body.config.d_model)

    def encode(self, signal: Tensor) -> Tensor:
        """Return the tokens of each lead."""
        return self._encode(signal)


def _bins(stack: Any, tokenizer: Any, signal: Tensor) -> Tensor:
    """Return the states of Chronos, which reads a sample as the number of its bin: no gradient comes to the signal."""
    ids, mask, _ = tokenizer.context_input_transform(signal.flatten(0, 1).detach().cpu())
    states: Tensor = stack(input_ids=ids.to(signal.device), attention_mask=mask.to(signal.device)).last_hidden_state
    return states[:, : signal.shape[-1]].unflatten(0, signal.shape[:2])  # without the end


def _patches(body: Any, signal: Tensor) -> Tensor:
    """Return the states of Chronos-Bolt's patches."""
    states: Tensor = body.encode(context=signal.flatten(0, 1))[0]
    count = states.shape[1] - int(body.chronos_config.use_reg_token)
    return states[:, :count].unflatten(0, signal.shape[:2])


def _grouped(body: Any, signal: Tensor) -> Tensor:
    """Return the states of Chronos-2's patches; the leads of a record are one group, which attend to each other."""
    records, leads = signal.shape[:2]
    groups = torch.arange(records, device=signal.device).repeat_interleave(leads)
    found, _, _, count = body.encode(context=signal.flatten(0, 1), group_ids=groups)
    states: Tensor = found[0]
    return states[:, :count].unflatten(0, signal.shape[:2])


def chronos(*, model: str, rate_hz: float = 0.0, leads: tuple[str, ...] = mb.LEADS) -> ChronosEncoder:
    """Return the encoder of the Chronos model in the local folder `model`; at a `rate_hz` of 0 ten seconds fill its window.

    Raises:
        UserError: the package is not installed, there is no such folder, its weights are no safetensors, or it has no encoder.
    """
    if find_spec("chronos") is None:
        raise mb.UserError("'chronos' needs the package chronos-forecasting; pip install 'melp-bench[timeseries]'")
    from chronos import BaseChronosPipeline

    with loading(model, WHAT) as where:
        if not Path(where).is_dir():
            raise mb.UserError(
                f"option 'model' of 'chronos' is {model!r}; wanted a local folder with config.json and safetensors"
            )
        pipeline = BaseChronosPipeline.from_pretrained(where, dtype="float32", use_safetensors=True, local_files_only=True)
    return ChronosEncoder(pipeline, rate_hz, leads)


def files_read(*, model: str, **_options: object) -> Mapping[str, str]:
    """Return the digests of the files that `chronos` reads."""
    return model_files(model, WHAT)


# ------------------------------------------------------------------------------------------------------------ MOMENT

MOMENT_SAMPLES, PATCH = 512, 8
STEADY = 1e-5  # added to a series' deviation


class PatchMap(nn.Module):
    """Patches through one linear map, and their positions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.value_embedding = nn.Linear(PATCH, width, bias=False)
        self.register_buffer("positions", sinusoids(MOMENT_SAMPLES // PATCH, width), persistent=False)

    def forward(self, series: Tensor) -> Tensor:
        """Return the embedded patches (B, N, D) of series (B, T)."""
        patches = self.value_embedding(series.unfold(-1, PATCH, PATCH))
        positions: Tensor = self.positions  # type: ignore[assignment]
        made: Tensor = patches + positions[: patches.shape[1]]
        return made


class MomentEncoder(SeriesEncoder):
    """MOMENT without its head, of any size. Among the many series that it has seen are beats of two ECG databases."""

    corpora = ("time-series-pile", "mit-bih-arrhythmia", "mit-bih-svdb")
    corpora_source = "the paper's Time Series Pile, which holds TSB-UAD, whose series MITDB and SVDB are of these databases"

    def __init__(
        self, *, width: int = 64, layers: int = 2, heads: int = 4, head_width: int = 16, ff: int = 128, rate_hz: float = 51.2
    ) -> None:
        super().__init__()
        from transformers import T5Config, T5EncoderModel

        if width <= 0 or width % 2 or min(layers, heads, head_width, ff) <= 0:
            raise mb.UserError(
                f"'moment' has width={width}, layers={layers}, heads={heads}; wanted an even width, others positive"
            )
        self.spec = mb.SignalSpec(rate_hz=rate_hz, seconds=MOMENT_SAMPLES / rate_hz)
        self.width, self.patch_embedding = width, PatchMap(width)
        config = T5Config(
            d_model=width,
            d_ff=ff,
            d_kv=head_width,
            num_heads=heads,
            num_layers=layers,
            vocab_size=2,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.1,
        )
        self.encoder = T5EncoderModel(config).encoder
        self.encoder.embed_tokens = nn.Identity()  # it reads no words

    def encode(self, signal: Tensor) -> Tensor:
        """Return the tokens of each lead."""
        series = signal.flatten(0, 1)
        series = series - series.mean(dim=-1, keepdim=True)
        deviation = series.square().mean(dim=-1, keepdim=True).add(torch.finfo(series.dtype).tiny).sqrt()
        states: Tensor = self.encoder(inputs_embeds=self.patch_embedding(series / (deviation + STEADY))).last_hidden_state
        return states.unflatten(0, signal.shape[:2])


def sinusoids(count: int, width: int) -> Tensor:
    """Return the positions (N, D) of Vaswani et al. 2017: sines at even channels, cosines at odd ones."""
    angles = torch.arange(count)[:, None] * torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def moment_size(shapes: Shapes) -> dict[str, Any]:
    """Return the size of a published MOMENT, read off its tensors."""
    first = "encoder.block.0.layer."
    heads = shapes[f"{first}0.SelfAttention.relative_attention_bias.weight"][1]
    return {
        "width": shapes["patch_embedding.value_embedding.weight"][0],
        "layers": count_blocks(shapes, "encoder.block.{}.layer.0.SelfAttention.q.weight"),
        "heads": heads,
        "head_width": shapes[f"{first}0.SelfAttention.q.weight"][0] // heads,
        "ff": shapes[f"{first}1.DenseReluDense.wi_0.weight"][0],
    }


MOMENT = Family(
    name="moment",
    anchor="patch_embedding.value_embedding.weight",
    unused=(
        ("head.*", "the head that reconstructs patches"),
        ("encoder.embed_tokens.weight", "the vocabulary of T5, which reads no words here"),
        ("patch_embedding.mask_embedding", "stands for hidden patches; none is hidden"),
        ("patch_embedding.position_embedding.pe", "sinusoids, which are computed"),
    ),
    options=moment_size,
    files="hf:AutonLab/MOMENT-1-small (also -base, -large)",
)


@mb.hookimpl
def melp_ecg_encoders() -> list[mb.Entry[mb.ECGEncoder]]:
    """Offer the time-series models."""
    return [
        mb.Entry(
            name="chronos",
            build=chronos,
            reads=files_read,
            summary="Chronos, Chronos-Bolt or Chronos-2 in a local folder (model=DIR): a model of any time series",
            source="https://arxiv.org/abs/2403.07815",
            license="Apache-2.0",
        ),
        mb.Entry(
            name="moment",
            build=MomentEncoder,
            published=MOMENT,
            summary="MOMENT's encoder, of its file's size: a model of any time series (small as built)",
            source="https://arxiv.org/abs/2402.03885",
            license="MIT",
        ),
    ]
