"""Any two-dimensional image model of timm, by name, on a record drawn as an image.

Paper: PyTorch Image Models (Wightman, 2019), https://github.com/huggingface/pytorch-image-models
Each model has its own paper and each set of weights its own licence; weights are fetched only with `pretrained=true`.
Two images: `spectrogram`, one channel per lead, log magnitude over frequency and time; `patches`, one channel, where every lead
fills a band of rows with its signal over time, so that a patch of the model is a patch of one lead.
Shapes: B records, L leads, T samples, F frequencies, M frames, H and W the model's image, N tokens, D channels.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping
from functools import cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import melp_bench as mb

IMAGES = ("spectrogram", "patches")
WINDOW = 128  # samples; a quarter of a second at 500 Hz
HOP = 32
QUIET = 1e-4  # added to magnitudes before the logarithm


def spectrogram(signal: Tensor) -> Tensor:
    """Return log magnitudes (B, L, F, M) of `signal` (B, L, T), low frequencies first."""
    window = torch.hann_window(WINDOW, device=signal.device, dtype=signal.dtype)
    spectrum = torch.stft(signal.flatten(0, 1), WINDOW, HOP, window=window, return_complex=True)  # (B L, F, M)
    return (spectrum.abs() / window.sum() + QUIET).log().unflatten(0, signal.shape[:2])  # type: ignore[no-untyped-call, no-any-return]


def bands(signal: Tensor, height: int) -> Tensor:
    """Return an image (B, 1, height, T) in which lead l of L fills the rows from l height / L to (l + 1) height / L."""
    rows = torch.arange(height, device=signal.device) * signal.shape[1] // height  # the lead of each row
    return signal[:, rows][:, None]


class TimmImage(mb.ECGEncoder):
    """A timm model without its classifier; tokens are its last feature map or its patches, the record is its pooled feature."""

    spec = mb.SignalSpec(rate_hz=500.0, seconds=10.0, scaling=mb.Scaling.ZSCORE_RECORD)

    def __init__(
        self, *, model: str = "vit_tiny_patch16_224", image: str = "spectrogram", pretrained: bool = False, size: int = 0
    ) -> None:
        super().__init__()
        if image not in IMAGES:
            raise mb.UserError(f"option 'image' of 'timm-image' is {image!r}; wanted one of {', '.join(IMAGES)}")
        self.image = image
        self.network = _create(model, len(self.spec.leads) if image == "spectrogram" else 1, pretrained, size)
        self.height, self.image_width = (size, size) if size else _own_size(self.network)
        with torch.no_grad():
            was_training = self.network.training
            self.network.eval()
            tokens, pooled = self._run(torch.zeros(1, len(self.spec.leads), self.spec.samples))
            self.network.train(was_training)
        self.width, self._pooled = tokens.shape[-1], pooled.shape[-1]

    @property
    def record_width(self) -> int:
        """Channels of the pooled feature."""
        return self._pooled

    @property
    def embedding_width(self) -> int:
        """Channels of the pooled feature."""
        return self._pooled

    def forward(self, signal: Tensor) -> mb.Features:
        """Return features."""
        tokens, pooled = self._run(signal)
        return mb.Features(record=pooled, embedding=pooled, tokens=tokens)

    def draw(self, signal: Tensor) -> Tensor:
        """Return the image (B, L or 1, H, W) that the model is given."""
        drawn = spectrogram(signal) if self.image == "spectrogram" else bands(signal, self.height)
        shape = (self.height, self.image_width)
        return F.interpolate(drawn, shape, mode="bilinear", align_corners=False, antialias=True)

    def _run(self, signal: Tensor) -> tuple[Tensor, Tensor]:
        network = cast(Any, self.network)
        states: Tensor = network.forward_features(self.draw(signal))
        pooled: Tensor = network.forward_head(states, pre_logits=True)
        if states.dim() == 4:
            last = getattr(self.network, "output_fmt", "NCHW") == "NHWC"
            states = states.flatten(1, 2) if last else states.flatten(2).transpose(1, 2)
        else:
            states = states[:, getattr(self.network, "num_prefix_tokens", 0) :]  # (B, N, D) without class and register tokens
        return states, pooled.flatten(1)


def _own_size(network: nn.Module) -> tuple[int, int]:
    """Return height and width of the image that timm's configuration states for the model."""
    config = cast(Mapping[str, Any], network.default_cfg)
    height, width = config["input_size"][-2:]
    return height, width


def _create(model: str, channels: int, pretrained: bool, size: int) -> nn.Module:
    """Return timm's model without a classifier.

    Raises:
        UserError: timm has no model of this name, or it cannot be built for this image.
    """
    import timm

    architecture = model.split(".")[0]
    known = timm.list_models()
    if architecture not in known:
        near = difflib.get_close_matches(architecture, known, n=3)
        raise mb.UserError(f"timm has no model {model!r}; near it: {', '.join(near) or 'none'}. See timm.list_models()")
    config = timm.get_pretrained_cfg(architecture)
    one_size = config is not None and config.fixed_input_size  # as transformers with learned positions are
    options: dict[str, Any] = {"img_size": size} if size and one_size else {}
    try:
        network: nn.Module = timm.create_model(model, pretrained=pretrained, in_chans=channels, num_classes=0, **options)
    except (RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise mb.UserError(f"timm cannot build {model!r} with pretrained={pretrained} and size={size}: {reason}") from error
    return network


def weights_read(*, model: str, image: str, pretrained: bool, size: int) -> dict[str, str]:
    """Return the digest of the weights that `TimmImage` starts from where they are not drawn, as they were loaded."""
    return {model: _weights_digest(model, image, size)} if pretrained else {}


@cache
def _weights_digest(model: str, image: str, size: int) -> str:
    channels = len(TimmImage.spec.leads) if image == "spectrogram" else 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of what timm's file does not hold
        state = _create(model, channels, True, size).state_dict()
    sha = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        sha.update(name.encode())
        sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


@mb.hookimpl
def melp_ecg_encoders() -> list[mb.Entry[mb.ECGEncoder]]:
    """Return timm's models, as one entry with the model as option."""
    return [
        mb.Entry(
            name="timm-image",
            build=TimmImage,
            reads=weights_read,
            summary="any timm image model on a spectrogram or on lead patches (model=NAME)",
            source="https://github.com/huggingface/pytorch-image-models",
            license="Apache-2.0 (code; weights have their own)",
        )
    ]
