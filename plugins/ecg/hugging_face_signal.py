"""Any AutoModel of transformers that reads a signal as numbers, from a local folder, fed as its own files say.

Two kinds are known by what their first input is called: `input_values` (wav2vec 2.0, HuBERT, data2vec, WavLM and their kin, one
series at a time; `preprocessor_config.json` states rate and normalisation) and `past_values` (PatchTST, PatchTSMixer, several
channels; `config.json` states how many, and how many samples). A model of one channel reads each lead by itself, and its states
are averaged over the leads. Weights are safetensors; no code of the folder runs; the folder must stay where it is.
Documentation: https://huggingface.co/docs/transformers/main_classes/feature_extractor
Shapes: B records, L leads, T samples, N tokens, D channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

import melp_bench as mb
from melp_bench.published.hub import loading, missing_weights, model_files

if TYPE_CHECKING:
    from transformers import PretrainedConfig

WHAT = "signal model"
FEEDING = "preprocessor_config.json"
MOST_HZ = 2000.0  # above, a rate is of sound
MULTIVARIATE = ("patchtst", "patchtsmixer")
TINY_VARIANCE = 1e-7  # that the feature extractors of transformers add


@dataclass(frozen=True)
class SignalFeeding:
    """How a model is fed."""

    spec: mb.SignalSpec
    argument: str
    normalise: bool = False  # each series to mean 0 and variance 1


class HuggingFaceSignal(mb.ECGEncoder):
    """A body of transformers; tokens are its last states, averaged over leads, and the record is their mean over time."""

    def __init__(self, body: nn.Module, feeding: SignalFeeding) -> None:
        super().__init__()
        self.body, self.feeding, self.spec = body, feeding, feeding.spec
        config: Any = body.config
        self.width = int(getattr(config, "hidden_size", 0) or config.d_model)

    def forward(self, signal: Tensor) -> mb.Features:
        """Return features."""
        if self.feeding.argument == "past_values":
            states = self.body(past_values=signal.transpose(1, 2)).last_hidden_state  # (B, L, N, D)
        else:
            series = signal.flatten(0, 1)  # (B L, T)
            if self.feeding.normalise:
                series = series - series.mean(dim=-1, keepdim=True)
                series = series / (series.square().mean(dim=-1, keepdim=True) + TINY_VARIANCE).sqrt()
            states = self.body(input_values=series).last_hidden_state.unflatten(0, signal.shape[:2])  # (B, L, N, D)
        tokens: Tensor = states.mean(dim=1)
        return mb.Features(record=tokens.mean(dim=1), embedding=tokens.mean(dim=1), tokens=tokens)


def hugging_face_signal(
    *, model: str, rate_hz: float = 0.0, seconds: float = 10.0, leads: tuple[str, ...] = mb.LEADS
) -> HuggingFaceSignal:
    """Return the model in the local folder `model`; a `rate_hz` of 0 is what its files state.

    `seconds` is how much of a record a model of any length reads; one of a fixed number of samples has its own.

    Raises:
        UserError: there is no such folder, its weights are not whole or no safetensors, it is of another kind, or its files do
            not say how to feed it.
    """
    from transformers import AutoConfig, AutoModel

    with loading(model, WHAT) as where:
        if not Path(where).is_dir():
            raise mb.UserError(f"option 'model' of 'hf' is {model!r}; wanted a local folder with config.json and safetensors")
        here: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        config = AutoConfig.from_pretrained(where, **here)
        body, found = AutoModel.from_pretrained(where, config=config, use_safetensors=True, output_loading_info=True, **here)
        missing_weights(model, body, found, WHAT)
        if body.main_input_name == "past_values" and config.model_type in MULTIVARIATE:
            feeding = _of_channels(config, model, rate_hz, leads)
        elif body.main_input_name == "input_values":
            feeding = _of_one_series(where, model, rate_hz, seconds, leads)
        else:
            raise mb.UserError(
                f"{model!r} is a {config.model_type!r} and reads {body.main_input_name!r}; wanted a model of signals"
            )
    if hasattr(config, "apply_spec_augment"):
        config.apply_spec_augment = False  # which hides parts of a signal in training, at random
    return HuggingFaceSignal(body, feeding)


def _of_one_series(where: str, model: str, rate_hz: float, seconds: float, leads: tuple[str, ...]) -> SignalFeeding:
    """Return how a model of one series is fed, by its feature extractor."""
    from transformers import AutoFeatureExtractor

    extractor: Any = AutoFeatureExtractor.from_pretrained(where, local_files_only=True, trust_remote_code=False)
    if hasattr(extractor, "num_mel_bins") or not hasattr(extractor, "do_normalize"):
        kind = type(extractor).__name__
        raise mb.UserError(f"{model!r} is fed by {kind!r}, which makes spectrograms of sound; 'timm-image' draws one of an ECG")
    rate = rate_hz or float(extractor.sampling_rate)
    if rate > MOST_HZ:
        raise mb.UserError(f"{model!r} is made for {rate:g} Hz; say what rate its samples are to be, as rate_hz=500")
    spec = mb.SignalSpec(rate_hz=rate, seconds=seconds, leads=leads)
    return SignalFeeding(spec, "input_values", normalise=bool(extractor.do_normalize))


def _of_channels(config: PretrainedConfig, model: str, rate_hz: float, leads: tuple[str, ...]) -> SignalFeeding:
    """Return how a model of several channels and a fixed number of samples is fed, by its configuration."""
    channels, samples = int(config.num_input_channels), int(config.context_length)
    if channels != len(leads):
        raise mb.UserError(f"{model!r} reads {channels} channels; name as many with leads=I,II,...")
    if not rate_hz:
        raise mb.UserError(f"{model!r} reads {samples} samples, and its config states no rate; give it as rate_hz=100")
    return SignalFeeding(mb.SignalSpec(rate_hz=rate_hz, seconds=samples / rate_hz, leads=leads), "past_values")


def files_read(*, model: str, **_options: object) -> Mapping[str, str]:
    """Return the digests of the files that `hugging_face_signal` reads."""
    return model_files(model, WHAT, (FEEDING,))


@mb.hookimpl
def melp_ecg_encoders() -> list[mb.Entry[mb.ECGEncoder]]:
    """Offer the signal models of transformers, as one entry with the folder as option."""
    return [
        mb.Entry(
            name="hf",
            build=hugging_face_signal,
            reads=files_read,
            summary="any signal model of transformers (wav2vec 2.0, PatchTST and kin) in a local folder (model=DIR)",
            source="https://huggingface.co/docs/transformers",
            license="the model's own",
        )
    ]
