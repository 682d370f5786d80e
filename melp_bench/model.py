"""An ECG encoder, a text encoder and the heads beside them, as one module: what is trained, kept, embedded and scored.

Shapes: B records or reports, L leads, T samples, P probe channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from melp_bench.components import ECGEncoder, Heads, Sizes, TextBatch, TextEncoder, Widths
from melp_bench.errors import UserError
from melp_bench.features import Features

PARTS = {"encoder": "encoder", "text": "text_encoder", "heads": "heads"}
"""The parts of a model as a recipe names them, and the modules that they are."""

VERSION = 1
"""Raise with any change that can move what heads make of features."""


class Model(nn.Module):
    """Encoders and heads; without heads features are as the encoders make them.

    Raises:
        UserError: without heads, records and reports would live in spaces of different width.
    """

    def __init__(self, encoder: ECGEncoder, text_encoder: TextEncoder | None = None, heads: Heads | None = None) -> None:
        super().__init__()
        self.encoder, self.text_encoder, self.heads = encoder, text_encoder, heads
        self._frozen: tuple[str, ...] = ()
        if heads is None and text_encoder is not None and text_encoder.width != encoder.record_width:
            raise UserError(
                f"records have {encoder.record_width} channels and reports {text_encoder.width}, and no [heads] bring them "
                "together; name heads in the recipe (`melp-bench list` shows which there are)"
            )

    @property
    def shared(self) -> int:
        """Channels of records and reports after the heads."""
        return self.encoder.record_width if self.heads is None else self.heads.width

    def forward(self, signal: Tensor, batch: TextBatch | None = None) -> tuple[Features, Features | None]:
        """Return the features of records, and of their reports where these are given."""
        return self.ecg(signal), None if batch is None else self.text(batch)

    def ecg(self, signal: Tensor) -> Features:
        """Return features of `signal` (B, L, T), in the shared space where there are heads."""
        features: Features = self.encoder(signal)
        return features if self.heads is None else self.heads.ecg(features)

    def text(self, batch: TextBatch) -> Features:
        """Return features of reports, in the shared space where there are heads.

        Raises:
            UserError: the model has no text encoder.
        """
        if self.text_encoder is None:
            raise UserError("the model has no text encoder; name one in the recipe to use reports")
        features: Features = self.text_encoder(batch)
        return features if self.heads is None else self.heads.text(features)

    def embed(self, signal: Tensor) -> Tensor:
        """Return what probes read, (B, P), for `signal` (B, L, T)."""
        embedding: Tensor = self.encoder(signal).embedding
        return embedding

    def sizes(self, classes: int = 0) -> Sizes:
        """Return the widths that objectives are built from; `classes` is the number of pretraining labels."""
        text = self.text_encoder
        return Sizes(
            shared=self.shared,
            embedding=self.encoder.embedding_width,
            ecg_tokens=(self.heads.ecg_tokens if self.heads is not None else 0) or self.encoder.width,
            text_tokens=0 if text is None else text.width,
            vocab=0 if text is None else text.vocab_size,
            pad_id=0 if text is None else text.pad_id,
            classes=classes,
            causal_text=text is None or text.causal,
        )

    # --------------------------------------------------------------------------------------------------------- freezing

    def freeze(self, names: Sequence[str]) -> Callable[[], None]:
        """Take parameters out of training, and return what gives them back.

        `names` are parts (encoder, text, heads), or prefixes of their parameters' names such as `encoder.layers.0`. What is
        frozen stays in `eval()`, too: its batch statistics do not move and nothing of it is dropped.

        Raises:
            UserError: a name fits no parameter.
        """
        prefixes = tuple(module_prefix(name) for name in names)
        for name, prefix in zip(names, prefixes, strict=True):
            if not any(_below(parameter, prefix) for parameter, _ in self.named_parameters()):
                raise UserError(f"freeze names {name!r}, and the model has no parameter of that name or below it")
        chosen = [p for n, p in self.named_parameters() if any(_below(n, prefix) for prefix in prefixes)]
        before = [(parameter, parameter.requires_grad) for parameter in chosen]
        for parameter in chosen:
            parameter.requires_grad_(False)
        self._frozen = prefixes
        self.train(self.training)

        def give_back() -> None:
            self._frozen = ()
            for parameter, trained in before:
                parameter.requires_grad_(trained)
            self.train(self.training)

        return give_back

    def train(self, mode: bool = True) -> Model:
        """Set the mode of everything but what is frozen."""
        super().train(mode)
        for name, module in self.named_modules() if mode else ():
            if any(_below(name, prefix) for prefix in self._frozen):
                module.eval()
        return self


def module_prefix(name: str) -> str:
    """Return the module's name for a part or parameter as a recipe writes it: `text.body` is `text_encoder.body`."""
    part, dot, rest = name.partition(".")
    return PARTS.get(part, part) + dot + rest


def _below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def widths_of(encoder: ECGEncoder, text_encoder: TextEncoder | None = None) -> Widths:
    """Return what heads are built from, read off one silent record, with the encoder's stated widths checked by the way.

    Raises:
        UserError: the encoder's features are not as wide as it says.
    """
    spec, training = encoder.spec, encoder.training
    like = next(encoder.parameters(), torch.empty(0))
    encoder.eval()
    with torch.no_grad():
        found: Features = encoder(torch.zeros(1, len(spec.leads), spec.samples, device=like.device, dtype=like.dtype))
    encoder.train(training)
    said = {"record": encoder.record_width, "segments": encoder.record_width}
    said |= {"embedding": encoder.embedding_width, "tokens": encoder.width}
    for name, tensor in found.present().items():
        if name in said and tensor.shape[-1] != said[name]:
            kind = type(encoder).__name__
            raise UserError(f"{kind!r} returns {name} with {tensor.shape[-1]} channels, and says {said[name]}; mend its widths")
    return Widths(
        ecg_record=encoder.record_width,
        ecg_tokens=encoder.width,
        ecg_segments=0 if found.segments is None else encoder.record_width,
        ecg_projected=encoder.projected,
        ecg_positions=0 if found.tokens is None else found.tokens.shape[1],
        text=0 if text_encoder is None else text_encoder.width,
        text_projected=text_encoder is not None and text_encoder.projected,
    )
