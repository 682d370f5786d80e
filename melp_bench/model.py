"""An ECG encoder and a text encoder, with one head per scale beside each, into a space that both share.

Heads, as MELP (Wang et al. 2025) has them: a linear map for beats and for sentences, a two-layer perceptron for whole reports.
A record's rhythm is the mean of its projected beats where the encoder offers beats of its own (MELP), and a linear map of the
encoder's rhythm where it does not. An encoder that is already `projected` gets no head.

Shapes: B records or reports, L leads, T samples, Q beats or sentences, N tokens, D shared channels, P probe channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from melp_bench.components import ECGEncoder, Sizes, TextBatch, TextEncoder
from melp_bench.errors import UserError
from melp_bench.features import Features
from melp_bench.layers import QueryPool, masked_mean


class Model(nn.Module):
    """Encoders and heads. Beats of an encoder without beats come from `beat_queries` learned queries over its tokens.

    With `beat_queries=0` such an encoder stays without beats, which spares parameters that no objective would train.

    Raises:
        UserError: the encoder's features are not as wide as it says, or projected encoders disagree on the shared width.
    """

    def __init__(
        self, encoder: ECGEncoder, text_encoder: TextEncoder | None = None, *, shared: int = 128, beat_queries: int = 12
    ) -> None:
        super().__init__()
        _check_shared(encoder, text_encoder, shared)
        self.encoder, self.text_encoder, self.shared = encoder, text_encoder, shared
        own_beats = _offers_beats(encoder)
        width = encoder.rhythm_width
        self.rhythm_head: nn.Module = nn.Identity() if encoder.projected or own_beats else nn.Linear(width, shared, bias=False)
        self.beat_pool: QueryPool | None = None
        self.beat_head: nn.Module = nn.Identity()
        if own_beats and not encoder.projected:
            self.beat_head = nn.Linear(width, shared, bias=False)
        elif not own_beats and beat_queries:
            heads = next(h for h in (8, 4, 2, 1) if shared % h == 0)
            self.beat_pool = QueryPool(queries=beat_queries, width=shared, context=encoder.width, heads=heads)
            self.beat_head = nn.Linear(shared, shared, bias=False)
        self.rhythm_is_mean_of_beats = own_beats and not encoder.projected
        self.report_head: nn.Module = nn.Identity()
        self.sentence_head: nn.Module = nn.Identity()
        if text_encoder is not None and not text_encoder.projected:
            self.report_head = nn.Sequential(nn.Linear(text_encoder.width, shared), nn.GELU(), nn.Linear(shared, shared))
            self.sentence_head = nn.Linear(text_encoder.width, shared)

    def forward(self, signal: Tensor, batch: TextBatch | None = None) -> tuple[Features, Features | None]:
        """Return the features of records, and of their reports where these are given."""
        return self.ecg(signal), None if batch is None else self.text(batch)

    def ecg(self, signal: Tensor) -> Features:
        """Return features of `signal` (B, L, T): rhythm and beats in the shared space, tokens and embedding as they are."""
        features: Features = self.encoder(signal)
        beats = features.beats
        if beats is None and self.beat_pool is not None and features.tokens is not None:
            beats = self.beat_pool(features.tokens, features.tokens_mask)
        if beats is None:
            return features.apply({"rhythm": self.rhythm_head(features.rhythm)})
        beats = self.beat_head(beats)  # (B, Q, D)
        mean = self.rhythm_is_mean_of_beats
        rhythm = masked_mean(beats, features.beats_mask) if mean else self.rhythm_head(features.rhythm)
        return features.apply({"rhythm": rhythm, "beats": beats})

    def text(self, batch: TextBatch) -> Features:
        """Return features of reports: rhythm and sentences in the shared space, words as they are.

        Raises:
            UserError: the model has no text encoder.
        """
        if self.text_encoder is None:
            raise UserError("the model has no text encoder; name one in the recipe to use reports")
        features: Features = self.text_encoder(batch)
        change = {"rhythm": self.report_head(features.rhythm)}
        if features.beats is not None:
            change["beats"] = self.sentence_head(features.beats)
        return features.apply(change)

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
            ecg_tokens=self.encoder.width,
            text_tokens=0 if text is None else text.width,
            vocab=0 if text is None else text.vocab_size,
            pad_id=0 if text is None else text.pad_id,
            classes=classes,
            causal_text=text is None or text.causal,
        )


def _check_shared(encoder: ECGEncoder, text_encoder: TextEncoder | None, shared: int) -> None:
    """Check that what is already projected lives in a space of the width that is shared."""
    given = [("ECG", encoder.rhythm_width)] if encoder.projected else []
    if text_encoder is not None and text_encoder.projected:
        given.append(("text", text_encoder.width))
    for kind, width in given:
        if width != shared:
            raise UserError(
                f"the {kind} encoder is already projected to {width} channels, and shared is {shared}; set shared={width}"
            )


def _offers_beats(encoder: ECGEncoder) -> bool:
    """Return whether the encoder makes beats, read off one silent record, with its widths checked by the way."""
    spec, training = encoder.spec, encoder.training
    like = next(encoder.parameters(), torch.empty(0))
    encoder.eval()
    with torch.no_grad():
        found: Features = encoder(torch.zeros(1, len(spec.leads), spec.samples, device=like.device, dtype=like.dtype))
    encoder.train(training)
    said = {"rhythm": encoder.rhythm_width, "beats": encoder.rhythm_width}
    said |= {"embedding": encoder.embedding_width, "tokens": encoder.width}
    for name, tensor in found.present().items():
        if name in said and tensor.shape[-1] != said[name]:
            kind = type(encoder).__name__
            raise UserError(f"{kind!r} returns {name} with {tensor.shape[-1]} channels, and says {said[name]}; mend its widths")
    return found.beats is not None
